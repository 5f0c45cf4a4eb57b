//! Logistic regression on all features, and the scaling of a blend to a probability.

use kindred_models::feed::{FEATURES, Features};
use kindred_models::ranker::Linear;
use linfa::Dataset;
use linfa::traits::Fit;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};

use super::examples::Examples;

/// Rows that a weight per feature is fitted to, evenly spaced: more tell it nothing new, and take long.
const MAX_ROWS: usize = 100_000;
/// L2 penalty on standardized weights, against the sum of losses.
const PENALTY: f64 = 10.0;

/// Fits a weight per feature; inputs are standardized, and the weights turned back.
pub(super) fn fit(examples: &Examples) -> Linear {
    let step = examples.rows.len().div_ceil(MAX_ROWS).max(1);
    let rows: Vec<&Features> = examples.rows.iter().step_by(step).collect();
    let bought: Vec<bool> = examples.bought.iter().step_by(step).copied().collect();
    let (n, width) = (rows.len(), FEATURES.len());
    let column = |k: usize| rows.iter().map(move |row| f64::from(row[k]));
    let mut scales = Vec::with_capacity(width);
    for k in 0..width {
        let mean = column(k).sum::<f64>() / n as f64;
        let variance = column(k).map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        scales.push((mean, if variance > 1e-12 { variance.sqrt() } else { f64::INFINITY }));
    }
    let inputs = Array2::from_shape_fn((n, width), |(i, k)| (f64::from(rows[i][k]) - scales[k].0) / scales[k].1);
    let Some((weights, bias)) = solve(inputs, &bought) else { return Linear::default() };
    let raw: Vec<f64> = weights.iter().zip(&scales).map(|(w, (_, scale))| w / scale).collect();
    let shift: f64 = raw.iter().zip(&scales).map(|(w, (mean, _))| w * mean).sum();
    Linear {
        weights: raw.iter().map(|w| *w as f32).collect::<Vec<f32>>().into(),
        bias: (bias - shift + f64::from(examples.negative_share).ln()) as f32,
    }
}

/// Scales a blend so that its scores are log odds; the order stays as it is.
pub(super) fn scaled(blend: &kindred_models::blend::Blend, examples: &Examples) -> Linear {
    let fixed = blend.linear();
    let step = examples.rows.len().div_ceil(MAX_ROWS).max(1);
    let rows: Vec<Features> = examples.rows.iter().step_by(step).copied().collect();
    let bought: Vec<bool> = examples.bought.iter().step_by(step).copied().collect();
    let scores = kindred_models::ranker::Scorer::Linear(fixed.clone()).log_odds(&rows);
    let inputs = Array2::from_shape_fn((scores.len(), 1), |(i, _)| f64::from(scores[i]));
    match solve(inputs, &bought) {
        Some((weights, bias)) if weights[0] > 0.0 => Linear {
            weights: fixed.weights.iter().map(|w| w * weights[0] as f32).collect::<Vec<f32>>().into(),
            bias: (bias + f64::from(examples.negative_share).ln()) as f32,
        },
        _ => fixed,
    }
}

/// Weights and intercept; `None` where only one outcome was seen.
fn solve(inputs: Array2<f64>, bought: &[bool]) -> Option<(Array1<f64>, f64)> {
    let n = bought.len() as f64;
    let targets = Array1::from_iter(bought.iter().copied());
    let fitted = LogisticRegression::default()
        .alpha(PENALTY)
        .max_iterations(60)
        .gradient_tolerance(1e-5 * n)
        .fit(&Dataset::new(inputs, targets))
        .ok()?;
    // linfa names the class that comes first in its own order positive.
    let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
    Some((fitted.params().mapv(|w| sign * w), sign * fitted.intercept()))
}
