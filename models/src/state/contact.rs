//! Contacts as the state knows them.

use std::sync::Arc;

use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::{LiveEvent, Loaded, State};
use crate::events::DAY_SECONDS;
use crate::model::Model;
use crate::outreach::{ContactStatus, Held, Place, Policy, Times};
use crate::strings::NONE;

/// The channel of what nobody said it of.
pub const NO_CHANNEL: u16 = u16::MAX;

/// One message that went out to a member, or has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveContact {
    /// Tells it from the member's others; 0 for one that others sent, and that never changes.
    pub id: u64,
    /// The product; [`NONE`] if the model does not know it, or it was about none.
    pub product: u32,
    /// Number of the channel in the state; [`NO_CHANNEL`] if nobody said it.
    pub channel: u16,
    /// When, what became of it, and how much it comes first; its place is not yet known.
    pub held: Held,
}

impl LiveContact {
    /// One that others sent, as an event tells of it.
    pub fn by_others(event: LiveEvent) -> Self {
        let held = Held::by_others(Place::Unknown, event.time);
        Self { id: 0, product: event.product, channel: event.channel, held }
    }

    /// Whether it is out, or has a place: of others nothing needs to be known.
    pub(super) fn matters(&self) -> bool {
        self.held.status.is_out() || self.held.status == ContactStatus::Reserved
    }

    /// Whether it is about a product, and went out or has a place since a moment.
    pub fn told_of(&self, product: u32, since: i64, now: i64) -> bool {
        product != NONE && self.product == product && self.held.times.from > since && self.held.counts(now)
    }

    /// As a policy sees it; `names` are the state's channels.
    pub fn held(&self, policy: &Policy, names: &[String]) -> Held {
        Held { place: policy.place(names.get(self.channel as usize).map(String::as_str)), ..self.held }
    }

    /// Whether it went out, or may have, in the days before a moment.
    pub(super) fn is_within(&self, now: i64, days: u16) -> bool {
        self.held.status.is_out() && self.held.times.from > now - i64::from(days) * DAY_SECONDS
    }
}

/// Contacts of all members that were known when a version was loaded, by member. There are many, a dozen per member where
/// each is told something once a week, and hardly any changes: they take 32 bytes each.
#[derive(Clone, Debug, Default)]
pub struct LoadedContacts {
    /// Sorted by member once all are there.
    list: Vec<Packed>,
}

/// A contact of a member; moments are unix seconds from 1970 to 2106, and what lies beyond is taken for the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packed {
    member: u32,
    from: u32,
    id: u64,
    until: u32,
    said_at: u32,
    product: u32,
    channel: u16,
    status: ContactStatus,
    priority: u8,
}

impl LoadedContacts {
    /// Adds one, of the member of a row. What neither went out nor has a place is left out.
    pub(super) fn push(&mut self, member: u32, contact: &LiveContact) {
        if !contact.matters() {
            return;
        }
        let moment = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
        let LiveContact { id, product, channel, held } = *contact;
        let Held { times, status, priority, said_at, .. } = held;
        let (from, until, said_at) = (moment(times.from), moment(times.until), moment(said_at));
        self.list.push(Packed { member, from, id, until, said_at, product, channel, status, priority });
    }

    /// Puts them in order.
    pub(super) fn sort(&mut self) {
        self.list.par_sort_unstable();
        self.list.shrink_to_fit();
    }

    /// Those of a member, in order of time.
    pub(super) fn of(&self, member: u32) -> impl Iterator<Item = LiveContact> {
        let first = self.list.partition_point(|packed| packed.member < member);
        self.list[first..].iter().take_while(move |packed| packed.member == member).map(Packed::contact)
    }

    /// The members whom `is_meant` means, by their contacts.
    pub(super) fn members(
        &self,
        is_meant: impl Fn(u32, &mut dyn Iterator<Item = LiveContact>) -> bool + Sync,
    ) -> Vec<u32> {
        let of_members = self.list.par_chunk_by(|a, b| a.member == b.member);
        let meant = of_members.filter(|of| is_meant(of[0].member, &mut of.iter().map(Packed::contact)));
        meant.map(|of| of[0].member).collect()
    }
}

