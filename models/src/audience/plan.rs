//! Which way to an audience is the cheapest, by what each costs on this machine.

use std::time::Instant;

use crate::index::IndexKind;
use crate::launch::{LaunchQuery, TASK};
use crate::model::Model;
use crate::ranking::Scored;
use crate::stop::Stop;

/// Tasks per thread that a scan is timed over, at most.
const TIMED_TASKS: usize = 2;
/// Members that are scored one by one to time it, at most: far apart, as those whom a filter leaves are.
const TIMED_PICKS: usize = 1 << 14;
/// Share of the members that a scan is timed to find: those of a middling audience.
const TIMED_SHARE: f64 = 0.05;
/// Times that each way is timed.
const TIMES: usize = 3;
/// Members that a walk is timed with.
const TIMED_FOUND: usize = 1000;

/// What a member costs, in nanoseconds of the caller's time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Where all are scored, on all threads.
    pub scanned: f64,
    /// Where it is one of a few that are scored.
    pub picked: f64,
    /// Found by a walk over the graph.
    pub walked: f64,
}

impl Default for Costs {
    /// Of a machine that nobody measured.
    fn default() -> Self {
        Self { scanned: 100.0, picked: 400.0, walked: 2000.0 }
    }
}

/// A way to an audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Score whom a walk over the graph finds for so many, and the buyers of similar products.
    Graph(usize),
    /// Score the eligible.
    Pick,
    /// Score everybody.
    Scan,
}

/// What a walk over the graph would take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Members that are wanted.
    pub(super) size: usize,
    /// Members that it finds.
    pub(super) found: usize,
    /// Members who would be scored then, about.
    pub(super) scored: usize,
}

impl Costs {
    /// Times each way over a part of a model's members.
    pub fn measured(model: &Model) -> Self {
        let Some(product) = model.popularity.top(1, |_| true).next() else { return Self::default() };
        let query = LaunchQuery::from_attributes(model, &model.products.attributes(product), |_| true);
        let step = model.members.len().div_ceil(TIMED_PICKS).max(1);
        let rows: Vec<u32> = (0..model.members.len() as u32).step_by(step).collect();
        let per = |count: usize, from: Instant| from.elapsed().as_nanos() as f64 / count.max(1) as f64;
        let timed = model.members.len().min(TIMED_TASKS * TASK * rayon::current_num_threads());
        let has_graph = model.member_index.serving().kind() == IndexKind::Hnsw;
        let least = some_reach(model, &query, timed);
        let keep = |_: usize, found: Scored, kept: &mut Vec<Scored>| kept.push(found);
        let (mut scanned, mut picked, mut walked) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
        // The best of a few: at first what is mapped is not in memory, and requests may take the cores meanwhile.
        for _ in 0..TIMES {
            let start = Instant::now();
            // The flag of a default `Stop` is never raised.
            let _ = model.launch.scan_first(&[(&query, least)], timed, &model.embeddings, &Stop::default(), keep);
            scanned = scanned.min(per(timed, start));
            let start = Instant::now();
            model.launch.score_some(&query, &model.embeddings, &rows);
            picked = picked.min(per(rows.len(), start));
            if has_graph {
                let start = Instant::now();
                let found = model.member_index.serving().search(&query.vector, TIMED_FOUND, &|_| true);
                walked = walked.min(per(found.len(), start));
            }
        }
        Self { scanned, picked, walked: if has_graph { walked } else { Self::default().walked } }
    }

    /// The cheapest way to score `eligible` of `members`, by a walk where it may serve.
    pub(super) fn cheapest(&self, members: usize, eligible: usize, walk: Option<Walk>) -> Way {
        let scan = self.scanned * members as f64;
        let pick = self.picked * eligible as f64;
        let exact = scan.min(pick);
        let cost = |walk: &Walk| self.walked * walk.found as f64 + self.picked * walk.scored as f64;
        match walk.filter(|walk| cost(walk) < exact) {
            Some(walk) => Way::Graph(walk.size),
            None if pick < scan => Way::Pick,
            None => Way::Scan,
        }
    }
}

/// The score that [`TIMED_SHARE`] of the first members have.
fn some_reach(model: &Model, query: &LaunchQuery, members: usize) -> f32 {
    // The flag of a default `Stop` is never raised.
    let scores = model.launch.score_first(&[query], members, &model.embeddings, &Stop::default());
    let mut scores = scores.unwrap_or_default().pop().unwrap_or_default();
    let rank = (scores.len() as f64 * TIMED_SHARE) as usize;
    if scores.is_empty() { 0.0 } else { *scores.select_nth_unstable_by(rank, |a, b| b.total_cmp(a)).1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_way_is_taken() {
        let costs = Costs { scanned: 100.0, picked: 400.0, walked: 2000.0 };
        let walk = |found| Some(Walk { size: 1000, found, scored: 20_000 });
        assert_eq!(costs.cheapest(1_000_000, 900_000, None), Way::Scan);
        assert_eq!(costs.cheapest(1_000_000, 1000, None), Way::Pick);
        assert_eq!(costs.cheapest(1_000_000, 900_000, walk(10_000)), Way::Graph(1000));
        assert_eq!(costs.cheapest(1_000_000, 900_000, walk(50_000)), Way::Scan);
    }
}
