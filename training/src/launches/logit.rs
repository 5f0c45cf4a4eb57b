//! Conditional logit: each launch's buyers are a choice among all members (McFadden 1974, section III), members
//! who did not buy being a sample that stands for all.

use kindred_models::launch::{SIGNALS, Signals};
use kindred_models::linalg::solve_spd;
use rayon::prelude::*;

use super::replay::{Past, ScoredPast};

/// Number of signals.
const N: usize = SIGNALS.len();
/// What a launch counts, whatever the number of its buyers: as many as a small one has.
const LAUNCH_WEIGHT: f64 = 15.0;
/// Penalty on a weight's squared distance from the prior, per standard deviation.
const PENALTY: f64 = 100.0;
/// The same on a slope's from 1.
const SLOPE_PENALTY: f64 = 25.0;
/// Steps of Newton's method at most, and when it may end.
const STEPS: usize = 30;
const TOLERANCE: f64 = 1e-6;
/// Halvings of a step that goes too far, at most.
const HALVINGS: i32 = 10;

/// Standard deviation of each signal within a launch's members, over launches; 1 for one that never varies.
pub(super) fn deviations(launches: &[&Past]) -> Signals {
    let variances: Vec<[f64; N]> = launches.par_iter().map(|launch| variances(launch)).collect();
    std::array::from_fn(|k| {
        let mean = variances.iter().map(|v| v[k]).sum::<f64>() / variances.len().max(1) as f64;
        if mean > 1e-12 { mean.sqrt() as f32 } else { 1.0 }
    })
}

fn variances(launch: &Past) -> [f64; N] {
    let others = &launch.rows[launch.bought..];
    let n = others.len().max(1) as f64;
    std::array::from_fn(|k| {
        let mean = others.iter().map(|row| f64::from(row[k])).sum::<f64>() / n;
        others.iter().map(|row| (f64::from(row[k]) - mean).powi(2)).sum::<f64>() / n
    })
}

/// Weights of the signals that make the buyers likeliest, pulled towards `prior`, which is per deviation.
pub(super) fn fit(launches: &[&Past], deviations: &Signals, prior: &Signals) -> Signals {
    let mut weights: [f64; N] = std::array::from_fn(|k| f64::from(prior[k]));
    let raw =
        |weights: &[f64; N]| -> Signals { std::array::from_fn(|k| (weights[k] / f64::from(deviations[k])) as f32) };
    let mut here = slopes(launches, deviations, prior, &weights, &raw(&weights));
    for _ in 0..STEPS {
        let mut hessian: Vec<f32> = here.hessian.iter().map(|x| *x as f32).collect();
        let mut step: Vec<f32> = here.gradient.iter().map(|x| *x as f32).collect();
        solve_spd(&mut hessian, &mut step);
        // The loss is convex, yet a whole step may go too far.
        let tried = (0..HALVINGS).find_map(|k| {
            let next = std::array::from_fn(|i| weights[i] - f64::from(step[i]) * 0.5f64.powi(k));
            let there = slopes(launches, deviations, prior, &next, &raw(&next));
            (there.loss < here.loss).then_some((next, there))
        });
        let Some((next, there)) = tried else { break };
        let gain = here.loss - there.loss;
        (weights, here) = (next, there);
        if gain < TOLERANCE * here.loss.abs() {
            break;
        }
    }
    raw(&weights)
}

/// The penalized loss, and its first and second derivatives.
struct Slopes {
    loss: f64,
    gradient: [f64; N],
    hessian: Vec<f64>,
}

fn slopes(launches: &[&Past], deviations: &Signals, prior: &Signals, at: &[f64; N], raw: &Signals) -> Slopes {
    let parts: Vec<Slopes> = launches.par_iter().map(|launch| of_launch(launch, deviations, raw)).collect();
    let mut all = Slopes { loss: 0.0, gradient: [0.0; N], hessian: vec![0.0; N * N] };
    for k in 0..N {
        let distance = at[k] - f64::from(prior[k]);
        all.loss += 0.5 * PENALTY * distance * distance;
        all.gradient[k] = PENALTY * distance;
        all.hessian[k * N + k] = PENALTY;
    }
    // In the launches' order, so that sums do not depend on threads.
    for part in parts {
        all.loss += LAUNCH_WEIGHT * part.loss;
        all.gradient.iter_mut().zip(part.gradient).for_each(|(sum, x)| *sum += LAUNCH_WEIGHT * x);
        all.hessian.iter_mut().zip(part.hessian).for_each(|(sum, x)| *sum += LAUNCH_WEIGHT * x);
    }
    all
}

