//! Chooses the index that serves a table: a graph only where it is faster, and only if it finds enough.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{Allowed, ExactIndex, Graph, HnswIndex, HnswParams, IndexKind, IndexReport, Table, VectorIndex, recall};
use crate::artifact::{ArtifactError, Reader, Writer};
use crate::ranking::Scored;

/// Queries that recall is measured with.
const RECALL_QUERIES: usize = 200;

/// When a graph is built, and when it may serve.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexParams {
    /// How the graph is built and walked.
    pub hnsw: HnswParams,
    /// Numbers of points for which a graph is built: with fewer the exact scan is faster, with more the
    /// graph takes too long to build.
    pub hnsw_points: RangeInclusive<usize>,
    /// Recall@10 and @100 that a graph must reach to serve; 0 to 1.
    pub min_recall: f32,
}

/// An index with what was measured of it.
#[derive(Debug)]
pub struct GatedIndex {
    pub(crate) index: Box<dyn VectorIndex>,
    pub(crate) exact: ExactIndex,
    pub(crate) graph: Option<Graph>,
    /// What was measured, and what serves.
    pub report: IndexReport,
}

/// The small values of a [`GatedIndex`] in the manifest.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    report: IndexReport,
    ef_search: usize,
    /// Layers above the lowest; `None` without a graph.
    upper_layers: Option<usize>,
}

impl GatedIndex {
    /// Builds what the parameters ask for, and measures it with up to 200 of `queries`, evenly spaced.
    pub fn build(table: &Table, queries: &Table, params: &IndexParams) -> Self {
        if table.len() < 2 || !params.hnsw_points.contains(&table.len()) {
            let (low, high) = (params.hnsw_points.start(), params.hnsw_points.end());
            return Self::exact(table, format!("{} points; a graph is built from {low} to {high}", table.len()));
        }
        let (graph, built_share) = Graph::build(table, params.hnsw);
        let hnsw = HnswIndex::new(table.clone(), graph.clone(), params.hnsw.ef_search);
        let exact = ExactIndex::new(table.clone());
        let step = (queries.len() / RECALL_QUERIES).max(1);
        let rows = (0..queries.len() as u32).step_by(step).take(RECALL_QUERIES).map(|row| queries.row(row));
        // A member without purchases has a zero vector, to which every product is equal.
        let sample: Vec<&[f32]> = rows.filter(|q| q.iter().any(|x| *x != 0.0)).collect();
        let at_10 = recall(&hnsw, &exact, &sample, 10);
        let at_100 = recall(&hnsw, &exact, &sample, 100);
        let passes = at_10.min(at_100) >= params.min_recall;
        let report = IndexReport {
            kind: if passes { IndexKind::Hnsw } else { IndexKind::Exact },
            why: format!(
                "recall@10 {at_10:.4}, recall@100 {at_100:.4}, {} {}",
                if passes { "at least" } else { "one below" },
                params.min_recall
            ),
            recall_at_10: Some(at_10),
            recall_at_100: Some(at_100),
            reachable_share_built: Some(built_share),
            reachable_share: Some(graph.reachable_share()),
            audience_recall: None,
        };
        if !passes {
            return Self { report, ..Self::exact(table, String::new()) };
        }
        Self { index: Box::new(hnsw), exact, graph: Some(graph), report }
    }

    /// The exact index alone.
    pub fn exact(table: &Table, why: String) -> Self {
        let report = IndexReport {
            kind: IndexKind::Exact,
            why,
            recall_at_10: None,
            recall_at_100: None,
            reachable_share_built: None,
            reachable_share: None,
            audience_recall: None,
        };
        let exact = ExactIndex::new(table.clone());
        Self { index: Box::new(exact.clone()), exact, graph: None, report }
    }

    /// The index that serves questions without a filter.
    pub fn serving(&self) -> &dyn VectorIndex {
        self.index.as_ref()
    }

    /// The `k` allowed rows with the largest inner product, best first. A `filtered` question is answered
    /// by an exact scan of what it allows, as is one of which the graph finds too little: a walk would pass
    /// by what it wants.
    pub fn search(&self, query: &[f32], k: usize, filtered: bool, allowed: Allowed<'_>) -> Vec<Scored> {
        if !filtered && self.report.kind == IndexKind::Hnsw {
            let found = self.index.search(query, k, allowed);
            if found.len() == k {
                return found;
            }
        }
        self.exact.search(query, k, allowed)
    }

    pub(crate) fn write(&self, name: &str, ef_search: usize, to: &mut Writer) -> Result<(), ArtifactError> {
        let stored = Stored {
            report: self.report.clone(),
            ef_search,
            upper_layers: self.graph.as_ref().map(Graph::upper_layers),
        };
        to.section(name, &stored, |s| match &self.graph {
            Some(graph) => graph.write(s),
            None => Ok(()),
        })
    }

    pub(crate) fn read(name: &str, table: &Table, from: &Reader) -> Result<Self, ArtifactError> {
        let section = from.section(name)?;
        let stored: Stored = section.values()?;
        let exact = ExactIndex::new(table.clone());
        let Some(layers) = stored.upper_layers else {
            return Ok(Self { index: Box::new(exact.clone()), exact, graph: None, report: stored.report });
        };
        let graph = Graph::read(&section, table.len(), layers)?;
        let hnsw = HnswIndex::new(table.clone(), graph.clone(), stored.ef_search);
        Ok(Self { index: Box::new(hnsw), exact, graph: Some(graph), report: stored.report })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    fn random(rows: usize, seed: u64) -> Table {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let values: Vec<f32> = (0..rows * 16).map(|_| rng.random_range(-1.0..1.0)).collect();
        Table { values: values.into(), dimension: 16 }
    }

    fn params(ef_search: usize, points: RangeInclusive<usize>) -> IndexParams {
        IndexParams { hnsw: HnswParams { m: 8, ef_construction: 60, ef_search }, hnsw_points: points, min_recall: 0.95 }
    }

    #[test]
    fn a_graph_that_finds_too_little_does_not_serve() {
        let (table, queries) = (random(2000, 1), random(100, 2));
        let poor = GatedIndex::build(&table, &queries, &params(1, 10..=5000));
        assert_eq!((poor.report.kind, poor.serving().kind()), (IndexKind::Exact, IndexKind::Exact));
        assert!(poor.report.recall_at_10.unwrap() < 0.95 && poor.report.why.contains("below 0.95"));
        let good = GatedIndex::build(&table, &queries, &params(400, 10..=5000));
        assert_eq!((good.report.kind, good.serving().kind()), (IndexKind::Hnsw, IndexKind::Hnsw));
        assert_eq!(good.report.reachable_share, Some(1.0));
    }

    #[test]
    fn no_graph_is_built_outside_of_its_range() {
        let (table, queries) = (random(100, 1), random(10, 2));
        for points in [101..=5000, 2..=99] {
            let index = GatedIndex::build(&table, &queries, &params(50, points));
            assert_eq!((index.report.kind, index.report.recall_at_10), (IndexKind::Exact, None));
        }
    }

    #[test]
    fn a_walk_that_finds_too_little_is_made_up_for() {
        let (table, queries) = (random(2000, 1), random(10, 2));
        let index = GatedIndex::build(&table, &queries, &params(400, 10..=5000));
        let rare = |row: u32| row % 200 == 7;
        let found = index.search(queries.row(0), 10, false, &rare);
        assert_eq!(found, ExactIndex::new(table).search(queries.row(0), 10, &rare));
        assert_eq!(found.len(), 10);
    }
}
