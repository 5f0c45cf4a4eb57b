//! How many will buy: from launch scores to probabilities, learned from past launches.
//!
//! Attributes say who buys a launch rather than how many do: the number of buyers of replayed launches hardly
//! follows from what they are. So the rate is that of the middle one of all launches, moved by its own kind
//! where there were enough, and the answer is an interval.

use serde::{Deserialize, Serialize};

use crate::categories::path_levels;

/// Standard normal quantile of 90%.
pub const Z90: f64 = 1.281_551_565_544_6;
/// Steps of a bisection, and how far out of a normal distribution one looks.
const BISECTIONS: usize = 60;
const LARGEST_Z: f64 = 8.0;
/// Steps of Newton's method at most.
const STEPS: usize = 50;

/// What past launches say of the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Replayed launches that it was learned from.
    pub launches: u32,
    /// Days from launch within which a purchase counted.
    pub horizon_days: u32,
    /// `ln` of the share of the members who bought the middle launch.
    pub log_rate: f32,
    /// The same by category, at every level of the path, above or below all: shrunk to the level above, sorted by
    /// path.
    pub kinds: Vec<(String, f32)>,
    /// How far launches lay from it.
    #[serde(flatten)]
    pub spread: Spread,
}

/// How far what came lay from what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// 10% and 90% quantiles of `ln(actual / expected)` over products.
    pub residuals: [f32; 2],
    /// Buyers of the middle product: what part of the residuals is chance is known from it.
    pub typical_buyers: f32,
}

/// How the buyers of products followed from their sales.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Days within which a purchase counts; 0 in versions of before, which say it of launches.
    #[serde(default)]
    pub horizon_days: u32,
    /// `ln(actual / expected)` of the middle product.
    pub log_bias: f32,
    /// How far products lay from that.
    pub spread: Spread,
    /// What scores are to be multiplied by, as they were learned of launches.
    #[serde(default = "one")]
    pub slope: f32,
    /// What a unit of `ln(1 + decayed purchases)` of the product itself counts in a member's log odds; 0 in versions of before.
    #[serde(default)]
    pub own: f32,
}

fn one() -> f32 {
    1.0
}

impl Expectation {
    /// `ln` of the share of the base that buys a launch of this category path.
    pub fn log_rate_of(&self, category: Option<&str>) -> f32 {
        let known = |path: &str| self.kinds.binary_search_by(|(kind, _)| kind.as_str().cmp(path)).ok();
        let kind = category.into_iter().flat_map(path_levels).find_map(known);
        self.log_rate + kind.map_or(0.0, |at| self.kinds[at].1)
    }
}

impl Spread {
    /// The number of buyers that a tenth of products stay below, and that a tenth exceed, for a number that
    /// is expected. Fewer buyers than those of past products are less certain still: counts vary by chance.
    pub fn interval(&self, expected: f64) -> [f64; 2] {
        let chance = (1.0 / expected.max(0.1) - 1.0 / f64::from(self.typical_buyers)).max(0.0);
        let widened = |residual: f32| (f64::from(residual).powi(2) + chance * Z90 * Z90).sqrt();
        [expected * (-widened(self.residuals[0])).exp(), expected * widened(self.residuals[1]).exp()]
    }

    /// How many more will buy, once so many are known to have: of all numbers that might have come only those above are
    /// left. The middle one, and how far from it the others lie.
    pub fn beyond(&self, expected: f64, known: f64) -> (f64, Self) {
        let deviations = self.residuals.map(|residual| f64::from(residual).abs() / Z90);
        let deviation = |z: f64| if z < 0.0 { deviations[0] } else { deviations[1] };
        let above = |z: f64| 0.5 * libm::erfc(z / std::f64::consts::SQRT_2);
        let log_ratio = (known / expected).ln();
        let start = log_ratio / deviation(log_ratio);
        let others = |share: f64| {
            let (mut low, mut high) = (start.max(-LARGEST_Z), start.max(-LARGEST_Z) + 2.0 * LARGEST_Z);
            for _ in 0..BISECTIONS {
                let middle = 0.5 * (low + high);
                if above(middle) > share * above(start) { low = middle } else { high = middle }
            }
            // At least a tenth of a buyer, so that logarithms of it are finite.
            (expected * (low * deviation(low)).exp() - known).max(0.1)
        };
        let [low, middle, high] = [0.9, 0.5, 0.1].map(others);
        let residuals = [low, high].map(|others| (others / middle).ln() as f32);
        (middle, Self { residuals, typical_buyers: self.typical_buyers })
    }
}

/// From launch scores to chances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// What makes scores log odds.
    intercept: f32,
}

