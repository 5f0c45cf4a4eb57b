//! Who would buy a product that was never sold, and how many.
//!
//! A member's score is a weighted sum of signals of that member alone: it does not depend on who else is
//! asked for, so that an index may ask for a few. The weights are learned from past launches, replayed: each
//! is a choice of its buyers among all members (McFadden 1974, "Conditional logit analysis of qualitative
//! choice behavior"), so that `exp(score)` is in proportion to the chance of a purchase.

mod ceiling;
mod expectation;
#[cfg(test)]
pub(crate) mod fixture;
mod folded;
mod leanings;
mod prices;
mod query;
mod question;
mod scan;
mod seeds;
mod signals;
mod stored;
mod strip;
mod tags;
mod tilt;

use std::ops::Range;

use rayon::prelude::*;

use ceiling::Ceiling;
pub use expectation::{Expectation, Known, Level, Spread, Z90};
use folded::{Folded, weights_of_statics};
pub use leanings::Leanings;
pub use prices::UsualPrices;
pub use query::{ANALOGUES, LaunchQuery, mean_vector};
use question::Question;
use scan::{BLOCK, Block, Members};
pub use seeds::{SeedFit, SeedWeights};
pub use signals::{BOUGHT, NO_SIGNALS, SIGNALS, Signals, Statics, deviations, prior, variances};
use signals::{STATICS, Sums};
pub use tags::TagBuyers;

use crate::artifact::Array;
use crate::embeddings::Embeddings;
use crate::kernels::total;
use crate::ranking::Scored;
use crate::sparse::Matrix;
use crate::stop::{Stop, Stopped};

/// Members per task of a parallel scan: enough that finding the task's part of every list hardly counts.
pub(crate) const TASK: usize = 4 * BLOCK;
/// Members per task of a parallel look at some, for their scores and for their signals.
const PICKED: usize = 4096;
const LOOKED_UP: usize = 1024;
/// How much a product's own deviations of signals count: found on past launches of two chains.
pub const OWN_SHARE: f32 = 0.5;
/// A product's own deviation below this share of that of all products is raised to it.
const LEAST_OWN: f32 = 0.1;
/// Members that own deviations are measured on, in runs, at most.
const SCALE_MEMBERS: usize = 4096;
/// Members whose scores the level of a question is measured on, in runs, at most.
const LEVEL_MEMBERS: usize = 16_384;
/// Runs of neighbours that a sample is of, about: what is known of neighbours lies side by side in memory, so that few
/// are looked up faster; but neighbours may be alike.
const SAMPLE_RUNS: usize = 256;

/// What the launch score looks at, for all members.
#[derive(Clone, Debug, Default)]
pub struct LaunchModel {
    /// What is known of the members whatever the product.
    pub statics: Statics,
    /// What the signals of each member alone count together, by the weights that questions have without seeds.
    pub leanings: Leanings,
    /// Members who bought anything.
    pub active: usize,
    /// Per feature of the content vocabulary, the members who bought it, with decayed purchases.
    pub habits: Matrix,
    /// Per feature of the content vocabulary, the base's share of purchases that have it.
    pub rates: Array<f32>,
    /// What purchases usually cost.
    pub prices: UsualPrices,
    /// Per product, its buyers, with decayed purchases.
    pub buyers: Matrix,
    /// Which tags these have.
    pub tag_buyers: TagBuyers,
    /// Per product, the share of the members who bought anything that will buy it within the horizon, as its sales of
    /// late say; empty where nothing can be said.
    pub selling: Array<f32>,
    /// What was learned from past launches.
    pub fit: LaunchFit,
}

