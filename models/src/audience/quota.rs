//! Quotas: how many members a store or a guide can take care of in a day.

use std::collections::HashMap;

use crate::catalogue::Members;
use crate::ranking::Scored;
use crate::state::State;
use crate::strings::{Labels, NONE};

/// At most so many members of an audience a day. Members without a store or a guide are nobody's to take care of,
/// and have no quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Per home store.
    pub per_store: Option<u32>,
    /// Per guide.
    pub per_guide: Option<u32>,
    /// Days that the campaign takes, 1 or more.
    pub days: u16,
}

impl Default for Quota {
    fn default() -> Self {
        Self { per_store: None, per_guide: None, days: 1 }
    }
}

/// What a quota lets through.
#[derive(Debug, Default)]
pub(super) struct Scheduled {
    /// The members, best first.
    pub(super) members: Vec<Scored>,
    /// The day of each, from 1.
    pub(super) days: Vec<u16>,
    /// How many better ones than each had no place.
    pub(super) passed_over: Vec<u32>,
}

impl Quota {
    /// Whether there is any.
    pub fn is_set(&self) -> bool {
        self.per_store.is_some() || self.per_guide.is_some()
    }

    /// Gives every member, best first, the first day on which both the store and the guide have a place.
    pub(super) fn schedule(&self, members: &Members, state: &State, sorted: &[Scored]) -> Scheduled {
        let mut store_of = Labelled::new(&members.stores);
        let mut guide_of = Labelled::new(&members.guides);
        let mut stores = Places::new(self.per_store, self.days);
        let mut guides = Places::new(self.per_guide, self.days);
        let (mut scheduled, mut passed_over) = (Scheduled::default(), 0);
        for member in sorted {
            let said = state.profile(member.row);
            let store = store_of.row(member.row, said.and_then(|said| said.store.as_deref()));
            let guide = guide_of.row(member.row, said.and_then(|said| said.guide.as_deref()));
            let from = stores.first_free(store).max(guides.first_free(guide));
            let Some(day) = (from..self.days).find(|day| stores.is_free(store, *day) && guides.is_free(guide, *day))
            else {
                passed_over += 1;
                continue;
            };
            stores.take(store, day);
            guides.take(guide, day);
            scheduled.members.push(*member);
            scheduled.days.push(day + 1);
            scheduled.passed_over.push(passed_over);
        }
        scheduled
    }
}

/// Labels of members, as they stand now: names that the model does not know have numbers after its own.
struct Labelled<'a> {
    labels: &'a Labels,
    others: HashMap<String, u32>,
}

impl<'a> Labelled<'a> {
    fn new(labels: &'a Labels) -> Self {
        Self { labels, others: HashMap::new() }
    }

    fn row(&mut self, member: u32, said: Option<&str>) -> u32 {
        let Some(name) = said else { return self.labels.rows.get(member as usize).copied().unwrap_or(NONE) };
        let next = (self.labels.values.len() + self.others.len()) as u32;
        self.labels.values.find(name).unwrap_or_else(|| *self.others.entry(name.to_owned()).or_insert(next))
    }
}

/// Places of each store, or of each guide, by day.
struct Places {
    per_day: Option<u32>,
    days: u16,
    /// The first day with a place, and the places taken by day.
    taken: HashMap<u32, (u16, Vec<u32>)>,
}

impl Places {
    fn new(per_day: Option<u32>, days: u16) -> Self {
        Self { per_day, days, taken: HashMap::new() }
    }

    fn first_free(&self, of: u32) -> u16 {
        self.taken.get(&of).map_or(if self.per_day == Some(0) && of != NONE { self.days } else { 0 }, |(day, _)| *day)
    }

    fn is_free(&self, of: u32, day: u16) -> bool {
        let taken = || self.taken.get(&of).map_or(0, |(_, taken)| taken[day as usize]);
        of == NONE || self.per_day.is_none_or(|places| taken() < places)
    }

    fn take(&mut self, of: u32, day: u16) {
        let Some(places) = self.per_day.filter(|_| of != NONE) else { return };
        let days = self.days;
        let (first_free, taken) = self.taken.entry(of).or_insert_with(|| (0, vec![0; days as usize]));
        taken[day as usize] += 1;
        while *first_free < days && taken[*first_free as usize] >= places {
            *first_free += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strings::Labels;
    use proptest::prelude::*;

    fn scheduled(quota: Quota, stores: &[Option<&str>], guides: &[Option<&str>]) -> Vec<(u32, u16, u32)> {
        let members = Members { stores: Labels::encode(stores), guides: Labels::encode(guides), ..Members::default() };
        let sorted: Vec<Scored> = (0..stores.len() as u32).map(|row| Scored { row, score: -(row as f32) }).collect();
        let s = quota.schedule(&members, &State::default(), &sorted);
        (0..s.members.len()).map(|i| (s.members[i].row, s.days[i], s.passed_over[i])).collect()
    }

    #[test]
    fn the_best_come_first_and_the_others_the_day_after() {
        let stores = [Some("a"), Some("a"), Some("b"), Some("a"), None, Some("a"), Some("b")];
        let quota = Quota { per_store: Some(1), per_guide: None, days: 2 };
        // Two of store a have no place; whoever has no store has no quota.
        assert_eq!(scheduled(quota, &stores, &[None; 7]), [(0, 1, 0), (1, 2, 0), (2, 1, 0), (4, 1, 1), (6, 2, 2)]);
        let guides = [Some("g"), None, Some("g"), None, Some("g"), None, None];
        let quota = Quota { per_store: Some(1), per_guide: Some(1), days: 2 };
        // The third is of another store than the first, but of the same guide.
        assert_eq!(scheduled(quota, &stores, &guides), [(0, 1, 0), (1, 2, 0), (2, 2, 0), (6, 1, 3)]);
        assert!(scheduled(Quota { per_store: Some(0), ..quota }, &[Some("a")], &[None]).is_empty());
    }

    proptest! {
        #[test]
        fn no_quota_is_exceeded_and_none_is_left_unused(
            owners in prop::collection::vec((0u8..3, 0u8..4), 1..60),
            per_store in prop::option::of(0u32..5),
            per_guide in prop::option::of(0u32..4),
            days in 1u16..4,
        ) {
            let name = |x: u8| (x > 0).then(|| ["", "a", "b", "c"][x as usize]);
            let (stores, guides): (Vec<_>, Vec<_>) = owners.iter().map(|(s, g)| (name(*s), name(*g))).unzip();
            let found = scheduled(Quota { per_store, per_guide, days }, &stores, &guides);
            let count = |of: &[Option<&str>], who: Option<&str>, day: u16| {
                found.iter().filter(|(row, d, _)| *d == day && of[*row as usize] == who).count() as u32
            };
            let full = |of: &[Option<&str>], who: Option<&str>, places: Option<u32>, day: u16| {
                who.is_some() && places.is_some_and(|places| count(of, who, day) >= places)
            };
            for day in 1..=days {
                for who in ["a", "b", "c"].map(Some) {
                    prop_assert!(per_store.is_none_or(|places| count(&stores, who, day) <= places));
                    prop_assert!(per_guide.is_none_or(|places| count(&guides, who, day) <= places));
                }
            }
            for row in 0..owners.len() {
                let placed = found.iter().any(|(r, _, _)| *r as usize == row);
                let could = (1..=days).any(|day| {
                    !full(&stores, stores[row], per_store, day) && !full(&guides, guides[row], per_guide, day)
                });
                prop_assert!(placed || !could, "{row} has no place, and there is one");
            }
        }
    }
}