impl Packed {
    fn contact(&self) -> LiveContact {
        let times = Times { from: self.from.into(), until: self.until.into() };
        let (status, priority, said_at) = (self.status, self.priority, self.said_at.into());
        let held = Held { place: Place::Unknown, times, status, priority, said_at };
        LiveContact { id: self.id, product: self.product, channel: self.channel, held }
    }
}

impl State {
    /// Messages that a member got, or is about to get, and that the model did not learn of.
    pub fn contacts(&self, row: u32) -> impl Iterator<Item = LiveContact> {
        let new = self.member(row).map_or(&[][..], |member| &member.contacts);
        let is_new = |contact: &LiveContact| new.iter().any(|c| c.id == contact.id);
        let loaded = (!self.is_erased(row)).then(|| self.loaded.of(row)).into_iter().flatten();
        loaded.filter(move |c| !is_new(c)).chain(new.iter().copied().filter(LiveContact::matters))
    }

    /// Messages of others to a member that the model learned of, as they were told of.
    pub fn told(&self, row: u32) -> impl Iterator<Item = LiveContact> {
        (!self.is_erased(row)).then(|| self.told.of(row)).into_iter().flatten()
    }

    /// How many messages a member got in the days before a moment, that the model did not learn of.
    pub fn contact_count(&self, row: u32, now: i64, days: u16) -> usize {
        self.contacts(row).filter(|contact| contact.is_within(now, days)).count()
    }

    /// The members who got any, and whom `is_meant` means by their number; erased ones may be among them.
    pub fn contacted(&self, now: i64, days: u16, is_meant: impl Fn(u32, usize) -> bool + Sync) -> RoaringBitmap {
        let is_meant = |row: u32, count: usize| count > 0 && is_meant(row, count);
        let loaded = self.loaded.members(|row, contacts| {
            !self.contacted.contains(row) && is_meant(row, contacts.filter(|c| c.is_within(now, days)).count())
        });
        let rows: Vec<u32> = self.contacted.iter().collect();
        let since = rows.into_par_iter().filter(|row| is_meant(*row, self.contact_count(*row, now, days)));
        let since: Vec<u32> = since.collect();
        loaded.into_iter().chain(since).collect()
    }

    /// The members who complained of a message so lately that they are left alone.
    pub(crate) fn at_rest(&self, model: &Model) -> RoaringBitmap {
        let since = self.clock.max(self.now(model)) - i64::from(self.rest_days) * DAY_SECONDS;
        let complains = |c: LiveContact| c.held.status == ContactStatus::Complained && c.held.said_at > since;
        self.complained.iter().filter(|row| self.contacts(*row).any(complains)).collect()
    }

    /// Takes over what was known when the model was loaded: before any of it changes.
    pub fn load(&mut self, mut loaded: Loaded) {
        loaded.contacts.sort();
        loaded.told.sort();
        loaded.interest.sort();
        let Loaded { contacts, told, interest } = loaded;
        // Asked of every audience, and hardly anybody does.
        let complained = contacts.list.iter().filter(|contact| contact.status == ContactStatus::Complained);
        Arc::make_mut(&mut self.complained).extend(complained.map(|contact| contact.member));
        (self.loaded, self.told, self.interest) = (Arc::new(contacts), Arc::new(told), Arc::new(interest));
    }

    /// Adds a contact of a member to those that are to be loaded.
    pub fn add_contact(&mut self, model: &Model, member_id: &str, contact: &LiveContact, to: &mut LoadedContacts) {
        let row = self.row(model, member_id);
        if !self.is_erased(row) {
            to.push(row, contact);
        }
    }

