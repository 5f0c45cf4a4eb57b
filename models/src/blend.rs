//! How the sources of a feed are mixed.

use serde::{Deserialize, Serialize};

/// Weights of the sources in a product's score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Blend {
    /// Of `ln(1 + decayed purchases)` by this member.
    pub repeat: f32,
    /// Of the inner product of the member's and the product's vectors (about 0 to 1).
    pub taste: f32,
    /// Of the popularity score (0 to 1).
    pub popularity: f32,
}

impl Default for Blend {
    fn default() -> Self {
        Self { repeat: 2.0, taste: 1.0, popularity: 0.1 }
    }
}
