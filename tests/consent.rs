//! Consent in every path: whatever members say, whoever may not be contacted is in no audience, allocation, plan or
//! holdout, and of whoever does not allow it nothing is read for a feed.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use chrono::NaiveDate;
use kindred::batch::{BatchRequest, By, score, visitor};
use kindred_models::Model;
use kindred_models::audience::{
    AllocationRequest, AudienceRequest, AudienceSize, Cap, Costs, Launch, MemberFilter, Quota, Subject, allocate,
    audience,
};
use kindred_models::catalogue::{Consent, YOUNG};
use kindred_models::content::Attributes;
use kindred_models::feed::{FeedRequest, ProductFilter, Visitor, feed};
use kindred_models::groups::Groups;
use kindred_models::outreach::{Caps, ChannelParams, Offer, OutreachParams, Planner, Policy, PushRequest};
use kindred_models::state::Profile;
use kindred_models::stop::Stop;
use kindred_training::config::LaunchParams;
use proptest::prelude::*;
use support::shop::launches;
use support::trained_with;

/// 2026-11-22.
const NOW: i64 = 1_795_305_600;

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let mut config = launches().write(folder.path());
    config.launch = LaunchParams { horizon_days: 14, step_days: 14, min_launches: 8, ..config.launch };
    config.ranker.slices = 1;
    let mut model = trained_with(folder, config).model();
    // Everybody allowed everything. Now some said no, some are minors, and of some the birthday is known.
    let rows = 0..model.members.len() as u32;
    // Of the minors some are so by birthday.
    let consent = |row: u32| Consent { personalization: true, marketing: row % 5 != 1, minor: row % 7 == 2 };
    let bits = |row: u32| consent(row).to_bits() | if row % 14 == 2 { YOUNG } else { 0 };
    model.members.consents = rows.clone().map(bits).collect::<Vec<_>>().into();
    let day = |row: u32| [501, 0, 0][row as usize % 3];
    model.members.birthdays = rows.map(day).collect::<Vec<_>>().into();
    let Groups { segments, contacts, base_gap, .. } = model.groups;
    model.groups = Groups { base_gap, ..Groups::of(&model.members, segments, contacts) };
    model
});

/// What a member may say.
#[derive(Clone, Debug)]
enum Word {
    Says(Profile),
    Erase,
}

fn words() -> impl Strategy<Value = Vec<(u32, Word)>> {
    let flag = || prop::option::of(any::<bool>());
    let birthday = prop::option::of(prop_oneof![Just((1980, 5, 1)), Just((2012, 5, 1))]);
    let says = (flag(), flag(), flag(), birthday).prop_map(|(personalization, marketing, minor, born)| {
        let birthday = born.and_then(|(y, m, d)| NaiveDate::from_ymd_opt(y, m, d));
        Word::Says(Profile { personalization, marketing, minor, birthday, ..Profile::default() })
    });
    let word = prop_oneof![9 => says, 1 => Just(Word::Erase)];
    prop::collection::vec((0..MODEL.members.len() as u32, word), 0..200)
}

/// The model after all was said, and what each member may be asked for: contacts, and feeds.
fn after(words: Vec<(u32, Word)>) -> (Model, BTreeSet<String>, BTreeSet<String>) {
    let (mut model, mut profiles, mut erased) = (MODEL.clone(), BTreeMap::<u32, Profile>::new(), BTreeSet::new());
    let mut state = model.state.clone();
    state.set_clock(NOW);
    for (row, word) in words {
        let id = MODEL.members.ids.get(row).to_owned();
        match word {
            Word::Erase => {
                erased.insert(row);
                state.erase(&MODEL, &id);
            }
            Word::Says(said) => {
                let profile = profiles.entry(row).or_default();
                profile.merge(said);
                state.describe(&MODEL, &id, profile.clone());
            }
        }
    }
    model.state = state;
    let id = |row: u32| MODEL.members.ids.get(row).to_owned();
    let is_young =
        |said: &Profile| said.birthday.is_some_and(|born| born > NaiveDate::from_ymd_opt(2008, 11, 22).unwrap());
    let known = |row: &u32| profiles.get(row).cloned().unwrap_or_default();
    let rows = || (0..MODEL.members.len() as u32).filter(|row| !erased.contains(row));
    let personal = rows().filter(|row| known(row).personalization.unwrap_or(true));
    let contacted = personal.clone().filter(|row| {
        let (said, learned) = (known(row), MODEL.members.consent(*row));
        let is_young = is_young(&said) || (said.birthday.is_none() && MODEL.members.is_young(*row));
        said.marketing.unwrap_or(learned.marketing) && !said.minor.unwrap_or(learned.minor) && !is_young
    });
    let (contacted, personal) = (contacted.map(id).collect(), personal.map(id).collect());
    (model, contacted, personal)
}

