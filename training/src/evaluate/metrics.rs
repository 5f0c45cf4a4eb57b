//! Metrics of rankings, with intervals over members.

use std::collections::{BTreeMap, HashSet};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Items ranked per member.
pub(crate) const PAGE: usize = 20;
/// Lengths that a ranking is cut at.
const DEPTHS: [usize; 2] = [10, 20];
/// Resamples behind an interval.
const RESAMPLES: u64 = 200;
/// Share of resamples left out at each end.
const TAIL: f64 = 0.025;

/// A value with its 95% interval over members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// What one member's ranking got right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judged {
    /// By [`NAMES`].
    values: [f64; NAMES.len()],
    pub(super) products: Vec<u32>,
    pub(super) hits: Vec<u32>,
}

/// Metrics that are means over members, in the order of [`Judged::values`].
const NAMES: [&str; 7] = ["ndcg@10", "ndcg@20", "recall@10", "recall@20", "hit@10", "hit@20", "repeats@20"];

impl Judged {
    /// nDCG (binary, ideal cut at the number of truths), recall, hit rate, and the share of repeats.
    pub(crate) fn new(ranking: Vec<u32>, truth: &HashSet<u32>, is_repeat: impl Fn(u32) -> bool) -> Self {
        let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
        let hits: Vec<usize> = (0..ranking.len()).filter(|rank| truth.contains(&ranking[*rank])).collect();
        let mut values = [0.0; NAMES.len()];
        for (k, depth) in DEPTHS.into_iter().enumerate() {
            let here = || hits.iter().filter(|rank| **rank < depth);
            let ideal: f64 = (0..truth.len().min(depth)).map(gain).sum();
            values[k] = here().map(|rank| gain(*rank)).sum::<f64>() / ideal;
            values[2 + k] = here().count() as f64 / truth.len() as f64;
            values[4 + k] = f64::from(u8::from(here().next().is_some()));
        }
        let repeats = ranking.iter().filter(|product| is_repeat(**product)).count();
        values[6] = repeats as f64 / ranking.len().max(1) as f64;
        Self { values, hits: hits.iter().map(|rank| ranking[*rank]).collect(), products: ranking }
    }

    pub(super) fn recall_at_20(&self) -> f64 {
        self.values[3]
    }
}

/// The mean of some values, with its 95% interval over them.
pub(super) fn mean(values: &[f64], seed: u64) -> Estimate {
    if values.is_empty() {
        return Estimate::default();
    }
    let n = values.len();
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .map(|number| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ (number + 1));
            (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    let tail = (TAIL * RESAMPLES as f64) as usize;
    let value = values.iter().sum::<f64>() / n as f64;
    Estimate { value, low: resampled[tail], high: resampled[resampled.len() - 1 - tail] }
}

/// Metrics by name: means over members, and how evenly `products` products are shown.
pub(crate) fn summarize(judged: &[Judged], products: usize, seed: u64) -> BTreeMap<String, Estimate> {
    if judged.is_empty() {
        return BTreeMap::new();
    }
    let whole: Vec<usize> = (0..judged.len()).collect();
    let value = of_sample(judged, products, &whole);
    let resampled: Vec<[f64; NAMES.len() + 2]> = (0..RESAMPLES)
        .into_par_iter()
        .map(|number| {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ (number + 1));
            let sample: Vec<usize> = whole.iter().map(|_| rng.random_range(0..judged.len())).collect();
            of_sample(judged, products, &sample)
        })
        .collect();
    let names = NAMES.into_iter().chain(["coverage@20", "gini@20"]);
    let estimate = |k: usize| {
        let mut values: Vec<f64> = resampled.iter().map(|sample| sample[k]).collect();
        values.sort_by(f64::total_cmp);
        // A resample is of fewer members, who are shown fewer products: how far resamples lie from each other counts, and not
        // where.
        let off = if k < NAMES.len() { 0.0 } else { value[k] - values.iter().sum::<f64>() / values.len() as f64 };
        let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize] + off;
        // Both, like all others, are shares.
        Estimate { value: value[k], low: at(TAIL).max(0.0), high: at(1.0 - TAIL).min(1.0) }
    };
    names.enumerate().map(|(k, name)| (name.to_owned(), estimate(k))).collect()
}

