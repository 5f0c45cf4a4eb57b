//! Scores of many members at once.
//!
//! A score is `Σ weight · signal`. Most signals are linear in what is added up over a member's purchases, so their
//! weights are folded into the purchases; few sums per member are left. Purchases are added up for a block of members,
//! and every later step is taken for a strip of it, so that what is at hand stays in a core's caches.
//! [`signals`](LaunchModel::signals_of) says the same one member at a time, and is what the scan is tested against.

use std::ops::Range;

use super::folded::{
    ANALOGUE_COLUMNS, COLUMNS, Dense, Folded, GOES_WITH_COLUMN, LINEAR, PRICE_COLUMN, PRICED_COLUMN, SEEDS_COLUMN,
};
use super::leanings::{Leaning, lean};
use super::question::Posting;
use super::signals::{HABIT_PRIOR, PRICE_PRIOR};
use crate::artifact::Array;
use crate::kernels::{dispatched, dot_codes_of_both, ln_1p};
use crate::sparse::gallop;

/// Members of a block, whose sums of one kind stay in a core's nearest caches while all lists are added to them.
pub(super) const BLOCK: usize = 16_384;
/// Members of a strip, who are weighed together.
pub(super) const STRIP: usize = 1024;
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
}

/// Room for a strip.
#[derive(Debug)]
struct Strip {
    activity: Lanes<f32>,
    leanings: Lanes<f32>,
    dear: [Lanes<f32>; 2],
    scales: Lanes<f32>,
    lengths: Lanes<f32>,
    dots: [Lanes<i32>; 2],
    values: Lanes<f32>,
    codes: Vec<i8>,
}

impl Default for Block {
    fn default() -> Self {
        let (none, dots) = ([0.0; STRIP], [[0; STRIP]; 2]);
        let strip = Strip {
            activity: none,
            leanings: none,
            dear: [none; 2],
            scales: none,
            lengths: none,
            dots,
            values: none,
            codes: Vec::new(),
        };
        Self { sums: vec![[0.0; BLOCK]; COLUMNS], scores: vec![0.0; BLOCK], strip: Box::new(strip) }
    }
}

impl Block {
    /// Scores of up to [`BLOCK`] members for one question; `cursors` are where its postings stand for a run, and move
    /// on.
    pub(super) fn score(&mut self, asked: &Folded<'_>, members: &Members<'_>, cursors: &mut [usize]) -> &[f32] {
        let len = members.len();
        self.sums.iter_mut().for_each(|column| column[..len].fill(0.0));
        match members {
            Members::Run(rows) => self.add_run(asked, rows, cursors),
            Members::Some(rows) => self.add_some(asked, rows),
        }
        for first in (0..len).step_by(STRIP) {
            let strip = first..len.min(first + STRIP);
            let sums = std::array::from_fn(|column| &self.sums[column][strip.clone()]);
            self.strip.score(asked, &members.part(strip.clone()), sums, &mut self.scores[strip]);
        }
        &self.scores[..len]
    }

    fn add_run(&mut self, asked: &Folded<'_>, rows: &Range<u32>, cursors: &mut [usize]) {
        for (posting, cursor) in asked.question.postings.iter().zip(cursors) {
            let (column, factor) = asked.places[posting.place];
            let end = gallop(posting.members, *cursor, rows.end);
            let (members, counts) = (&posting.members[*cursor..end], &posting.counts[*cursor..end]);
            let sums = &mut self.sums[column];
            if posting.is_log {
                add_logs(members, counts, [posting.scale, factor], rows.start, sums, &mut self.strip.values);
            } else {
                add_counts(members, counts, factor * posting.scale, rows.start, sums);
            }
            *cursor = end;
        }
    }

    fn add_some(&mut self, asked: &Folded<'_>, rows: &[u32]) {
        asked.question.each_of(rows, |i, posting, at| {
            let (column, factor) = asked.places[posting.place];
            self.sums[column][i % BLOCK] += posting.counted(at, factor);
        });
    }
}

/// Adds entries of members from the row `first` on to a column.
fn add_counts(members: &[u32], counts: &[f32], factor: f32, first: u32, sums: &mut [f32; BLOCK]) {
    for (member, count) in members.iter().zip(counts) {
        sums[(member - first) as usize % BLOCK] += factor * count;
    }
}

/// The same of logarithms, which are taken side by side.
fn add_logs(
    members: &[u32],
    counts: &[f32],
    [scale, factor]: [f32; 2],
    first: u32,
    sums: &mut [f32; BLOCK],
    values: &mut Lanes<f32>,
) {
    for (members, counts) in members.chunks(STRIP).zip(counts.chunks(STRIP)) {
        count_log(counts, scale, factor, values);
        add_counts(members, &values[..members.len()], 1.0, first, sums);
    }
}

