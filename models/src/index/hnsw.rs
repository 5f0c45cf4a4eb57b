//! Hierarchical navigable small world graphs (Malkov & Yashunin 2016), for the largest inner product.
//!
//! hnsw_rs builds the graph. Its distances must not be negative and should form a metric-like order, which
//! an inner product does not; so each vector gets one more coordinate that puts all on one sphere (after
//! Bachrach et al. 2014), where the order by angle is close to that by inner product. The finished links are
//! frozen into flat arrays: these are stored, mapped and walked, with plain inner products over the model's
//! own table, so that a version is ready at once and every score is exact.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hnsw_rs::prelude::{Distance, Hnsw};
use serde::{Deserialize, Serialize};

use super::norms::{longest, on_sphere};
use super::{Allowed, IndexKind, Table, VectorIndex};
use crate::artifact::{Array, ArtifactError, Section, SectionWriter};
use crate::kernels::dot;
use crate::ranking::{Scored, Top};
use crate::sparse::Rows;

/// Layers of a graph, at most.
const MAX_LAYERS: usize = 16;

/// Points that the layer should have from which a walk starts.
const START_POINTS: usize = 64;
/// Points looked at there, at most.
const MAX_START_POINTS: usize = 2048;
/// Candidates kept on the layers above the lowest.
const UPPER_EF: usize = 16;

/// How a graph is built and walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HnswParams {
    /// Links per point and layer, twice as many in the lowest; 2 to 255.
    pub m: usize,
    /// Candidates kept while a point is linked in.
    pub ef_construction: usize,
    /// Candidates kept while a query walks.
    pub ef_search: usize,
}

/// Angular distance of points on one sphere: `1 − cos`, never negative.
#[derive(Clone, Copy, Debug, Default)]
struct OnSphere;

impl Distance<f32> for OnSphere {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

/// The frozen links.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The point from which all others can be reached.
    entry: u32,
    /// The longest vectors, from which every walk starts too: the largest inner products are among them
    /// more often than not.
    longest: Array<u32>,
    /// Links of the lowest layer, for all points.
    ground: Rows,
    /// Higher layers, from the second up.
    upper: Vec<Layer>,
}

/// A layer above the lowest: few points, sorted, with their links.
#[derive(Clone, Debug)]
struct Layer {
    points: Array<u32>,
    links: Rows,
}

impl Graph {
    /// Builds a graph over a table, point by point in row order: the same table gives the same graph.
    /// Points that no walk would reach are linked in from their nearest reachable neighbour. Also gives
    /// the share of points that were reachable before.
    pub fn build(table: &Table, params: HnswParams) -> (Self, f32) {
        let sphere = on_sphere(table);
        let hnsw = Hnsw::new(params.m, table.len(), MAX_LAYERS, params.ef_construction, OnSphere);
        for (row, point) in sphere.chunks_exact(table.dimension + 1).enumerate() {
            hnsw.insert((point, row));
        }
        let mut graph = Self::freeze(&hnsw, table.len(), params.m / 2);
        graph.longest = longest(table).into();
        let reachable = graph.link_unreachable(&sphere, table.dimension + 1, params.ef_construction);
        (graph, reachable)
    }

    /// Copies the links. hnsw_rs keeps a point's nearest links only, so that a point that is nobody's
    /// nearest is left without a way in: each of a point's `mutual` nearest neighbours links back to it.
    fn freeze(hnsw: &Hnsw<'_, f32, OnSphere>, len: usize, mutual: usize) -> Self {
        let points = hnsw.get_point_indexation();
        let mut links: Vec<Vec<(u32, Vec<u32>)>> = vec![Vec::new(); MAX_LAYERS];
        let mut entry = (0, 0);
        for point in points {
            let (row, height) = (point.get_origin_id() as u32, usize::from(point.get_point_id().0));
            entry = entry.max((height, u32::MAX - row));
            let by_layer = point.get_neighborhood_id().into_iter().take(height + 1);
            for (layer, neighbours) in by_layer.enumerate() {
                links[layer].push((row, neighbours.iter().map(|n| n.get_origin_id() as u32).collect()));
            }
        }
        links.iter_mut().for_each(|layer| layer.sort_unstable_by_key(|(row, _)| *row));
        let mut layers = links.into_iter();
        let mut ground: Vec<Vec<u32>> = vec![Vec::new(); len];
        for (row, neighbours) in layers.next().into_iter().flatten() {
            for near in neighbours.iter().take(mutual) {
                ground[*near as usize].push(row);
            }
            ground[row as usize].extend(neighbours);
        }
        let upper = layers.take_while(|layer| !layer.is_empty()).map(|layer| {
            let (points, links): (Vec<u32>, Vec<Vec<u32>>) = layer.into_iter().unzip();
            Layer { points: points.into(), links: Rows::from_lists(links) }
        });
        Self {
            entry: u32::MAX - entry.1,
            longest: Array::default(),
            upper: upper.collect(),
            ground: Rows::from_lists(ground),
        }
    }

