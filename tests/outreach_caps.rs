//! Caps hold whoever plans at the same moment, whatever clocks say, and whatever is said of contacts.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use kindred::config::StateConfig;
use kindred::proto::v1;
use kindred::store::{
    Budget, Claim, Entry, Learned, NewPlan, Outcome, Refusal, Reservation, Said, Store, StoredContact, Wanted, Write,
    sqlite_url,
};
use kindred_models::catalogue::Consent;
use kindred_models::outreach::{Caps, ContactStatus, Policy, Times};
use kindred_models::state::Profile;
use support::outreach::{client, config, plan, serve, shop, tea, try_plan};
use support::serve_configured;
use tonic::Code;

const NOW: i64 = 1_790_000_000;

on_both!(
    many_who_plan_at_once_never_exceed_a_cap,
    a_plan_asked_for_twice_at_once_is_one,
    a_place_whose_time_is_over_is_free_for_good,
    what_is_said_late_or_wrongly_reopens_nothing,
    what_was_planned_before_others_reserved_gets_nothing,
    a_contact_that_nobody_remembers_is_no_obstacle,
    nothing_is_kept_of_who_is_erased_or_opted_out,
    who_is_held_out_takes_nobodys_place,
    quiet_hours_hold_when_a_message_goes_out_too,
    the_same_product_is_not_told_again_for_thirty_days,
);

/// Every member's contacts that are out, or have a place, by brute force.
async fn most_in_seven_days(store: &Store, plans: &[String]) -> (usize, usize) {
    let mut by_member = BTreeMap::<String, Vec<StoredContact>>::new();
    for plan in plans {
        for contact in store.plan(plan).await.unwrap() {
            if contact.status == ContactStatus::Reserved || contact.status.is_out() {
                by_member.entry(contact.member_id.clone()).or_default().push(contact);
            }
        }
    }
    let days = |c: &StoredContact| c.times.from.div_euclid(86_400);
    let near = |c: &StoredContact, all: &[StoredContact]| {
        all.iter().filter(|other| (days(c)..days(c) + 7).contains(&days(other))).count()
    };
    let most = by_member.values().flat_map(|all| all.iter().map(|c| near(c, all))).max().unwrap_or(0);
    (most, by_member.values().map(Vec::len).sum())
}

