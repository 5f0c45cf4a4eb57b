//! Building a graph: points are linked in one batch after the other, those of a batch side by side.
//!
//! A batch is at most as large as what is linked in already, and a small share of all (Manohar et al. 2024,
//! "ParlayANN"): each of its points looks for its neighbours in the graph as it is before the batch, and each point
//! that is linked to is looked at once after. So the same points give the same graph on any number of threads.
//!
//! Of points in one direction, as of members who bought nothing, or one product and nothing else at different times, the
//! longest is linked in, and leads to the others: among themselves they would leave no room for links to elsewhere.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use rayon::prelude::*;

use super::walk::{Links, NONE, share};
use super::{ExactIndex, Graph, HnswParams};
use crate::kernels::dot_codes_at;
use crate::quantized::Quantized;
use crate::ranking::Scored;

/// Points at which every walk starts, and their share of few points.
const STARTS: usize = 1024;
const STARTS_SHARE: usize = 16;
/// A batch is at most this share of all points.
const BATCH_SHARE: usize = 64;
/// Kept links that a candidate is compared with at once.
const COMPARED: usize = 8;

/// Points on one sphere, where the order by angle is close to that by inner product (after Bachrach et al. 2014): each
/// vector divided by the median length, with one more coordinate that makes it of length 1; vectors above the median
/// are divided by their own. Divided by the largest length instead, as the exact reduction has it, most vectors crowd
/// at one pole, and a walk can't tell them apart.
struct Sphere<'a> {
    points: &'a Quantized,
    /// What a unit of each point's codes is there.
    scales: Vec<f32>,
    /// The one coordinate more.
    heights: Vec<f32>,
}

impl<'a> Sphere<'a> {
    fn new(points: &'a Quantized) -> Self {
        let mut lengths: Vec<f32> = points.lengths.iter().copied().filter(|length| *length > 0.0).collect();
        lengths.sort_unstable_by(f32::total_cmp);
        let median = lengths.get(lengths.len() / 2).copied().unwrap_or(1.0);
        let of = |(scale, length): (&f32, &f32)| {
            let share = length / length.max(median);
            (scale / length.max(median), (1.0 - share * share).max(0.0).sqrt())
        };
        let (scales, heights) = points.scales.iter().zip(points.lengths.iter()).map(of).unzip();
        Self { points, scales, heights }
    }

    /// The codes of a point as those of a query.
    fn query(&self, point: u32) -> Vec<i16> {
        self.points.row(point, self.points.dimension()).iter().map(|code| i16::from(*code)).collect()
    }

    /// Cosine of two points, of whose codes the inner product is `sum`.
    #[inline]
    fn cosine(&self, a: u32, b: u32, sum: i32) -> f32 {
        let (a, b) = (a as usize, b as usize);
        sum as f32 * (self.scales[a] * self.scales[b]) + self.heights[a] * self.heights[b]
    }

    /// Some points by their cosine with one, the nearest first.
    fn by_nearness(&self, point: u32, others: &[u32]) -> Vec<Scored> {
        let mut sums = vec![0; others.len()];
        dot_codes_at(&self.points.codes, others, &self.query(point), &mut sums);
        let scored = |(other, sum): (&u32, i32)| Scored { row: *other, score: self.cosine(point, *other, sum) };
        let mut near: Vec<Scored> = others.iter().zip(sums).map(scored).collect();
        near.sort_unstable();
        near
    }

    /// Which of some points, the nearest first, one should link to: up to `most`, none of which is nearer to another of
    /// them (Malkov & Yashunin 2016, algorithm 4).
    fn pruned(&self, point: u32, near: &[Scored], most: usize) -> Vec<u32> {
        let mut kept = Vec::with_capacity(most);
        for other in near.iter().filter(|other| other.row != point) {
            if kept.len() == most {
                break;
            }
            let query = self.query(other.row);
            let leads_there = |some: &[u32]| {
                let mut sums = [0; COMPARED];
                dot_codes_at(&self.points.codes, some, &query, &mut sums[..some.len()]);
                some.iter().zip(sums).any(|(by, sum)| self.cosine(other.row, *by, sum) > other.score)
            };
            if !kept.chunks(COMPARED).any(leads_there) {
                kept.push(other.row);
            }
        }
        kept
    }
}

/// A graph while points are linked in.
struct Growing<'a> {
    sphere: Sphere<'a>,
    starts: Vec<u32>,
    /// `points × degree`.
    links: Vec<u32>,
    degree: usize,
    ef: usize,
}

impl Graph {
    /// Builds a graph over an index's vectors: the same vectors give the same graph, on any number of threads. Every
    /// point can be reached; also gives the share of points for which nothing had to be done to that end.
    pub fn build(exact: &ExactIndex, params: HnswParams) -> (Self, f32) {
        let points = exact.codes();
        let mut order: Vec<u32> = (0..points.len() as u32).collect();
        order.sort_by(|a, b| points.lengths[*b as usize].total_cmp(&points.lengths[*a as usize]));
        let mut growing = Growing {
            sphere: Sphere::new(points),
            starts: Vec::new(),
            links: vec![NONE; order.len() * 2 * params.m],
            degree: 2 * params.m,
            ef: params.ef_construction,
        };
        let (distinct, shorter) = directions(points, &order);
        let (len, mut linked) = (distinct.len(), 0);
        let (most, starts) = (len.div_ceil(BATCH_SHARE), STARTS.min(len.div_ceil(STARTS_SHARE)));
        while linked < len {
            let batch = &distinct[linked..len.min(linked + linked.clamp(1, most))];
            growing.link(batch);
            linked += batch.len();
            growing.starts = distinct[..linked.min(starts)].to_vec();
        }
        distinct.iter().zip(&shorter).for_each(|(point, shorter)| growing.link_shorter(*point, shorter));
        let reachable = growing.link_unreachable(&order);
        let Growing { starts, links, degree, .. } = growing;
        (Self { starts: starts.into(), links: links.into(), degree }, reachable)
    }
}

