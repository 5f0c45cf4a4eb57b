//! The exact index: every allowed vector is looked at. The oracle, and the faster one for small tables.

use super::{Allowed, IndexKind, Table, VectorIndex};
use crate::kernels::dot;
use crate::ranking::{Scored, Top};

/// Looks at every vector.
#[derive(Clone, Debug)]
pub struct ExactIndex {
    table: Table,
}

impl ExactIndex {
    /// Over a table.
    pub fn new(table: Table) -> Self {
        Self { table }
    }
}

impl VectorIndex for ExactIndex {
    fn search(&self, query: &[f32], k: usize, allowed: Allowed<'_>) -> Vec<Scored> {
        let mut top = Top::new(k);
        let values: &[f32] = &self.table.values;
        for (row, vector) in values.chunks_exact(self.table.dimension).enumerate() {
            let row = row as u32;
            if allowed(row) {
                top.push(row, dot(vector, query));
            }
        }
        top.into_sorted()
    }

    fn kind(&self) -> IndexKind {
        IndexKind::Exact
    }
}
