//! Scores of many members at once.
//!
//! A score is `Σ weight · signal`. Most signals are linear in what is added up over a member's purchases, so their
//! weights are folded into the purchases; few sums per member are left. Purchases are added up for a block of members,
//! and every later step is taken for a strip of it, so that what is at hand stays in a core's caches.
//! [`signals`](LaunchModel::signals_of) says the same one member at a time, and is what the scan is tested against.

use std::ops::Range;

use super::ceiling::Ceiling;
use super::folded::{COLUMNS, Folded};
use super::question::Posting;
use super::strip::Strip;
use crate::artifact::Array;
use crate::kernels::{dispatched, ln_1p};
use crate::ranking::Scored;
use crate::sparse::gallop;

/// Members of a block, whose sums of one kind stay in a core's nearest caches while all lists are added to them.
pub(super) const BLOCK: usize = 16_384;
/// Members of a strip, who are weighed together.
pub(super) const STRIP: usize = 1024;
/// Where more than one of so many members of a strip may reach a score, to look at all, side by side, is faster.
const FEW: usize = 4;
/// Score of a member who bought nothing, or allows nothing to be known: nothing was learned of such, who come last.
pub(super) const NOTHING_KNOWN: f32 = -1e6;

/// A number for each member of a strip; what stands behind the last member is of no use.
pub(super) type Lanes<T> = [T; STRIP];

/// Members who are scored together.
#[derive(Clone, Debug)]
pub(super) enum Members<'a> {
    /// One after the other.
    Run(Range<u32>),
    /// Some, by sorted row.
    Some(&'a [u32]),
}

/// Room for a block, used again from block to block.
#[derive(Debug)]
pub(super) struct Block {
    /// By column, what is added up for each member.
    sums: Vec<[f32; BLOCK]>,
    scores: Vec<f32>,
    strip: Box<Strip>,
    likely: Box<Likely>,
}

/// Room for those of a strip who may reach a score.
#[derive(Debug)]
struct Likely {
    rows: Lanes<u32>,
    scores: Lanes<f32>,
}

impl Default for Block {
    fn default() -> Self {
        let likely = Box::new(Likely { rows: [0; STRIP], scores: [0.0; STRIP] });
        Self { sums: vec![[0.0; BLOCK]; COLUMNS], scores: vec![0.0; BLOCK], strip: Box::default(), likely }
    }
}

impl Block {
    /// Scores of up to [`BLOCK`] members for one question; `cursors` are where its postings stand for a run, and move
    /// on.
    pub(super) fn score(&mut self, asked: &Folded<'_>, members: &Members<'_>, cursors: &mut [usize]) -> &[f32] {
        self.add_up(asked, members, cursors);
        for first in (0..members.len()).step_by(STRIP) {
            let strip = first..members.len().min(first + STRIP);
            let (members, sums) = (members.part(strip.clone()), sums_of(&self.sums, &strip));
            let scores = &mut self.scores[strip];
            self.strip.weigh(asked, &members, sums, scores);
            self.strip.finish(asked, &members, scores);
        }
        &self.scores[..members.len()]
    }

    /// Finds those of a run of members, in order, who reach a score: theirs are to the bit those of [`score`](Self::score).
    pub(super) fn score_likely(
        &mut self,
        asked: &Folded<'_>,
        rows: Range<u32>,
        cursors: &mut [usize],
        ceiling: Ceiling,
        mut each: impl FnMut(Scored),
    ) {
        let mut found = |row: u32, score: f32| {
            if score >= ceiling.least {
                each(Scored { row, score });
            }
        };
        let members = Members::Run(rows.clone());
        if ceiling.least <= NOTHING_KNOWN {
            let scores = self.score(asked, &members, cursors);
            return rows.zip(scores).for_each(|(row, score)| found(row, *score));
        }
        self.add_up(asked, &members, cursors);
        let Likely { rows: likely, scores: likely_scores } = &mut *self.likely;
        for first in (0..members.len()).step_by(STRIP) {
            let strip = first..members.len().min(first + STRIP);
            let (members, sums) = (members.part(strip.clone()), sums_of(&self.sums, &strip));
            let scores = &mut self.scores[strip];
            self.strip.weigh(asked, &members, sums, scores);
            let lengths = members.take(&asked.embeddings().members.lengths, likely_scores);
            let count = ceiling.likely(lengths, scores, likely);
            if count > scores.len() / FEW {
                self.strip.finish(asked, &members, scores);
                (0..).zip(scores).for_each(|(i, score)| found(members.row(i), *score));
                continue;
            }
            let (likely, likely_scores) = (&mut likely[..count], &mut likely_scores[..count]);
            for (row, score) in likely.iter_mut().zip(&mut *likely_scores) {
                (*row, *score) = (members.row(*row as usize), scores[*row as usize]);
            }
            self.strip.finish(asked, &Members::Some(likely), likely_scores);
            likely.iter().zip(likely_scores).for_each(|(row, score)| found(*row, *score));
        }
    }