async fn many_who_plan_at_once_never_exceed_a_cap(state: StateConfig) {
    const CLIENTS: usize = 64;
    const CAP: usize = 3;
    let trained = Arc::new(shop());
    let mut config = config(state);
    config.outreach.caps.per_7_days = Some(CAP as u32);
    // On one file, too, two servers may serve.
    let servers = [serve_configured(&trained, config.clone()).await, serve_configured(&trained, config.clone()).await];
    let clients = (0..CLIENTS).map(|i| {
        let client = client(&servers[i % 2]);
        let product = v1::ProductToPush { product_id: format!("tea{}", i % 10), ..v1::ProductToPush::default() };
        let request = v1::PlanPushesRequest {
            products: if i % 4 == 3 { Vec::new() } else { vec![product] },
            priority: (i % 3) as i32,
            ..tea(&format!("p{i}"))
        };
        tokio::spawn(async move { try_plan(client, request).await })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        client.await.unwrap().unwrap();
    }
    let store =
        Store::open(&config.state.url(&trained.registry).unwrap_or_else(|_| config.state.url.clone())).await.unwrap();
    let plans: Vec<String> = (0..CLIENTS).map(|i| format!("p{i}")).collect();
    let (most, contacts) = most_in_seven_days(&store, &plans).await;
    println!("{CLIENTS} clients, {contacts} contacts, {most} at most in 7 days where {CAP} are allowed");
    assert_eq!(most, CAP);
    store.close().await;
    for server in servers {
        server.end().await.unwrap();
    }
}

/// A store with one member, and nothing in between.
struct Desk {
    _folder: tempfile::TempDir,
    store: Store,
    policy: Arc<Policy>,
    learned: Learned,
}

impl Desk {
    async fn open(state: StateConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = if state.url.is_empty() { sqlite_url(&folder.path().join("kindred.db")) } else { state.url };
        let policy = Arc::new(config(StateConfig::default()).policy().unwrap());
        let consent = Consent { personalization: true, marketing: true, minor: false };
        let learned = Learned { held: Vec::new(), consent, is_young: false, is_of_days: false };
        Self { _folder: folder, store: Store::open(&url).await.unwrap(), policy, learned }
    }

    fn budget(&self, now: i64) -> Budget {
        Budget { policy: self.policy.clone(), unlearned: kindred::store::From::Number(0), now }
    }

    /// Plans one message, for now; gives whether it got a place.
    async fn reserve(&self, plan_id: &str, now: i64) -> usize {
        self.reserve_for("m", plan_id, now, (0, 1)).await.0
    }

    /// The same for a member, of a plan that had so many contacts when this was planned, and may have so many; gives how
    /// many the plan has then, as long as there is room in it.
    async fn reserve_for(
        &self,
        member_id: &str,
        plan_id: &str,
        now: i64,
        (after, most): (i64, usize),
    ) -> (usize, Option<i64>) {
        let wanted = Wanted { member_id: member_id.to_owned(), ..self.wanted(plan_id, now) };
        let outcome = self.reserve_as(plan_id, now, (after, most), 0, wanted).await;
        (outcome.accepted, outcome.plan.as_ref().map(|plan| plan.reserved))
    }

    /// A message to the member, for now.
    fn wanted(&self, product_id: &str, now: i64) -> Wanted {
        Wanted {
            is_held_out: false,
            member_id: "m".to_owned(),
            product_id: product_id.to_owned(),
            channel: 0,
            times: Times { from: now, until: now + 60 },
            probability: 0.5,
            value: 1.0,
            learned: self.learned.clone(),
        }
    }

    async fn reserve_as(
        &self,
        plan_id: &str,
        now: i64,
        (after, most): (i64, usize),
        priority: u8,
        wanted: Wanted,
    ) -> Outcome {
        let reservation = Reservation {
            plan_id: plan_id.to_owned(),
            campaign_id: String::new(),
            priority,
            after,
            budget: self.budget(now),
            wanted: vec![wanted],
        };
        let by = Entry { time: now, actor: String::new(), action: String::new(), detail: String::new() };
        let new = NewPlan { plan_id: plan_id.to_owned(), asked: String::new(), most, by };
        let writes = [Write::BeginPlan(new), Write::Reserve(reservation)];
        self.store.commit(&writes).await.unwrap().outcomes.remove(1)
    }

    async fn claim(&self, plan_id: &str, now: i64) -> Option<Refusal> {
        let contact_id = StoredContact::name(plan_id, "m");
        let claim = Claim { contact_id, learned: Some(self.learned.clone()) };
        let kept = self.store.commit(&[Write::Claim(vec![claim], self.budget(now))]).await.unwrap();
        kept.outcomes[0].refused.first().map(|(_, why)| *why)
    }

    /// Says what became of a contact; gives what was new of it, and what was not.
    async fn said(&self, plan_id: &str, status: ContactStatus, time: i64) -> (usize, usize) {
        let said = Said { contact_id: StoredContact::name(plan_id, "m"), status, time };
        let kept = self.store.commit(&[Write::Confirm(vec![said])]).await.unwrap();
        (kept.outcomes[0].accepted, kept.outcomes[0].duplicates)
    }
}

async fn nothing_is_kept_of_who_is_erased_or_opted_out(state: StateConfig) {
    let desk = Desk::open(state).await;
    // Whoever plans knew nothing of it yet.
    let by = Entry { time: NOW, actor: String::new(), action: String::new(), detail: String::new() };
    let no = Profile { marketing: Some(false), ..Profile::default() };
    desk.store.commit(&[Write::Erase("m".to_owned(), by), Write::Members(vec![("n".to_owned(), no)])]).await.unwrap();
    assert_eq!(desk.reserve("a", NOW).await, 0);
    assert_eq!(desk.reserve_for("n", "b", NOW, (0, 1)).await.0, 0);
    assert!(desk.store.plan("a").await.unwrap().is_empty() && desk.store.plan("b").await.unwrap().is_empty());
    assert_eq!(desk.reserve_for("o", "c", NOW, (0, 1)).await.0, 1, "anybody else");
    desk.store.close().await;
}

async fn who_is_held_out_takes_nobodys_place(state: StateConfig) {
    let desk = Desk::open(state).await;
    assert_eq!(desk.reserve("a", NOW).await, 1);
    let held_out = Wanted { is_held_out: true, ..desk.wanted("b", NOW) };
    let outcome = desk.reserve_as("b", NOW, (0, 1), 1, held_out).await;
    assert_eq!((outcome.accepted, outcome.held_out), (0, 1));
    assert_eq!(desk.store.plan("a").await.unwrap()[0].status, ContactStatus::Reserved, "though b comes first");
    let outcome = desk.reserve_as("c", NOW, (0, 1), 1, desk.wanted("c", NOW)).await;
    assert_eq!(outcome.accepted, 1);
    assert_eq!(desk.store.plan("a").await.unwrap()[0].status, ContactStatus::Displaced);
    desk.store.close().await;
}

async fn quiet_hours_hold_when_a_message_goes_out_too(state: StateConfig) {
    let mut desk = Desk::open(state).await;
    assert_eq!(desk.reserve("a", NOW).await, 1);
    // NOW is 14:13 in UTC, and quiet now.
    let mut quiet = config(StateConfig::default());
    (quiet.outreach.quiet_from, quiet.outreach.quiet_until) = (14, 15);
    let loud = std::mem::replace(&mut desk.policy, Arc::new(quiet.policy().unwrap()));
    assert_eq!(desk.claim("a", NOW + 30).await, Some(Refusal::Early));
    desk.policy = loud;
    assert_eq!(desk.claim("a", NOW + 30).await, None);
    desk.store.close().await;
}

async fn the_same_product_is_not_told_again_for_thirty_days(state: StateConfig) {
    let mut desk = Desk::open(state).await;
    let mut uncapped = config(StateConfig::default());
    (uncapped.outreach.caps, uncapped.outreach.same_product_days) = (Caps::default(), 30);
    desk.policy = Arc::new(uncapped.policy().unwrap());
    let later = NOW + 30 * 86_400;
    let tell = async |plan_id: &str, now: i64| {
        desk.reserve_as(plan_id, now, (0, 1), 0, desk.wanted("tea", now)).await.accepted
    };
    assert_eq!((tell("a", NOW).await, desk.claim("a", NOW).await), (1, None));
    assert_eq!((tell("b", NOW + 60).await, tell("c", later - 1).await, tell("d", later).await), (0, 0, 1));
    desk.store.close().await;
}

async fn a_place_whose_time_is_over_is_free_for_good(state: StateConfig) {
    let desk = Desk::open(state).await;
    assert_eq!((desk.reserve("a", NOW).await, desk.reserve("b", NOW + 60).await), (1, 0));
    assert_eq!(desk.reserve("c", NOW + 61).await, 1, "nobody claimed the first");
    assert_eq!(desk.claim("a", NOW + 30).await, Some(Refusal::Expired), "whatever the clock of its sender says");
    assert_eq!(desk.claim("c", NOW + 200).await, Some(Refusal::Expired));
    assert_eq!(desk.reserve("d", NOW + 201).await, 1);
    assert_eq!(desk.claim("d", NOW + 200).await, Some(Refusal::Early));
    assert_eq!((desk.claim("d", NOW + 202).await, desk.claim("d", NOW + 203).await), (None, Some(Refusal::Claimed)));
    assert_eq!(desk.reserve("e", NOW + 6 * 86_400).await, 0, "it may be out, though nobody confirmed it");
    desk.store.close().await;
}

async fn a_plan_asked_for_twice_at_once_is_one(state: StateConfig) {
    let trained = shop();
    let config = config(state);
    let servers = [serve_configured(&trained, config.clone()).await, serve_configured(&trained, config.clone()).await];
    let request = v1::PlanPushesRequest { max_contacts: 20, products: Vec::new(), ..tea("p") };
    let calls: Vec<_> = (0..8).map(|i| tokio::spawn(try_plan(client(&servers[i % 2]), request.clone()))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(plan(&servers[0], request).await.0.contact_count, 20);
    let mut capped = tea("capped");
    capped.products[0].cap = Some(v1::product_to_push::Cap::MaxMembers(7));
    let calls: Vec<_> = (0..8).map(|i| tokio::spawn(try_plan(client(&servers[i % 2]), capped.clone()))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(plan(&servers[0], capped).await.0.contact_count, 7);
    for server in servers {
        server.end().await.unwrap();
    }
}

async fn what_is_said_late_or_wrongly_reopens_nothing(state: StateConfig) {
    let desk = Desk::open(state).await;
    assert_eq!(desk.reserve("a", NOW).await, 1);
    assert_eq!(desk.said("a", ContactStatus::Opened, NOW + 50).await, (1, 0));
    assert_eq!(desk.said("a", ContactStatus::Sent, 0).await, (1, 0), "it did not go out in 1970");
    assert_eq!(desk.said("a", ContactStatus::Sent, NOW + 6 * 86_400).await, (0, 1), "when is known");
    assert_eq!(desk.reserve("b", NOW + 6 * 86_400).await, 0);
    assert_eq!(desk.reserve("b", NOW + 7 * 86_400).await, 1);
    assert_eq!(desk.said("b", ContactStatus::Failed, NOW + 7 * 86_400 + 10).await, (1, 0));
    assert_eq!(desk.said("b", ContactStatus::Sent, NOW + 7 * 86_400 + 20).await, (1, 0), "tried again");
    assert_eq!(desk.reserve("c", NOW + 8 * 86_400).await, 0);
    assert_eq!(desk.said("b", ContactStatus::Complained, NOW + 50 * 86_400).await, (1, 0));
    assert_eq!(desk.reserve("c", NOW + 120 * 86_400).await, 0, "ninety days from the complaint on");
    assert_eq!(desk.reserve("c", NOW + 141 * 86_400).await, 1);
    desk.store.close().await;
}

async fn what_was_planned_before_others_reserved_gets_nothing(state: StateConfig) {
    let desk = Desk::open(state).await;
    assert_eq!(desk.reserve_for("m", "a", NOW, (0, 3)).await, (1, Some(1)));
    assert_eq!(desk.reserve_for("n", "a", NOW, (0, 3)).await, (0, Some(1)), "it may exceed the cap of a product");
    assert_eq!(desk.reserve_for("n", "a", NOW, (1, 3)).await, (1, Some(2)));
    assert_eq!(desk.reserve_for("o", "a", NOW, (2, 3)).await, (1, None), "it is full");
    assert_eq!(desk.reserve_for("p", "a", NOW, (3, 4)).await, (1, None), "asked for with more, it goes on");
    desk.store.close().await;
}

async fn a_contact_that_nobody_remembers_is_no_obstacle(state: StateConfig) {
    let desk = Desk::open(state).await;
    assert_eq!(desk.reserve_for("m", "a", NOW, (0, 5)).await.0, 1);
    assert_eq!(desk.reserve_for("m", "a", NOW + 101 * 86_400, (1, 5)).await.0, 1);
    let contacts = desk.store.plan("a").await.unwrap();
    assert_eq!(contacts.iter().map(|c| c.times.from).collect::<Vec<_>>(), [NOW + 101 * 86_400]);
    desk.store.close().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let trained = shop();
    let running = serve(&trained, StateConfig::default()).await;
    let refused = async |change: fn(&mut v1::PlanPushesRequest)| {
        let mut request = tea("p");
        change(&mut request);
        let status = try_plan(client(&running), request).await.unwrap_err();
        // What to do stands behind the field.
        let field = status.message().split(' ').take(2).collect::<Vec<_>>().join(" ");
        (status.code(), field)
    };
    let invalid = |field: &str| (Code::InvalidArgument, format!("invalid: {field}"));
    assert_eq!(refused(|r| r.plan_id.clear()).await, invalid("plan_id"));
    assert_eq!(refused(|r| r.priority = 10).await, invalid("priority"));
    assert_eq!(refused(|r| r.max_contacts = 0).await, invalid("max_contacts"));
    assert_eq!(refused(|r| r.channels = vec!["sms".to_owned()]).await, invalid("channels[0]"));
    assert_eq!(refused(|r| r.products[0].value = -1.0).await, invalid("products[0].value"));
    assert_eq!(refused(|r| r.products.push(r.products[0].clone())).await, invalid("products[1].product_id"));
    assert_eq!(refused(|r| r.product_filter = Some(v1::ProductFilter::default())).await, invalid("product_filter"));
    let cheap = |r: &mut v1::PlanPushesRequest| {
        (r.products, r.product_filter) =
            (Vec::new(), Some(v1::ProductFilter { min_price: Some(-1.0), ..Default::default() }));
    };
    assert_eq!(refused(cheap).await, invalid("product_filter.min_price"));
    assert_eq!(refused(|r| r.holdout_share = 1.5).await, invalid("holdout_share"));
    let soon = |r: &mut v1::PlanPushesRequest| r.end = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    assert_eq!(refused(soon).await, invalid("end"));
    assert_eq!(refused(|r| r.products[0].product_id = "x".to_owned()).await.0, Code::NotFound);
    let cancel = v1::CancelPlanRequest { plan_id: "never-was".to_owned() };
    assert_eq!(client(&running).cancel_plan(cancel).await.unwrap_err().code(), Code::NotFound);
    let wrong = v1::ClaimContactsRequest { contact_ids: vec!["x".to_owned()] };
    assert_eq!(client(&running).claim_contacts(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    running.end().await.unwrap();
}
