//! Conditional logit: each launch's buyers are a choice among all members (McFadden 1974, section III), members
//! who did not buy being a sample that stands for all.

use kindred_models::launch;
use kindred_models::linalg::solve_spd;
use rayon::prelude::*;

use super::replay::ScoredPast;

/// Buyers of a launch that count, at most: few launches of many buyers would decide otherwise.
const MAX_BUYERS: f64 = 15.0;
/// Penalty on a launch weight's squared distance from the prior, per standard deviation.
pub(super) const PENALTY: f64 = 100.0;
/// The same on a slope's from 1.
const SLOPE_PENALTY: f64 = 25.0;
/// Steps of Newton's method at most, and when it may end.
const STEPS: usize = 30;
const TOLERANCE: f64 = 1e-6;
/// Halvings of a step that goes too far, at most.
const HALVINGS: i32 = 10;

/// One launch: members by `W` signals, buyers first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a, const W: usize> {
    pub(super) rows: &'a [[f32; W]],
    /// What is added to the score of each row; none where empty.
    pub(super) offsets: &'a [f32],
    /// How many of the rows are buyers.
    pub(super) bought: usize,
    /// How many members one that did not buy stands for.
    pub(super) weight: f32,
}

impl<const W: usize> Choice<'_, W> {
    fn scores(&self, weights: &[f32; W]) -> Vec<f32> {
        let offset = |i: usize| self.offsets.get(i).copied().unwrap_or(0.0);
        let score = |row: &[f32; W]| row.iter().zip(weights).map(|(x, w)| x * w).sum::<f32>();
        self.rows.iter().enumerate().map(|(i, row)| offset(i) + score(row)).collect()
    }
}