    /// What is known now of a message to a member.
    pub fn contact(&mut self, model: &Model, member_id: &str, contact: LiveContact) {
        let row = self.row(model, member_id);
        if self.is_erased(row) {
            return;
        }
        if contact.held.status == ContactStatus::Complained && !self.complained.contains(row) {
            Arc::make_mut(&mut self.complained).insert(row);
        }
        let was_loaded = contact.id != 0 && self.loaded.of(row).any(|known| known.id == contact.id);
        let contacts = &mut self.member_mut(row).contacts;
        contacts.retain(|known| contact.id == 0 || known.id != contact.id);
        // What was loaded and does not matter any more stands for what was loaded.
        if contact.matters() || was_loaded {
            if contacts.is_empty() {
                // Most have one: no room for four.
                contacts.reserve_exact(1);
            }
            contacts.push(contact);
        }
        if (row as usize) < model.members.len() && !self.contacted.contains(row) {
            Arc::make_mut(&mut self.contacted).insert(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::Members;
    use crate::feed::fixture;

    const DAY: i64 = 20_000;

    fn model() -> Model {
        let mut model = fixture::model(&[("tea", "b", [1.0, 0.5], 100)], &[]);
        model.members = Members { ids: ["a", "b", "c"].iter().collect(), ..Members::default() };
        model.state = State::of(&model);
        model
    }

    fn contact(id: u64, day: i64, status: ContactStatus) -> LiveContact {
        let times = Times { from: day * DAY_SECONDS, until: day * DAY_SECONDS + 3600 };
        let held = Held { place: Place::Unknown, times, status, priority: 3, said_at: times.from + 7 };
        LiveContact { id, product: 0, channel: 1, held }
    }

    proptest! {
        /// Whether a contact was known when the version was loaded makes no difference, whatever becomes of it later.
        #[test]
        fn what_was_loaded_counts_as_what_came_later(
            told in prop::collection::vec((0usize..4, 0u64..4, 0i64..20, 0usize..10), 0..40),
            loaded in 0usize..40,
        ) {
            let model = model();
            let said = |(member, id, day, status): (usize, u64, i64, usize)| {
                // A contact is of one member.
                let id = id * 4 + member as u64 + 1;
                (["a", "b", "c", "new"][member], contact(id, DAY + day, ContactStatus::ALL[status]))
            };
            // The store tells of each contact once, as it is at the moment.
            let mut before = std::collections::BTreeMap::new();
            told.iter().take(loaded).map(|told| said(*told)).for_each(|(m, c)| {
                before.insert(c.id, (m, c));
            });
            let (mut one_by_one, mut state, mut list) = (model.state.clone(), model.state.clone(), LoadedContacts::default());
            for (member, contact) in before.values() {
                one_by_one.contact(&model, member, *contact);
                state.add_contact(&model, member, contact, &mut list);
            }
            state.load(Loaded { contacts: list, ..Loaded::default() });
            for (member, contact) in told.iter().skip(loaded).map(|told| said(*told)) {
                one_by_one.contact(&model, member, contact);
                state.contact(&model, member, contact);
            }
            let now = (DAY + 20) * DAY_SECONDS;
            for row in 0..4 {
                let sorted = |state: &State| {
                    let mut all: Vec<_> = state.contacts(row).map(|c| (c.id, c)).collect();
                    all.sort_by_key(|(id, _)| *id);
                    all
                };
                prop_assert_eq!(sorted(&state), sorted(&one_by_one));
                prop_assert_eq!(state.contact_count(row, now, 9), one_by_one.contact_count(row, now, 9));
            }
            let at_rest = |state: &State| {
                let mut state = state.clone().with_rest_days(9);
                state.set_clock(now);
                state.at_rest(&model)
            };
            let complains = |c: LiveContact| c.held.status == ContactStatus::Complained && now - c.held.said_at < 9 * DAY_SECONDS;
            let each = (0..4).filter(|row| state.contacts(*row).any(complains)).collect();
            prop_assert_eq!(&at_rest(&state), &each);
            prop_assert_eq!(at_rest(&one_by_one), each);
            for most in 0..3 {
                let more = |state: &State| state.contacted(now, 9, |row, count| row < 3 && count > most);
                let each = (0..3).filter(|row| state.contact_count(*row, now, 9) > most).collect();
                prop_assert_eq!(&more(&state), &each);
                prop_assert_eq!(more(&one_by_one), each);
            }
        }
    }

    #[test]
    fn nothing_is_told_of_who_was_erased() {
        let model = model();
        let (mut state, mut list) = (model.state.clone(), LoadedContacts::default());
        state.erase(&model, "b");
        for member in ["a", "b"] {
            state.add_contact(&model, member, &contact(1, DAY, ContactStatus::Sent), &mut list);
        }
        state.load(Loaded { contacts: list, ..Loaded::default() });
        state.erase(&model, "a");
        assert_eq!([0, 1].map(|row| state.contacts(row).count()), [0, 0]);
    }

    #[test]
    fn a_loaded_contact_takes_32_bytes() {
        assert_eq!(size_of::<Packed>(), 32);
    }
}
