//! Makes log odds honest: a scorer is surer of the moments that it was fitted to than of those to come, and the
//! level of purchases moves with the season.

use kindred_models::feed::Features;
use kindred_models::ranker::Scorer;
use ndarray::Array2;

use super::examples::Examples;
use super::inputs::sample;
use super::logistic::solve;

/// Slopes beyond are a sign of too few purchases to tell.
const SLOPES: std::ops::RangeInclusive<f64> = 0.5..=1.5;
/// Steps of Newton's method at most.
const STEPS: usize = 50;

/// What log odds are to be multiplied by, measured on examples that the scorer was not fitted to (Platt 1999).
pub(super) fn slope(scorer: &Scorer, examples: &Examples) -> f64 {
    let (scores, bought) = scored(scorer, examples);
    let inputs = Array2::from_shape_fn((scores.len(), 1), |(i, _)| scores[i]);
    let slope = solve(&inputs, &bought).map_or(1.0, |(weights, _)| weights[0]);
    if slope.is_finite() { slope.clamp(*SLOPES.start(), *SLOPES.end()) } else { 1.0 }
}

/// The scorer with its log odds multiplied by `slope`, and shifted so that over the examples it expects as many
/// purchases as there were.
pub(super) fn calibrated(scorer: Scorer, slope: f64, examples: &Examples) -> Scorer {
    let scorer = scorer.rescaled(slope as f32, 0.0);
    let (scores, bought) = scored(&scorer, examples);
    // Where nothing, or everything, was bought, half a purchase keeps the odds finite.
    let n = bought.len() as f64;
    let observed = (bought.iter().filter(|b| **b).count() as f64).clamp(0.5, (n - 0.5).max(0.5));
    // What was not bought is a sample: as if it were less likely to be here.
    let sampled = -f64::from(examples.negative_share).ln();
    let mut shift = 0.0;
    for _ in 0..STEPS {
        let odds = scores.iter().map(|score| 1.0 / (1.0 + (-(score + sampled + shift)).exp()));
        let (expected, curvature) = odds.fold((0.0, 0.0), |(sum, curvature), p| (sum + p, curvature + p * (1.0 - p)));
        let step = (observed - expected) / curvature.max(1e-9);
        shift += step.clamp(-1.0, 1.0);
        if step.abs() < 1e-6 {
            break;
        }
    }
    scorer.rescaled(1.0, shift as f32)
}

fn scored(scorer: &Scorer, examples: &Examples) -> (Vec<f64>, Vec<bool>) {
    let (rows, bought) = sample(examples);
    let rows: Vec<Features> = rows.into_iter().copied().collect();
    (scorer.log_odds(&rows).into_iter().map(f64::from).collect(), bought)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_models::feed::FEATURES;
    use kindred_models::ranker::Linear;

    /// Rows whose first feature is the true log odds of a purchase.
    fn examples(negative_share: f32) -> Examples {
        let mut examples = Examples { negative_share, ..Examples::default() };
        let mut draw = 0.5f64;
        for i in 0..40_000 {
            let log_odds = f64::from(i % 80) / 20.0 - 3.0;
            let mut row = [0.0; FEATURES.len()];
            row[0] = log_odds as f32;
            // The golden ratio's multiples are spread evenly.
            draw = (draw + 0.618_033_988_749_895).fract();
            let bought = draw < 1.0 / (1.0 + (-log_odds).exp());
            let kept = (i * 7919 % 1000) as f32 / 1000.0;
            if bought || kept < negative_share {
                examples.push(row, bought, kept);
            }
        }
        examples
    }

    fn linear(weight: f32, bias: f32) -> Scorer {
        let mut weights = vec![0.0; FEATURES.len()];
        weights[0] = weight;
        Scorer::Linear(Linear { weights: weights.into(), bias })
    }

    #[test]
    fn too_sure_a_scorer_is_found_out() {
        for share in [1.0, 0.25] {
            let examples = examples(share);
            let wrong = linear(1.4, 2.0);
            let slope = slope(&wrong, &examples);
            assert!((slope - 1.0 / 1.4).abs() < 0.03, "{share}: {slope}");
            let Scorer::Linear(right) = calibrated(wrong, slope, &examples) else { panic!() };
            assert!((right.weights[0] - 1.0).abs() < 0.04, "{share}: {}", right.weights[0]);
            assert!(right.bias.abs() < 0.06, "{share}: {}", right.bias);
        }
    }

    #[test]
    fn where_nothing_was_bought_nothing_is_expected() {
        let mut none = examples(1.0);
        none.bought.fill(false);
        assert_eq!(slope(&linear(1.0, -1.0), &none), 1.0);
        let rare = calibrated(linear(1.0, -1.0), 1.0, &none);
        let expected: f32 = rare.log_odds(&none.rows).into_iter().map(kindred_models::ranker::probability).sum();
        assert!((expected - 0.5).abs() < 0.01, "half a purchase of all: {expected}");
        let Scorer::Linear(same) = calibrated(linear(1.0, -1.0), 1.0, &Examples::default()) else { panic!() };
        assert_eq!((same.weights[0], same.bias.is_finite()), (1.0, true));
    }
}
