//! Chooses the index that serves a table: a graph only where it is faster, and only if it finds enough.

use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Allowed, ExactIndex, Graph, HnswIndex, HnswParams, IndexKind, IndexReport, LengthIndex, Table, VectorIndex, recall,
};
use crate::artifact::{ArtifactError, Reader, Writer};
use crate::quantized::{Quantized, QuantizedQuery};
use crate::ranking::{Scored, Top};

/// Queries that an index is measured with.
pub(crate) const QUERIES: usize = 200;
/// Rows that these ask for where it is counted what an exact search looks at: as many as a long page does.
const LOOKED_FOR: usize = 300;

/// When a graph is built, and when it may serve.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexParams {
    /// How the graph is built and walked.
    pub hnsw: HnswParams,
    /// A graph is built only if an exact search looks at so many vectors or more on average; below, that is faster.
    pub hnsw_min_points: usize,
    /// Vectors of a table for which a graph is built, at most: with more it takes too long.
    pub hnsw_max_points: usize,
    /// Recall@10 and @100 that a graph must reach to serve; 0 to 1.
    pub min_recall: f32,
}

impl IndexParams {
    /// Why no graph is built over so many vectors, if none is.
    pub fn refused(&self, points: usize) -> Option<String> {
        let (least, most) = (self.hnsw_min_points.max(2), self.hnsw_max_points);
        (points < least || points > most).then(|| format!("{points} points; a graph is built for {least} to {most}"))
    }
}

/// An index with what was measured of it.
#[derive(Clone, Debug)]
pub struct GatedIndex {
    pub(crate) index: Arc<dyn VectorIndex>,
    pub(crate) exact: ExactIndex,
    pub(crate) graph: Option<Graph>,
    /// Rows that `index` does not know, which come last.
    pub(crate) added: u32,
    /// What was measured, and what serves.
    pub report: IndexReport,
}

/// The small values of a [`GatedIndex`] in the manifest.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    report: IndexReport,
    ef_search: usize,
    /// Links per point; `None` without a graph.
    #[serde(default)]
    degree: Option<usize>,
    /// Layers of the graphs before format 15, which are not walked any more.
    #[serde(default, skip_serializing)]
    upper_layers: Option<usize>,
}

/// What an index is read over.
pub(crate) enum Vectors {
    /// Vectors that are looked for with and without a graph.
    Table(Table),
    /// Vectors in a byte per coordinate that are looked for by a graph alone.
    Coded(Quantized),
}

impl GatedIndex {
    /// Builds what the parameters ask for, and measures it with up to 200 of `queries`, evenly spaced.
    pub fn build(exact: ExactIndex, queries: &Table, params: &IndexParams) -> Self {
        if let Some(why) = params.refused(exact.len()) {
            return Self::exact(exact, why);
        }
        let step = (queries.len() / QUERIES).max(1);
        let rows = (0..queries.len() as u32).step_by(step).take(QUERIES).map(|row| queries.row(row));
        // A member without purchases has a zero vector, to which every product is equal.
        let sample: Vec<&[f32]> = rows.filter(|q| q.iter().any(|x| *x != 0.0)).collect();
        if sample.is_empty() {
            return Self::exact(exact, "nothing to measure a graph with: all queries are zero".to_owned());
        }
        let looked_at: usize = sample.par_iter().map(|query| exact.looked_at(query, LOOKED_FOR)).sum();
        let looked_at = looked_at / sample.len();
        if looked_at < params.hnsw_min_points {
            let (points, least) = (exact.len(), params.hnsw_min_points);
            let why = format!("an exact search looks at {looked_at} of {points} points; a graph is built from {least}");
            return Self::exact(exact, why);
        }
        let (graph, built_share) = Graph::build(&exact, params.hnsw);
        let hnsw = HnswIndex::new(exact.clone(), graph.clone(), params.hnsw.ef_search);
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
            return Self { report, ..Self::exact(exact, String::new()) };
        }
        Self { index: Arc::new(hnsw), exact, graph: Some(graph), added: 0, report }
    }

    /// The exact index alone.
    pub fn exact(exact: ExactIndex, why: String) -> Self {
        Self { index: Arc::new(exact.clone()), exact, graph: None, added: 0, report: report_of_exact(why) }
    }

    /// Of vectors that nobody looks for by inner product unless there is a graph.
    pub fn without(why: String) -> Self {
        Self::exact(ExactIndex::Coded(Quantized::default()), why)
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
                return self.with_added(found, query, k, allowed);
            }
        }
        self.exact.search(query, k, allowed)
    }

    /// What a graph found, and the rows that it does not know.
    fn with_added(&self, found: Vec<Scored>, query: &[f32], k: usize, allowed: Allowed<'_>) -> Vec<Scored> {
        let len = self.exact.len() as u32;
        let added = (len - self.added..len).filter(|row| allowed(*row));
        let (mut top, coded) = (Top::new(k), QuantizedQuery::new(query));
        found.into_iter().for_each(|s| top.push(s.row, s.score));
        added.for_each(|row| top.push(row, self.exact.score(row, query, &coded)));
        top.into_sorted()
    }

    /// Over a longer table that begins with this one's rows: a graph stays as it is, and what it does not know is
    /// looked at besides.
    pub(crate) fn extended(&self, table: Table) -> Self {
        let added = self.added + (table.len() - self.exact.len()) as u32;
        let exact = ExactIndex::by_length(table);
        match self.graph {
            Some(_) => Self { exact, added, ..self.clone() },
            None => Self { index: Arc::new(exact.clone()), exact, ..self.clone() },
        }
    }

    /// Writes it as the section `name` of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, name: &str, ef_search: usize, to: &mut Writer) -> Result<(), ArtifactError> {
        debug_assert!(self.graph.is_none() || self.added == 0, "a graph's points are places in the order written here");
        let degree = self.graph.as_ref().map(Graph::degree);
        let stored = Stored { report: self.report.clone(), ef_search, degree, upper_layers: None };
        to.section(name, &stored, |s| {
            let Some(graph) = &self.graph else { return Ok(()) };
            self.exact.order().map_or(Ok(()), |order| s.array("order", order))?;
            graph.write(s)
        })
    }

    /// Over the vectors that it was built for.
    pub(crate) fn read(name: &str, from: &Reader, vectors: Vectors) -> Result<Self, ArtifactError> {
        let section = from.section(name)?;
        let mut stored: Stored = section.values()?;
        if stored.upper_layers.is_some() {
            stored.report = report_of_exact(
                "its graph is of a format before 15: train again to have one that is walked".to_owned(),
            );
        }
        let exact = match (vectors, stored.degree) {
            (Vectors::Table(table), Some(_)) => ExactIndex::ByLength(Arc::new(LengthIndex::read(table, &section)?)),
            (Vectors::Table(table), None) => ExactIndex::by_length(table),
            (Vectors::Coded(codes), Some(_)) => ExactIndex::Coded(codes),
            (Vectors::Coded(_), None) => return Ok(Self { report: stored.report, ..Self::without(String::new()) }),
        };
        let Some(degree) = stored.degree else {
            return Ok(Self { report: stored.report, ..Self::exact(exact, String::new()) });
        };
        let graph = Graph::read(&section, exact.len(), degree)?;
        let hnsw = HnswIndex::new(exact.clone(), graph.clone(), stored.ef_search);
        Ok(Self { index: Arc::new(hnsw), exact, graph: Some(graph), added: 0, report: stored.report })
    }
}

