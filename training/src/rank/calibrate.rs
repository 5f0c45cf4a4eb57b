//! Makes log odds honest: a scorer is surer of the moments that it was fitted to than of those to come, and the
//! level of purchases moves with the season.

use kindred_models::feed::Features;
use kindred_models::ranker::Scorer;

use super::examples::Examples;
use super::inputs::sample;

/// Weight of the penalty ½ · w · (slope − 1)²: a few purchases tell little of the slope.
const PENALTY: f64 = 25.0;
/// Slopes beyond are no drift but a mistake.
const SLOPES: std::ops::RangeInclusive<f64> = 0.5..=1.5;
/// Steps of Newton's method at most, and how far one may go.
const STEPS: usize = 50;
const STEP: f64 = 1.0;

/// What log odds are to be multiplied by, measured on examples that the scorer was not fitted to (Platt 1999,
/// shrunk towards 1).
pub(super) fn slope(scorer: &Scorer, examples: &Examples) -> f64 {
    let (scores, bought) = scored(scorer, examples);
    let (mut slope, mut shift) = (1.0, 0.0);
    for _ in 0..STEPS {
        let (mut g0, mut g1, mut h00, mut h01, mut h11) = (0.0, PENALTY * (slope - 1.0), 1e-9, 0.0, PENALTY);
        for (score, bought) in scores.iter().zip(&bought) {
            let p = probability(slope * score + shift);
            let (error, curvature) = (p - f64::from(u8::from(*bought)), p * (1.0 - p));
            (g0, g1) = (g0 + error, g1 + error * score);
            (h00, h01, h11) = (h00 + curvature, h01 + curvature * score, h11 + curvature * score * score);
        }
        let determinant = h00 * h11 - h01 * h01;
        let (d0, d1) = ((h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant);
        if !(d0.is_finite() && d1.is_finite()) {
            return 1.0;
        }
        (shift, slope) = (shift - d0.clamp(-STEP, STEP), slope - d1.clamp(-STEP, STEP));
        if d0.abs().max(d1.abs()) < 1e-6 {
            break;
        }
    }
    slope.clamp(*SLOPES.start(), *SLOPES.end())
}

/// The scorer with its log odds multiplied by `slope`, and shifted so that over the examples it expects as many
/// purchases as there were.
pub(super) fn calibrated(scorer: Scorer, slope: f64, examples: &Examples) -> Scorer {
    let scorer = scorer.rescaled(slope as f32, 0.0);
    let (scores, bought) = scored(&scorer, examples);
    if bought.is_empty() {
        return scorer;
    }
    // Where nothing, or everything, was bought, half a purchase keeps the odds finite.
    let n = bought.len() as f64;
    let observed = (bought.iter().filter(|b| **b).count() as f64).clamp(0.5, n - 0.5);
    // What was not bought is a sample: as if it were less likely to be here.
    let sampled = -f64::from(examples.negative_share).ln();
    let mut shift = 0.0;
    for _ in 0..STEPS {
        let odds = scores.iter().map(|score| probability(score + sampled + shift));
        let (expected, curvature) = odds.fold((0.0, 0.0), |(sum, curvature), p| (sum + p, curvature + p * (1.0 - p)));
        let step = (observed - expected) / curvature.max(1e-9);
        shift += step.clamp(-STEP, STEP);
        if step.abs() < 1e-6 {
            break;
        }
    }
    scorer.rescaled(1.0, shift as f32)
}

fn probability(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
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

    /// `rows` rows whose first feature is the true log odds of a purchase, less `rarity`.
    fn examples(rows: usize, rarity: f64, negative_share: f32) -> Examples {
        let mut examples = Examples { negative_share, ..Examples::default() };
        let mut draw = 0.5f64;
        for i in 0..rows {
            let value = (i * 37 % 80) as f64 / 20.0 - 3.0;
            let mut row = [0.0; FEATURES.len()];
            row[0] = value as f32;
            // The golden ratio's multiples are spread evenly.
            draw = (draw + 0.618_033_988_749_895).fract();
            let bought = draw < probability(value - rarity);
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
            let examples = examples(40_000, 0.0, share);
            let wrong = linear(1.4, 2.0);
            let slope = slope(&wrong, &examples);
            assert!((slope - 1.0 / 1.4).abs() < 0.03, "{share}: {slope}");
            let Scorer::Linear(right) = calibrated(wrong, slope, &examples) else { panic!() };
            assert!((right.weights[0] - 1.0).abs() < 0.04, "{share}: {}", right.weights[0]);
            assert!(right.bias.abs() < 0.06, "{share}: {}", right.bias);
        }
    }

    #[test]
    fn a_few_purchases_say_little_of_the_slope() {
        // A scorer that is right, and a shop so small that a dozen purchases can't tell.
        let rare = linear(1.0, -5.0);
        let few = examples(3000, 5.0, 1.0);
        let purchases = few.bought.iter().filter(|b| **b).count();
        assert!((5..40).contains(&purchases), "{purchases}");
        assert!((slope(&rare, &few) - 1.0).abs() < 0.3, "{}", slope(&rare, &few));
        assert_eq!(slope(&rare, &Examples::default()), 1.0);
    }

    #[test]
    fn where_nothing_was_bought_nothing_is_expected() {
        let mut none = examples(40_000, 0.0, 1.0);
        none.bought.fill(false);
        let rare = calibrated(linear(1.0, -1.0), 1.0, &none);
        let expected: f32 = rare.log_odds(&none.rows).into_iter().map(kindred_models::ranker::probability).sum();
        assert!((expected - 0.5).abs() < 0.01, "half a purchase of all: {expected}");
        let Scorer::Linear(same) = calibrated(linear(1.0, -1.0), 1.0, &Examples::default()) else { panic!() };
        assert_eq!((same.weights[0], same.bias), (1.0, -1.0), "without an example there is nothing to say");
    }
}
