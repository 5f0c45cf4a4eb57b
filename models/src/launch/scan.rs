//! Scores of many members at once.
//!
//! A score is `Σ weight · signal`. Most signals are linear in what is added up over a member's purchases, so their
//! weights are folded into the purchases; few sums per member are left, and every step is taken for a block of
//! members, whose columns stay in a core's cache. [`signals`](LaunchModel::signals_of) says the same one member at a
//! time, and is what the scan is tested against.

use std::ops::Range;

use super::LaunchModel;
use super::folded::{
    ANALOGUE_COLUMNS, COLUMNS, Dense, Folded, GOES_WITH_COLUMN, LINEAR, PRICE_COLUMN, PRICED_COLUMN, SEEDS_COLUMN,
};
use super::question::Posting;
use super::signals::{HABIT_PRIOR, PRICE_PRIOR, STATICS};
use crate::artifact::Array;
use crate::embeddings::Embeddings;
use crate::kernels::{dispatched, dot_codes, fetch, ln_1p};
use crate::sparse::gallop;

/// Members of a block.
pub(super) const BLOCK: usize = 4096;
/// Score of a member who bought nothing, or allows nothing to be known: nothing was learned of such, who come last.
pub(super) const NOTHING_KNOWN: f32 = -1e6;

/// A number for each member of a block; what stands behind the last member is 0 or of no use.
type Lanes<T> = [T; BLOCK];

/// Members who are scored together.
#[derive(Clone, Debug)]
pub(super) enum Members<'a> {
    /// One after the other.
    Run(Range<u32>),
    /// Some, by sorted row.
    Some(&'a [u32]),
}

/// Columns of a block, reused from block to block.
#[derive(Debug)]
pub(super) struct Block {
    len: usize,
    activity: Vec<Lanes<f32>>,
    statics: Vec<Lanes<f32>>,
    dear: Vec<Lanes<f32>>,
    usual: Vec<Lanes<f32>>,
    scales: Vec<Lanes<f32>>,
    per_length: Vec<Lanes<f32>>,
    sums: Vec<Lanes<f32>>,
    values: Vec<Lanes<f32>>,
    dots: Vec<Lanes<i32>>,
    scores: Vec<Lanes<f32>>,
    gathered: Vec<i8>,
}

impl Default for Block {
    fn default() -> Self {
        let columns = |count| vec![[0f32; BLOCK]; count];
        Self {
            len: 0,
            activity: columns(1),
            statics: columns(STATICS),
            dear: columns(2),
            usual: columns(1),
            scales: columns(1),
            per_length: columns(1),
            sums: columns(COLUMNS),
            values: columns(1),
            dots: vec![[0; BLOCK]],
            scores: columns(1),
            gathered: Vec::new(),
        }
    }
}

impl Block {
    /// Looks up what is known of up to [`BLOCK`] members whatever the question.
    pub(super) fn look_up(&mut self, model: &LaunchModel, embeddings: &Embeddings, members: &Members<'_>) {
        self.len = members.len();
        let (of, room) = (&model.statics, &mut self.values[0]);
        for (array, lanes) in of.columns().into_iter().zip(&mut self.statics) {
            bend(members.take(array, room), 1.0, lanes);
        }
        for (array, lanes) in [&of.premium, &of.price_level].into_iter().zip(&mut self.dear) {
            lanes[..members.len()].copy_from_slice(members.take(array, room));
        }
        let activity = members.take(&of.activity, room);
        bend(activity, 1.0 / HABIT_PRIOR, &mut self.usual[0]);
        self.activity[0][..self.len].copy_from_slice(activity);
        self.scales[0][..self.len].copy_from_slice(members.take(&embeddings.members.scales, room));
        invert(members.take(&embeddings.members.lengths, room), &mut self.per_length[0]);
        if let Members::Some(rows) = members {
            let d = embeddings.factors;
            self.gathered.clear();
            rows.iter().for_each(|row| self.gathered.extend_from_slice(embeddings.members.row(*row, d)));
        }
    }

    /// Scores of the members for one question; `cursors` are where its postings stand for a run, and move on.
    pub(super) fn score(&mut self, asked: &Folded<'_>, members: &Members<'_>, cursors: &mut [usize]) -> &[f32] {
        self.sums.iter_mut().for_each(|column| column.fill(0.0));
        match members {
            Members::Run(rows) => self.add_run(asked, rows, cursors),
            Members::Some(rows) => self.add_some(asked, rows),
        }
        if let (Some(statics), Some(dear), Some(sums)) =
            (self.statics.first_chunk(), self.dear.first_chunk(), self.sums.first_chunk())
        {
            weigh(&asked.dense, statics, dear, &self.usual[0], sums, &mut self.scores[0]);
        }
        let has_seeds = asked.question.query.has_seeds();
        if has_seeds {
            add_log(asked.dense.seeds_buy, &self.sums[SEEDS_COLUMN], &mut self.scores[0]);
        }
        let codes = match members {
            Members::Run(rows) => asked.codes(rows),
            Members::Some(_) => &self.gathered[..],
        };
        let known = if has_seeds { 4 } else { 2 };
        for (query, counts) in asked.question.codes.iter().zip(&asked.vectors).take(known) {
            dot_codes(codes, &query.codes, &mut self.dots[0][..self.len]);
            fit(&self.dots[0], &self.scales[0], &self.per_length[0], counts, &mut self.scores[0]);
        }
        self.judge(asked, members);
        &self.scores[0][..self.len]
    }

