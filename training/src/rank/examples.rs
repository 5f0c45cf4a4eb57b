//! Examples: candidates as they stood at a cut, and whether they were bought in the days that followed.

use kindred_models::events::DAY_SECONDS;
use std::collections::HashSet;

use kindred_models::Model;
use kindred_models::feed::{Features, FeedRequest, Persona, Signals, Visitor};
use kindred_models::stop::Stop;
use rayon::prelude::*;

use crate::config::RankerParams;
use crate::data::Event;
use crate::error::TrainError;
use crate::slice::{Slice, kept_products};

/// Length of the page that candidates are asked for.
const PAGE: usize = 20;

/// Members who bought anything to each one who but looked, and is scored, too: of these there may be far more.
const BUYERS_PER_LOOKER: usize = 10;

/// Which candidates a scorer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Novelty {
    /// What the member bought before.
    Repeat,
    /// What is new to the member.
    Fresh,
}

impl Novelty {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Repeat => "repeat",
            Self::Fresh => "new",
        }
    }
}

/// A model as of a cut, and what came after.
#[derive(Debug)]
pub(super) struct Horizon {
    pub(super) model: Model,
    /// Members with a history at the cut, and what each bought within the horizon; a sample of them where
    /// there are very many, and of those who but looked.
    pub(super) members: Vec<Member>,
}

/// A member, and what they bought within the horizon.
pub(super) type Member = (u32, HashSet<u32>);

impl Horizon {
    pub(super) fn new(model: Model, slice: &Slice, cut: i64, params: &RankerParams) -> Self {
        let end = cut + i64::from(params.horizon_days) * DAY_SECONDS;
        let has_history = |member: &u32| !model.history.rows.range(*member).is_empty();
        let has_bought = |member: &u32| model.history.member(*member).any(|p| p.count > 0);
        let known = (0..model.members.len() as u32).filter(has_history);
        let (buyers, lookers) = known.partition(has_bought);
        let bought = |member: u32| bought_within(slice.of_member(member), cut, end);
        let members = sampled(buyers, lookers, params.max_members).into_iter();
        let members = members.map(|member| (member, bought(member))).collect();
        Self { model, members }
    }

    /// Calls `f` with a member's candidates of a task.
    pub(super) fn candidates<R>(
        &self,
        (member, _): &Member,
        novelty: Novelty,
        f: impl FnOnce(&[u32], &Signals<'_>) -> R,
    ) -> R {
        let persona = Persona::of(&self.model, Visitor::Member(*member), &[]);
        let request = FeedRequest::new(Visitor::Member(*member), PAGE);
        let signals = Signals::new(&self.model, &persona, &request);
        // What is available today says nothing of then.
        let products = match novelty {
            Novelty::Repeat => signals.repeat_candidates(PAGE, &|_| true),
            Novelty::Fresh => signals.candidates(PAGE, false, &|product| !persona.has_purchased(product)),
        };
        f(&products, &signals)
    }
}

/// Products of a member's events that were bought after a cut, up to an end, and kept.
fn bought_within<'a>(events: impl Iterator<Item = &'a Event>, cut: i64, end: i64) -> HashSet<u32> {
    let events: Vec<Event> = events.filter(|e| e.time > cut && e.time <= end).copied().collect();
    kept_products(&events).collect()
}

/// Rows for fitting a scorer. All that were bought, and a known share of the others.
#[derive(Debug, Default)]
pub(super) struct Examples {
    pub(super) rows: Vec<Features>,
    pub(super) bought: Vec<bool>,
    /// Per row a number from 0 to 1, drawn once: what was not bought is here if it is below the share.
    pub(super) draws: Vec<f32>,
    /// Share of what was not bought that is here; the log odds of a fit are shifted by its logarithm
    /// (King and Zeng 2001, section 4.1).
    pub(super) negative_share: f32,
}

