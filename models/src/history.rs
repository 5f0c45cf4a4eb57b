//! What each member bought, how often and when: the repeat model, and the input of every fold-in.

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::sparse::Rows;

/// Days stored for "longer ago than can be said", or where the events have no time.
pub const UNKNOWN_DAYS: u16 = u16::MAX;

/// One row per member, one entry per product that the member had to do with. Empty for members without
/// consent to personalization: nothing of theirs is kept.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Products per member.
    pub rows: Rows,
    /// Weight of the pair in the embeddings' objective; above 0.
    pub weights: Array<f32>,
    /// Purchases, each counted by half for every half-life that has passed.
    pub decayed: Array<f32>,
    /// Purchases less refunds; 0 where the member only looked.
    pub counts: Array<u16>,
    /// Days from the last purchase to the moment of the newest event; [`UNKNOWN_DAYS`] if not known.
    pub days_since: Array<u16>,
}

/// One product in a member's history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Past {
    /// The product.
    pub product: u32,
    /// As [`History::weights`].
    pub weight: f32,
    /// As [`History::decayed`].
    pub decayed: f32,
    /// As [`History::counts`].
    pub count: u16,
    /// As [`History::days_since`].
    pub days_since: u16,
}

impl Past {
    /// How likely the member is to buy it again, as far as counts tell: `ln(1 + decayed count)`.
    pub fn repeat_score(&self) -> f32 {
        self.decayed.ln_1p()
    }
}

impl History {
    /// The entries of a member, by product.
    pub fn member(&self, row: u32) -> impl Iterator<Item = Past> + Clone {
        self.rows.range(row).map(|i| Past {
            product: self.rows.columns[i],
            weight: self.weights[i],
            decayed: self.decayed[i],
            count: self.counts[i],
            days_since: self.days_since[i],
        })
    }

    /// The entry of a member and product.
    pub fn pair(&self, member: u32, product: u32) -> Option<Past> {
        let at = self.rows.row(member).binary_search(&product).ok()?;
        self.member(member).nth(at)
    }

    pub(crate) fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("history", &(), |s| {
            self.rows.write("products", s)?;
            s.array("weights", &self.weights)?;
            s.array("decayed", &self.decayed)?;
            s.array("counts", &self.counts)?;
            s.array("days_since", &self.days_since)
        })
    }

    pub(crate) fn read(from: &Reader, members: usize, products: usize) -> Result<Self, ArtifactError> {
        let s = from.section("history")?;
        let history = Self {
            rows: Rows::read("products", members, products, &s)?,
            weights: s.array("weights")?,
            decayed: s.array("decayed")?,
            counts: s.array("counts")?,
            days_since: s.array("days_since")?,
        };
        let n = history.rows.columns.len();
        let lengths = [history.weights.len(), history.decayed.len(), history.counts.len(), history.days_since.len()];
        s.ensure(lengths.iter().all(|l| *l == n), "columns of the history differ in length")?;
        Ok(history)
    }
}
