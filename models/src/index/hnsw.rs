//! Navigable small world graphs, for the largest inner product.
//!
//! As the lowest layer of Malkov & Yashunin's HNSW (2016); in place of the layers above, walks start at the thousand
//! longest vectors at once, which is a scan of so many lines of memory: the largest inner products are among these more
//! often than not, and where all vectors are alike in length, some of them are near any query. Links stand in rows of
//! equal length, vectors in a byte per coordinate: a point costs a walk one or two lines of memory for its links, and
//! as much for its vector and its scale. What a walk found is scored exactly.

mod build;
mod walk;

use serde::{Deserialize, Serialize};

use self::walk::{Links, NONE, share};
use super::{Allowed, ExactIndex, IndexKind, VectorIndex};
use crate::artifact::{Array, ArtifactError, Section, SectionWriter};
use crate::quantized::QuantizedQuery;
use crate::ranking::{Scored, Top};

/// How a graph is built and walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HnswParams {
    /// Half the links that a point has at most; 2 to 128.
    pub m: usize,
    /// Candidates kept while a point is linked in.
    pub ef_construction: usize,
    /// Candidates kept while a query walks.
    pub ef_search: usize,
}

/// Links between points: places in the order of an exact index.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Where every walk starts.
    starts: Array<u32>,
    /// `points × degree`: the points that each leads to, and `u32::MAX` for the rest.
    links: Array<u32>,
    degree: usize,
}

impl Graph {
    fn links(&self) -> Links<'_> {
        Links { starts: &self.starts, links: &self.links, degree: self.degree }
    }

    fn len(&self) -> usize {
        self.links.len() / self.degree
    }

    /// Share of points that a walk can reach.
    pub fn reachable_share(&self) -> f32 {
        share(&self.links().reached(self.len()))
    }

    /// Links that a point has at most.
    pub fn degree(&self) -> usize {
        self.degree
    }

    pub(crate) fn write(&self, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        to.array("starts", &self.starts)?;
        to.array("links", &self.links)
    }

    pub(crate) fn read(from: &Section<'_>, len: usize, degree: usize) -> Result<Self, ArtifactError> {
        let graph = Self { starts: from.array("starts")?, links: from.array("links")?, degree };
        let fits = degree > 0 && len.checked_mul(degree) == Some(graph.links.len());
        from.ensure(fits, &format!("the graph has no {degree} links for each of {len} points"))?;
        let is_point = |point: &u32| (*point as usize) < len;
        from.ensure(graph.starts.iter().all(is_point), "the graph starts at what is not a point")?;
        let sound = || graph.links.iter().all(|link| *link == NONE || is_point(link));
        from.ensure_all(sound, "the graph links to what is not a point")?;
        Ok(graph)
    }
}

/// Walks a graph.
#[derive(Clone, Debug)]
pub struct HnswIndex {
    exact: ExactIndex,
    graph: Graph,
    ef_search: usize,
}

impl HnswIndex {
    /// A graph over the vectors that it was built for.
    pub fn new(exact: ExactIndex, graph: Graph, ef_search: usize) -> Self {
        Self { exact, graph, ef_search }
    }
}

impl VectorIndex for HnswIndex {
    fn search(&self, query: &[f32], k: usize, allowed: Allowed<'_>) -> Vec<Scored> {
        let (points, coded) = (self.exact.codes(), QuantizedQuery::new(query));
        let scales: &[f32] = &points.scales;
        let score = |point: u32, sum: i32| sum as f32 * (scales[point as usize] * coded.scale);
        let order = self.exact.order();
        let row = |point: u32| order.map_or(point, |order| order[point as usize]);
        let links = self.graph.links();
        let found = links.walk(points, &coded.codes, self.ef_search.max(k), score, |point| allowed(row(point)));
        let (rows, mut top) = (found.iter().map(|point| row(point.row)), Top::new(k));
        rows.for_each(|row| top.push(row, self.exact.score(row, query, &coded)));
        top.into_sorted()
    }

    fn kind(&self) -> IndexKind {
        IndexKind::Hnsw
    }
}

#[cfg(test)]
mod tests {
    use hnsw_rs::prelude::{Distance, Hnsw};

    use super::super::{Table, recall};
    use super::*;
    use crate::kernels::dot;
    use crate::quantized::Quantized;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    const PARAMS: HnswParams = HnswParams { m: 12, ef_construction: 100, ef_search: 120 };

    /// Clustered vectors whose norms differ, as those of products do.
    fn clustered(points: usize, dimension: usize, seed: u64) -> Table {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut uniform = move || rng.random_range(-1.0f32..1.0);
        let centres: Vec<Vec<f32>> = (0..20).map(|_| (0..dimension).map(|_| uniform()).collect()).collect();
        let mut values = Vec::new();
        for i in 0..points {
            let scale = 0.2 + (uniform() + 1.0);
            values.extend(centres[i % 20].iter().map(|x| scale * (x + 0.3 * uniform())));
        }
        Table { values: values.into(), dimension }
    }

    fn built(table: &Table, params: HnswParams) -> (HnswIndex, f32) {
        let exact = ExactIndex::by_length(table.clone());
        let (graph, reachable) = Graph::build(&exact, params);
        (HnswIndex::new(exact, graph, params.ef_search), reachable)
    }