/// The small values of a [`LaunchModel`].
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchFit {
    /// Standard deviation of each signal over members, for the middle product.
    pub deviations: Signals,
    /// How much a signal's deviation for the product itself counts in what it is measured in, 0 to 1.
    pub own_share: f32,
    /// Weight of each signal, per scale; `None` where nothing could be replayed: then [`prior`] is used.
    pub learned: Option<Signals>,
    /// What to expect of a launch; `None` where too few could be replayed to say.
    pub expectation: Option<Expectation>,
    /// What sales of the last days say of the next, for products that have some; `None` where too few were seen.
    pub known: Option<Known>,
    /// Weights of the signals of seeds by the number of seeds, fewest first. Where none were learned, though `learned`
    /// was, seeds count by what they tilt that by alone.
    pub seeds: Vec<SeedFit>,
}

impl Default for LaunchFit {
    fn default() -> Self {
        Self {
            deviations: [1.0; SIGNALS.len()],
            own_share: 0.0,
            learned: None,
            expectation: None,
            known: None,
            seeds: Vec::new(),
        }
    }
}

impl LaunchFit {
    /// What a scale of each signal counts.
    pub fn weights(&self) -> Signals {
        self.learned.unwrap_or_else(prior)
    }

    /// Days within which the buyers of a product are counted; 0 where nothing is said of their number.
    pub fn horizon_days(&self) -> u32 {
        let of_known = self.known.map_or(0, |known| known.horizon_days);
        self.expectation.as_ref().map_or(of_known, |expectation| expectation.horizon_days)
    }

    /// What a product's signals are measured in, from those of some members: between their deviation for all products
    /// and that for this one. A signal that few members have would outweigh all others in its own deviations, and hardly
    /// count in those of all.
    fn scales(&self, signals: &[Signals]) -> Signals {
        let variances = variances(signals);
        std::array::from_fn(|k| {
            let (all, own) = (self.deviations[k], variances[k].sqrt() as f32);
            // Who bought the product itself counts by itself: of launches there is nothing to measure it by.
            if k == BOUGHT { all } else { all * (own / all).max(LEAST_OWN).powf(self.own_share) }
        })
    }
}

impl LaunchModel {
    /// Assembles the model; `history` holds decayed purchases, members × products, and `habits` the same
    /// by feature, features × members.
    pub fn new(history: &Matrix, statics: Statics, habits: Matrix, products: usize) -> Self {
        let all = total(&statics.activity).max(f32::MIN_POSITIVE);
        let rate = |feature| (total(habits.row(feature).1) / all).max(1e-6);
        let rates: Vec<f32> = (0..habits.rows.len() as u32).map(rate).collect();
        let buyers = Matrix::transposed_of(history.rows.len(), products, |member, into| {
            let (products, decayed) = history.row(member);
            into.extend(products.iter().zip(decayed).filter(|(_, x)| **x > 0.0).map(|(product, x)| (*product, *x)));
        });
        Self { active: statics.active(), statics, rates: rates.into(), habits, buyers, ..Self::default() }
    }