fn tea() -> Attributes {
    Attributes { category: Some("drinks/tea".to_owned()), price: Some(30.0), ..Attributes::default() }
}

fn audience_of(model: &Model, seeds: Vec<u32>, size: AudienceSize) -> BTreeSet<String> {
    let (filter, quota) = (MemberFilter::default(), Quota::default());
    let request = AudienceRequest { subject: Subject::New(tea()), seeds, size, filter, quota };
    let found = audience(model, &request, &Stop::default()).unwrap();
    found.members.iter().map(|m| model.members.ids.get(m.row).to_owned()).collect()
}

fn policy() -> Policy {
    let mut params = OutreachParams { caps: Caps::default(), ..OutreachParams::default() };
    (params.fatigue.cost, params.quiet_until) = (0.0, params.quiet_from);
    params.channels.insert("wecom".to_owned(), ChannelParams::default());
    params.validate(0).unwrap()
}

fn planned(model: &Model, offers: Vec<Offer>) -> BTreeSet<String> {
    let request = PushRequest {
        offers,
        products: ProductFilter::default(),
        filter: MemberFilter::default(),
        channels: vec![0],
        start: NOW,
        end: NOW + 86_400,
        priority: 0,
    };
    let stop = Stop::default();
    let mut planner = Planner::new(Arc::new(model.clone()), Arc::new(policy()), request, NOW, &stop).unwrap();
    planner.look(0..planner.eligible, &stop).unwrap();
    let pushes = planner.pushes(0..planner.open(), &stop).unwrap();
    pushes.iter().map(|push| model.members.ids.get(push.member).to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whoever_may_not_be_contacted_is_in_no_answer(words in words()) {
        let (mut model, contacted, _) = after(words);
        for costs in [Costs { scanned: 0.0, picked: 1e9, ..Costs::default() }, Costs { scanned: 1e9, ..Costs::default() }] {
            model.audience_costs = costs;
            prop_assert_eq!(&audience_of(&model, Vec::new(), AudienceSize::Share(1.0)), &contacted);
            let seeded = audience_of(&model, vec![3, 50], AudienceSize::Count(40));
            prop_assert!(seeded.is_subset(&contacted));
        }
        let request = AllocationRequest {
            subjects: vec![(Subject::New(tea()), Vec::new())],
            launches: vec![Launch { value: 30.0, cap: Cap::None }],
            contact_cost: 0.0,
            filter: MemberFilter::default(),
        };
        let allocated = allocate(&model, &request, &Stop::default()).unwrap();
        let id = |member: u32| model.members.ids.get(member).to_owned();
        prop_assert!(allocated.members.iter().all(|m| contacted.contains(&id(m.member))));
        prop_assert_eq!(allocated.eligible, contacted.len());
        let product = model.products.find("tea3").unwrap();
        let offered = planned(&model, vec![Offer { product, value: Some(30.0), cap: Cap::None }]);
        prop_assert!(offered.is_subset(&contacted) && (!offered.is_empty() || contacted.is_empty()));
        let fitting = planned(&model, Vec::new());
        prop_assert!(fitting.is_subset(&contacted) && (!fitting.is_empty() || contacted.is_empty()));
    }

    #[test]
    fn nothing_is_read_of_whoever_does_not_allow_it(words in words()) {
        let (model, _, personal) = after(words);
        let popular = feed(&model, &FeedRequest::new(Visitor::Unknown, 20));
        let stop = Stop::default();
        for id in MODEL.members.ids.iter().filter(|id| !personal.contains(*id)) {
            let visitor = visitor(&model, id);
            let mut request = FeedRequest::new(visitor, 20);
            prop_assert_eq!(&feed(&model, &request), &popular);
            request.include_purchased = false;
            prop_assert_eq!(&feed(&model, &request), &popular, "what they bought is not asked");
            for by in [By::Ranker, By::Taste] {
                let batch = BatchRequest { top: 20, exclude_purchased: true, by };
                prop_assert_eq!(&score(&model, &[visitor], batch, &stop).unwrap()[0], &popular);
            }
        }
    }
}