    /// Adds up what was bought.
    fn add_up(&mut self, asked: &Folded<'_>, members: &Members<'_>, cursors: &mut [usize]) {
        let used = self.sums.iter_mut().enumerate().filter(|(number, _)| asked.is_used(*number));
        used.for_each(|(_, column)| column[..members.len()].fill(0.0));
        match members {
            Members::Run(rows) => self.add_run(asked, rows, cursors),
            Members::Some(rows) => self.add_some(asked, rows),
        }
    }

    fn add_run(&mut self, asked: &Folded<'_>, rows: &Range<u32>, cursors: &mut [usize]) {
        for (posting, cursor) in asked.question.postings.iter().zip(cursors) {
            let (column, factor) = asked.places[posting.place];
            let (members, counts) = (&posting.members[*cursor..], &posting.counts[*cursor..]);
            let sums = &mut self.sums[column];
            *cursor += if posting.is_log {
                let end = gallop(members, 0, rows.end);
                let (members, counts) = (&members[..end], &counts[..end]);
                add_logs(members, counts, [posting.scale, factor], rows, sums, &mut self.strip.values);
                end
            } else {
                add_counts(members, counts, factor * posting.scale, rows, sums)
            };
        }
    }

    fn add_some(&mut self, asked: &Folded<'_>, rows: &[u32]) {
        asked.question.each_of(rows, |i, posting, at| {
            let (column, factor) = asked.places[posting.place];
            self.sums[column][i % BLOCK] += posting.counted(at, factor);
        });
    }
}

/// Adds entries of a run of members to a column; gives how many these are.
fn add_counts(members: &[u32], counts: &[f32], factor: f32, rows: &Range<u32>, sums: &mut [f32; BLOCK]) -> usize {
    let mut added = 0;
    for (member, count) in members.iter().zip(counts) {
        if *member >= rows.end {
            break;
        }
        sums[(member - rows.start) as usize % BLOCK] += factor * count;
        added += 1;
    }
    added
}

/// The same of logarithms, which are taken side by side.
fn add_logs(
    members: &[u32],
    counts: &[f32],
    [scale, factor]: [f32; 2],
    rows: &Range<u32>,
    sums: &mut [f32; BLOCK],
    values: &mut Lanes<f32>,
) {
    for (members, counts) in members.chunks(STRIP).zip(counts.chunks(STRIP)) {
        count_log(counts, scale, factor, values);
        add_counts(members, &values[..members.len()], 1.0, rows, sums);
    }
}

/// What was added up of a strip's members, by column.
fn sums_of<'a>(sums: &'a [[f32; BLOCK]], strip: &Range<usize>) -> [&'a [f32]; COLUMNS] {
    std::array::from_fn(|column| &sums[column][strip.clone()])
}

impl<'a> Members<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Run(rows) => rows.len(),
            Self::Some(rows) => rows.len(),
        }
    }

    fn part(&self, places: Range<usize>) -> Members<'a> {
        match self {
            Self::Run(rows) => Self::Run(rows.start + places.start as u32..rows.start + places.end as u32),
            Self::Some(rows) => Self::Some(&rows[places]),
        }
    }

    pub(super) fn row(&self, i: usize) -> u32 {
        match self {
            Self::Run(rows) => rows.start + i as u32,
            Self::Some(rows) => rows[i],
        }
    }

    /// The values of a strip's members in a column of the model, gathered unless they stand in a row; 0 where a version
    /// of an older format has none.
    pub(super) fn take<'b>(&self, from: &'b Array<f32>, room: &'b mut Lanes<f32>) -> &'b [f32] {
        match self {
            _ if from.is_empty() => room.fill(0.0),
            Self::Run(rows) => return &from[rows.start as usize..rows.end as usize],
            Self::Some(rows) => rows.iter().zip(&mut *room).for_each(|(row, to)| *to = from[*row as usize]),
        }
        &room[..self.len()]
    }
}

impl Posting<'_> {
    /// What an entry counts.
    fn counted(&self, at: usize, factor: f32) -> f32 {
        // In the very order of a run.
        if self.is_log { factor * self.value(at) } else { factor * self.scale * self.counts[at] }
    }
}

