//! Walking a graph towards the vectors with the largest inner product.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem::replace;

use crate::kernels::{dot_codes_at, fetch};
use crate::quantized::Quantized;
use crate::ranking::Scored;

/// What a walk needs beside the graph: kept by each thread, so that no question asks for memory that grows with the
/// number of points.
#[derive(Default)]
struct Walker {
    /// A bit per point: whether it was looked at.
    seen: Vec<u64>,
    /// These points.
    touched: Vec<u32>,
    /// Points seen and not walked on from.
    open: BinaryHeap<Key>,
    /// The best points seen; the worst of them is the one to beat.
    kept: BinaryHeap<Reverse<Key>>,
    near: Vec<u32>,
    sums: Vec<i32>,
}

/// A point with its score, in the order of [`Scored`], the best the largest: one comparison of whole numbers.
type Key = u64;

/// A score that is not finite stands in some order too: it breaks nothing, and no vector that was trained has one.
#[inline]
fn key(point: u32, score: f32) -> Key {
    let bits = score.to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ascending) << 32 | u64::from(!point)
}

fn scored(key: Key) -> Scored {
    let (ascending, point) = ((key >> 32) as u32, !(key as u32));
    let bits = if ascending >> 31 == 1 { ascending & !(1 << 31) } else { !ascending };
    Scored { row: point, score: f32::from_bits(bits) }
}

thread_local! {
    static WALKER: Cell<Walker> = Cell::default();
}

/// Marks the end of a point's links.
pub(super) const NONE: u32 = u32::MAX;

/// A walk ends where it has looked at one in so many of all points, and at so many for each that it keeps.
const MOST_SHARE: usize = 4;
const MOST_PER_KEPT: usize = 64;

/// A graph, as a walk sees it.
#[derive(Clone, Copy)]
pub(super) struct Links<'a> {
    /// Where every walk starts.
    pub(super) starts: &'a [u32],
    /// `points × degree`: the points that each leads to, and [`NONE`] for the rest.
    pub(super) links: &'a [u32],
    pub(super) degree: usize,
}

impl<'a> Links<'a> {
    /// The points that one leads to.
    #[inline]
    pub(super) fn neighbours(&self, point: u32) -> &'a [u32] {
        let links = &self.links[point as usize * self.degree..][..self.degree];
        &links[..links.iter().position(|link| *link == NONE).unwrap_or(self.degree)]
    }

    /// The best `ef` allowed points found by a walk from the starts, in no order: the neighbours of the best point are
    /// looked at until none is better than the worst of those kept (Malkov & Yashunin 2016, algorithm 2); what is not
    /// allowed is walked over. `score` makes what is compared of the number of a point and the inner product of its codes
    /// with the query's.
    pub(super) fn walk(
        &self,
        points: &Quantized,
        query: &[i16],
        ef: usize,
        score: impl Fn(u32, i32) -> f32,
        allowed: impl Fn(u32) -> bool,
    ) -> Vec<Scored> {
        let mut walker = WALKER.take();
        let most = (points.len() / MOST_SHARE).max(MOST_PER_KEPT * ef);
        let by = Compared { codes: &points.codes, scales: &points.scales, query, ef, score, allowed };
        walker.begin(points.len());
        walker.look_at(self.starts, &by);
        while let Some(best) = walker.open.pop() {
            // Where too little is allowed to fill what is kept, looking at all of it is faster.
            if walker.beats(ef).is_some_and(|worst| best < worst) || walker.touched.len() > most {
                break;
            }
            if let Some(next) = walker.open.peek() {
                fetch(&self.links[scored(*next).row as usize * self.degree..][..self.degree]);
            }
            walker.look_at(self.neighbours(scored(best).row), &by);
        }
        let found = walker.kept.drain().map(|Reverse(key)| scored(key)).collect();
        WALKER.set(walker);
        found
    }

    /// Which points a walk can reach.
    pub(super) fn reached(&self, points: usize) -> Vec<bool> {
        let mut reached = vec![false; points];
        self.reach_from(self.starts, &mut reached);
        reached
    }

    /// Adds what can be reached from some points.
    pub(super) fn reach_from(&self, starts: &[u32], reached: &mut [bool]) {
        let mut open = starts.to_vec();
        while let Some(point) = open.pop() {
            if !replace(&mut reached[point as usize], true) {
                open.extend(self.neighbours(point));
            }
        }
    }
}

/// How many of some are true; 1 of none.
pub(super) fn share(of: &[bool]) -> f32 {
    if of.is_empty() { 1.0 } else { of.iter().filter(|x| **x).count() as f32 / of.len() as f32 }
}

/// What a walk compares, and by what.
struct Compared<'a, S, A> {
    codes: &'a [i8],
    scales: &'a [f32],
    query: &'a [i16],
    ef: usize,
    score: S,
    allowed: A,
}

impl Walker {
    fn begin(&mut self, points: usize) {
        self.touched.drain(..).for_each(|point| self.seen[point as usize / 64] = 0);
        if self.seen.len() < points.div_ceil(64) {
            self.seen.resize(points.div_ceil(64), 0);
        }
        self.open.clear();
        self.kept.clear();
    }

    /// The one to beat, once there are as many as are wanted.
    fn beats(&self, ef: usize) -> Option<Key> {
        if self.kept.len() < ef { None } else { self.kept.peek().map(|Reverse(worst)| *worst) }
    }

    /// Looks at those of some points that were not looked at.
    fn look_at(&mut self, some: &[u32], by: &Compared<'_, impl Fn(u32, i32) -> f32, impl Fn(u32) -> bool>) {
        self.near.resize(some.len(), 0);
        let mut new = 0;
        // Whether a point is new is as good as random: no branch asks.
        for point in some {
            let (word, bit) = (*point as usize / 64, 1u64 << (point % 64));
            let is_new = self.seen[word] & bit == 0;
            self.seen[word] |= bit;
            self.near[new] = *point;
            new += usize::from(is_new);
        }
        self.near.truncate(new);
        for point in &self.near {
            fetch(&by.codes[*point as usize * by.query.len()..][..by.query.len()]);
            fetch(&by.scales[*point as usize..=*point as usize]);
        }
        self.touched.extend(&self.near);
        self.sums.resize(new, 0);
        dot_codes_at(by.codes, &self.near, by.query, &mut self.sums);
        let mut least = self.beats(by.ef).unwrap_or(0);
        for (point, sum) in self.near.iter().zip(&self.sums) {
            let found = key(*point, (by.score)(*point, *sum));
            if found <= least {
                continue;
            }
            self.open.push(found);
            if !(by.allowed)(*point) {
                continue;
            }
            if self.kept.len() < by.ef {
                self.kept.push(Reverse(found));
            } else if let Some(mut worst) = self.kept.peek_mut() {
                *worst = Reverse(found);
            }
            least = self.beats(by.ef).unwrap_or(0);
        }
    }
}
