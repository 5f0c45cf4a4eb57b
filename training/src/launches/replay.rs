//! Launches of the past, asked for as they were when nobody had bought them.

use kindred_models::events::DAY_SECONDS;
use std::collections::BTreeMap;

use kindred_models::Model;
use kindred_models::launch::{LaunchQuery, Level, NO_SIGNALS, SIGNALS, SeedWeights, Signals};
use kindred_models::stop::Stop;
use rayon::prelude::*;

use super::logit::Choice;
use super::statics::launch_times;
use crate::config::LaunchParams;
use crate::data::Dataset;
use crate::error::TrainError;
use crate::rank::mix;
use crate::slice::{Slice, kept_purchases};

/// Members who did not buy that are kept per launch, about.
const OTHERS: usize = 2000;
/// Products sold before that are asked for per moment, at most, and buyers of each.
const KNOWN: usize = 60;
const KNOWN_BUYERS: usize = 300;
/// Launches that are replayed per moment, at most: each is held with the signals of some thousand members.
const MOST: usize = 500;

/// Numbers of seeds that are learned from.
pub(crate) const SEED_COUNTS: [usize; 3] = [3, 10, 30];
/// Buyers that are left then, at least.
const MIN_UNSEEDED: usize = 3;

/// A launch of the past: signals of its buyers, and of a sample of the others.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    /// Category path; empty where unknown.
    pub(super) category: String,
    /// Members who could have bought, and who did, of the whole base.
    pub(super) members: usize,
    pub(super) buyers: usize,
    /// Members of the sample, buyers first; signals in scales.
    pub(super) rows: Vec<Signals>,
    /// How many of the rows are buyers.
    pub(super) bought: usize,
    /// How many members one that did not buy stands for.
    pub(super) weight: f32,
    /// The same with some of the buyers known.
    pub(super) seeded: Vec<Seeded>,
}

/// What was asked for at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replayed {
    pub(super) launches: Vec<Past>,
    /// Products that were sold before, as if they were launched: asked for by their attributes, among members who had
    /// never bought them.
    pub(super) trials: Vec<Past>,
    /// Products that were sold before, as what they are: asked for by who bought them, too.
    pub(super) known: Vec<Past>,
}

/// A launch with some of its buyers known as seeds.
#[derive(Clone, Debug)]
pub(super) struct Seeded {
    /// How many.
    pub(super) seeds: usize,
    /// Places of the others in the launch's rows, buyers first.
    pub(super) places: Vec<usize>,
    /// Their signals of seeds, in standard deviations.
    pub(super) rows: Vec<SeedWeights>,
    /// How many of the rows are buyers.
    pub(super) bought: usize,
}

/// The scores of a launch's rows.
#[derive(Clone, Debug)]
pub(super) struct ScoredPast {
    pub(super) scores: Vec<f32>,
    pub(super) bought: usize,
    pub(super) weight: f32,
}

impl Past {
    pub(super) fn scored(&self, weights: &Signals) -> ScoredPast {
        let score = |row: &Signals| (0..SIGNALS.len()).map(|k| weights[k] * row[k]).sum();
        ScoredPast { scores: self.rows.iter().map(score).collect(), bought: self.bought, weight: self.weight }
    }

    /// As a choice to learn from; `None` where no buyer is in the sample.
    pub(super) fn choice(&self) -> Option<Choice<'_, { SIGNALS.len() }>> {
        (self.bought > 0).then_some(Choice { rows: &self.rows, offsets: &[], bought: self.bought, weight: self.weight })
    }
}

impl ScoredPast {
    /// Members that row `i` stands for.
    pub(super) fn weight_of(&self, i: usize) -> f32 {
        if i < self.bought { 1.0 } else { self.weight }
    }

    /// From scores to chances, where a share of `exp(log_rate)` of the members buys.
    pub(super) fn level(&self, log_rate: f32) -> Level {
        Level::of(&self.scores, |i| self.weight_of(i), log_rate)
    }
}