dispatched! {
    fn count_log(counts: &[f32], scale: f32, factor: f32, into: &mut [f32]) {
        into.iter_mut().zip(counts).for_each(|(into, count)| *into = factor * ln_1p(scale * count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::SIGNALS;
    use crate::launch::fixture::{MEMBERS, members};
    use crate::launch::query::{LaunchQuery, weighed};
    use crate::launch::seeds::Seeds;
    use crate::launch::signals::OTHER_LEVELS;
    use crate::ranking::Scored;
    use crate::stop::Stop;

    fn query(factors: usize, first: u32, with_seeds: bool) -> LaunchQuery {
        let some =
            |from: u32, n: u32| (from..from + n).map(|row| Scored { row, score: 1.0 / (row + 1) as f32 }).collect();
        let vector = |by: f32| (0..factors).map(|i| (i as f32 * by).sin()).collect::<Vec<f32>>();
        let seeds = Seeds {
            count: 20,
            vector: vector(0.3),
            centroid: vector(0.7),
            products: some(first + 3, 30),
            deviations: [0.4, 0.3, 0.2],
            tilt: std::array::from_fn(|k| k as f32 / 100.0),
        };
        LaunchQuery::example(
            [vector(0.1), vector(0.2)],
            (0..=OTHER_LEVELS as u32).map(|place| (place as usize, first + place)).collect(),
            (0..9).map(|band| (band as f32 - 4.0, 20 + band)).collect(),
            [some(first, 100), some(first + 20, 25)],
            if with_seeds { seeds } else { Seeds::default() },
        )
        .with_own(first + 1, 0.7)
    }

    #[test]
    fn a_scan_gives_the_sum_of_the_signals() {
        for (factors, with_seeds) in [(64, false), (64, true), (10, true)] {
            let (mut model, embeddings) = members(factors);
            let plain = model.score_all(&[&query(factors, 4, false)], &embeddings, &Stop::default()).unwrap();
            model.add_up_leanings();
            let queries = [query(factors, 0, with_seeds), query(factors, 4, false)];
            let asked: Vec<&LaunchQuery> = queries.iter().collect();
            let scores = model.score_all(&asked, &embeddings, &Stop::default()).unwrap();
            assert_eq!(scores[1], plain[0], "what is added up beforehand is what is added up on the way");
            let rows: Vec<u32> = (0..MEMBERS as u32).step_by(7).collect();
            for (query, scores) in queries.iter().zip(&scores) {
                let weights = query.weights(&model);
                for (row, signals) in rows.iter().zip(model.signals_of(query, &embeddings, &rows)) {
                    let score = scores[*row as usize];
                    if row % 10 == 3 {
                        assert_eq!(score, NOTHING_KNOWN);
                        continue;
                    }
                    let size: f32 = (0..SIGNALS.len()).map(|k| (weights[k] * signals[k]).abs()).sum();
                    assert!((score - weighed(&weights, &signals)).abs() < 1e-5 * size + 1e-5, "{row}: {score}");
                }
                for step in [1, 7, 40, 1000] {
                    let rows: Vec<u32> = (0..MEMBERS as u32).step_by(step).collect();
                    let picked = model.score_some(query, &embeddings, &rows);
                    assert!(rows.iter().zip(&picked).all(|(row, score)| scores[*row as usize] == *score), "to the bit");
                }
            }
            let keep =
                |_: usize, found: Scored, kept: &mut Vec<(u32, u32)>| kept.push((found.row, found.score.to_bits()));
            for share in [0.0, 0.001, 0.01, 0.3, 1.0] {
                let least = |scores: &Vec<f32>| {
                    let mut sorted = scores.clone();
                    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
                    sorted[((scores.len() - 1) as f32 * share) as usize]
                };
                let asked: Vec<(&LaunchQuery, f32)> =
                    asked.iter().zip(&scores).map(|(query, scores)| (*query, least(scores))).collect();
                let tasks = model.scan_all(&asked, &embeddings, &Stop::default(), keep).unwrap();
                for (i, (_, least)) in asked.iter().enumerate() {
                    let kept: Vec<(u32, u32)> = tasks.iter().flat_map(|kept| &kept[i]).copied().collect();
                    let wanted = (0..).zip(&scores[i]).filter(|(_, score)| *score >= least);
                    assert_eq!(kept, wanted.map(|(row, score)| (row, score.to_bits())).collect::<Vec<_>>(), "{share}");
                }
            }
        }
    }
}