fn of_sample(judged: &[Judged], products: usize, sample: &[usize]) -> [f64; NAMES.len() + 2] {
    let mut values = [0.0; NAMES.len() + 2];
    let mut shown = vec![0u32; products];
    for member in sample {
        for (sum, value) in values.iter_mut().zip(judged[*member].values) {
            *sum += value;
        }
        judged[*member].products.iter().for_each(|product| shown[*product as usize] += 1);
    }
    values.iter_mut().for_each(|sum| *sum /= sample.len() as f64);
    values[NAMES.len()] = shown.iter().filter(|n| **n > 0).count() as f64 / products.max(1) as f64;
    values[NAMES.len() + 1] = gini(shown);
    values
}

/// Gini coefficient: 0 where all are shown alike, near 1 where one is shown always.
fn gini(mut shown: Vec<u32>) -> f64 {
    shown.sort_unstable();
    let total: f64 = shown.iter().map(|n| f64::from(*n)).sum();
    let n = shown.len() as f64;
    if total == 0.0 {
        return 0.0;
    }
    let weighted: f64 = shown.iter().enumerate().map(|(rank, n)| (rank as f64 + 1.0) * f64::from(*n)).sum();
    2.0 * weighted / (n * total) - (n + 1.0) / n
}

/// The Lorenz curve of exposure: for each share of the products, the least shown first, the share of places
/// that they get; 51 points.
pub(super) fn lorenz(judged: &[Judged], products: usize) -> Vec<(f64, f64)> {
    let mut shown = vec![0u64; products];
    judged.iter().flat_map(|j| &j.products).for_each(|product| shown[*product as usize] += 1);
    shown.sort_unstable();
    let total = shown.iter().sum::<u64>().max(1) as f64;
    let sums: Vec<f64> = shown
        .iter()
        .scan(0.0, |sum, n| {
            *sum += *n as f64 / total;
            Some(*sum)
        })
        .collect();
    let at = |share: f64| match (share * products as f64).round() as usize {
        0 => 0.0,
        n => sums.get(n - 1).copied().unwrap_or(1.0),
    };
    (0..=50).map(|k| f64::from(k) / 50.0).map(|share| (share, at(share))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranking_metrics_worked_by_hand() {
        // Hits at ranks 1 and 3 of three truths: (1 + 1/log2(4)) / (1 + 1/log2(3) + 1/2).
        let truth = HashSet::from([1, 3, 9]);
        let judged = Judged::new(vec![1, 2, 3, 4], &truth, |product| product == 2);
        assert!((judged.values[0] - 1.5 / (1.5 + 1.0 / 3f64.log2())).abs() < 1e-12);
        assert!((judged.recall_at_20() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((judged.values[4], judged.values[6]), (1.0, 0.25));
        assert_eq!(judged.hits, [1, 3]);
    }

    #[test]
    fn exposure_worked_by_hand() {
        assert!((gini(vec![1, 1, 1, 1])).abs() < 1e-12);
        assert!((gini(vec![0, 0, 0, 4]) - 0.75).abs() < 1e-12);
        let truth = HashSet::from([0]);
        let judged: Vec<Judged> = (0..4).map(|_| Judged::new(vec![0, 1], &truth, |_| false)).collect();
        let metrics = summarize(&judged, 4, 1);
        assert_eq!(metrics["coverage@20"].value, 0.5);
        assert_eq!(metrics["recall@20"], Estimate { value: 1.0, low: 1.0, high: 1.0 });
        assert_eq!(lorenz(&judged, 4)[25], (0.5, 0.0));
        assert_eq!(lorenz(&judged, 4)[50].1, 1.0);
    }

    #[test]
    fn an_interval_holds_its_value() {
        let truth = HashSet::from([0]);
        let judged: Vec<Judged> = (0..400).map(|m| Judged::new(vec![m % 4], &truth, |_| false)).collect();
        let recall = summarize(&judged, 4, 1)["recall@10"];
        assert_eq!(recall.value, 0.25);
        // The standard error of a share of 1/4 over 400 is 0.0217.
        assert!((recall.low - (0.25 - 1.96 * 0.0217)).abs() < 0.015, "{recall:?}");
        assert!((recall.high - (0.25 + 1.96 * 0.0217)).abs() < 0.015, "{recall:?}");
    }
}
