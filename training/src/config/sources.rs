//! How the sources of a feed are learned.

use kindred_models::embeddings::Objective;
pub use kindred_models::events::{EventWeights, Weighting};
use serde::{Deserialize, Serialize};

use super::{InvalidParameter, check};

/// Parameters of the embeddings, as the config file has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IalsParams {
    /// Length of a vector, 1 to 1024.
    pub factors: usize,
    /// Passes over both sides, 1 to 1000.
    pub epochs: usize,
    /// `α₀`: weight of a pair without a purchase, against 1 for a pair with one.
    pub unobserved_weight: f32,
    /// `λ`.
    pub regularization: f32,
    /// `ν`, 0 to 1.
    pub regularization_exponent: f32,
    /// How purchases add up.
    pub weighting: Weighting,
    /// Days after which a purchase counts half in the embeddings; 0 for never.
    pub half_life_days: f32,
    /// Seed of the first vectors.
    pub seed: u64,
}

impl Default for IalsParams {
    fn default() -> Self {
        Self {
            factors: 64,
            epochs: 12,
            unobserved_weight: 0.1,
            regularization: 0.003,
            regularization_exponent: 1.0,
            weighting: Weighting::Log,
            half_life_days: 90.0,
            seed: 1,
        }
    }
}

/// Parameters of the embeddings that were checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IalsValidParams(IalsParams);

impl IalsParams {
    /// Checks the ranges.
    ///
    /// # Errors
    /// For the first parameter that is out of range.
    pub fn validate(self) -> Result<IalsValidParams, InvalidParameter> {
        let Self { factors, epochs, unobserved_weight: a, regularization: r, regularization_exponent: e, .. } = self;
        check("embeddings.factors", factors, (1..=1024).contains(&factors), "must be from 1 to 1024")?;
        check("embeddings.epochs", epochs, (1..=1000).contains(&epochs), "must be from 1 to 1000")?;
        check("embeddings.unobserved_weight", a, (1e-9..=1e9).contains(&a), "must be above 0, from 1e-9 to 1e9")?;
        check("embeddings.regularization", r, (1e-9..=1e9).contains(&r), "must be above 0, from 1e-9 to 1e9")?;
        check("embeddings.regularization_exponent", e, (0.0..=1.0).contains(&e), "must be from 0 to 1")?;
        check_half_life("embeddings.half_life_days", self.half_life_days)?;
        Ok(IalsValidParams(self))
    }
}

impl IalsValidParams {
    /// The objective to minimize.
    pub fn objective(&self) -> Objective {
        Objective {
            unobserved_weight: self.0.unobserved_weight,
            regularization: self.0.regularization,
            regularization_exponent: self.0.regularization_exponent,
        }
    }
}

impl IalsValidParams {
    /// With another weight of what was not bought, in its range.
    pub(crate) fn with_unobserved_weight(self, unobserved_weight: f32) -> Self {
        Self(IalsParams { unobserved_weight, ..self.0 })
    }
}

impl std::ops::Deref for IalsValidParams {
    type Target = IalsParams;

    fn deref(&self) -> &IalsParams {
        &self.0
    }
}

pub(super) fn check_half_life(name: &'static str, days: f32) -> Result<(), InvalidParameter> {
    check(name, days, (0.0..=36_500.0).contains(&days), "must be from 0 (never) to 36500")
}

/// The item–item models, as the config file has them; see [`crate::affinity::fit`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AffinityParams {
    /// Products kept per product, 0 to 1000; 0 for no such model.
    pub neighbours: usize,
    /// `a`: how much less a member, or a basket, of many products counts; 0 to 1.
    pub group_exponent: f32,
    /// `b`: how much a product's own size is divided out; 0 to 1.
    pub source_exponent: f32,
    /// `c`: the same of the product that it speaks for; 0 to 1.
    pub target_exponent: f32,
    /// Added to the denominator: pairs seen a few times count less; 0 or above.
    pub shrinkage: f32,
    /// Penalty of the regression of each product on those bought with it most, on the scale of cosines; 0
    /// for cosines instead.
    pub ridge: f32,
}

impl Default for AffinityParams {
    fn default() -> Self {
        Self {
            neighbours: 100,
            group_exponent: 0.0,
            source_exponent: 0.9,
            target_exponent: 0.3,
            shrinkage: 10.0,
            ridge: 0.3,
        }
    }
}

impl AffinityParams {
    /// Those of the model by basket, which keeps as many products and has the others fixed.
    pub fn of_baskets(neighbours: usize) -> Self {
        Self { neighbours, ridge: 0.0, ..Self::default() }
    }

    pub(super) fn validate(&self) -> Result<(), InvalidParameter> {
        check("affinity.neighbours", self.neighbours, self.neighbours <= 1000, "must be from 0 to 1000")?;
        for (name, exponent) in [
            ("affinity.group_exponent", self.group_exponent),
            ("affinity.source_exponent", self.source_exponent),
            ("affinity.target_exponent", self.target_exponent),
        ] {
            check(name, exponent, (0.0..=1.0).contains(&exponent), "must be from 0 to 1")?;
        }
        check("affinity.ridge", self.ridge, (0.0..=1e9).contains(&self.ridge), "must be from 0 to 1e9")?;
        check("affinity.shrinkage", self.shrinkage, (0.0..=1e9).contains(&self.shrinkage), "must be from 0 to 1e9")
    }
}

/// Members alike, as the config file has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighbourParams {
    /// Members kept per member, 0 to 1000; 0 for no such model.
    pub count: usize,
    /// Members with purchases up to which they are looked for.
    pub max_members: usize,
}

impl Default for NeighbourParams {
    fn default() -> Self {
        Self { count: 100, max_members: 300_000 }
    }
}

/// How purchases are counted for popularity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PopularityParams {
    /// Days after which a purchase counts half; 0 for never.
    pub half_life_days: f32,
    /// The same, for what is bought all the year.
    pub long_half_life_days: f32,
    /// The same, for the trend.
    pub short_half_life_days: f32,
    /// The same, for who buys a product for the first time.
    pub trial_half_life_days: f32,
    /// Minutes that the stores' clocks are ahead of UTC, for parts of the day; -1440 to 1440.
    pub utc_offset_minutes: i32,
}

impl Default for PopularityParams {
    fn default() -> Self {
        Self {
            half_life_days: 30.0,
            long_half_life_days: 180.0,
            short_half_life_days: 7.0,
            trial_half_life_days: 20.0,
            utc_offset_minutes: 0,
        }
    }
}

impl PopularityParams {
    pub(super) fn validate(&self) -> Result<(), InvalidParameter> {
        check_half_life("popularity.half_life_days", self.half_life_days)?;
        check_half_life("popularity.long_half_life_days", self.long_half_life_days)?;
        check_half_life("popularity.short_half_life_days", self.short_half_life_days)?;
        check_half_life("popularity.trial_half_life_days", self.trial_half_life_days)?;
        let offset = self.utc_offset_minutes;
        check("popularity.utc_offset_minutes", offset, (-1440..=1440).contains(&offset), "must be from -1440 to 1440")
    }
}

/// Decay of a member's own counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepeatParams {
    /// Days after which a purchase counts half; 0 for never.
    pub half_life_days: f32,
    /// The same for what is recent.
    pub recent_half_life_days: f32,
}

impl Default for RepeatParams {
    fn default() -> Self {
        Self { half_life_days: 120.0, recent_half_life_days: 20.0 }
    }
}