/// Replays what was launched in the step after a cut, those that [count](LaunchParams::counts) first, and before others
/// where there are very many; `model` is of a sample of the members as of then.
pub(super) fn at(
    model: &Model,
    slice: &Slice,
    dataset: &Dataset,
    params: &LaunchParams,
    cut: i64,
    stop: &Stop,
) -> Result<Vec<Past>, TrainError> {
    let sampled = active(model);
    let had_bought = had_bought(slice, dataset, cut);
    let is_active = |member: u32| had_bought[member as usize];
    let members = had_bought.iter().filter(|had| **had).count();
    // Who buys is learned from small ones, too.
    let least = (params.min_buyers as usize).div_ceil(2);
    let is_launch = |buyers: &[u32]| (least..members).contains(&buyers.len());
    let launches = buyers(slice, dataset, params, cut, is_active).into_iter().filter(|(_, b)| is_launch(b)).collect();
    let launches = chosen(launches, MOST, 0, |buyers| params.counts(buyers.len()));
    let replayed = launches.into_par_iter().map(|(product, mut buyers)| {
        stop.check()?;
        let all = buyers.len();
        buyers.retain(|member| sampled.binary_search(member).is_ok());
        Ok(Past { members, buyers: all, ..past(model, &sampled, product, [&buyers, &buyers]) })
    });
    replayed.collect()
}

/// Products sold before a moment.
pub(super) struct Sold {
    cut: i64,
    /// Members who had bought anything then.
    sampled: Vec<u32>,
    /// By product, those who bought it within the horizon from then on, and kept it; sorted.
    buyers: BTreeMap<u32, Vec<u32>>,
}

impl Sold {
    pub(super) fn new(model: &Model, slice: &Slice, params: &LaunchParams, cut: i64) -> Self {
        let sampled = active(model);
        let until = cut + i64::from(params.horizon_days) * DAY_SECONDS;
        let is_sold = |product: u32| !model.launch.buyers.rows.range(product).is_empty();
        let mut buyers = BTreeMap::<u32, Vec<u32>>::new();
        for pair in slice.pairs().filter(|pair| is_sold(pair[0].product)) {
            let in_time = &pair[..pair.partition_point(|e| e.time <= until)];
            let is_late = in_time.last().is_some_and(|e| e.time > cut);
            if is_late && kept_purchases(in_time).last().is_some_and(|at| *at > cut) {
                buyers.entry(pair[0].product).or_default().push(pair[0].member);
            }
        }
        buyers.values_mut().for_each(|buyers| buyers.retain(|member| sampled.binary_search(member).is_ok()));
        Self { cut, sampled, buyers }
    }

    /// Asks for some as if they were launched then, of members who had never bought them, for as far as enough of these did.
    pub(super) fn trials(&self, model: &Model, params: &LaunchParams, stop: &Stop) -> Result<Vec<Past>, TrainError> {
        let had = |product: u32, member: u32| model.launch.buyers.row(product).0.binary_search(&member).is_ok();
        let tried = |(product, buyers): (&u32, &Vec<u32>)| {
            (*product, buyers.iter().copied().filter(|member| !had(*product, *member)).collect())
        };
        let asked = self.enough(self.buyers.iter().map(tried), params).into_par_iter().map(|(product, buyers)| {
            stop.check()?;
            let others: Vec<u32> = self.sampled.iter().copied().filter(|member| !had(product, *member)).collect();
            Ok(past(model, &others, product, [&buyers, &some(product, &buyers)]))
        });
        asked.collect()
    }

    /// Asks for some as what they are, for as far as enough members bought them.
    pub(super) fn known(mut self, model: &Model, params: &LaunchParams, stop: &Stop) -> Result<Vec<Past>, TrainError> {
        let buyers = std::mem::take(&mut self.buyers);
        let asked = self.enough(buyers.into_iter(), params).into_par_iter().map(|(product, buyers)| {
            stop.check()?;
            let (query, some) = (LaunchQuery::of_product(model, product), some(product, &buyers));
            Ok(Asked::new(&query, &self.sampled, product, [&buyers, &some]).past(model, product))
        });
        asked.collect()
    }

