//! Who would buy a product that was never sold: the launch score of every member.
//!
//! The score is a fixed sum of five signals, each measured in its own standard deviation: how active the
//! member is, how much of the product's category, brand, and brand within category the member buys
//! (shrunken log rates), how much of the 20 and the 100 products most like it, and how well the product's
//! vector fits. Sums of single members' signals only: a member's score does not depend on who else is
//! asked for, so that an index may ask for a few.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::content::{Attributes, ContentIndex, Feature};
use crate::embeddings::Embeddings;
use crate::kernels::dot;
use crate::ranking::Scored;
use crate::sparse::Matrix;
use crate::stop::{Stop, Stopped};

/// Purchases' worth of the base's rate that a member's own rate is shrunk by.
const HABIT_PRIOR: f32 = 5.0;
/// How many similar products the signals look at.
const FEW_ANALOGUES: usize = 20;
/// How many similar products stand for a product that has no vector yet.
pub const ANALOGUES: usize = 100;
/// Seeds at which the product's own vector counts half of what it can.
const SEED_PRIOR: f32 = 30.0;
/// Members per task of a parallel scan.
const CHUNK: usize = 8192;
/// Weight of each signal, in the order of [`Signals`].
const WEIGHTS: [f32; 5] = [0.25, 0.25, 0.15, 0.35, 0.2];

/// The signals of one member, before they are scaled: activity, habits, few analogues, all analogues,
/// vector.
pub type Signals = [f32; 5];

/// What the launch score looks at, for all members.
#[derive(Clone, Debug, Default)]
pub struct LaunchModel {
    /// Decayed purchases per member.
    pub activity: Array<f32>,
    /// Per feature of the content vocabulary, the members who bought it, with decayed purchases.
    pub habits: Matrix,
    /// Per feature of the content vocabulary, the base's share of purchases that have it.
    pub rates: Array<f32>,
    /// Per product, its buyers, with decayed purchases.
    pub buyers: Matrix,
    /// Scales and calibration.
    pub fit: LaunchFit,
}

/// The small values of a [`LaunchModel`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaunchFit {
    /// Standard deviation of each signal over members and products.
    pub deviations: Signals,
    /// From score to probability; `None` where too few launches could be replayed.
    pub calibration: Option<Calibration>,
}

impl Default for LaunchFit {
    fn default() -> Self {
        Self { deviations: [1.0; 5], calibration: None }
    }
}

/// Platt scaling: `p = 1 / (1 + exp(−(slope · score + intercept)))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Log odds per unit of score.
    pub slope: f32,
    /// Log odds at score 0.
    pub intercept: f32,
    /// Replayed launches that it was fitted on.
    pub launches: u32,
    /// Days from launch within which a purchase counted.
    pub horizon_days: u32,
}

impl Calibration {
    /// The probability that a member with this score buys within the horizon.
    pub fn probability(&self, score: f32) -> f32 {
        1.0 / (1.0 + (-(self.slope * score + self.intercept)).exp())
    }
}

/// A product to find members for.
#[derive(Clone, Debug, Default)]
pub struct LaunchQuery {
    /// Its vector.
    pub vector: Vec<f32>,
    /// Its habit features, as rows of the content vocabulary.
    pub habits: Vec<u32>,
    /// Products like it that somebody bought, best first, with their cosine.
    pub analogues: Vec<Scored>,
    /// How many members are known to like it: the more, the more its vector counts.
    pub seed_count: usize,
}

impl LaunchQuery {
    /// From attributes alone.
    pub fn from_attributes(
        attributes: &Attributes,
        content: &ContentIndex,
        embeddings: &Embeddings,
        buyers: &Matrix,
        allowed: impl Fn(u32) -> bool,
    ) -> Self {
        let features = attributes.features();
        let has_buyers = |row: u32| !buyers.rows.range(row).is_empty();
        let analogues = content.nearest(&features, ANALOGUES, |row| has_buyers(row) && allowed(row));
        let is_habit = |f: &&Feature| f.group.is_habit();
        Self {
            vector: mean_vector(embeddings, &analogues),
            habits: features.iter().filter(is_habit).filter_map(|f| content.feature_row(*f)).collect(),
            analogues,
            seed_count: 0,
        }
    }