    fn add_run(&mut self, asked: &Folded<'_>, rows: &Range<u32>, cursors: &mut [usize]) {
        // Their vectors come near meanwhile.
        let codes = asked.codes(rows);
        let mut coming = codes.chunks(codes.len().div_ceil(cursors.len().max(1)).max(1));
        for (posting, cursor) in asked.question.postings.iter().zip(cursors) {
            coming.next().into_iter().for_each(fetch);
            let (column, factor) = asked.places[posting.place];
            let (members, counts) = (&posting.members[*cursor..], &posting.counts[*cursor..]);
            let added = match posting.is_log {
                true => self.add_logs(column, members, counts, [posting.scale, factor], rows),
                false => self.add_counts(column, members, counts, factor * posting.scale, rows),
            };
            *cursor += added;
        }
    }

    /// Adds a posting's entries in a run to a column; returns how many there are.
    fn add_counts(&mut self, to: usize, members: &[u32], counts: &[f32], factor: f32, rows: &Range<u32>) -> usize {
        let (sums, mut added) = (&mut self.sums[to], 0);
        for (member, count) in members.iter().zip(counts).take_while(|(member, _)| **member < rows.end) {
            sums[(member - rows.start) as usize % BLOCK] += factor * count;
            added += 1;
        }
        added
    }

    /// The same of logarithms, which are taken side by side.
    fn add_logs(
        &mut self,
        to: usize,
        members: &[u32],
        counts: &[f32],
        [scale, factor]: [f32; 2],
        rows: &Range<u32>,
    ) -> usize {
        let added = gallop(members, 0, rows.end);
        let (sums, values) = (&mut self.sums[to], &mut self.values[0][..added]);
        count_log(&counts[..added], scale, factor, values);
        for (member, value) in members.iter().zip(values) {
            sums[(member - rows.start) as usize % BLOCK] += *value;
        }
        added
    }

    fn add_some(&mut self, asked: &Folded<'_>, rows: &[u32]) {
        asked.question.each_of(rows, |i, posting, at| {
            let (column, factor) = asked.places[posting.place];
            self.sums[column][i % BLOCK] += posting.counted(at, factor);
        });
    }

    /// What a score is not told by what was bought.
    fn judge(&mut self, asked: &Folded<'_>, members: &Members<'_>) {
        let scores = &mut self.scores[0][..self.len];
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
                Members::Some(rows) => {
                    rows.iter().zip(scores).for_each(|(row, score)| *score += weight * tags.of(*row))
                }
            }
        }
        for (score, activity) in self.scores[0][..self.len].iter_mut().zip(&self.activity[0]) {
            *score = if *activity > 0.0 { *score } else { NOTHING_KNOWN };
        }
    }
}

impl Members<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Run(rows) => rows.len(),
            Self::Some(rows) => rows.len(),
        }
    }

    fn row(&self, i: usize) -> u32 {
        match self {
            Self::Run(rows) => rows.start + i as u32,
            Self::Some(rows) => rows[i],
        }
    }

    /// Their values in a column of the model, gathered unless they stand in a row; 0 where a version of an older format
    /// has none.
    fn take<'b>(&self, from: &'b Array<f32>, room: &'b mut Lanes<f32>) -> &'b [f32] {
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
    /// Bends what is known of members as their signals have it.
    fn bend(known: &[f32], scale: f32, lanes: &mut Lanes<f32>) {
        lanes.iter_mut().zip(known).for_each(|(lane, x)| *lane = ln_1p(scale * x));
    }
}

dispatched! {
    /// What a division by lengths multiplies with.
    fn invert(lengths: &[f32], lanes: &mut Lanes<f32>) {
        lanes.iter_mut().zip(lengths).for_each(|(lane, x)| *lane = if *x > 1e-12 { 1.0 / *x } else { 0.0 });
    }
}

dispatched! {
    fn weigh(
        dense: &Dense,
        statics: &[Lanes<f32>; STATICS],
        dear: &[Lanes<f32>; 2],
        usual: &Lanes<f32>,
        sums: &[Lanes<f32>; COLUMNS],
        scores: &mut Lanes<f32>,
    ) {
        for i in 0..BLOCK {
            let mut score = sums[LINEAR][i] + dense.usual * usual[i];
            for (weight, lanes) in dense.statics.iter().zip(statics) {
                score += weight * lanes[i];
            }
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
    fn add_log(weight: f32, sums: &Lanes<f32>, scores: &mut Lanes<f32>) {
        scores.iter_mut().zip(sums).for_each(|(score, sum)| *score += weight * ln_1p(*sum));
    }
}

dispatched! {
    fn fit(dots: &Lanes<i32>, scales: &Lanes<f32>, per_length: &Lanes<f32>, counts: &[f32; 2], scores: &mut Lanes<f32>) {
        for i in 0..BLOCK {
            scores[i] += dots[i] as f32 * scales[i] * (counts[0] + counts[1] * per_length[i]);
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
            let (model, embeddings) = members(factors);
            let queries = [query(factors, 0, with_seeds), query(factors, 4, false)];
            let asked: Vec<&LaunchQuery> = queries.iter().collect();
            let scores = model.score_all(&asked, &embeddings, &Stop::default()).unwrap();
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