    /// Some of the products that enough members bought, in their order; others at every moment.
    fn enough(&self, products: impl Iterator<Item = (u32, Vec<u32>)>, params: &LaunchParams) -> Vec<(u32, Vec<u32>)> {
        let enough = |buyers: &[u32]| params.counts(buyers.len()) && buyers.len() < self.sampled.len();
        chosen(products.filter(|(_, buyers)| enough(buyers)).collect(), KNOWN, self.cut as u64, |_| true)
    }
}

/// Members of a model who bought anything.
fn active(model: &Model) -> Vec<u32> {
    let activity = &model.launch.statics.activity;
    (0..activity.len() as u32).filter(|member| activity[*member as usize] > 0.0).collect()
}

/// Some of very many buyers, sorted. By a hash, not in order: ids may follow when members joined.
fn some(product: u32, buyers: &[u32]) -> Vec<u32> {
    let mut some = buyers.to_vec();
    some.sort_by_key(|member| mix(u64::from(product) << 32 | u64::from(*member)));
    some.truncate(KNOWN_BUYERS);
    some.sort_unstable();
    some
}

/// Up to `most` launches, those that count before others; in this order, and that of their products.
fn chosen(
    mut launches: Vec<(u32, Vec<u32>)>,
    most: usize,
    salt: u64,
    counts: impl Fn(&[u32]) -> bool,
) -> Vec<(u32, Vec<u32>)> {
    if launches.len() > most {
        // By a hash, not in order: products of a kind may stand together.
        launches.sort_by_key(|(product, buyers)| (!counts(buyers), mix(salt ^ u64::from(*product))));
        launches.truncate(most);
    }
    launches.sort_by_key(|(product, buyers)| (!counts(buyers), *product));
    launches
}

/// Members who had bought something that they kept, and allow it to be used.
pub(super) fn had_bought(slice: &Slice, dataset: &Dataset, cut: i64) -> Vec<bool> {
    let mut had = vec![false; dataset.members.len()];
    for pair in slice.pairs() {
        let before = &pair[..pair.partition_point(|e| e.time <= cut)];
        if !had[pair[0].member as usize] && !kept_purchases(before).is_empty() {
            had[pair[0].member as usize] = dataset.members.consent(pair[0].member).personalization;
        }
    }
    had
}

/// Who bought what was launched in the step after a cut, within the horizon from its launch, and kept it; sorted,
/// each once.
fn buyers(
    slice: &Slice,
    dataset: &Dataset,
    params: &LaunchParams,
    cut: i64,
    is_active: impl Fn(u32) -> bool,
) -> BTreeMap<u32, Vec<u32>> {
    const DAY: i64 = DAY_SECONDS;
    let times = launch_times(dataset, slice);
    let (step, horizon) = (i64::from(params.step_days) * DAY, i64::from(params.horizon_days) * DAY);
    let mut buyers = BTreeMap::<u32, Vec<u32>>::new();
    for pair in slice.pairs().filter(|pair| is_active(pair[0].member)) {
        let launched = times[pair[0].product as usize];
        let in_time = &pair[..pair.partition_point(|e| e.time <= launched.saturating_add(horizon))];
        if launched > cut && launched <= cut + step && !kept_purchases(in_time).is_empty() {
            buyers.entry(pair[0].product).or_default().push(pair[0].member);
        }
    }
    buyers
}

/// Asks for one product by its attributes, and once more with some of its buyers known; those who are looked at stand for
/// all.
fn past(model: &Model, active: &[u32], product: u32, [all, buyers]: [&[u32]; 2]) -> Past {
    let query = LaunchQuery::from_attributes(model, &model.products.attributes(product), |row| row != product);
    let asked = Asked::new(&query, active, product, [all, buyers]);
    let seeded = SEED_COUNTS.into_iter().filter(|seeds| buyers.len() >= seeds + MIN_UNSEEDED);
    let seeded = seeded.map(|seeds| {
        let is_seed = choose_seeds(product, buyers, seeds);
        let chosen: Vec<u32> = buyers.iter().zip(&is_seed).filter(|(_, is)| **is).map(|(m, _)| *m).collect();
        let query = query.clone().with_seed_signals(&chosen, model);
        let places: Vec<usize> =
            (0..asked.members.len()).filter(|place| !is_seed.get(*place).copied().unwrap_or(false)).collect();
        let signals = asked.signals(model, &query);
        let rows = places.iter().map(|place| query.seed_signals(&signals[*place])).collect();
        Seeded { seeds, places, rows, bought: buyers.len() - seeds }
    });
    Past { seeded: seeded.collect(), ..asked.past(model, product) }
}

