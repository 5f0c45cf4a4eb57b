//! The exact index: the oracle of the graph, and what serves unless very many vectors are alike in length.

use std::sync::Arc;

use super::{Allowed, IndexKind, LengthIndex, Table, VectorIndex};
use crate::kernels::dot;
use crate::quantized::{Quantized, QuantizedQuery};
use crate::ranking::{Scored, Top};

/// Looks at every vector that can be in the answer.
#[derive(Clone, Debug)]
pub enum ExactIndex {
    /// At the longest first.
    ByLength(Arc<LengthIndex>),
    /// At all of them, as they are in a byte per coordinate, and keeps nothing beside: these are the vectors.
    Coded(Quantized),
}

impl ExactIndex {
    /// Over a table, in order of length: a byte per coordinate and 16 per vector beside it.
    pub fn by_length(table: Table) -> Self {
        Self::ByLength(Arc::new(LengthIndex::new(table)))
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.codes().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many vectors a search for the best `k` looks at.
    pub fn looked_at(&self, query: &[f32], k: usize) -> usize {
        match self {
            Self::ByLength(index) => index.search_counted(query, k, &|_| true).1,
            Self::Coded(codes) => codes.len(),
        }
    }

    /// The vectors in bytes, in an order of the index's own.
    pub(super) fn codes(&self) -> &Quantized {
        match self {
            Self::ByLength(index) => index.codes(),
            Self::Coded(codes) => codes,
        }
    }

    /// Which row stands where in [`ExactIndex::codes`]; `None` if each is where its number says.
    pub(super) fn order(&self) -> Option<&[u32]> {
        match self {
            Self::ByLength(index) => Some(index.order()),
            Self::Coded(_) => None,
        }
    }

    /// Inner product of a row with a query, whose codes these are.
    pub(super) fn score(&self, row: u32, query: &[f32], coded: &QuantizedQuery) -> f32 {
        match self {
            Self::ByLength(index) => dot(index.table().row(row), query),
            Self::Coded(codes) => codes.dot(row, coded),
        }
    }
}

impl VectorIndex for ExactIndex {
    fn search(&self, query: &[f32], k: usize, allowed: Allowed<'_>) -> Vec<Scored> {
        match self {
            Self::ByLength(index) => index.search_counted(query, k, allowed).0,
            Self::Coded(codes) => {
                let (query, mut top) = (QuantizedQuery::new(query), Top::new(k));
                let rows = (0..codes.len() as u32).filter(|row| allowed(*row));
                rows.for_each(|row| top.push(row, codes.dot(row, &query)));
                top.into_sorted()
            }
        }
    }

    fn kind(&self) -> IndexKind {
        IndexKind::Exact
    }
}
