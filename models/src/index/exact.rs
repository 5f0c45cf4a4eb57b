//! The exact index: the oracle of the others, and the faster one unless very many vectors are alike in length.

use std::sync::Arc;

use super::{Allowed, IndexKind, LengthIndex, Table, VectorIndex};
use crate::ranking::Scored;

/// Looks at every vector that can be in the answer.
#[derive(Clone, Debug)]
pub enum ExactIndex {
    /// At all of them, and keeps nothing beside the table.
    Whole(Table),
    /// At the longest first.
    ByLength(Arc<LengthIndex>),
}

impl ExactIndex {
    /// Over a table, in order of length: a byte per coordinate and 16 per vector beside it.
    pub fn by_length(table: Table) -> Self {
        Self::ByLength(Arc::new(LengthIndex::new(table)))
    }

    /// The vectors.
    pub fn table(&self) -> &Table {
        match self {
            Self::Whole(table) => table,
            Self::ByLength(index) => index.table(),
        }
    }

    /// How many vectors a search for the best `k` looks at.
    pub fn looked_at(&self, query: &[f32], k: usize) -> usize {
        match self {
            Self::Whole(table) => table.len(),
            Self::ByLength(index) => index.search_counted(query, k, &|_| true).1,
        }
    }
}

impl VectorIndex for ExactIndex {
    fn search(&self, query: &[f32], k: usize, allowed: Allowed<'_>) -> Vec<Scored> {
        match self {
            Self::Whole(table) => table.best(query, k, allowed),
            Self::ByLength(index) => index.search_counted(query, k, allowed).0,
        }
    }

    fn kind(&self) -> IndexKind {
        IndexKind::Exact
    }
}
