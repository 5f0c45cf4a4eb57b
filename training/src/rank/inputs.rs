//! Examples as the linear models take them: a sample of the rows, standardized, in double precision.

use kindred_models::feed::{FEATURES, Features};
use kindred_models::ranker::Linear;
use ndarray::Array2;

use super::examples::Examples;

/// Rows that a weight per feature is fitted to, evenly spaced: more tell it nothing new, and take long.
const MAX_ROWS: usize = 100_000;

/// Rows × features, each feature with mean 0 and standard deviation 1; one that never varies is 0.
pub(super) struct Inputs {
    pub(super) values: Array2<f64>,
    pub(super) bought: Vec<bool>,
    /// Mean and standard deviation of each feature.
    scales: Vec<(f64, f64)>,
    /// `ln` of the share of what was not bought that is here.
    log_share: f64,
}

impl Inputs {
    pub(super) fn of(examples: &Examples) -> Self {
        let (rows, bought) = sample(examples);
        let (n, width) = (rows.len(), FEATURES.len());
        let column = |k: usize| rows.iter().map(move |row| f64::from(row[k]));
        let scale = |k: usize| {
            let mean = column(k).sum::<f64>() / n as f64;
            let variance = column(k).map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            (mean, if variance > 1e-12 { variance.sqrt() } else { f64::INFINITY })
        };
        let scales: Vec<(f64, f64)> = (0..width).map(scale).collect();
        let values = Array2::from_shape_fn((n, width), |(i, k)| (f64::from(rows[i][k]) - scales[k].0) / scales[k].1);
        Self { values, bought, scales, log_share: f64::from(examples.negative_share).ln() }
    }

    /// Weights of standardized features as weights of the features, for all rows and not for the sample of what
    /// was not bought.
    pub(super) fn unscaled(&self, weights: &[f64], bias: f64) -> Linear {
        let raw: Vec<f64> = weights.iter().zip(&self.scales).map(|(w, (_, scale))| w / scale).collect();
        let shift: f64 = raw.iter().zip(&self.scales).map(|(w, (mean, _))| w * mean).sum();
        Linear {
            weights: raw.iter().map(|w| *w as f32).collect::<Vec<f32>>().into(),
            bias: (bias - shift + self.log_share) as f32,
        }
    }
}

/// Rows, evenly spaced, and whether each was bought.
pub(super) fn sample(examples: &Examples) -> (Vec<&Features>, Vec<bool>) {
    let step = examples.rows.len().div_ceil(MAX_ROWS).max(1);
    let bought = examples.bought.iter().step_by(step).copied().collect();
    (examples.rows.iter().step_by(step).collect(), bought)
}
