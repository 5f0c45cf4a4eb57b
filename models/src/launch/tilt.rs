//! What seeds say of the signals themselves: seeds against a random part of the base.

use super::query::weighed;
use super::signals::{NO_SIGNALS, SEED_SIGNALS, SIGNALS, Signals};
use crate::linalg::solve_spd;

/// Signals that are tilted: those of seeds count as they were learned.
const TILTED: usize = SIGNALS.len() - SEED_SIGNALS;
/// Steps of Newton's method at most, and halvings of a step that goes too far.
const STEPS: usize = 12;
const HALVINGS: i32 = 12;

/// With so many seeds the tilt is about half of what an unshrunk fit would give. Any value from 300 to 3000 did as well on
/// past launches of two chains; smaller ones ranked the others worse.
const PRIOR: f64 = 1000.0;

/// What is added to `weights` so that the seeds become likelier among the base: the weights of a conditional logit
/// (as those of launches are) that is centred on the launch model, and shrunk towards it. The base is a sample.
pub(super) fn tilt(seeds: &[Signals], base: &[Signals], weights: &Signals) -> Signals {
    let mut tilt = NO_SIGNALS;
    if seeds.is_empty() || base.is_empty() {
        return tilt;
    }
    let (means, deviations) = moments(base);
    let scaled =
        |row: &Signals| -> [f64; TILTED] { std::array::from_fn(|k| f64::from(row[k] - means[k]) / deviations[k]) };
    let choice = Choice::new(base.iter().map(scaled).collect(), base.iter().map(|row| weighed(weights, row)));
    let n = seeds.len() as f64;
    let mut of_seeds = [0.0; TILTED];
    for row in seeds.iter().map(scaled) {
        (0..TILTED).for_each(|k| of_seeds[k] += row[k] / n);
    }
    let loss = |at: &[f64; TILTED]| {
        let products = at.iter().zip(&of_seeds).map(|(w, x)| w * x).sum::<f64>();
        n * (choice.log_total(at) - products) + 0.5 * PRIOR * at.iter().map(|w| w * w).sum::<f64>()
    };
    let mut at = [0.0; TILTED];
    for _ in 0..STEPS {
        let (expected, covariance) = choice.moments(&at);
        let mut hessian: Vec<f32> = covariance.iter().map(|x| (n * x) as f32).collect();
        (0..TILTED).for_each(|k| hessian[k * TILTED + k] += PRIOR as f32);
        let slope = |k: usize| (n * (of_seeds[k] - expected[k]) - PRIOR * at[k]) as f32;
        let mut step: Vec<f32> = (0..TILTED).map(slope).collect();
        solve_spd(&mut hessian, &mut step);
        // The loss is convex, yet a whole step may go too far: what few of the base have bends it sharply.
        let here = loss(&at);
        let tried = (0..HALVINGS).map(|k| std::array::from_fn(|i| at[i] + f64::from(step[i]) * 0.5f64.powi(k)));
        let Some(better) = tried.into_iter().find(|next| loss(next) < here) else { break };
        at = better;
    }
    (0..TILTED).for_each(|k| tilt[k] = (at[k] / deviations[k]) as f32);
    tilt
}

/// The base, among which the seeds were chosen.
struct Choice {
    rows: Vec<[f64; TILTED]>,
    /// In proportion to the chance that the launch model gives each.
    chances: Vec<f64>,
}

impl Choice {
    fn new(rows: Vec<[f64; TILTED]>, scores: impl Iterator<Item = f32> + Clone) -> Self {
        let highest = scores.clone().fold(f32::NEG_INFINITY, f32::max);
        Self { rows, chances: scores.map(|score| f64::from(score - highest).exp()).collect() }
    }

    /// `ln` of the sum of all chances.
    fn log_total(&self, tilt: &[f64; TILTED]) -> f64 {
        let tilted = |row: &[f64; TILTED]| row.iter().zip(tilt).map(|(x, w)| x * w).sum::<f64>().exp();
        self.rows.iter().zip(&self.chances).map(|(row, chance)| chance * tilted(row)).sum::<f64>().ln()
    }

    /// Mean and covariance (lower triangle) of the signals of whom the tilted model would choose.
    fn moments(&self, tilt: &[f64; TILTED]) -> ([f64; TILTED], Vec<f64>) {
        let (mut total, mut mean, mut products) = (0.0, [0.0; TILTED], vec![0.0; TILTED * TILTED]);
        for (row, chance) in self.rows.iter().zip(&self.chances) {
            let chance = chance * row.iter().zip(tilt).map(|(x, w)| x * w).sum::<f64>().exp();
            total += chance;
            for i in 0..TILTED {
                let weighted = chance * row[i];
                mean[i] += weighted;
                products[i * TILTED..=i * TILTED + i].iter_mut().zip(row).for_each(|(sum, x)| *sum += weighted * x);
            }
        }
        mean.iter_mut().for_each(|x| *x /= total);
        for i in 0..TILTED {
            (0..=i).for_each(|j| products[i * TILTED + j] = products[i * TILTED + j] / total - mean[i] * mean[j]);
        }
        (mean, products)
    }
}

/// Mean and standard deviation of each signal, 1 for one that never varies.
fn moments(rows: &[Signals]) -> ([f32; TILTED], [f64; TILTED]) {
    let n = rows.len() as f64;
    let mean: [f64; TILTED] = std::array::from_fn(|k| rows.iter().map(|row| f64::from(row[k])).sum::<f64>() / n);
    let deviation = std::array::from_fn(|k| {
        let variance = rows.iter().map(|row| (f64::from(row[k]) - mean[k]).powi(2)).sum::<f64>() / n;
        if variance > 1e-12 { variance.sqrt() } else { 1.0 }
    });
    (mean.map(|x| x as f32), deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A base whose first signal is 0 or 1, half of each.
    fn base() -> Vec<Signals> {
        (0..1000).map(|i| std::array::from_fn(|k| if k == 0 { (i % 2) as f32 } else { 0.0 })).collect()
    }

    #[test]
    fn seeds_tilt_the_signal_that_they_have() {
        let (base, none) = (base(), NO_SIGNALS);
        let having = |n: usize| vec![base[1]; n];
        let tilted = |n: usize| tilt(&having(n), &base, &none)[0];
        assert!(tilted(3) > 0.0 && tilted(3) < 0.02, "few seeds hardly count: {}", tilted(3));
        assert!(tilted(30) > 8.0 * tilted(3) && tilted(1000) > 5.0 * tilted(30));
        // Worked by hand: in deviations x = ±1, n (1 − tanh w) = 1000 w at n = 1000, w = 0.5213; the signal's
        // deviation is ½.
        assert!((tilted(1000) / 2.0 - 0.5213).abs() < 1e-3, "{}", tilted(1000));
        // Half of many seeds have what 2 in 100 of the base have.
        let rare: Vec<Signals> =
            (0..5000).map(|i| std::array::from_fn(|k| f32::from(u8::from(k == 0 && i % 50 == 0)))).collect();
        let half: Vec<Signals> = (0..1000).map(|i| rare[i % 2]).collect();
        let odds = tilt(&half, &rare, &none)[0];
        assert!((2.0..4.0).contains(&odds), "{odds}, and ln 49 = 3.9 unshrunk");
        // Seeds like the base say nothing.
        assert!(tilt(&base, &base, &none).iter().all(|t| t.abs() < 1e-6));
        assert_eq!(tilt(&[], &base, &none), none);
        // Nor do those whom the launch model expects.
        let mut weights = none;
        weights[0] = 20.0;
        assert!(tilt(&having(30), &base, &weights)[0].abs() < 1e-3);
    }
}
