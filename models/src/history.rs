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
    /// Days on which it was bought.
    pub trips: Array<u16>,
    /// Days from the first purchase to the last; 0 where the events have no time.
    pub span_days: Array<u16>,
    /// As `decayed`, with a half-life of a few weeks.
    pub recent: Array<f32>,
    /// Days on which the member bought anything since the last purchase, that day not counted.
    pub trips_since: Array<u16>,
    /// Days on which the member bought anything since the first purchase, that day counted.
    pub trips_from: Array<u16>,
    /// Days on which the member bought anything, one per member.
    pub member_trips: Array<u16>,
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
    /// As [`History::trips`].
    pub trips: u16,
    /// As [`History::span_days`].
    pub span_days: u16,
    /// As [`History::recent`].
    pub recent: f32,
    /// As [`History::trips_since`].
    pub trips_since: u16,
    /// As [`History::trips_from`].
    pub trips_from: u16,
}

impl Past {
    /// Of a product that the member had nothing to do with so far.
    pub fn new(product: u32) -> Self {
        Self {
            product,
            weight: 0.0,
            decayed: 0.0,
            count: 0,
            days_since: UNKNOWN_DAYS,
            trips: 0,
            span_days: 0,
            recent: 0.0,
            trips_since: 0,
            trips_from: 0,
        }
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
            trips: self.trips[i],
            span_days: self.span_days[i],
            recent: self.recent[i],
            trips_since: self.trips_since[i],
            trips_from: self.trips_from[i],
        })
    }

    /// The products that a member bought: of members far apart, this reads a few pages, not some of every column.
    pub fn bought(&self, row: u32) -> impl Iterator<Item = u32> {
        let range = self.rows.range(row);
        let products = self.rows.columns[range.clone()].iter().zip(&self.decayed[range]);
        products.filter(|(_, decayed)| **decayed > 0.0).map(|(product, _)| *product)
    }

    /// The entry of a member and product.
    pub fn pair(&self, member: u32, product: u32) -> Option<Past> {
        let at = self.rows.row(member).binary_search(&product).ok()?;
        self.member(member).nth(at)
    }

    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("history", &(), |s| {
            self.rows.write("products", s)?;
            s.array("weights", &self.weights)?;
            s.array("decayed", &self.decayed)?;
            s.array("counts", &self.counts)?;
            s.array("days_since", &self.days_since)?;
            s.array("trips", &self.trips)?;
            s.array("span_days", &self.span_days)?;
            s.array("recent", &self.recent)?;
            s.array("trips_since", &self.trips_since)?;
            s.array("trips_from", &self.trips_from)?;
            s.array("member_trips", &self.member_trips)
        })
    }

    pub(crate) fn read(from: &Reader, members: usize, products: usize) -> Result<Self, ArtifactError> {
        let s = from.section("history")?;
        let rows = Rows::read("products", members, products, &s)?;
        let n = rows.columns.len();
        let counts: Array<u16> = s.array("counts")?;
        // Format 1 knew neither trips nor what is recent.
        let old = from.manifest().format_version < 2;
        let history = Self {
            weights: s.array("weights")?,
            decayed: s.array("decayed")?,
            days_since: s.array("days_since")?,
            trips: if old { counts.clone() } else { s.array("trips")? },
            span_days: if old { vec![0; n].into() } else { s.array("span_days")? },
            recent: if old { vec![0.0; n].into() } else { s.array("recent")? },
            trips_since: if old { vec![0; n].into() } else { s.array("trips_since")? },
            trips_from: if old { counts.clone() } else { s.array("trips_from")? },
            member_trips: if old { vec![0; members].into() } else { s.array("member_trips")? },
            counts,
            rows,
        };
        let floats = [history.weights.len(), history.decayed.len(), history.recent.len()];
        let h = &history;
        let days = [&h.counts, &h.days_since, &h.trips, &h.span_days, &h.trips_since, &h.trips_from].map(|a| a.len());
        let fits = floats.iter().chain(&days).all(|l| *l == n) && history.member_trips.len() == members;
        s.ensure(fits, "columns of the history differ in length")?;
        Ok(history)
    }
}
