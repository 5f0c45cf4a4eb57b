//! How the sources of a feed are mixed where no ranker was learned.

use serde::{Deserialize, Serialize};

use crate::feed::{FEATURES, Feature};
use crate::ranker::Linear;

/// Weights of the sources in a product's score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Blend {
    /// Of `ln(1 + decayed purchases)` by this member.
    pub repeat: f32,
    /// Of the inner product of the member's and the product's vectors (about 0 to 1).
    pub taste: f32,
    /// Of what the member's products speak for it (about 0 to 1).
    pub affinity: f32,
    /// Of what members alike bought, in standard deviations.
    pub neighbours: f32,
    /// Of the popularity score (0 to 1).
    pub popularity: f32,
}

impl Default for Blend {
    fn default() -> Self {
        Self { repeat: 2.0, taste: 1.0, affinity: 5.0, neighbours: 0.05, popularity: 0.1 }
    }
}

impl Blend {
    /// As a scorer; its scores are no probabilities until they are scaled.
    pub fn linear(&self) -> Linear {
        let mut weights = vec![0.0; FEATURES.len()];
        for (feature, weight) in [
            (Feature::Decayed, self.repeat),
            (Feature::Taste, self.taste),
            (Feature::Affinity, self.affinity),
            (Feature::NeighboursScaled, self.neighbours),
            (Feature::PopularityScore, self.popularity),
        ] {
            weights[feature as usize] = weight;
        }
        Linear { weights: weights.into(), bias: 0.0 }
    }
}
