//! Seeds: members known to like a product, against the base.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::signals::{NO_SIGNALS, PRIOR_SCALE, SEED_SIGNALS, Signals};
use super::{LaunchFit, LaunchModel};
use crate::Model;
use crate::kernels::{add_scaled, dot};
use crate::ranking::{Scored, Top};

/// Seeds whose purchases are looked at, evenly spaced, at most.
const MAX_SEEDS: usize = 1000;
/// Products that tell seeds from the base, at most.
const PRODUCTS: usize = 300;
/// Seeds' worth of the base's rate that a product's rate among the seeds is shrunk by.
const RATE_PRIOR: f32 = 5.0;
/// Weights where nothing was learned, and seeds at which they count half of that.
const PRIOR: SeedWeights = [0.0, 0.5 * PRIOR_SCALE, 0.5 * PRIOR_SCALE];
const SEED_PRIOR: f32 = 30.0;

/// Weights of the seed signals, per standard deviation over the base, in their order.
pub type SeedWeights = [f32; SEED_SIGNALS];

/// What the weights are for so many seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedFit {
    /// How many seeds.
    pub seeds: u32,
    /// The weights.
    pub weights: SeedWeights,
}

/// What is known of a product's seeds.
#[derive(Clone, Debug)]
pub(super) struct Seeds {
    /// How many; 0 for none.
    pub(super) count: usize,
    /// The product's vector once it has absorbed them.
    pub(super) vector: Vec<f32>,
    /// Mean of their vectors, each of length 1, scaled to length 1.
    pub(super) centroid: Vec<f32>,
    /// Products that they buy more than the base does, best first, with how much more.
    pub(super) products: Vec<Scored>,
    /// Standard deviation of each signal over the base.
    pub(super) deviations: SeedWeights,
    /// What they add to the weights of the other signals.
    pub(super) tilt: Signals,
}

impl Default for Seeds {
    fn default() -> Self {
        Self {
            count: 0,
            vector: Vec::new(),
            centroid: Vec::new(),
            products: Vec::new(),
            deviations: SeedWeights::default(),
            tilt: NO_SIGNALS,
        }
    }
}

impl Seeds {
    /// Of members, for a product with the vector `prior`; deviations are measured later. Who bought nothing, or nothing that may
    /// be looked at, says nothing.
    pub(super) fn new(model: &Model, seeds: &[u32], prior: &[f32]) -> Self {
        let activity = &model.launch.statics.activity;
        let has_bought = |seed: &&u32| activity.get(**seed as usize).is_some_and(|activity| *activity > 0.0);
        Self {
            count: seeds.iter().filter(has_bought).count(),
            vector: model.embeddings.fold_in_product(seeds, prior),
            centroid: centroid(model, seeds),
            products: products(model, seeds),
            deviations: [1.0; SEED_SIGNALS],
            tilt: NO_SIGNALS,
        }
    }

    /// Adds what a unit of each seed signal counts, as learned for so many seeds, and what the seeds say of the others.
    pub(super) fn add_weights(&self, model: &LaunchModel, to: &mut Signals, alone: bool) {
        let weights = weights(&model.fit, self.count as f32, alone);
        let from = to.len() - SEED_SIGNALS;
        for (k, weight) in weights.iter().enumerate() {
            to[from + k] = weight / self.deviations[k];
        }
        to.iter_mut().zip(self.tilt).for_each(|(weight, tilt)| *weight += tilt);
    }
}

/// What so many seeds count: beside a product, or alone.
fn weights(fit: &LaunchFit, count: f32, alone: bool) -> SeedWeights {
    match (alone, &fit.learned) {
        // Learned is what seeds are worth beside a product; without one they are all that is known.
        (true, _) => PRIOR,
        (false, Some(_)) => at(&fit.seeds, count),
        (false, None) => PRIOR.map(|weight| weight * count / (count + SEED_PRIOR)),
    }
}

