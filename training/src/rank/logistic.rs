//! Logistic regression on all features, and the scaling of a blend to a probability.

use kindred_models::blend::Blend;
use kindred_models::feed::Features;
use kindred_models::ranker::{Linear, Scorer};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};

use super::examples::Examples;
use super::inputs::{Inputs, sample};

/// L2 penalty on standardized weights, against the sum of losses.
const PENALTY: f64 = 10.0;

/// Fits a weight per feature.
pub(super) fn fit(examples: &Examples) -> Linear {
    let inputs = Inputs::of(examples);
    match solve(&inputs.values, &inputs.bought) {
        Some((weights, bias)) => inputs.unscaled(&weights.to_vec(), bias),
        None => Linear::default(),
    }
}

/// Scales a blend so that its scores are log odds; the order stays as it is.
pub(super) fn scaled(blend: &Blend, examples: &Examples) -> Linear {
    let fixed = blend.linear();
    let (rows, bought) = sample(examples);
    let rows: Vec<Features> = rows.into_iter().copied().collect();
    let scores = Scorer::Linear(fixed.clone()).log_odds(&rows);
    let inputs = Array2::from_shape_fn((scores.len(), 1), |(i, _)| f64::from(scores[i]));
    match solve(&inputs, &bought) {
        Some((weights, bias)) if weights[0] > 0.0 => Linear {
            weights: fixed.weights.iter().map(|w| w * weights[0] as f32).collect::<Vec<f32>>().into(),
            bias: (bias + f64::from(examples.negative_share).ln()) as f32,
        },
        _ => fixed,
    }
}

/// Weights and intercept; `None` where only one outcome was seen.
fn solve(inputs: &Array2<f64>, bought: &[bool]) -> Option<(Array1<f64>, f64)> {
    let n = bought.len() as f64;
    let targets = Array1::from_iter(bought.iter().copied());
    let fitted = LogisticRegression::default()
        .alpha(PENALTY)
        .max_iterations(60)
        .gradient_tolerance(1e-5 * n)
        .fit(&DatasetBase::new(inputs.view(), targets))
        .ok()?;
    // linfa names the class that comes first in its own order positive.
    let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
    Some((fitted.params().mapv(|w| sign * w), sign * fitted.intercept()))
}