impl Level {
    /// Of the scores of members, each standing for `weight` of them, of whom a share of `exp(log_rate)` buys.
    pub fn of(scores: &[f32], weight: impl Fn(usize) -> f32, log_rate: f32) -> Self {
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let odds = |(i, score): (usize, &f32)| ((f64::from(*score) - f64::from(highest)).exp(), f64::from(weight(i)));
        let weighted: Vec<(f64, f64)> = scores.iter().enumerate().map(odds).collect();
        let count: f64 = weighted.iter().map(|(_, weight)| weight).sum();
        if count <= 0.0 {
            return Self { intercept: log_rate };
        }
        let sum: f64 = weighted.iter().map(|(odds, weight)| weight * odds).sum();
        let log_mean = f64::from(highest) + (sum / count).ln();
        // Odds equal chances of what is rare; where many are nearly sure to buy, a little more is needed.
        let (mut intercept, wanted) = (f64::from(log_rate) - log_mean, f64::from(log_rate).exp() * count);
        for _ in 0..STEPS {
            let (mut expected, mut slope) = (0.0, 0.0);
            let unit = (intercept + f64::from(highest)).exp();
            for (odds, weight) in &weighted {
                let chance = 1.0 - 1.0 / (1.0 + odds * unit);
                expected += weight * chance;
                slope += weight * chance * (1.0 - chance);
            }
            let step = ((wanted - expected) / slope.max(1e-12)).clamp(-1.0, 1.0);
            intercept += step;
            if step.abs() < 1e-6 {
                break;
            }
        }
        Self { intercept: intercept as f32 }
    }

    /// The chance that a member with this score buys.
    #[inline]
    pub fn probability(self, score: f32) -> f64 {
        logistic(f64::from(score + self.intercept))
    }

    /// The score of a member with this chance to buy.
    pub fn score(self, probability: f64) -> f32 {
        (probability / (1.0 - probability)).ln() as f32 - self.intercept
    }
}

fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
impl Expectation {
    /// One that is easy to reckon with.
    pub(crate) fn example() -> Self {
        Self {
            launches: 40,
            horizon_days: 28,
            log_rate: 0.01f32.ln(),
            kinds: vec![("tea".to_owned(), 0.5), ("tea/green".to_owned(), 0.75)],
            spread: Spread { residuals: [-0.5, 0.7], typical_buyers: 20.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_moves_the_rate() {
        let e = Expectation::example();
        assert_eq!(e.log_rate_of(Some("coffee/beans")), e.log_rate);
        assert_eq!(e.log_rate_of(Some("tea/black/leaf")), e.log_rate + 0.5);
        assert_eq!(e.log_rate_of(Some("tea/green/leaf")), e.log_rate + 0.75);
        assert_eq!(e.log_rate_of(Some("tea/greenish")), e.log_rate + 0.5);
        assert_eq!(e.log_rate_of(None), e.log_rate);
    }

    #[test]
    fn intervals_widen_for_few_buyers() {
        let e = Expectation::example().spread;
        let [low, high] = e.interval(100.0);
        assert!((low - 100.0 * (-0.5f64).exp()).abs() < 1e-3 && (high - 100.0 * 0.7f64.exp()).abs() < 1e-3);
        // Of 2 expected, chance alone adds 1/2 − 1/20 to the variance of the logarithm.
        let [low, high] = e.interval(2.0);
        let expected = |residual: f64| (residual * residual + 0.45 * Z90 * Z90).sqrt();
        assert!((low - 2.0 * (-expected(0.5)).exp()).abs() < 1e-6 && (high - 2.0 * expected(0.7).exp()).abs() < 1e-6);
    }

    #[test]
    fn those_who_bought_are_no_longer_to_come() {
        let spread = Spread { residuals: [-0.5, 0.7], typical_buyers: 20.0 };
        // Of nobody known, all are to come.
        let (middle, all) = spread.beyond(100.0, 1e-9);
        assert!((middle - 100.0).abs() < 1e-3 && (all.residuals[1] - 0.7).abs() < 1e-3);
        // As many as were expected: the upper half is left, whose middle is the 75% quantile.
        let (middle, _) = spread.beyond(100.0, 100.0);
        assert!((middle - (100.0 * (0.7 * 0.674_489_75 / Z90).exp() - 100.0)).abs() < 1e-3, "{middle}");
        // Far more than were expected: a few more, as a tail falls off.
        let (middle, far) = spread.beyond(100.0, 1000.0);
        assert!((50.0..150.0).contains(&middle) && far.residuals[0] < 0.0 && far.residuals[1] > 0.0, "{middle}");
        let (middle, far) = spread.beyond(100.0, 1e9);
        assert!(middle.is_finite() && far.residuals.iter().all(|r| r.is_finite()), "{middle} {far:?}");
    }

    #[test]
    fn chances_sum_to_the_rate() {
        let scores: Vec<f32> = (0..1000).map(|i| i as f32 / 500.0).collect();
        let rare = Level::of(&scores, |_| 1.0, 0.001f32.ln());
        let chances = |level: Level| scores.iter().map(|s| level.probability(*s)).sum::<f64>();
        assert!((chances(rare) - 1.0).abs() < 1e-4, "{}", chances(rare));
        // Scores so steep, and buyers so many, that the best are nearly sure to buy.
        let steep: Vec<f32> = scores.iter().map(|s| 10.0 * s).collect();
        let level = Level::of(&steep, |_| 1.0, 0.3f32.ln());
        let buyers: f64 = steep.iter().map(|s| level.probability(*s)).sum();
        assert!((buyers - 300.0).abs() < 0.01, "{buyers}");
        // Each of them standing for three is the same.
        assert_eq!(Level::of(&steep, |_| 3.0, 0.3f32.ln()), level);
        assert_eq!(Level::of(&[], |_| 1.0, 0.1f32.ln()).probability(0.0), logistic(f64::from(0.1f32.ln())));
    }
}