    #[test]
    fn graph_agrees_with_the_exact_answer() {
        let table = clustered(3000, 16, 1);
        let (hnsw, _) = built(&table, PARAMS);
        assert_eq!(hnsw.graph.reachable_share(), 1.0);
        let queries = clustered(200, 16, 2);
        let queries: Vec<&[f32]> = (0..200).map(|i| queries.row(i)).collect();
        let (at_10, at_100) = (recall(&hnsw, &table, &queries, 10), recall(&hnsw, &table, &queries, 100));
        assert!(at_10 > 0.97 && at_100 > 0.95, "{at_10} {at_100}");
    }

    /// Distance on one sphere, as that library asks for one.
    #[derive(Clone, Copy, Default)]
    struct OnSphere;

    impl Distance<f32> for OnSphere {
        fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
            (1.0 - dot(a, b)).max(0.0)
        }
    }

    #[test]
    fn a_walk_finds_no_less_than_another_library_s() {
        // Of length 1, so that the nearest are those with the largest inner product.
        let unit = |table: Table| -> Table {
            let rows = table.values.chunks_exact(16);
            let values = rows.flat_map(|row| row.iter().map(|x| x / dot(row, row).sqrt()));
            Table { values: values.collect::<Vec<f32>>().into(), dimension: 16 }
        };
        let (table, queries) = (unit(clustered(3000, 16, 5)), unit(clustered(200, 16, 6)));
        let params = HnswParams { m: 8, ef_construction: 60, ef_search: 40 };
        let (ours, _) = built(&table, params);
        let theirs = Hnsw::new(params.m, table.len(), 16, params.ef_construction, OnSphere);
        table.values.chunks_exact(16).enumerate().for_each(|(row, vector)| theirs.insert((vector, row)));
        let (mut found_by_us, mut found_by_them) = (0, 0);
        for query in queries.values.chunks_exact(16) {
            let exact: Vec<u32> = table.search(query, 10, &|_| true).iter().map(|s| s.row).collect();
            found_by_us += ours.search(query, 10, &|_| true).iter().filter(|s| exact.contains(&s.row)).count();
            let found = theirs.search(query, 10, params.ef_search);
            found_by_them += found.iter().filter(|n| exact.contains(&(n.d_id as u32))).count();
        }
        assert!(found_by_us >= found_by_them && found_by_us > 1900, "{found_by_us} {found_by_them}");
    }

    #[test]
    fn the_same_vectors_give_the_same_graph_on_any_number_of_threads() {
        let table = clustered(3000, 8, 3);
        let links = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (index, _) = pool.install(|| built(&table, PARAMS));
            (index.graph.starts.to_vec(), index.graph.links.to_vec())
        };
        assert!(links(1) == links(3));
    }

    #[test]
    fn every_point_can_be_reached() {
        // Few links and few candidates are what leaves points that nobody links to.
        let (index, before) = built(&clustered(2000, 4, 8), HnswParams { m: 2, ef_construction: 4, ef_search: 50 });
        assert!(before < 1.0);
        assert_eq!(index.graph.reachable_share(), 1.0);
    }

    #[test]
    fn points_of_one_direction_are_all_found_and_hide_no_others() {
        // Of 3,000, a third are zero and a third differ in length alone.
        let table = clustered(3000, 16, 9);
        let alike = |(row, vector): (usize, &[f32])| -> Vec<f32> {
            match row % 3 {
                0 => vec![0.0; 16],
                1 => table.row(7).iter().map(|x| x * (1.0 + row as f32 / 3000.0)).collect(),
                _ => vector.to_vec(),
            }
        };
        let values: Vec<f32> = table.values.chunks_exact(16).enumerate().flat_map(alike).collect();
        let table = Table { values: values.into(), dimension: 16 };
        let (index, before) = built(&table, PARAMS);
        assert!(before > 0.99 && index.graph.starts.len() < 200, "{before} {}", index.graph.starts.len());
        let queries = clustered(100, 16, 10);
        let queries: Vec<&[f32]> = (0..100).map(|row| queries.row(row)).chain([table.row(1)]).collect();
        let found = recall(&index, &table, &queries, 100);
        assert!(found > 0.97, "{found}");
    }

    #[test]
    fn only_allowed_rows_are_answered() {
        let table = clustered(500, 8, 4);
        let (index, _) = built(&table, HnswParams { ef_search: 500, ..PARAMS });
        let answer = index.search(table.row(7), 10, &|row| row % 3 == 0);
        assert_eq!(answer.len(), 10);
        assert_eq!(answer, table.search(table.row(7), 10, &|row| row % 3 == 0));
    }

    #[test]
    fn what_is_not_allowed_takes_no_room() {
        let table = clustered(2000, 16, 11);
        let (index, _) = built(&table, HnswParams { ef_search: 50, ..PARAMS });
        let best = table.search(table.row(7), 25, &|_| true);
        let allowed = |row: u32| best.iter().all(|s| s.row != row);
        let answer = index.search(table.row(7), 50, &allowed);
        assert_eq!(answer.len(), 50);
        let exact = table.search(table.row(7), 50, &allowed);
        let hits = answer.iter().filter(|s| s.score >= exact[49].score).count();
        assert!(hits >= 45, "{hits}");
    }

    #[test]
    fn vectors_in_bytes_are_scored_as_they_are_kept() {
        let table = clustered(2000, 64, 7);
        let coded = ExactIndex::Coded(Quantized::new(&table.values, 64));
        let (graph, _) = Graph::build(&coded, PARAMS);
        let index = HnswIndex::new(coded.clone(), graph, 2000);
        assert_eq!(index.search(table.row(7), 10, &|_| true), coded.search(table.row(7), 10, &|_| true));
    }
}