/// Of `−mean over buyers of ln(exp(s) / Σ exp(s))`: the expected signals less the buyers', and their covariance.
fn of_launch(launch: &Past, deviations: &Signals, raw: &Signals) -> Slopes {
    let scored = launch.scored(raw);
    let highest = scored.scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut part = Slopes { loss: 0.0, gradient: [0.0; N], hessian: vec![0.0; N * N] };
    let (mut total, mut expected, mut bought) = (0.0, [0.0; N], [0.0; N]);
    for (i, row) in launch.rows.iter().enumerate() {
        let x: [f64; N] = std::array::from_fn(|k| f64::from(row[k] / deviations[k]));
        let chance = f64::from(scored.weight_of(i)) * f64::from(scored.scores[i] - highest).exp();
        total += chance;
        for k in 0..N {
            expected[k] += chance * x[k];
            // solve_spd reads the lower triangle.
            let weighted = chance * x[k];
            part.hessian[k * N..=k * N + k].iter_mut().zip(x).for_each(|(sum, y)| *sum += weighted * y);
        }
        if i < launch.bought {
            bought.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
            part.loss -= f64::from(scored.scores[i] - highest);
        }
    }
    let n = launch.bought as f64;
    part.loss = part.loss / n + total.ln();
    for k in 0..N {
        part.gradient[k] = expected[k] / total - bought[k] / n;
        for j in 0..=k {
            part.hessian[k * N + j] = part.hessian[k * N + j] / total - expected[k] * expected[j] / (total * total);
        }
    }
    part
}

/// What scores are to be multiplied by so that the buyers of launches that they were not fitted to are likeliest;
/// 1 without any.
pub(super) fn slope(launches: &[ScoredPast]) -> f32 {
    let mut slope = 1.0;
    for _ in 0..STEPS {
        let (mut gradient, mut curvature) = (SLOPE_PENALTY * (slope - 1.0), SLOPE_PENALTY);
        for launch in launches {
            let (g, h) = of_scores(launch, slope);
            (gradient, curvature) = (gradient + LAUNCH_WEIGHT * g, curvature + LAUNCH_WEIGHT * h);
        }
        let step = gradient / curvature;
        slope = (slope - step).clamp(0.2, 2.0);
        if step.abs() < TOLERANCE {
            break;
        }
    }
    slope as f32
}

/// The expected score less the buyers' mean, and the variance of scores, at a slope.
fn of_scores(launch: &ScoredPast, slope: f64) -> (f64, f64) {
    let highest = f64::from(launch.scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (mut total, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for (i, score) in launch.scores.iter().enumerate() {
        let x = f64::from(*score) - highest;
        let chance = f64::from(launch.weight_of(i)) * (slope * x).exp();
        (total, sum, squares) = (total + chance, sum + chance * x, squares + chance * x * x);
    }
    let bought = launch.scores[..launch.bought].iter().map(|s| f64::from(*s) - highest).sum::<f64>();
    let mean = sum / total;
    (mean - bought / launch.bought as f64, squares / total - mean * mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One signal decides: of members with 0 and 1 in equal numbers, buyers have it 3 times of 4.
    fn launches(count: usize) -> Vec<Past> {
        let row = |x: f32| std::array::from_fn(|k| if k == 2 { x } else { 0.0 });
        let past = Past {
            kind: String::new(),
            members: 2000,
            buyers: 4,
            rows: [1.0, 1.0, 1.0, 0.0].into_iter().chain((0..200).map(|i| (i % 2) as f32)).map(row).collect(),
            bought: 4,
            weight: 10.0,
        };
        vec![past; count]
    }

    #[test]
    fn the_odds_of_a_signal_are_found() {
        let launches = launches(4000);
        let all: Vec<&Past> = launches.iter().collect();
        let deviations = deviations(&all);
        assert!((deviations[2] - 0.5).abs() < 1e-3 && deviations[0] == 1.0, "{deviations:?}");
        let weights = fit(&all, &deviations, &Signals::default());
        // 3 : 1 among as many of each, hence ln 3.
        assert!((weights[2] - 3f32.ln()).abs() < 0.02, "{weights:?}");
        assert!(weights.iter().enumerate().all(|(k, w)| k == 2 || w.abs() < 1e-6));
    }

    #[test]
    fn few_launches_hardly_move_the_prior() {
        let launches = launches(1);
        let all: Vec<&Past> = launches.iter().collect();
        let mut prior = Signals::default();
        prior[0] = 0.75;
        let weights = fit(&all, &deviations(&all), &prior);
        assert!((weights[0] - 0.75).abs() < 1e-4 && weights[2] > 0.0 && weights[2] < 0.3, "{weights:?}");
    }

    #[test]
    fn scores_that_are_too_sure_are_flattened() {
        let launches = launches(4000);
        let mut sure = Signals::default();
        sure[2] = 2.0 * 3f32.ln();
        let scored: Vec<ScoredPast> = launches.iter().map(|launch| launch.scored(&sure)).collect();
        assert!((slope(&scored) - 0.5).abs() < 0.01, "{}", slope(&scored));
        assert_eq!(slope(&[]), 1.0);
    }
}
