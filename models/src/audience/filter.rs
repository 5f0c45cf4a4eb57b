//! Which members a caller wants, as sets.

use std::collections::BTreeSet;

use rayon::prelude::*;
use roaring::RoaringBitmap;
use serde::Deserialize;

use super::moments::{Birthday, DueForRepeat};
use crate::bitmaps::Bitmaps;
use crate::categories::is_within;
use crate::groups::{CONTACT_DAYS, Contacts, Segment};
use crate::history::UNKNOWN_DAYS;
use crate::model::Model;
use crate::state::{Profile, Said};
use crate::stop::{Stop, Stopped};
use crate::strings::{Labels, NONE};

/// Which members a caller wants: those of whom all that is set holds. A name that the model does not know is no
/// member's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemberFilter {
    /// Home stores, one of which is the member's.
    pub stores: Vec<String>,
    /// Cities, one of which is the member's.
    pub cities: Vec<String>,
    /// Guides, one of whom owns the member.
    pub guides: Vec<String>,
    /// Segments, one of which the member is in.
    pub segments: Vec<Segment>,
    /// Tags, all of which the member has.
    pub tags: Vec<String>,
    /// What the member bought, and how long ago; all hold.
    pub last_purchases: Vec<LastPurchase>,
    /// How often the member was contacted.
    pub max_contacts: Option<MaxContacts>,
    /// A birthday of the member.
    pub birthday: Option<Birthday>,
    /// Time for the member to buy something again.
    pub due_for_repeat: Option<DueForRepeat>,
    /// Filters, one of which lets the member in; empty for no such demand.
    pub any_of: Vec<MemberFilter>,
    /// Filters, none of which lets the member in.
    pub none_of: Vec<MemberFilter>,
}

/// How long ago a member last bought something, counted back from the newest event that the model knows. Members
/// who never did, or of whom that is not known, are not meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LastPurchase {
    /// Path of the category that it was of, at any level; `None` for anything.
    pub category: Option<String>,
    /// Days ago, at least.
    pub min_days: Option<u16>,
    /// Days ago, at most.
    pub max_days: Option<u16>,
}

/// How many messages a member may have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxContacts {
    /// At most so many.
    pub count: usize,
    /// In the days before the newest event that the model knows, 1 to [`CONTACT_DAYS`].
    pub days: u16,
}

/// What of a filter leaves members out, in the order in which they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Store,
    City,
    Guide,
    Segment,
    Tag,
    LastPurchase,
    Contacts,
    Birthday,
    DueForRepeat,
    AnyOf,
    NoneOf,
}

impl MemberFilter {
    /// Says what of it can't be answered.
    ///
    /// # Errors
    /// If it asks for contacts further back than they are kept, or for birthdays in more than a year.
    pub fn check(&self) -> Result<(), String> {
        if self.max_contacts.is_some_and(|max| !(1..=CONTACT_DAYS).contains(&max.days)) {
            return Err(format!("max_contacts.days must be from 1 to {CONTACT_DAYS}"));
        }
        if self.birthday.is_some_and(|birthday| birthday.within_days > 365) {
            return Err("birthday.within_days must be up to 365".to_owned());
        }
        let turned = |last: &&LastPurchase| last.min_days.zip(last.max_days).is_some_and(|(least, most)| least > most);
        if let Some(LastPurchase { min_days, max_days, .. }) = self.last_purchases.iter().find(turned) {
            let [least, most] = [min_days, max_days].map(|days| days.unwrap_or_default());
            return Err(format!("last_purchases: nothing is at least {least} and at most {most} days ago"));
        }
        self.any_of.iter().chain(&self.none_of).try_for_each(Self::check)
    }

    /// Whether it asks how often members were contacted.
    pub(super) fn asks_for_contacts(&self) -> bool {
        let mut within = self.any_of.iter().chain(&self.none_of);
        self.max_contacts.is_some() || within.any(Self::asks_for_contacts)
    }

    /// Gives the members whom each part lets in, one after the other.
    pub(super) fn each_part(
        &self,
        model: &Model,
        stop: &Stop,
        each: &mut dyn FnMut(Part, RoaringBitmap),
    ) -> Result<(), Stopped> {
        let (members, groups, state) = (&model.members, &model.groups, &model.state);
        if !self.stores.is_empty() {
            let set = named(&members.stores, &groups.stores, &self.stores);
            each(Part::Store, state.mended(set, Said::Store, |said| is_one_of(&said.store, &self.stores)));
        }
        if !self.cities.is_empty() {
            let set = named(&members.cities, &groups.cities, &self.cities);
            each(Part::City, state.mended(set, Said::City, |said| is_one_of(&said.city, &self.cities)));
        }
        if !self.guides.is_empty() {
            let set = named(&members.guides, &groups.guides, &self.guides);
            each(Part::Guide, state.mended(set, Said::Guide, |said| is_one_of(&said.guide, &self.guides)));
        }
        if !self.segments.is_empty() {
            each(Part::Segment, model.in_segments(&self.segments, stop)?);
        }
        for tag in &self.tags {
            let set = groups.tags.get(members.tag_names.find(tag).unwrap_or(NONE));
            each(Part::Tag, state.tagged(set, tag));
        }
        for last in &self.last_purchases {
            stop.check()?;
            each(Part::LastPurchase, last.set(model));
        }
        if let (Some(max), Some(contacts)) = (self.max_contacts, &groups.contacts) {
            each(Part::Contacts, everyone(model) - contacted(model, contacts, max));
        }
        if let Some(birthday) = &self.birthday {
            each(Part::Birthday, birthday.set(model));
        }
        if let Some(due) = &self.due_for_repeat {
            stop.check()?;
            each(Part::DueForRepeat, due.set(model));
        }
        let union = |filters: &[Self]| {
            filters
                .iter()
                .try_fold(RoaringBitmap::new(), |all, filter| Ok::<_, Stopped>(all | filter.set(model, stop)?))
        };
        if !self.any_of.is_empty() {
            each(Part::AnyOf, union(&self.any_of)?);
        }
        if !self.none_of.is_empty() {
            each(Part::NoneOf, everyone(model) - union(&self.none_of)?);
        }
        stop.check()
    }