impl Examples {
    /// Those of some members at one cut.
    pub(super) fn of(
        horizon: &Horizon,
        members: &[Member],
        novelty: Novelty,
        params: &RankerParams,
        stop: &Stop,
    ) -> Result<Self, TrainError> {
        let share = negative_share(horizon, novelty, params);
        let salt = mix(horizon.model.info.as_of_time as u64);
        let kept: Vec<Vec<(Features, bool, f32)>> = members
            .par_iter()
            .map(|member| {
                stop.check()?;
                Ok(horizon.candidates(member, novelty, |products, signals| {
                    let draw = |product: u32| unit(mix(salt ^ mix(u64::from(member.0) << 32 | u64::from(product))));
                    let is_kept = |product: u32| member.1.contains(&product) || draw(product) < share;
                    let kept = products.iter().filter(|p| is_kept(**p)).map(|p| (member.1.contains(p), draw(*p)));
                    let rows = signals.features(products, |at| is_kept(products[at]));
                    rows.into_iter().zip(kept).map(|(row, (bought, draw))| (row, bought, draw)).collect()
                }))
            })
            .collect::<Result<_, TrainError>>()?;
        let mut examples = Self { negative_share: share, ..Self::default() };
        kept.into_iter().flatten().for_each(|(row, bought, draw)| examples.push(row, bought, draw));
        Ok(examples)
    }

    /// Several together, with the smallest of their shares.
    pub(super) fn merged(parts: &[&Self]) -> Self {
        let share = parts.iter().map(|part| part.negative_share).fold(1.0, f32::min);
        let mut merged = Self { negative_share: share, ..Self::default() };
        for part in parts {
            let rows = part.rows.iter().zip(&part.bought).zip(&part.draws);
            rows.filter(|((_, bought), draw)| **bought || **draw < share)
                .for_each(|((row, bought), draw)| merged.push(*row, *bought, *draw));
        }
        merged
    }

    pub(super) fn push(&mut self, row: Features, bought: bool, draw: f32) {
        self.rows.push(row);
        self.bought.push(bought);
        self.draws.push(draw);
    }
}

/// Share of what was not bought that keeps the rows within what the config allows, by a sample of members.
fn negative_share(horizon: &Horizon, novelty: Novelty, params: &RankerParams) -> f32 {
    let sample = &horizon.members[..horizon.members.len().min(200)];
    let total: usize = sample.par_iter().map(|m| horizon.candidates(m, novelty, |products, _| products.len())).sum();
    let total = total as f64 / sample.len().max(1) as f64 * horizon.members.len() as f64;
    let allowed = params.max_rows as f64 / f64::from(params.slices.max(1));
    (allowed / total.max(1.0)).min(1.0) as f32
}

/// From 64 random bits to a number from 0 to 1, 1 left out.
fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1u64 << 24) as f32
}

/// SplitMix64's finalizer: the same draw on every machine.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Up to so many who bought anything, and some who but looked. By a hash, not in order: ids may follow when members joined.
fn sampled(mut buyers: Vec<u32>, mut lookers: Vec<u32>, most: usize) -> Vec<u32> {
    let by_hash = |members: &mut Vec<u32>| members.sort_by_key(|member| mix(u64::from(*member)));
    by_hash(&mut buyers);
    buyers.truncate(most);
    by_hash(&mut lookers);
    let some = buyers.len() / BUYERS_PER_LOOKER;
    buyers.extend(lookers.into_iter().take(some));
    by_hash(&mut buyers);
    buyers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_but_looks_does_not_crowd_out_who_buys() {
        let of = |buyers: u32, most| {
            let members = sampled((0..buyers).collect(), (1000..2000).collect(), most);
            let lookers = members.iter().filter(|member| **member >= 1000).count();
            (members.len() - lookers, lookers)
        };
        assert_eq!([of(100, 50), of(100, 1000), of(5, 1000), of(0, 9)], [(50, 5), (100, 10), (5, 0), (0, 0)]);
        let members = sampled((0..99).collect(), Vec::new(), 99);
        assert!(!members.is_sorted() && members == sampled((0..99).rev().collect(), Vec::new(), 99));
    }

    #[test]
    fn what_is_bought_at_the_cut_was_bought_before_and_after_the_horizon_too_late() {
        let bought = |product: u32, time: i64| Event {
            member: 0,
            product,
            time,
            kind: crate::data::Kind::Purchase,
            price: 0,
            channel: 0,
            store: 0,
        };
        let events = [bought(1, 100), bought(2, 101), bought(3, 200), bought(4, 201)];
        assert_eq!(bought_within(events.iter(), 100, 200), HashSet::from([2, 3]));
    }
}