    /// The same query with members who are known to like the product: its vector absorbs them, by the
    /// solve that training makes with a product's buyers.
    pub fn with_seeds(mut self, seeds: &[u32], embeddings: &Embeddings) -> Self {
        if !seeds.is_empty() {
            self.vector = embeddings.fold_in_product(seeds, &self.vector);
            self.seed_count = seeds.len();
        }
        self
    }

    fn weights(&self) -> Signals {
        if self.seed_count > 0 && self.habits.is_empty() && self.analogues.is_empty() {
            // Nothing but seeds: members like them, however much they buy.
            return [0.0, 0.0, 0.0, 0.0, 1.0];
        }
        let seeds = self.seed_count as f32;
        let mut weights = WEIGHTS;
        weights[4] += seeds / (seeds + SEED_PRIOR);
        weights
    }
}

/// The mean vector of similar products, weighted by their cosine: the embedding of a product that nobody
/// bought.
pub fn mean_vector(embeddings: &Embeddings, analogues: &[Scored]) -> Vec<f32> {
    let mut mean = vec![0.0; embeddings.factors];
    let total: f32 = analogues.iter().map(|a| a.score).sum();
    for analogue in analogues.iter().filter(|_| total > 0.0) {
        crate::kernels::add_scaled(&mut mean, analogue.score / total, embeddings.product(analogue.row));
    }
    mean
}

/// What a query adds up over the members' sparse rows.
struct Sparse {
    habits: f32,
    few: f32,
    all: f32,
}

impl LaunchModel {
    /// Assembles the model; `history` holds decayed purchases, members × products, and `habits` the same
    /// by feature, features × members.
    pub fn new(history: &Matrix, habits: Matrix, products: usize) -> Self {
        let activity: Vec<f32> = (0..history.rows.len() as u32).map(|row| history.row(row).1.iter().sum()).collect();
        let total = activity.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        let rate = |feature| (habits.row(feature).1.iter().sum::<f32>() / total).max(1e-6);
        let rates: Vec<f32> = (0..habits.rows.len() as u32).map(rate).collect();
        let buyers = history.transposed(products);
        Self { activity: activity.into(), rates: rates.into(), habits, buyers, fit: LaunchFit::default() }
    }

    /// Scores every member.
    ///
    /// # Errors
    /// [`Stopped`] once `stop` is raised.
    pub fn score_all(&self, query: &LaunchQuery, embeddings: &Embeddings, stop: &Stop) -> Result<Vec<f32>, Stopped> {
        let weights = query.weights();
        let sums = self.sums(query, stop)?;
        let mut scores = vec![0f32; self.activity.len()];
        scores.par_chunks_mut(CHUNK).enumerate().try_for_each(|(chunk, scores)| {
            stop.check()?;
            for (i, score) in scores.iter_mut().enumerate() {
                let member = chunk * CHUNK + i;
                let signals = self.signals(query, embeddings, member as u32, &sums.member(member));
                *score = self.combine(&weights, &signals);
            }
            Ok(())
        })?;
        Ok(scores)
    }

    /// Scores some members, given by row; the same score as [`score_all`](Self::score_all) gives them, up
    /// to rounding.
    pub fn score_some(&self, query: &LaunchQuery, embeddings: &Embeddings, members: &[u32]) -> Vec<f32> {
        let weights = query.weights();
        let value = |matrix: &Matrix, row: u32, member: u32| {
            let (columns, values) = matrix.row(row);
            columns.binary_search(&member).map_or(0.0, |at| values[at])
        };
        let score = |member: &u32| {
            let bought = |a: &Scored| a.score * value(&self.buyers, a.row, *member);
            let few = query.analogues.iter().take(FEW_ANALOGUES).map(bought).sum::<f32>();
            let rest = query.analogues.iter().skip(FEW_ANALOGUES).map(bought).sum::<f32>();
            let habit = |row: &u32| self.habit(*row, value(&self.habits, *row, *member));
            let sparse = Sparse { habits: query.habits.iter().map(habit).sum(), few, all: few + rest };
            self.combine(&weights, &self.signals(query, embeddings, *member, &sparse))
        };
        members.par_iter().map(score).collect()
    }