/// The weights for a number of seeds, between those that were learned: none where none were.
fn at(fits: &[SeedFit], count: f32) -> SeedWeights {
    let place = |fit: &SeedFit| fit.seeds as f32;
    let above = fits.partition_point(|fit| place(fit) <= count);
    match (above.checked_sub(1).and_then(|k| fits.get(k)), fits.get(above)) {
        (None, None) => SeedWeights::default(),
        (None, Some(first)) => first.weights.map(|weight| weight * count / place(first)),
        (Some(last), None) => last.weights,
        (Some(a), Some(b)) => {
            let share = (count / place(a)).ln() / (place(b) / place(a)).ln();
            std::array::from_fn(|k| a.weights[k] + share * (b.weights[k] - a.weights[k]))
        }
    }
}

fn centroid(model: &Model, seeds: &[u32]) -> Vec<f32> {
    let mut mean = vec![0.0; model.embeddings.factors];
    for seed in seeds {
        let vector = model.embeddings.member(*seed);
        let length = dot(&vector, &vector).sqrt();
        if length > 1e-12 {
            add_scaled(&mut mean, 1.0 / length, &vector);
        }
    }
    let length = dot(&mean, &mean).sqrt().max(1e-12);
    mean.iter_mut().for_each(|x| *x /= length);
    mean
}

/// Some of the seeds, evenly spaced, where there are many.
pub(super) fn looked_at(seeds: &[u32]) -> Vec<u32> {
    seeds.iter().copied().step_by(seeds.len().div_ceil(MAX_SEEDS).max(1)).collect()
}

/// Products by how much more often seeds buy them: `n / (k + κ) · ln((n + κ r) / ((k + κ) r))` for `n` of `k`
/// seeds, where a share `r` of the base does.
fn products(model: &Model, seeds: &[u32]) -> Vec<Scored> {
    let mut counts = BTreeMap::<u32, f32>::new();
    let seeds = looked_at(seeds);
    let k = seeds.len() as f32;
    for seed in seeds {
        model.history.bought(seed).for_each(|product| *counts.entry(product).or_default() += 1.0);
    }
    let base = model.launch.active.max(1) as f32;
    let mut top = Top::new(PRODUCTS);
    for (product, n) in counts {
        let rate = (model.launch.buyers.rows.range(product).len() as f32 / base).max(1e-6);
        let above = (n + RATE_PRIOR * rate) / ((k + RATE_PRIOR) * rate);
        if above > 1.0 {
            top.push(product, n / (k + RATE_PRIOR) * above.ln());
        }
    }
    top.into_sorted()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_grow_with_the_number_of_seeds() {
        let fits = [3, 30].map(|seeds| SeedFit { seeds, weights: [seeds as f32 / 30.0; SEED_SIGNALS] });
        let weight = |count| at(&fits, count)[0];
        assert!((weight(1.0) - 0.1 / 3.0).abs() < 1e-6, "few seeds hardly count");
        assert!((weight(3.0) - 0.1).abs() < 1e-6 && (weight(30.0) - 1.0).abs() < 1e-6);
        let middle = (3f32 * 30.0).sqrt();
        assert!((weight(middle) - 0.55).abs() < 1e-5, "half-way on the scale of logarithms");
        assert_eq!(weight(1000.0), 1.0);
        assert_eq!(at(&[], 30.0), [0.0; SEED_SIGNALS], "nobody knows that they help");
    }

    #[test]
    fn what_was_learned_of_seeds_counts_beside_a_product_alone() {
        let seeds = vec![SeedFit { seeds: 10, weights: [0.2; SEED_SIGNALS] }];
        let learned = LaunchFit { learned: Some(NO_SIGNALS), seeds, ..LaunchFit::default() };
        let nothing = LaunchFit::default();
        assert_eq!(weights(&learned, 10.0, false), [0.2; SEED_SIGNALS]);
        assert_eq!(weights(&nothing, SEED_PRIOR, false), PRIOR.map(|weight| weight / 2.0));
        for fit in [learned, nothing] {
            assert_eq!(weights(&fit, 10.0, true), PRIOR);
        }
    }
}