impl Strip {
    /// Scores of the members of a strip, from what was added up.
    fn score(&mut self, asked: &Folded<'_>, members: &Members<'_>, sums: [&[f32]; COLUMNS], scores: &mut [f32]) {
        let (statics, vectors) = (&asked.model.statics, &asked.embeddings().members);
        let activity = members.take(&statics.activity, &mut self.activity);
        let leanings = match &asked.leaning {
            Leaning::Known(of) => members.take(of, &mut self.leanings),
            Leaning::Weights(weights) => lean(statics, weights, members, &mut self.values, &mut self.leanings),
        };
        let [premium, level] = &mut self.dear;
        let dear = [members.take(&statics.premium, premium), members.take(&statics.price_level, level)];
        weigh(&asked.dense, activity, leanings, dear, sums, scores);
        if asked.question.query.has_seeds() {
            add_log(asked.dense.seeds_buy, sums[SEEDS_COLUMN], scores);
        }
        let scales = members.take(&vectors.scales, &mut self.scales);
        let lengths = members.take(&vectors.lengths, &mut self.lengths);
        let codes = match members {
            Members::Run(rows) => asked.codes(rows),
            Members::Some(rows) => {
                self.codes.clear();
                let d = asked.embeddings().factors;
                rows.iter().for_each(|row| self.codes.extend_from_slice(vectors.row(*row, d)));
                &self.codes
            }
        };
        let pairs = if asked.question.query.has_seeds() { 2 } else { 1 };
        let (queries, counts) = (asked.question.codes.as_chunks().0, asked.vectors.as_chunks().0);
        for ([one, other], counts) in queries.iter().zip(counts).take(pairs) {
            let [to, to_other] = &mut self.dots;
            let to = [&mut to[..scores.len()], &mut to_other[..scores.len()]];
            dot_codes_of_both(codes, [&one.codes, &other.codes], to);
            fit(&self.dots, scales, lengths, counts, scores);
        }
        judge(asked, members, scores);
        for (score, activity) in scores.iter_mut().zip(activity) {
            *score = if *activity > 0.0 { *score } else { NOTHING_KNOWN };
        }
    }
}

/// What a score is not told by what was bought.
fn judge(asked: &Folded<'_>, members: &Members<'_>, scores: &mut [f32]) {
    if asked.question.query.is_sold_in_some_stores() {
        for (i, score) in scores.iter_mut().enumerate() {
            if asked.question.query.is_out_of_reach(members.row(i)) {
                *score += asked.not_carried;
            }
        }
    }
    if let Some(tags) = &asked.question.query.tags {
        let weight = asked.member_tags;
        match members {
            Members::Run(rows) => tags.add_run(rows, weight, scores),
            Members::Some(rows) => rows.iter().zip(scores).for_each(|(row, score)| *score += weight * tags.of(*row)),
        }
    }
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

    fn row(&self, i: usize) -> u32 {
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

dispatched! {
    fn weigh(
        dense: &Dense,
        activity: &[f32],
        leanings: &[f32],
        dear: [&[f32]; 2],
        sums: [&[f32]; COLUMNS],
        scores: &mut [f32],
    ) {
        // Equal lengths, said once, spare a check per member.
        let n = scores.len();
        let (activity, leanings) = (&activity[..n], &leanings[..n]);
        let (dear, sums) = (dear.map(|of| &of[..n]), sums.map(|of| &of[..n]));
        for i in 0..n {
            let mut score = sums[LINEAR][i] + leanings[i] + dense.usual * ln_1p(activity[i] * (1.0 / HABIT_PRIOR));
            score += dense.dear[0] * dear[0][i] + dense.dear[1] * dear[1][i];
            let mut bought = 0.0;
            for (column, weight) in ANALOGUE_COLUMNS.into_iter().zip(dense.analogues) {
                bought += sums[column][i];
                score += weight * ln_1p(bought);
            }
            score += dense.goes_with * ln_1p(sums[GOES_WITH_COLUMN][i]);
            let price = (sums[PRICE_COLUMN][i] + dense.prior_price) / (sums[PRICED_COLUMN][i] + PRICE_PRIOR);
            scores[i] = score - dense.usual_price * price.abs();
        }
    }
}

dispatched! {
    fn add_log(weight: f32, sums: &[f32], scores: &mut [f32]) {
        scores.iter_mut().zip(sums).for_each(|(score, sum)| *score += weight * ln_1p(*sum));
    }
}

dispatched! {
    /// Adds what the inner products with two vectors count, by themselves and over the members' lengths.
    fn fit(dots: &[Lanes<i32>; 2], scales: &[f32], lengths: &[f32], counts: &[[f32; 2]; 2], scores: &mut [f32]) {
        let n = scores.len();
        let ([one, other], scales, lengths) = (dots.each_ref().map(|of| &of[..n]), &scales[..n], &lengths[..n]);
        for i in 0..n {
            let per_length = if lengths[i] > 1e-12 { 1.0 / lengths[i] } else { 0.0 };
            let count = |dot: i32, [count, cosine]: [f32; 2]| dot as f32 * (count + cosine * per_length);
            scores[i] += scales[i] * (count(one[i], counts[0]) + count(other[i], counts[1]));
        }
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
            let keep = |query: usize, first: u32, scores: &[f32], kept: &mut Vec<(u32, f32)>| {
                kept.extend((first..).zip(scores.iter().copied()).filter(|_| query == 1));
            };
            let tasks = model.scan_all(&asked, &embeddings, &Stop::default(), keep).unwrap();
            let kept: Vec<f32> = tasks.iter().flat_map(|kept| &kept[1]).map(|(_, score)| *score).collect();
            assert_eq!(kept, scores[1]);
        }
    }
}