fn report_of_exact(why: String) -> IndexReport {
    IndexReport {
        kind: IndexKind::Exact,
        why,
        recall_at_10: None,
        recall_at_100: None,
        reachable_share_built: None,
        reachable_share: None,
        audience_recall: None,
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

    fn params(ef_search: usize, hnsw_min_points: usize, hnsw_max_points: usize) -> IndexParams {
        let hnsw = HnswParams { m: 8, ef_construction: 60, ef_search };
        IndexParams { hnsw, hnsw_min_points, hnsw_max_points, min_recall: 0.95 }
    }

    #[test]
    fn a_graph_that_finds_too_little_does_not_serve() {
        let (table, queries) = (random(2000, 1), random(100, 2));
        let exact = ExactIndex::by_length(table);
        let poor = GatedIndex::build(exact.clone(), &queries, &params(1, 10, 5000));
        assert_eq!((poor.report.kind, poor.serving().kind()), (IndexKind::Exact, IndexKind::Exact));
        assert!(poor.report.recall_at_10.unwrap() < 0.95 && poor.report.why.contains("below 0.95"));
        let good = GatedIndex::build(exact, &queries, &params(400, 10, 5000));
        assert_eq!((good.report.kind, good.serving().kind()), (IndexKind::Hnsw, IndexKind::Hnsw));
        assert_eq!(good.report.reachable_share, Some(1.0));
    }

    #[test]
    fn no_graph_is_built_outside_of_its_range() {
        let (table, queries) = (random(100, 1), random(10, 2));
        for (min_points, max_points) in [(101, 5000), (2, 99)] {
            let exact = ExactIndex::by_length(table.clone());
            let index = GatedIndex::build(exact, &queries, &params(50, min_points, max_points));
            assert_eq!((index.report.kind, index.report.recall_at_10), (IndexKind::Exact, None));
        }
    }

    #[test]
    fn no_graph_is_built_where_few_vectors_are_long() {
        let queries = random(100, 2);
        let long_tail = |table: Table| -> Table {
            let scaled = |(i, x): (usize, &f32)| x * (-0.01 * (i / table.dimension) as f32).exp();
            Table { values: table.values.iter().enumerate().map(scaled).collect::<Vec<_>>().into(), ..table }
        };
        let exact = ExactIndex::by_length(long_tail(random(3000, 1)));
        let index = GatedIndex::build(exact, &queries, &params(400, 2500, 5000));
        assert!(index.report.kind == IndexKind::Exact && index.report.why.contains("looks at"), "{:?}", index.report);
    }

    #[test]
    fn what_was_added_is_found_beside_a_graph() {
        let (table, queries) = (random(2000, 1), random(20, 2));
        let index = GatedIndex::build(ExactIndex::by_length(table.clone()), &queries, &params(400, 10, 5000));
        let added: Vec<f32> = table.values.iter().chain(&queries.values[..]).copied().collect();
        let longer = Table { values: added.into(), dimension: 16 };
        let extended = index.extended(longer.clone());
        assert_eq!(extended.serving().kind(), IndexKind::Hnsw);
        for row in 0..20 {
            let query = queries.row(row);
            assert_eq!(extended.search(query, 1, false, &|_| true), longer.search(query, 1, &|_| true));
        }
    }

    #[test]
    fn a_walk_that_finds_too_little_is_made_up_for() {
        let (table, queries) = (random(2000, 1), random(10, 2));
        let index = GatedIndex::build(ExactIndex::by_length(table.clone()), &queries, &params(400, 10, 5000));
        let rare = |row: u32| row % 200 == 7;
        let found = index.search(queries.row(0), 10, false, &rare);
        assert_eq!(found, table.search(queries.row(0), 10, &rare));
        assert_eq!(found.len(), 10);
    }
}