/// The first point of each direction in this order, and for each of them those after it.
fn directions(points: &Quantized, order: &[u32]) -> (Vec<u32>, Vec<Vec<u32>>) {
    let (mut first, mut others, mut places) = (Vec::new(), Vec::new(), HashMap::new());
    for point in order {
        // A scale has no say in the codes.
        match places.entry(points.row(*point, points.dimension())) {
            Entry::Vacant(entry) => {
                entry.insert(first.len());
                first.push(*point);
                others.push(Vec::new());
            }
            Entry::Occupied(entry) => others[*entry.get()].push(*point),
        }
    }
    (first, others)
}

impl Growing<'_> {
    fn graph(&self) -> Links<'_> {
        Links { starts: &self.starts, links: &self.links, degree: self.degree }
    }

    /// The points nearest to one, of those that a walk reaches.
    fn near(&self, point: u32) -> Vec<Scored> {
        let score = |other: u32, sum: i32| self.sphere.cosine(point, other, sum);
        let mut near = self.graph().walk(self.sphere.points, &self.sphere.query(point), self.ef, score, |_| true);
        near.sort_unstable();
        near
    }

    /// Links a batch of points to what is linked in already, and back.
    fn link(&mut self, batch: &[u32]) {
        let found = batch.par_iter().map(|point| self.sphere.pruned(*point, &self.near(*point), self.degree));
        let found: Vec<Vec<u32>> = found.collect();
        let mut back: Vec<(u32, u32)> = Vec::new();
        for (point, neighbours) in batch.iter().zip(&found) {
            self.set(*point, neighbours);
            back.extend(neighbours.iter().map(|neighbour| (*neighbour, *point)));
        }
        back.par_sort_unstable();
        let linked_back = back.par_chunk_by(|(a, _), (b, _)| a == b).map(|of_one| self.linked_back(of_one));
        let linked_back: Vec<(u32, Vec<u32>)> = linked_back.collect();
        linked_back.iter().for_each(|(point, neighbours)| self.set(*point, neighbours));
    }

    /// One point, and its links with those to points that link to it.
    fn linked_back(&self, of_one: &[(u32, u32)]) -> (u32, Vec<u32>) {
        let point = of_one[0].0;
        let mut links: Vec<u32> = self.graph().neighbours(point).to_vec();
        links.extend(of_one.iter().map(|(_, from)| *from));
        if links.len() > self.degree {
            links = self.sphere.pruned(point, &self.sphere.by_nearness(point, &links), self.degree);
        }
        (point, links)
    }

    /// Lets a point lead to the shorter ones of its direction: a tree, of which each leads to shorter ones than itself.
    fn link_shorter(&mut self, point: u32, shorter: &[u32]) {
        let Some(first) = shorter.first() else { return };
        let kept = self.graph().neighbours(point);
        self.set(point, &[&kept[..kept.len().min(self.degree - 1)], &[*first]].concat());
        for (i, point) in shorter.iter().enumerate() {
            let next = shorter.iter().skip(i * self.degree + 1).take(self.degree);
            self.set(*point, &next.copied().collect::<Vec<u32>>());
        }
    }

    fn set(&mut self, point: u32, neighbours: &[u32]) {
        let links = &mut self.links[point as usize * self.degree..][..self.degree];
        links.fill(NONE);
        links[..neighbours.len()].copy_from_slice(neighbours);
    }

    /// Links every point that can't be reached from a near one that can and has room for a link, and what it links to
    /// becomes reachable with it. Gives the share that was reachable before.
    fn link_unreachable(&mut self, order: &[u32]) -> f32 {
        let mut reached = self.graph().reached(order.len());
        let before = share(&reached);
        for point in order {
            if !reached[*point as usize] {
                match self.with_room(&self.near(*point)) {
                    Some(near) => {
                        let links = [self.graph().neighbours(near), &[*point]].concat();
                        self.set(near, &links);
                    }
                    None => self.starts.push(*point),
                }
                self.graph().reach_from(&[*point], &mut reached);
            }
        }
        before
    }

    /// The first of some points that has room for a link, or the first of those that they lead to, step by step.
    fn with_room(&self, near: &[Scored]) -> Option<u32> {
        let mut open: VecDeque<u32> = near.iter().map(|near| near.row).collect();
        let mut seen: HashSet<u32> = open.iter().copied().collect();
        while let Some(point) = open.pop_front() {
            let neighbours = self.graph().neighbours(point);
            if neighbours.len() < self.degree {
                return Some(point);
            }
            open.extend(neighbours.iter().filter(|point| seen.insert(**point)));
        }
        None
    }
}