    /// Share of points that a walk over the lowest layer can reach from the entry.
    pub fn reachable_share(&self) -> f32 {
        let reached = self.reached().iter().filter(|r| **r).count();
        if self.ground.is_empty() { 1.0 } else { reached as f32 / self.ground.len() as f32 }
    }

    fn reached(&self) -> Vec<bool> {
        let mut reached = vec![false; self.ground.len()];
        self.reach_from(self.entry, &mut reached);
        reached
    }

    fn reach_from(&self, start: u32, reached: &mut [bool]) {
        let mut open = vec![start];
        while let Some(row) = open.pop() {
            match reached.get_mut(row as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            open.extend(self.ground.row(row));
        }
    }

    /// Links every point that can't be reached from the reachable point nearest to it, and what it links
    /// to becomes reachable with it. Gives the share that was reachable before.
    fn link_unreachable(&mut self, sphere: &[f32], dimension: usize, ef: usize) -> f32 {
        let before = self.reachable_share();
        let mut reached = self.reached();
        let mut added = Vec::new();
        let point = |row: u32| &sphere[row as usize * dimension..][..dimension];
        for row in 0..self.ground.len() as u32 {
            if !reached[row as usize] {
                let nearest = self.walk(|other| dot(point(other), point(row)), ef, 1, &|r| reached[r as usize]);
                added.push((nearest.first().map_or(self.entry, |s| s.row), row));
                self.reach_from(row, &mut reached);
            }
        }
        if !added.is_empty() {
            let mut links: Vec<Vec<u32>> =
                (0..self.ground.len() as u32).map(|row| self.ground.row(row).to_vec()).collect();
            added.iter().for_each(|(from, to)| links[*from as usize].push(*to));
            self.ground = Rows::from_lists(links);
        }
        before
    }

    /// Walks down the layers to the points with the highest score. Rows that are not allowed are walked
    /// over, not kept as answers.
    fn walk(&self, score: impl Fn(u32) -> f32, ef: usize, k: usize, allowed: Allowed<'_>) -> Vec<Scored> {
        let scored = |row: u32| Scored { row, score: score(row) };
        let mut starts = vec![scored(self.entry)];
        // From the highest layer with enough points to have one near every cluster, all of which are
        // looked at: a single entry finds its way to a single cluster.
        let first = self.upper.iter().rposition(|layer| layer.points.len() >= START_POINTS).unwrap_or(0);
        for layer in self.upper[..self.upper.len().min(first + 1)].iter().rev() {
            if starts.len() == 1 {
                starts.extend(layer.points.iter().take(MAX_START_POINTS).map(|row| scored(*row)));
            }
            starts.sort_unstable();
            starts.dedup();
            starts.truncate(UPPER_EF);
            starts = walk_layer(|row| layer.neighbours(row), &starts, &score, self.ground.len(), UPPER_EF, |_| ());
        }
        let mut answers = Top::new(k);
        starts.extend(self.longest.iter().map(|row| scored(*row)));
        starts.sort_unstable();
        starts.dedup();
        let answer = |s: Scored| {
            if allowed(s.row) {
                answers.push(s.row, s.score);
            }
        };
        walk_layer(|row| self.ground.row(row), &starts, &score, self.ground.len(), ef.max(k), answer);
        answers.into_sorted()
    }

    pub(crate) fn write(&self, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        to.array("entry", &[self.entry])?;
        to.array("longest", &self.longest)?;
        self.ground.write("ground", to)?;
        for (layer, upper) in self.upper.iter().enumerate() {
            to.array(&format!("upper{layer}.points"), &upper.points)?;
            upper.links.write(&format!("upper{layer}"), to)?;
        }
        Ok(())
    }

    pub(crate) fn read(from: &Section<'_>, len: usize, layers: usize) -> Result<Self, ArtifactError> {
        let entry: Array<u32> = from.array("entry")?;
        let mut graph = Self {
            entry: entry.first().copied().unwrap_or(u32::MAX),
            longest: from.array("longest")?,
            ground: Rows::read("ground", len, len, from)?,
            upper: Vec::new(),
        };
        let starts = graph.longest.iter().chain([&graph.entry]);
        from.ensure(starts.into_iter().all(|row| (*row as usize) < len), "the graph starts at what is not a point")?;
        for layer in 0..layers {
            let points: Array<u32> = from.array(&format!("upper{layer}.points"))?;
            let links = Rows::read(&format!("upper{layer}"), points.len(), len, from)?;
            from.ensure(points.is_sorted(), "points of an upper layer are not sorted")?;
            graph.upper.push(Layer { points, links });
        }
        Ok(graph)
    }

    /// Layers above the lowest.
    pub fn upper_layers(&self) -> usize {
        self.upper.len()
    }
}

impl Layer {
    fn neighbours(&self, row: u32) -> &[u32] {
        self.points.binary_search(&row).map_or(&[], |at| self.links.row(at as u32))
    }
}

/// Algorithm 2 of the paper on one layer: looks at the neighbours of the best open point until none is
/// better than the worst of `ef` kept; gives those. `visit` hears of every point that was kept for a while.
fn walk_layer<'g>(
    neighbours: impl Fn(u32) -> &'g [u32],
    starts: &[Scored],
    score: impl Fn(u32) -> f32,
    len: usize,
    ef: usize,
    mut visit: impl FnMut(Scored),
) -> Vec<Scored> {
    let mut visited = vec![0u64; len.div_ceil(64)];
    let mut is_first = |row: u32| {
        let (word, bit) = (&mut visited[row as usize / 64], 1u64 << (row % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    };
    let (mut open, mut kept) = (BinaryHeap::new(), BinaryHeap::new());
    let mut keep = |found: Scored, open: &mut BinaryHeap<Reverse<Scored>>, kept: &mut BinaryHeap<Scored>| {
        if kept.len() < ef || kept.peek().is_some_and(|worst| found < *worst) {
            open.push(Reverse(found));
            kept.push(found);
            if kept.len() > ef {
                kept.pop();
            }
            visit(found);
        }
    };
    for start in starts {
        is_first(start.row);
        keep(*start, &mut open, &mut kept);
    }
    while let Some(Reverse(nearest)) = open.pop() {
        if kept.len() >= ef && kept.peek().is_some_and(|worst| nearest > *worst) {
            break;
        }
        for row in neighbours(nearest.row) {
            if is_first(*row) {
                keep(Scored { row: *row, score: score(*row) }, &mut open, &mut kept);
            }
        }
    }
    kept.into_sorted_vec()
}

/// Walks a graph.
#[derive(Clone, Debug)]
pub struct HnswIndex {
    table: Table,
    graph: Graph,
    ef_search: usize,
}

impl HnswIndex {
    /// A graph over the table that it was built for.
    pub fn new(table: Table, graph: Graph, ef_search: usize) -> Self {
        Self { table, graph, ef_search }
    }

    /// The links.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
}

impl VectorIndex for HnswIndex {
    fn search(&self, query: &[f32], k: usize, allowed: Allowed<'_>) -> Vec<Scored> {
        self.graph.walk(|row| dot(self.table.row(row), query), self.ef_search, k, allowed)
    }

    fn kind(&self) -> IndexKind {
        IndexKind::Hnsw
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExactIndex, recall};
    use super::*;
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

    #[test]
    fn graph_agrees_with_the_exact_answer() {
        let table = clustered(3000, 16, 1);
        let (graph, _) = Graph::build(&table, PARAMS);
        assert_eq!(graph.reachable_share(), 1.0);
        let queries = clustered(200, 16, 2);
        let queries: Vec<&[f32]> = (0..200).map(|i| queries.row(i)).collect();
        let (exact, hnsw) = (ExactIndex::Whole(table.clone()), HnswIndex::new(table, graph, 120));
        let (at_10, at_100) = (recall(&hnsw, &exact, &queries, 10), recall(&hnsw, &exact, &queries, 100));
        assert!(at_10 > 0.97 && at_100 > 0.95, "{at_10} {at_100}");
    }

    #[test]
    fn the_same_table_gives_the_same_graph() {
        let table = clustered(800, 8, 3);
        let links = || {
            let (graph, _) = Graph::build(&table, PARAMS);
            (graph.entry, graph.ground.columns.to_vec(), graph.upper.len())
        };
        assert_eq!(links(), links());
    }

    #[test]
    fn points_that_no_path_reaches_are_linked_in() {
        // Many equal points and far outliers are what leaves points without incoming links.
        let mut values = vec![0.5f32; 400 * 4];
        for i in 0..100 {
            values[i * 16] = i as f32;
        }
        let table = Table { values: values.into(), dimension: 4 };
        let params = HnswParams { m: 2, ef_construction: 4, ef_search: 50 };
        let (mut graph, _) = Graph::build(&table, params);
        assert_eq!(graph.reachable_share(), 1.0);
        // Cut one off by hand.
        let cut: Vec<Vec<u32>> = (0..400u32)
            .map(|row| graph.ground.row(row).iter().copied().filter(|to| *to != 399 || graph.entry == 399).collect())
            .collect();
        graph.ground = Rows::from_lists(cut);
        let before = graph.reachable_share();
        let sphere = on_sphere(&table);
        assert_eq!(graph.link_unreachable(&sphere, 5, 10), before);
        assert!(before < 1.0);
        assert_eq!(graph.reachable_share(), 1.0);
    }

    #[test]
    fn only_allowed_rows_are_answered() {
        let table = clustered(500, 8, 4);
        let (graph, _) = Graph::build(&table, PARAMS);
        let index = HnswIndex::new(table.clone(), graph, 500);
        let answer = index.search(table.row(7), 10, &|row| row % 3 == 0);
        assert_eq!(answer.len(), 10);
        assert!(answer.iter().all(|s| s.row % 3 == 0));
        assert_eq!(answer, ExactIndex::Whole(table.clone()).search(table.row(7), 10, &|row| row % 3 == 0));
    }
}
