//! Which events are looked at: all of a history, or what was known of it at a moment.

use std::sync::Arc;

use kindred_models::events::{self, DAY_SECONDS, day, decayed};
use kindred_models::history::UNKNOWN_DAYS;
use kindred_models::strings::NONE;
use rayon::prelude::*;

use crate::data::{Dataset, Event, Kind};
use crate::rank::mix;

/// Events, and the moment that they are looked at from.
#[derive(Clone, Debug)]
pub struct Slice {
    /// By member, product and time, shared by all slices of a history: those later than `until` are not of this one.
    all: Arc<Vec<Event>>,
    until: i64,
    /// The moment it stands at, up to which decay, recency and age are counted: of a whole history that of the newest
    /// event, 0 where events have no time.
    pub as_of: i64,
    /// Moment of the newest purchase of the whole history.
    last_purchase: i64,
    has_time: bool,
}

impl Slice {
    /// Everything.
    pub fn all(dataset: &Dataset) -> Self {
        Self::sharing(dataset.events.list.clone(), dataset.has_time)
    }

    /// Of events in the dataset's order.
    pub fn of(events: Vec<Event>, has_time: bool) -> Self {
        Self::sharing(events.into(), has_time)
    }

    fn sharing(all: Arc<Vec<Event>>, has_time: bool) -> Self {
        let as_of = all.par_iter().map(|e| e.time).max().unwrap_or(0);
        let purchases = all.par_iter().filter(|e| e.kind == Kind::Purchase);
        let last_purchase = purchases.map(|e| e.time).max().unwrap_or(as_of);
        Self { all, until: i64::MAX, as_of, last_purchase, has_time }
    }

    /// The moment up to which it is known what was bought: views and messages may be told of sooner, and days without their
    /// purchases would teach that nobody buys.
    pub(crate) fn bought_until(&self) -> i64 {
        self.as_of.min(self.last_purchase)
    }

    /// What was known at a moment.
    pub fn until(&self, cut: i64) -> Self {
        Self { until: cut.min(self.until), as_of: cut, ..self.clone() }
    }

    /// The events of about so many of the members at most, the same whenever it is asked.
    pub(crate) fn thinned(self, max_members: usize) -> Self {
        let members = self.members().filter_map(|(_, mut events)| events.next()).count();
        let share = max_members as f64 / members.max(1) as f64;
        if share >= 1.0 {
            return self;
        }
        let limit = (share * u64::MAX as f64) as u64;
        // By a hash, not in order: ids may follow when members joined.
        let kept = self.events().filter(|e| mix(u64::from(e.member)) <= limit).copied().collect::<Vec<_>>();
        Self { all: kept.into(), ..self }
    }

    /// The events, by member, product and time.
    pub fn events(&self) -> impl Iterator<Item = &Event> + Clone {
        self.all.iter().filter(|e| e.time <= self.until)
    }

    /// Members with their events; of a part of the history some may have none.
    pub(crate) fn members(&self) -> impl Iterator<Item = (u32, impl Iterator<Item = &Event>)> {
        let runs = self.all.chunk_by(|a, b| a.member == b.member);
        runs.map(|run| (run[0].member, run.iter().filter(|e| e.time <= self.until)))
    }

    /// The events of one member.
    pub(crate) fn of_member(&self, member: u32) -> impl Iterator<Item = &Event> {
        let first = self.all.partition_point(|e| e.member < member);
        self.all[first..].iter().take_while(move |e| e.member == member).filter(|e| e.time <= self.until)
    }