    /// Adds up what counts of each member whatever the product, by what was learned.
    pub fn add_up_leanings(&mut self) {
        let alone = |member: u32| -> Signals {
            let mut signals = NO_SIGNALS;
            signals[..STATICS].copy_from_slice(&self.statics.signals(member));
            signals
        };
        let sample: Vec<Signals> = self.sample_of(SCALE_MEMBERS).into_iter().map(alone).collect();
        let (weights, scales) = (self.fit.weights(), self.fit.scales(&sample));
        let weights = std::array::from_fn(|k| weights[k] / scales[k]);
        self.leanings = Leanings::new(&self.statics, weights_of_statics(&weights));
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.statics.activity.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `ln` of the share of the members that will buy a known product within the horizon, and how that follows from sales and
    /// scores; `None` where that can't be said.
    pub fn log_rate_of(&self, product: u32) -> Option<(f32, Known)> {
        let known = self.fit.known?;
        let share = self.selling.get(product as usize)?;
        Some((share.ln() + known.log_bias, known))
    }

    /// Scores every member for each of some queries, reading the members once.
    ///
    /// # Errors
    /// [`Stopped`] once `stop` is raised.
    pub fn score_all(
        &self,
        queries: &[&LaunchQuery],
        embeddings: &Embeddings,
        stop: &Stop,
    ) -> Result<Vec<Vec<f32>>, Stopped> {
        self.score_first(queries, self.len(), embeddings, stop)
    }

    /// As [`score_all`](Self::score_all), of the first `len` members alone.
    ///
    /// # Errors
    /// [`Stopped`] once `stop` is raised.
    pub fn score_first(
        &self,
        queries: &[&LaunchQuery],
        len: usize,
        embeddings: &Embeddings,
        stop: &Stop,
    ) -> Result<Vec<Vec<f32>>, Stopped> {
        let mut scores = vec![vec![0f32; len]; queries.len()];
        let mut tasks: Vec<Vec<&mut [f32]>> = Vec::new();
        tasks.resize_with(len.div_ceil(TASK), Vec::new);
        for scores in &mut scores {
            tasks.iter_mut().zip(scores.chunks_mut(TASK)).for_each(|(task, scores)| task.push(scores));
        }
        let asked: Vec<Folded<'_>> = queries.iter().map(|query| Folded::new(self, query, embeddings)).collect();
        tasks.par_iter_mut().enumerate().try_for_each_init(Block::default, |block, (task, into)| {
            let start = (task * TASK) as u32;
            let rows = start..start + into.first().map_or(0, |scores| scores.len()) as u32;
            scan(asked.iter(), rows, stop, |query, run, cursors| {
                let scores = block.score(&asked[query], &Members::Run(run.clone()), cursors);
                into[query][(run.start - start) as usize..][..scores.len()].copy_from_slice(scores);
            })
        })?;
        Ok(scores)
    }

    /// Scores members for each of some queries, reading them once, and keeps what `keep` makes of those with at least the
    /// score that the query comes with: by task, then query. Of others, no more is looked at than it takes to know that
    /// they have less. Nothing is allocated per member.
    ///
    /// # Errors
    /// [`Stopped`] once `stop` is raised.
    pub fn scan_all<T: Default + Send>(
        &self,
        queries: &[(&LaunchQuery, f32)],
        embeddings: &Embeddings,
        stop: &Stop,
        keep: impl Fn(usize, Scored, &mut T) + Sync,
    ) -> Result<Vec<Vec<T>>, Stopped> {
        self.scan_first(queries, self.len(), embeddings, stop, keep)
    }

    /// As [`scan_all`](Self::scan_all), of the first `len` members alone.
    ///
    /// # Errors
    /// [`Stopped`] once `stop` is raised.
    pub fn scan_first<T: Default + Send>(
        &self,
        queries: &[(&LaunchQuery, f32)],
        len: usize,
        embeddings: &Embeddings,
        stop: &Stop,
        keep: impl Fn(usize, Scored, &mut T) + Sync,
    ) -> Result<Vec<Vec<T>>, Stopped> {
        let asked = queries.iter().map(|(query, least)| {
            let asked = Folded::new(self, query, embeddings);
            let ceiling = Ceiling::of(&asked, *least);
            (asked, ceiling)
        });
        let asked: Vec<(Folded<'_>, Ceiling)> = asked.collect();
        let tasks = (0..len.div_ceil(TASK)).into_par_iter();
        let kept = tasks.map_init(Block::default, |block, task| {
            let mut kept: Vec<T> = Vec::new();
            kept.resize_with(queries.len(), T::default);
            let rows = (task * TASK) as u32..((task + 1) * TASK).min(len) as u32;
            let each = |query: usize, run: Range<u32>, cursors: &mut [usize]| {
                let (asked, ceiling) = &asked[query];
                block.score_likely(asked, run, cursors, *ceiling, |found| keep(query, found, &mut kept[query]));
            };
            scan(asked.iter().map(|(asked, _)| asked), rows, stop, each)?;
            Ok(kept)
        });
        kept.collect()
    }

    /// Scores some members, given by sorted row; the same scores as [`score_all`](Self::score_all) gives them.
    pub fn score_some(&self, query: &LaunchQuery, embeddings: &Embeddings, members: &[u32]) -> Vec<f32> {
        let asked = Folded::new(self, query, embeddings);
        let blocks = members
            .par_chunks(PICKED)
            .map_init(Block::default, |block, rows| block.score(&asked, &Members::Some(rows), &mut []).to_vec());
        blocks.collect::<Vec<_>>().concat()
    }

    /// The signals of some members, given by sorted row.
    pub fn signals_of(&self, query: &LaunchQuery, embeddings: &Embeddings, members: &[u32]) -> Vec<Signals> {
        let question = Question::new(self, query, embeddings);
        let parts = members.par_chunks(LOOKED_UP).flat_map_iter(|rows| {
            let mut sums = vec![Sums::default(); rows.len()];
            question.add_some(rows, &mut sums);
            let signals = |(member, sums)| self.signals(&question, member, &sums);
            rows.iter().copied().zip(sums).map(signals).collect::<Vec<_>>()
        });
        parts.collect()
    }

    /// Members who bought anything, some of them where there are many: what the level of a query, and the scale of
    /// seeds, is measured on.
    pub fn sample_rows(&self) -> Vec<u32> {
        self.sample_of(LEVEL_MEMBERS)
    }

    fn sample_of(&self, most: usize) -> Vec<u32> {
        let active = |member: &u32| self.statics.activity[*member as usize] > 0.0;
        sample(self.len(), most).flatten().map(|row| row as u32).filter(active).collect()
    }

    /// Share of the members that [`sample_rows`](Self::sample_rows) looks at.
    pub(crate) fn sampled_share(&self) -> f64 {
        sample(self.len(), LEVEL_MEMBERS).map(|run| run.len()).sum::<usize>() as f64 / self.len().max(1) as f64
    }
}

/// Goes through a run of members block by block; `each` hears of the query, the block, and where the query's postings
/// stand.
fn scan<'a>(
    asked: impl ExactSizeIterator<Item = &'a Folded<'a>>,
    rows: Range<u32>,
    stop: &Stop,
    mut each: impl FnMut(usize, Range<u32>, &mut [usize]),
) -> Result<(), Stopped> {
    let mut cursors: Vec<Vec<usize>> = asked.map(|asked| asked.cursors(rows.start)).collect();
    for start in rows.clone().step_by(BLOCK) {
        stop.check()?;
        for (query, cursors) in cursors.iter_mut().enumerate() {
            each(query, start..rows.end.min(start + BLOCK as u32), cursors);
        }
    }
    Ok(())
}

/// Up to `most`, and a run, of the numbers below `n`, in short runs, evenly spaced.
pub(crate) fn sample(n: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let run = sample_run(most);
    let step = if n > most { (n * run).div_ceil(most) } else { run };
    (0..n).step_by(step).map(move |start| start..n.min(start + run))
}

/// Members of a run of a sample of so many.
pub(crate) fn sample_run(most: usize) -> usize {
    most.div_ceil(SAMPLE_RUNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_worked_by_hand() {
        let fit = LaunchFit { deviations: [2.0; SIGNALS.len()], own_share: 0.5, ..LaunchFit::default() };
        let row = |x: f32| -> Signals { std::array::from_fn(|k| if k == 0 { x } else { 1.0 }) };
        // The first signal deviates by 8, half-way to 2 on the scale of logarithms; the others do not at all.
        let scales = fit.scales(&[row(-8.0), row(8.0)]);
        assert!((scales[0] - 4.0).abs() < 1e-6 && (scales[1] - 2.0 * 0.1f32.sqrt()).abs() < 1e-6, "{scales:?}");
        let of_all = LaunchFit { own_share: 0.0, ..fit };
        assert_eq!(of_all.scales(&[row(-8.0), row(8.0)]), [2.0; SIGNALS.len()]);
    }
}