/// Standard deviation of each signal within a launch's members, over launches; 1 for one that never varies.
pub(super) fn deviations<const W: usize>(choices: &[Choice<'_, W>]) -> [f32; W] {
    let of_choice = |choice: &Choice<'_, W>| launch::variances(&choice.rows[choice.bought..]);
    launch::deviations(&choices.par_iter().map(of_choice).collect::<Vec<_>>())
}

/// Weights of the signals that make the buyers likeliest, pulled towards `prior`, which is per deviation; looked for from
/// `start` on, which saves steps where it is near.
pub(super) fn fit<const W: usize>(
    choices: &[Choice<'_, W>],
    deviations: &[f32; W],
    prior: &[f32; W],
    penalty: f64,
    start: Option<&[f32; W]>,
) -> [f32; W] {
    let per_deviation = |k: usize| start.map_or(prior[k], |start| start[k] * deviations[k]);
    let mut weights: [f64; W] = std::array::from_fn(|k| f64::from(per_deviation(k)));
    let slopes = |at: &[f64; W]| slopes(choices, deviations, prior, penalty, at);
    let mut here = slopes(&weights);
    for _ in 0..STEPS {
        let mut hessian: Vec<f32> = here.hessian.iter().map(|x| *x as f32).collect();
        let mut step: Vec<f32> = here.gradient.iter().map(|x| *x as f32).collect();
        solve_spd(&mut hessian, &mut step);
        // The loss is convex, yet a whole step may go too far.
        let tried = (0..HALVINGS).find_map(|k| {
            let next = std::array::from_fn(|i| weights[i] - f64::from(step[i]) * 0.5f64.powi(k));
            let there = slopes(&next);
            (there.loss < here.loss).then_some((next, there))
        });
        let Some((next, there)) = tried else { break };
        let gain = here.loss - there.loss;
        (weights, here) = (next, there);
        if gain < TOLERANCE * here.loss.abs() {
            break;
        }
    }
    raw(&weights, deviations)
}

/// Weights per deviation as weights of the signals.
fn raw<const W: usize>(weights: &[f64; W], deviations: &[f32; W]) -> [f32; W] {
    std::array::from_fn(|k| (weights[k] / f64::from(deviations[k])) as f32)
}

/// The penalized loss, and its first and second derivatives.
struct Slopes {
    loss: f64,
    gradient: Vec<f64>,
    hessian: Vec<f64>,
}

fn slopes<const W: usize>(
    choices: &[Choice<'_, W>],
    deviations: &[f32; W],
    prior: &[f32; W],
    penalty: f64,
    at: &[f64; W],
) -> Slopes {
    let weights = raw(at, deviations);
    let parts: Vec<Slopes> = choices.par_iter().map(|choice| of_choice(choice, deviations, &weights)).collect();
    let mut all = Slopes { loss: 0.0, gradient: vec![0.0; W], hessian: vec![0.0; W * W] };
    for k in 0..W {
        let distance = at[k] - f64::from(prior[k]);
        all.loss += 0.5 * penalty * distance * distance;
        all.gradient[k] = penalty * distance;
        all.hessian[k * W + k] = penalty;
    }
    // In the launches' order, so that sums do not depend on threads.
    for (part, choice) in parts.into_iter().zip(choices) {
        let weight = MAX_BUYERS.min(choice.bought as f64);
        all.loss += weight * part.loss;
        all.gradient.iter_mut().zip(part.gradient).for_each(|(sum, x)| *sum += weight * x);
        all.hessian.iter_mut().zip(part.hessian).for_each(|(sum, x)| *sum += weight * x);
    }
    all
}

/// Of `−mean over buyers of ln(exp(s) / Σ exp(s))`: the expected signals less the buyers', and their covariance.
fn of_choice<const W: usize>(choice: &Choice<'_, W>, deviations: &[f32; W], weights: &[f32; W]) -> Slopes {
    let scores = choice.scores(weights);
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut part = Slopes { loss: 0.0, gradient: vec![0.0; W], hessian: vec![0.0; W * W] };
    let (mut total, mut expected, mut bought) = (0.0, [0.0; W], [0.0; W]);
    for (i, row) in choice.rows.iter().enumerate() {
        let x: [f64; W] = std::array::from_fn(|k| f64::from(row[k] / deviations[k]));
        let is_bought = i < choice.bought;
        let stands_for = if is_bought { 1.0 } else { f64::from(choice.weight) };
        let chance = stands_for * f64::from(scores[i] - highest).exp();
        total += chance;
        for k in 0..W {
            let weighted = chance * x[k];
            expected[k] += weighted;
            // solve_spd reads the lower triangle.
            part.hessian[k * W..=k * W + k].iter_mut().zip(&x).for_each(|(sum, y)| *sum += weighted * y);
        }
        if is_bought {
            bought.iter_mut().zip(&x).for_each(|(sum, x)| *sum += x);
            part.loss -= f64::from(scores[i] - highest);
        }
    }
    let n = choice.bought as f64;
    part.loss = part.loss / n + total.ln();
    for k in 0..W {
        part.gradient[k] = expected[k] / total - bought[k] / n;
        for j in 0..=k {
            part.hessian[k * W + j] = part.hessian[k * W + j] / total - expected[k] * expected[j] / (total * total);
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
            let weight = MAX_BUYERS.min(launch.bought as f64);
            (gradient, curvature) = (gradient + weight * g, curvature + weight * h);
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

    /// One of two signals decides: of members with 0 and 1 in equal numbers, buyers have it 3 times of 4.
    fn rows() -> Vec<[f32; 2]> {
        [1.0, 1.0, 1.0, 0.0].into_iter().chain((0..200).map(|i| (i % 2) as f32)).map(|x| [0.0, x]).collect()
    }

    fn choices(rows: &[[f32; 2]], count: usize) -> Vec<Choice<'_, 2>> {
        vec![Choice { rows, offsets: &[], bought: 4, weight: 10.0 }; count]
    }

    #[test]
    fn the_odds_of_a_signal_are_found() {
        let rows = rows();
        let choices = choices(&rows, 4000);
        let deviations = deviations(&choices);
        assert!((deviations[1] - 0.5).abs() < 1e-3 && deviations[0] == 1.0, "{deviations:?}");
        let weights = fit(&choices, &deviations, &[0.0; 2], PENALTY, None);
        // 3 : 1 among as many of each, hence ln 3.
        assert!((weights[1] - 3f32.ln()).abs() < 0.02 && weights[0].abs() < 1e-6, "{weights:?}");
        // What is known already is not learned again.
        let offsets: Vec<f32> = rows.iter().map(|row| 3f32.ln() * row[1]).collect();
        let known: Vec<Choice<'_, 2>> = choices.iter().map(|c| Choice { offsets: &offsets, ..*c }).collect();
        assert!(fit(&known, &deviations, &[0.0; 2], PENALTY, None)[1].abs() < 0.02);
    }

    #[test]
    fn few_launches_hardly_move_the_prior() {
        let rows = rows();
        let choices = choices(&rows, 1);
        let weights = fit(&choices, &deviations(&choices), &[0.75, 0.0], PENALTY, None);
        assert!((weights[0] - 0.75).abs() < 1e-4 && weights[1] > 0.0 && weights[1] < 0.3, "{weights:?}");
    }

    #[test]
    fn scores_that_are_too_sure_are_flattened() {
        let scores: Vec<f32> = rows().iter().map(|row| 2.0 * 3f32.ln() * row[1]).collect();
        let scored = vec![ScoredPast { scores, bought: 4, weight: 10.0 }; 4000];
        assert!((slope(&scored) - 0.5).abs() < 0.01, "{}", slope(&scored));
        assert_eq!(slope(&[]), 1.0);
    }
}