/// Members who are asked for a product.
struct Asked<'a> {
    query: &'a LaunchQuery,
    /// Buyers first, then others.
    members: Vec<u32>,
    bought: usize,
    /// How many there are in all, and buyers of these.
    all: usize,
    buyers: usize,
}

impl<'a> Asked<'a> {
    /// Of all buyers some are looked at, and of the others as many as stand for all.
    fn new(query: &'a LaunchQuery, active: &[u32], product: u32, [buyers, looked_at]: [&[u32]; 2]) -> Self {
        // Every n-th of the others, from a start that differs from launch to launch.
        let step = (active.len() / OTHERS).max(1);
        let start = (mix(u64::from(product)) % step as u64) as usize;
        let others = active.iter().copied().skip(start).step_by(step).filter(|m| buyers.binary_search(m).is_err());
        let members = looked_at.iter().copied().chain(others).collect();
        Self { query, members, bought: looked_at.len(), all: active.len(), buyers: buyers.len() }
    }

    /// The members' signals.
    fn signals(&self, model: &Model, query: &LaunchQuery) -> Vec<Signals> {
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(|place| self.members[*place]);
        let sorted: Vec<u32> = order.iter().map(|place| self.members[*place]).collect();
        let mut rows = vec![NO_SIGNALS; self.members.len()];
        let signals = model.launch.signals_of(query, &model.embeddings, &sorted);
        order.iter().zip(signals).for_each(|(place, signals)| rows[*place] = signals);
        rows
    }

    /// What is kept of it. To each buyer that is looked at there are as many others as to each of all.
    fn past(&self, model: &Model, product: u32) -> Past {
        let others = (self.members.len() - self.bought).max(1);
        let looked_at = self.bought as f32 / self.buyers.max(1) as f32;
        Past {
            category: model.products.categories.get(product).unwrap_or_default().to_owned(),
            members: self.all,
            buyers: self.buyers,
            rows: self.signals(model, self.query).iter().map(|row| self.query.scaled(&model.launch, row)).collect(),
            bought: self.bought,
            weight: looked_at * (self.all - self.buyers) as f32 / others as f32,
            seeded: Vec::new(),
        }
    }
}

/// Which of a launch's buyers are revealed: so many, at random, the same each time.
pub(crate) fn choose_seeds(product: u32, buyers: &[u32], seeds: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..buyers.len()).collect();
    order.sort_by_key(|i| mix(u64::from(product) << 32 | u64::from(buyers[*i])));
    let mut is_seed = vec![false; buyers.len()];
    order.into_iter().take(seeds).for_each(|i| is_seed[i] = true);
    is_seed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_launches_those_that_count_are_chosen_first() {
        // Every third has ten buyers, the others one.
        let launches = |n: u32| (0..n).map(|p| (p, vec![0; if p % 3 == 0 { 10 } else { 1 }])).collect();
        let products = |most| -> Vec<u32> {
            chosen(launches(12), most, 0, |buyers| buyers.len() == 10).into_iter().map(|(product, _)| product).collect()
        };
        assert_eq!(products(12), [0, 3, 6, 9, 1, 2, 4, 5, 7, 8, 10, 11]);
        let six = products(6);
        assert_eq!((&six[..4], six.len(), six[4] < six[5]), (&[0, 3, 6, 9][..], 6, true));
        let three = products(3);
        assert!(three.len() == 3 && three.is_sorted() && three.iter().all(|product| product % 3 == 0), "{three:?}");
    }
}
