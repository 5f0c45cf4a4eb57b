//! A member's history as it stands now: what a model learned, aged, and what happened since.

use std::collections::BTreeMap;

use super::{LiveEvent, State};
use crate::events::{Counting, DAY_SECONDS, Kind, day, decayed, kept_purchases};
use crate::history::{Past, UNKNOWN_DAYS};
use crate::model::Model;
use crate::strings::NONE;

/// Days within which a member has just bought something, and needs no message about it.
const JUST_DAYS: i64 = 2;

/// A member's history, as training would count it now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pasts {
    /// What the member had to do with, by product.
    pub list: Vec<Past>,
    /// Days on which the member bought anything.
    pub trips: u16,
}

impl State {
    /// What a member had to do with. Nothing for who must be forgotten; whether it may be read is not asked here.
    pub fn pasts(&self, model: &Model, row: u32) -> Pasts {
        if self.is_erased(row) {
            return Pasts::default();
        }
        let learned = model.history.member(row);
        let trips = model.history.member_trips.get(row as usize).copied().unwrap_or(0);
        let clock = Clock::new(self.now(model), self.passed(model), &self.counting);
        let events: Vec<LiveEvent> = self.member(row).map_or_else(Vec::new, |member| of_products(&member.events));
        if clock.passed == 0 && events.is_empty() {
            return Pasts { list: learned.collect(), trips };
        }
        let mut aged: Vec<Past> = learned.map(|past| self.aged(past, &clock)).collect();
        if events.is_empty() {
            return Pasts { list: aged, trips };
        }
        let shopping = Shopping::of(&aged, &events, &clock);
        for past in aged.iter_mut().filter(|past| past.count > 0) {
            past.trips_since = past.trips_since.saturating_add(shopping.new_days);
            past.trips_from = past.trips_from.saturating_add(shopping.new_days);
        }
        let mut by_product = BTreeMap::<u32, Vec<LiveEvent>>::new();
        for event in events {
            by_product.entry(event.product).or_default().push(event);
        }
        for (product, events) in by_product {
            let at = aged.binary_search_by_key(&product, |past| past.product);
            let old = at.map_or_else(|_| Past::new(product), |at| aged[at]);
            let new = self.with_events(old, &events, &clock, &shopping);
            match at {
                Ok(at) => aged[at] = new,
                Err(at) => aged.insert(at, new),
            }
        }
        // As in training: of who bought nothing and showed no interest, nothing is kept.
        aged.retain(|past| past.count > 0 || past.weight > 0.0);
        Pasts { list: aged, trips: trips.saturating_add(shopping.new_days) }
    }

    /// Products that a member bought and kept within two days of a moment, by row, as near as whole days tell.
    pub fn just_bought(&self, model: &Model, row: u32, now: i64) -> Vec<u32> {
        if self.is_erased(row) {
            return Vec::new();
        }
        let since = now - JUST_DAYS * DAY_SECONDS;
        let mut events = self.member(row).map_or_else(Vec::new, |member| of_products(&member.events));
        // Stable: of each product they stay in order of time.
        events.sort_by_key(|event| event.product);
        let is_late = |of: &&[LiveEvent]| {
            let (kept, _) = kept_purchases(of.iter().map(|e| (e.kind, e.time)));
            kept.last().is_some_and(|at| *at > since)
        };
        let mut bought: Vec<u32> =
            events.chunk_by(|a, b| a.product == b.product).filter(is_late).map(|of| of[0].product).collect();
        let (history, as_of) = (&model.history, model.info.as_of_time);
        if as_of > since && (row as usize) < history.rows.len() {
            let of = |i: &usize| as_of - i64::from(history.days_since[*i]) * DAY_SECONDS;
            let late = history.rows.range(row).filter(|i| history.counts[*i] > 0 && of(i) > since);
            bought.extend(late.map(|i| history.rows.columns[i]));
        }
        bought
    }

    /// What a model learned of a pair, as much later as it is now.
    fn aged(&self, past: Past, clock: &Clock) -> Past {
        let days = (clock.passed / DAY_SECONDS).min(i64::from(UNKNOWN_DAYS)) as u16;
        let [of_weight, of_repeat, of_recent] = clock.left;
        let mass = self.counting.weighting.count(past.weight) * of_weight;
        Past {
            weight: if past.weight > 0.0 { self.weight(mass) } else { 0.0 },
            decayed: past.decayed * of_repeat,
            recent: past.recent * of_recent,
            days_since: match past.days_since {
                UNKNOWN_DAYS => UNKNOWN_DAYS,
                since => since.saturating_add(days).min(UNKNOWN_DAYS - 1),
            },
            ..past
        }
    }

    fn weight(&self, mass: f32) -> f32 {
        self.counting.weighting.weight(mass).max(f32::MIN_POSITIVE)
    }