    /// Names of tags, stores, cities, guides and categories that no member or product of the model has, nor was said to have
    /// since; sorted. A slip in one finds nobody, and among `none_of` leaves nobody out.
    pub fn unknown_names(&self, model: &Model) -> BTreeSet<String> {
        let (members, state) = (&model.members, &model.state);
        let said = |said: Said, name: &str, of: fn(&Profile) -> &Option<String>| {
            state.described(said).any(|(_, profile)| of(profile).as_deref() == Some(name))
        };
        let is_tag =
            |tag: &String| members.tag_names.find(tag).is_some() || state.tag_changes().any(|(name, _)| name == tag);
        let is_store = |name: &String| {
            members.stores.values.find(name).is_some() || said(Said::Store, name, |profile| &profile.store)
        };
        let is_city = |name: &String| {
            members.cities.values.find(name).is_some() || said(Said::City, name, |profile| &profile.city)
        };
        let is_guide = |name: &String| {
            members.guides.values.find(name).is_some() || said(Said::Guide, name, |profile| &profile.guide)
        };
        let is_category =
            |name: &String| model.products.categories.values.iter().any(|category| is_within(category, name));
        let categories = self.last_purchases.iter().filter_map(|last| last.category.as_ref());
        let categories = categories.chain(self.due_for_repeat.iter().filter_map(|due| due.category.as_ref()));
        let unknown = self.tags.iter().filter(|name| !is_tag(name));
        let unknown = unknown.chain(self.stores.iter().filter(|name| !is_store(name)));
        let unknown = unknown.chain(self.cities.iter().filter(|name| !is_city(name)));
        let unknown = unknown.chain(self.guides.iter().filter(|name| !is_guide(name)));
        let unknown = unknown.chain(categories.filter(|name| !is_category(name))).cloned();
        let within = self.any_of.iter().chain(&self.none_of).flat_map(|filter| filter.unknown_names(model));
        unknown.chain(within).collect()
    }

    /// The members whom all parts let in.
    fn set(&self, model: &Model, stop: &Stop) -> Result<RoaringBitmap, Stopped> {
        let mut all = everyone(model);
        self.each_part(model, stop, &mut |_, set| all &= set)?;
        Ok(all)
    }
}

/// All members.
pub(super) fn everyone(model: &Model) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..model.members.len() as u32);
    all
}

/// Whether what was said is one of those wanted; `None` if nothing was.
fn is_one_of(said: &Option<String>, wanted: &[String]) -> Option<bool> {
    said.as_ref().map(|said| wanted.contains(said))
}

/// Members who got more messages than wanted.
fn contacted(model: &Model, contacts: &Contacts, max: MaxContacts) -> RoaringBitmap {
    let (state, now) = (&model.state, model.state.now(model));
    // Of the days asked for, those up to the model's moment.
    let days = max.days.saturating_sub(state.days_passed(model));
    let is_more = |row: u32, since: usize| since + contacts.of(row, days) > max.count;
    contacts.more_than(max.count, days) | state.contacted(now, max.days, is_more)
}

fn named(labels: &Labels, sets: &Bitmaps, wanted: &[String]) -> RoaringBitmap {
    let rows: BTreeSet<u32> = wanted.iter().filter_map(|value| labels.values.find(value)).collect();
    sets.union(rows)
}

impl LastPurchase {
    fn set(&self, model: &Model) -> RoaringBitmap {
        let days = self.min_days.unwrap_or(0)..=self.max_days.unwrap_or(UNKNOWN_DAYS - 1);
        let is_meant = is_of_category(&model.products.categories, self.category.as_deref());
        let history = &model.history;
        let state = &model.state;
        let passed = state.days_passed(model);
        let lets_in = |member: &u32| {
            if !state.is_as_learned(*member) {
                if !state.consent(model, *member).personalization {
                    return false;
                }
                let pasts = state.pasts(model, *member);
                let of_category = pasts.list.iter().filter(|past| past.count > 0 && is_meant(past.product));
                return of_category.map(|past| past.days_since).min().is_some_and(|ago| days.contains(&ago));
            }
            let bought = history.rows.range(*member).filter(|i| history.counts[*i] > 0);
            let of_category = bought.filter(|i| is_meant(history.rows.columns[*i]));
            // What has no time is later than any day that can be asked for.
            let least = of_category.map(|i| history.days_since[i]).min().filter(|ago| *ago != UNKNOWN_DAYS);
            least.is_some_and(|ago| days.contains(&ago.saturating_add(passed)))
        };
        let rows: Vec<u32> = (0..model.members.len() as u32).into_par_iter().filter(lets_in).collect();
        rows.into_iter().collect()
    }
}

/// Whether products are of the category of a path, at any level; all are where none is asked for.
pub(super) fn is_of_category<'a>(categories: &'a Labels, path: Option<&str>) -> impl Fn(u32) -> bool + 'a {
    let meant: Option<Vec<bool>> =
        path.map(|path| categories.values.iter().map(|value| is_within(value, path)).collect());
    move |product: u32| {
        let category = || categories.rows[product as usize] as usize;
        meant.as_ref().is_none_or(|meant| meant.get(category()).copied().unwrap_or(false))
    }
}
