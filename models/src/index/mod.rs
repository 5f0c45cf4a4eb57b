//! Finding the vectors with the largest inner product: one trait, exact and approximate.

mod exact;
mod gate;
mod hnsw;
mod lengths;

use serde::{Deserialize, Serialize};

pub use exact::ExactIndex;
pub use gate::{GatedIndex, IndexParams};
pub(crate) use gate::{QUERIES, Vectors};
pub use hnsw::{Graph, HnswIndex, HnswParams};
pub use lengths::LengthIndex;

use crate::artifact::Array;
use crate::kernels::dot;
use crate::ranking::{Scored, Top};

/// Which rows an answer may hold.
pub type Allowed<'a> = &'a (dyn Fn(u32) -> bool + Sync);

/// Finds rows by inner product.
pub trait VectorIndex: Send + Sync + std::fmt::Debug {
    /// The `k` allowed rows with the largest inner product with `query`, best first; scores are
    /// inner products with the vectors as the index keeps them, in f32 or in a byte per coordinate.
    fn search(&self, query: &[f32], k: usize, allowed: Allowed<'_>) -> Vec<Scored>;

    /// Which implementation this is.
    fn kind(&self) -> IndexKind;
}

/// Which index answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexKind {
    /// Every vector is looked at, or as many of the longest as can be in the answer.
    Exact,
    /// A walk over a navigable small world graph.
    Hnsw,
}

/// Vectors of equal length by row.
#[derive(Clone, Debug)]
pub struct Table {
    /// `rows × dimension`.
    pub values: Array<f32>,
    /// Length of a vector, above 0.
    pub dimension: usize,
}

impl Table {
    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One vector.
    #[inline]
    pub fn row(&self, row: u32) -> &[f32] {
        &self.values[row as usize * self.dimension..][..self.dimension]
    }
}

/// The oracle of the indexes: every vector is looked at.
impl VectorIndex for Table {
    fn search(&self, query: &[f32], k: usize, allowed: Allowed<'_>) -> Vec<Scored> {
        let mut top = Top::new(k);
        let rows = (0..self.len() as u32).filter(|row| allowed(*row));
        rows.for_each(|row| top.push(row, dot(self.row(row), query)));
        top.into_sorted()
    }

    fn kind(&self) -> IndexKind {
        IndexKind::Exact
    }
}

/// How an index does against the exact answer, measured when it was built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexReport {
    /// The index that serves.
    pub kind: IndexKind,
    /// Why it serves.
    pub why: String,
    /// Mean share of the exact best 10 that the graph finds; `None` without a graph.
    pub recall_at_10: Option<f32>,
    /// The same for the best 100.
    pub recall_at_100: Option<f32>,
    /// Share of points that a walk could reach before those left out were linked in; `None` without a
    /// graph.
    pub reachable_share_built: Option<f32>,
    /// Share of points that a walk can reach as published.
    pub reachable_share: Option<f32>,
    /// Over members: mean share of the exact audience that the graph finds, or all vectors where these find too little
    /// for a graph to be built; `None` where not measured.
    pub audience_recall: Option<f32>,
}

/// Mean share of the exact best `k` that `index` finds, over the queries.
pub fn recall(index: &dyn VectorIndex, exact: &dyn VectorIndex, queries: &[&[f32]], k: usize) -> f32 {
    use rayon::prelude::*;
    let found: f32 = queries
        .par_iter()
        .map(|query| {
            let truth = exact.search(query, k, &|_| true);
            let answer = index.search(query, k, &|_| true);
            // By score, so that ties at the border count as found.
            let worst = truth.last().map_or(f32::INFINITY, |s| s.score);
            let hits = answer.iter().filter(|s| s.score >= worst).count().min(truth.len());
            if truth.is_empty() { 1.0 } else { hits as f32 / truth.len() as f32 }
        })
        .collect::<Vec<f32>>()
        .iter()
        .sum();
    if queries.is_empty() { 1.0 } else { found / queries.len() as f32 }
}