    /// The unscaled signals of every `step`-th member.
    pub fn sample_signals(&self, query: &LaunchQuery, embeddings: &Embeddings, step: usize) -> Vec<Signals> {
        // The flag of a default `Stop` is never raised.
        let Ok(sums) = self.sums(query, &Stop::default()) else { return Vec::new() };
        let members = (0..self.activity.len()).step_by(step.max(1));
        members.map(|m| self.signals(query, embeddings, m as u32, &sums.member(m))).collect()
    }

    /// How far a member's count of a feature stands above what the base's rate would give.
    fn habit(&self, feature: u32, count: f32) -> f32 {
        (count / (HABIT_PRIOR * self.rates[feature as usize])).ln_1p()
    }

    fn signals(&self, query: &LaunchQuery, embeddings: &Embeddings, member: u32, sparse: &Sparse) -> Signals {
        let activity = self.activity[member as usize];
        let levels = query.habits.len() as f32;
        let habits = if levels > 0.0 { sparse.habits / levels - (activity + HABIT_PRIOR).ln() } else { 0.0 };
        let fit = dot(embeddings.member(member), &query.vector);
        [activity.ln_1p(), habits, sparse.few.ln_1p(), sparse.all.ln_1p(), fit]
    }

    fn combine(&self, weights: &Signals, signals: &Signals) -> f32 {
        let scaled = weights.iter().zip(signals).zip(&self.fit.deviations);
        scaled.map(|((weight, signal), deviation)| weight * signal / deviation).sum()
    }

    fn sums(&self, query: &LaunchQuery, stop: &Stop) -> Result<Sums, Stopped> {
        let n = self.activity.len();
        let mut sums = Sums { habits: vec![0.0; n], few: vec![0.0; n], all: vec![0.0; n] };
        for feature in &query.habits {
            stop.check()?;
            let (members, counts) = self.habits.row(*feature);
            for (member, count) in members.iter().zip(counts) {
                sums.habits[*member as usize] += self.habit(*feature, *count);
            }
        }
        for (rank, analogue) in query.analogues.iter().enumerate() {
            stop.check()?;
            let (members, counts) = self.buyers.row(analogue.row);
            for (member, count) in members.iter().zip(counts) {
                let bought = analogue.score * count;
                sums.all[*member as usize] += bought;
                if rank < FEW_ANALOGUES {
                    sums.few[*member as usize] += bought;
                }
            }
        }
        Ok(sums)
    }

    pub(crate) fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("launch", &self.fit, |s| {
            s.array("activity", &self.activity)?;
            s.array("rates", &self.rates)?;
            self.habits.write("habits", s)?;
            self.buyers.write("buyers", s)
        })
    }

    pub(crate) fn read(from: &Reader, members: usize, products: usize, features: usize) -> Result<Self, ArtifactError> {
        let s = from.section("launch")?;
        let model = Self {
            activity: s.array("activity")?,
            rates: s.array("rates")?,
            habits: Matrix::read("habits", features, members, &s)?,
            buyers: Matrix::read("buyers", products, members, &s)?,
            fit: s.values()?,
        };
        let fits = model.activity.len() == members && model.rates.len() == features;
        s.ensure(fits, "launch signals do not fit their members or features")?;
        Ok(model)
    }
}

/// [`Sparse`] of every member.
struct Sums {
    habits: Vec<f32>,
    few: Vec<f32>,
    all: Vec<f32>,
}

impl Sums {
    fn member(&self, row: usize) -> Sparse {
        Sparse { habits: self.habits[row], few: self.few[row], all: self.all[row] }
    }
}