    /// An aged pair with what happened since; its days are those of training.
    fn with_events(&self, old: Past, events: &[LiveEvent], clock: &Clock, shopping: &Shopping) -> Past {
        let counting = &self.counting;
        let (kept, brought_back) = kept_purchases(events.iter().map(|e| (e.kind, e.time)));
        let old = self.without(old, brought_back);
        let sum = |half_life: f32| kept.iter().map(|at| decayed(clock.now - at, half_life)).sum::<f32>();
        let interest =
            |e: &LiveEvent| counting.weights.interest(e.kind) * decayed(clock.now - e.time, counting.half_life_days);
        let mass = if old.weight > 0.0 { counting.weighting.count(old.weight) } else { 0.0 };
        let mass = mass + sum(counting.half_life_days) + events.iter().map(interest).sum::<f32>();
        let mut new = Past {
            weight: if mass > 0.0 { self.weight(mass) } else { 0.0 },
            decayed: old.decayed + sum(counting.repeat_half_life_days),
            recent: old.recent + sum(counting.recent_half_life_days),
            count: old.count.saturating_add(saturated(kept.len())),
            ..old
        };
        if let (Some(first), Some(last)) = (kept.first(), kept.last()) {
            let (first, last) = (day(*first), day(*last));
            let last_before = clock.last_day(&old);
            let mut days: Vec<i64> = kept.iter().map(|at| day(*at)).filter(|d| Some(*d) != last_before).collect();
            days.dedup();
            let first = last_before.map_or(first, |before| (before - i64::from(old.span_days)).min(first));
            let last = last_before.map_or(last, |before| before.max(last));
            new.trips = old.trips.saturating_add(saturated(days.len()));
            new.span_days = u16::try_from(last - first).unwrap_or(UNKNOWN_DAYS - 1);
            new.days_since = clock.days_since(kept[kept.len() - 1]).min(old.days_since);
            if last_before != Some(last) {
                new.trips_since = shopping.days_after(last);
            }
            if old.count == 0 {
                new.trips_from = shopping.days_after(first - 1);
            }
        }
        new
    }
}

impl State {
    /// A pair less purchases that were brought back; which of them is not known any more, so all count a bit less.
    fn without(&self, past: Past, brought_back: usize) -> Past {
        let count = past.count.saturating_sub(saturated(brought_back));
        if count == past.count {
            return past;
        }
        if count == 0 {
            return Past::new(past.product);
        }
        let left = f32::from(count) / f32::from(past.count);
        let weight = self.weight(self.counting.weighting.count(past.weight) * left);
        let (decayed, recent) = (past.decayed * left, past.recent * left);
        Past { count, weight, decayed, recent, trips: past.trips.min(count), ..past }
    }
}

/// Events that speak of a product that the model knows.
fn of_products(events: &[LiveEvent]) -> Vec<LiveEvent> {
    events.iter().filter(|e| e.product != NONE && e.kind != Kind::Contact).copied().collect()
}

/// Now, and the seconds since the model learned.
struct Clock {
    now: i64,
    passed: i64,
    /// What is left now of 1 that the model learned, by what counts weights, repeats and what is recent.
    left: [f32; 3],
}

impl Clock {
    fn new(now: i64, passed: i64, counting: &Counting) -> Self {
        let half_lives = [counting.half_life_days, counting.repeat_half_life_days, counting.recent_half_life_days];
        Self { now, passed, left: half_lives.map(|half_life| decayed(passed, half_life)) }
    }

    fn days_since(&self, time: i64) -> u16 {
        u16::try_from((self.now - time).max(0) / DAY_SECONDS).unwrap_or(UNKNOWN_DAYS - 1).min(UNKNOWN_DAYS - 1)
    }

    /// The day of an aged pair's last purchase, as near as whole days tell.
    fn last_day(&self, past: &Past) -> Option<i64> {
        let known = past.count > 0 && past.days_since != UNKNOWN_DAYS;
        // As the model had it: what was cut off to whole days is cut off once.
        let learned = i64::from(past.days_since) - self.passed / DAY_SECONDS;
        known.then(|| day(self.now - self.passed - learned * DAY_SECONDS))
    }
}

/// The days on which a member bought anything since the model learned.
struct Shopping {
    days: Vec<i64>,
    /// How many of them the model does not know.
    new_days: u16,
}

impl Shopping {
    fn of(aged: &[Past], events: &[LiveEvent], clock: &Clock) -> Self {
        let bought = events.iter().filter(|e| e.kind == Kind::Purchase);
        let mut days: Vec<i64> = bought.map(|e| day(e.time)).collect();
        days.sort_unstable();
        days.dedup();
        let last_known = aged.iter().filter_map(|past| clock.last_day(past)).max();
        let new = days.iter().filter(|d| last_known.is_none_or(|known| **d > known)).count();
        Self { days, new_days: saturated(new) }
    }

    fn days_after(&self, day: i64) -> u16 {
        saturated(self.days.len() - self.days.partition_point(|d| *d <= day))
    }
}

fn saturated(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{LiveEvent, State};
    use super::Past;
    use crate::events::{DAY_SECONDS, Kind};
    use crate::feed::fixture;

    #[test]
    fn what_was_bought_within_two_days_was_just_bought_whoever_knows_of_it() {
        const NOW: i64 = 20_000 * DAY_SECONDS;
        let mut model = fixture::model(&[("tea", "", [1.0, 0.0], 10); 4], &[]);
        let bought = |product, days_since| Past { count: 1, days_since, ..Past::new(product) };
        model.members.ids = ["m"].iter().collect();
        model.members.consents = vec![3].into();
        model.history = fixture::history(&[vec![bought(0, 0), bought(1, 1)]]);
        model.info.as_of_time = NOW - DAY_SECONDS;
        model.state = State::of(&model);
        let mut state = model.state.clone();
        for (product, time) in [(2, NOW - 2 * DAY_SECONDS), (3, NOW - 2 * DAY_SECONDS + 1)] {
            state.record(&model, "m", LiveEvent { time, product, kind: Kind::Purchase, channel: u16::MAX }, None);
        }
        // The version's newest day was yesterday: what it has of the day before was two days ago.
        let mut just = state.just_bought(&model, 0, NOW);
        just.sort_unstable();
        assert_eq!(just, [0, 3]);
    }
}