    /// Events as runs of one member and product; those that speak of no product are in none.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = &[Event]> {
        self.runs().filter(|run| run[0].product != NONE)
    }

    /// Events as runs of one member and product, or of one member and none.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &[Event]> {
        // Within a run they are in order of time.
        runs(&self.all).map(|run| &run[..run.partition_point(|e| e.time <= self.until)]).filter(|run| !run.is_empty())
    }

    /// Moment of the first event; where there is none, that which the slice stands at.
    pub(crate) fn start(&self) -> i64 {
        self.events().map(|e| e.time).min().unwrap_or(self.as_of)
    }

    /// Whether events tell the hour: a table of dates alone does not.
    pub(crate) fn has_hours(&self) -> bool {
        let mut times = self.events().map(|e| e.time);
        let first = times.next();
        self.has_time && times.any(|time| first.is_some_and(|first| (time - first) % DAY_SECONDS != 0))
    }

    /// What an event counts: a half if it is `half_life_days` old; 1 without times or decay.
    pub(crate) fn decay(&self, time: i64, half_life_days: f32) -> f32 {
        if self.has_time { decayed((self.as_of - time).max(0), half_life_days) } else { 1.0 }
    }

    /// Whole days since a moment; [`UNKNOWN_DAYS`] without one.
    pub(crate) fn days_since(&self, time: Option<i64>) -> u16 {
        match time {
            Some(time) if self.has_time => {
                ((self.as_of - time).max(0) / DAY_SECONDS).min(i64::from(UNKNOWN_DAYS - 1)) as u16
            }
            _ => UNKNOWN_DAYS,
        }
    }

    /// Days on which a member bought anything, in order; one day where events have no time.
    pub(crate) fn shopping_days(&self, member: u32) -> Vec<i64> {
        let events = self.of_member(member);
        let mut days: Vec<i64> = events.filter(|e| e.kind == Kind::Purchase).map(|e| day(e.time)).collect();
        days.sort_unstable();
        days.dedup();
        days
    }

    /// Whether events have a time.
    pub fn has_time(&self) -> bool {
        self.has_time
    }
}

/// Events, in the dataset's order, as runs of one member and product; those that speak of no product are in none.
pub(crate) fn pairs(events: &[Event]) -> impl Iterator<Item = &[Event]> {
    runs(events).filter(|run| run[0].product != NONE)
}

fn runs(events: &[Event]) -> impl Iterator<Item = &[Event]> {
    events.chunk_by(|a, b| a.member == b.member && a.product == b.product)
}

/// Moments of a pair's purchases that were not brought back, in order.
pub(crate) fn kept_purchases(events: &[Event]) -> Vec<i64> {
    events::kept_purchases(events.iter().map(|e| (e.kind, e.time))).0
}

/// Products that events, in the dataset's order, bought and did not bring back.
pub(crate) fn kept_products(events: &[Event]) -> impl Iterator<Item = u32> {
    runs(events).filter(|run| !kept_purchases(run).is_empty()).map(|run| run[0].product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_known_then_is_what_a_copy_of_it_would_be(
            events in prop::collection::vec((0u32..6, 0u32..4, 0i64..9), 0..60),
            cuts in (0i64..9, 0i64..9),
            max_members in 1usize..8,
        ) {
            const HALF: i64 = 43_200;
            let event = |(member, product, time): (u32, u32, i64)| {
                let product = if product == 3 { NONE } else { product };
                Event { member, product, time: time * HALF, store: 0, channel: 0, kind: Kind::Purchase, price: 0 }
            };
            let mut all: Vec<Event> = events.into_iter().map(event).collect();
            all.sort_unstable();
            let (first, second) = (cuts.0 * HALF, cuts.1 * HALF);
            let known: Vec<Event> = all.iter().filter(|e| e.time <= first.min(second)).copied().collect();
            // What was not known at the first cut is not at a later one.
            let part = Slice::of(all, true).until(first).until(second);
            let copy = Slice { as_of: second, ..Slice::of(known.clone(), true) };
            prop_assert!((copy.bought_until()..=second).contains(&part.bought_until()));
            prop_assert!(part.events().eq(&known));
            prop_assert!(part.pairs().eq(copy.pairs()) && part.runs().eq(copy.runs()));
            prop_assert_eq!((part.start(), part.has_hours()), (copy.start(), copy.has_hours()));
            let of_members: Vec<&Event> = part.members().flat_map(|(_, events)| events).collect();
            prop_assert!(of_members.into_iter().eq(&known));
            for member in 0..6 {
                prop_assert!(part.of_member(member).eq(copy.of_member(member)));
                prop_assert_eq!(part.shopping_days(member), copy.shopping_days(member));
            }
            prop_assert!(part.thinned(max_members).events().eq(copy.thinned(max_members).events()));
        }
    }
}
