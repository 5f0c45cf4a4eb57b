//! Scores of many members at once.
//!
//! A score is `Σ weight · signal`. Most signals are linear in what is added up over a member's purchases, so their
//! weights are folded into the purchases; few sums per member are left, and every step is taken for a block of
//! members, whose columns stay in a core's cache. [`signals`](LaunchModel::signals_of) says the same one member at a
//! time, and is what the scan is tested against.

use std::ops::Range;

use super::LaunchModel;
use super::query::LaunchQuery;
use super::question::{Posting, Question};
use super::signals::{
    ANALOGUE_SUMS, ANALOGUES_5, GOES_WITH, GOES_WITH_ANALOGUES, HABIT_PRIOR, HABIT_SIGNALS, HABITS, MEAN_HABITS,
    NOT_CARRIED, OTHER_LEVELS, PRICE, PRICE_PRIOR, PRICED, SEED_COSINE, SEED_PRODUCTS, SEED_VECTOR, SEEDS_BUY, STATICS,
    Sums, TAGS, USUAL_PRICE, VECTOR, VECTOR_COSINE, VECTOR_COSINE_20,
};
use crate::artifact::Array;
use crate::embeddings::Embeddings;
use crate::kernels::{dispatched, dot_codes, ln_1p};
use crate::sparse::gallop;

/// Members of a block.
pub(super) const BLOCK: usize = 2048;
/// Score of a member who bought nothing, or allows nothing to be known: nothing was learned of such, who come last.
pub(super) const NOTHING_KNOWN: f32 = -1e6;

/// Entries of a posting in a block from which on it pays to reckon them side by side.
const DENSE_ENTRIES: usize = 32;

/// A number for each member of a block; what stands behind the last member is 0 or of no use.
type Lanes<T> = [T; BLOCK];

/// Columns of what is added up: all that counts by itself, and what is bent or divided once it is whole.
const LINEAR: usize = 0;
const ANALOGUE_COLUMNS: [usize; 3] = [1, 2, 3];
const GOES_WITH_COLUMN: usize = 4;
const SEEDS_COLUMN: usize = 5;
const PRICED_COLUMN: usize = 6;
const PRICE_COLUMN: usize = 7;
const COLUMNS: usize = 8;

/// Members who are scored together.
#[derive(Clone, Debug)]
pub(super) enum Members<'a> {
    /// One after the other.
    Run(Range<u32>),
    /// Some, by sorted row.
    Some(&'a [u32]),
}

/// A question with its weights folded in.
#[derive(Debug)]
pub(super) struct Folded<'a> {
    question: Question<'a>,
    /// By place of [`Sums`]: the column that a purchase is added to, and what it counts there.
    places: [(usize, f32); size_of::<Sums>() / size_of::<f32>()],
    dense: Dense,
    /// By vector of the question: what a unit of the inner product of codes counts, and what it counts per length.
    vectors: [[f32; 2]; 4],
    not_carried: f32,
}

/// What counts whatever was bought, and how whole sums count.
#[derive(Clone, Copy, Debug)]
struct Dense {
    statics: [f32; STATICS],
    usual: f32,
    analogues: [f32; 3],
    goes_with: f32,
    seeds_buy: f32,
    usual_price: f32,
    /// Prices of a member of whom none is known.
    prior_price: f32,
}

impl<'a> Folded<'a> {
    pub(super) fn new(model: &'a LaunchModel, query: &'a LaunchQuery, embeddings: &'a Embeddings) -> Self {
        let (question, weights) = (Question::new(model, query, embeddings), query.weights(model));
        let known = &question.known;
        let mean_count: f32 = MEAN_HABITS.iter().map(|place| known[*place]).sum();
        let per = |weight: f32, count: f32| if count > 0.0 { weight / count } else { 0.0 };
        let mut places = [(LINEAR, 0.0); size_of::<Sums>() / size_of::<f32>()];
        let mut usual = if mean_count > 0.0 { -weights[HABITS] } else { 0.0 };
        for place in 0..=OTHER_LEVELS {
            let mean = if MEAN_HABITS.contains(&place) { per(weights[HABITS], mean_count) } else { 0.0 };
            let own = if place <= TAGS { weights[HABIT_SIGNALS + place] } else { 0.0 };
            places[place].1 = mean + per(own, known[place]);
            usual -= if known[place] > 0.0 { own } else { 0.0 };
        }
        places[PRICED] = (PRICED_COLUMN, 1.0);
        places[PRICE] = (PRICE_COLUMN, 1.0);
        ANALOGUE_COLUMNS.iter().enumerate().for_each(|(k, column)| places[ANALOGUE_SUMS + k] = (*column, 1.0));
        places[GOES_WITH] = (GOES_WITH_COLUMN, 1.0);
        places[SEED_PRODUCTS] = (SEEDS_COLUMN, 1.0);
        let [length, few_length] = question.lengths.map(|length| if length > 1e-12 { 1.0 / length } else { 0.0 });
        let unit = question.codes.each_ref().map(|query| query.scale);
        let vectors = [
            [weights[VECTOR], weights[VECTOR_COSINE] * length],
            [0.0, weights[VECTOR_COSINE_20] * few_length],
            [weights[SEED_VECTOR], 0.0],
            [0.0, weights[SEED_COSINE]],
        ];
        Self {
            places,
            dense: Dense {
                statics: std::array::from_fn(|k| weights[k]),
                usual,
                analogues: std::array::from_fn(|k| weights[ANALOGUES_5 + k]),
                goes_with: weights[GOES_WITH_ANALOGUES],
                seeds_buy: weights[SEEDS_BUY],
                usual_price: weights[USUAL_PRICE],
                prior_price: PRICE_PRIOR * question.usual_price_band,
            },
            vectors: std::array::from_fn(|v| vectors[v].map(|weight| weight * unit[v])),
            not_carried: weights[NOT_CARRIED],
            question,
        }
    }

    /// The vectors that it is asked of.
    pub(super) fn embeddings(&self) -> &'a Embeddings {
        self.question.embeddings
    }

    /// Where each posting has its first member of a row or later.
    pub(super) fn cursors(&self, start: u32) -> Vec<usize> {
        self.question.postings.iter().map(|posting| posting.members.partition_point(|m| *m < start)).collect()
    }
}

/// Columns of a block, reused from block to block.
#[derive(Debug)]
pub(super) struct Block {
    len: usize,
    activity: Vec<Lanes<f32>>,
    statics: Vec<Lanes<f32>>,
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
        let of = &model.statics;
        let arrays = [&of.activity, &of.recent, &of.trips, &of.recency, &of.early, &of.spend];
        arrays.iter().zip(&mut self.statics).for_each(|(array, lanes)| members.take(array, lanes));
        self.activity[0] = self.statics[0];
        members.take(&embeddings.members.scales, &mut self.scales[0]);
        members.take(&embeddings.members.lengths, &mut self.per_length[0]);
        if let [activity, recent, trips, recency, early, spend] = &mut self.statics[..] {
            bend([activity, recent, trips, recency, early, spend], &mut self.usual[0], &mut self.per_length[0]);
        }
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
        if let (Some(statics), Some(sums)) = (self.statics.first_chunk(), self.sums.first_chunk()) {
            weigh(&asked.dense, statics, &self.usual[0], sums, &mut self.scores[0]);
        }
        let embeddings = asked.question.embeddings;
        let codes = match members {
            Members::Run(rows) => {
                let d = embeddings.factors;
                &embeddings.members.codes[rows.start as usize * d..rows.end as usize * d]
            }
            Members::Some(_) => &self.gathered[..],
        };
        let known = if asked.question.query.has_seeds() { 4 } else { 2 };
        for (query, counts) in asked.question.codes.iter().zip(&asked.vectors).take(known) {
            dot_codes(codes, &query.codes, &mut self.dots[0][..self.len]);
            fit(&self.dots[0], &self.scales[0], &self.per_length[0], counts, &mut self.scores[0]);
        }
        self.judge(asked, members);
        &self.scores[0][..self.len]
    }

    fn add_run(&mut self, asked: &Folded<'_>, rows: &Range<u32>, cursors: &mut [usize]) {
        for (posting, cursor) in asked.question.postings.iter().zip(cursors) {
            let (column, factor) = asked.places[posting.place];
            let sums = &mut self.sums[column];
            if posting.members.get(*cursor + DENSE_ENTRIES).is_none_or(|member| *member >= rows.end) {
                while let Some(member) = posting.members.get(*cursor).filter(|member| **member < rows.end) {
                    sums[(member - rows.start) as usize % BLOCK] += posting.counted(*cursor, factor);
                    *cursor += 1;
                }
            } else {
                let entries = *cursor..gallop(posting.members, *cursor, rows.end);
                *cursor = entries.end;
                let values = &mut self.values[0][..entries.len()];
                posting.values(entries.clone(), factor, values);
                for (member, value) in posting.members[entries].iter().zip(values) {
                    sums[(member - rows.start) as usize % BLOCK] += *value;
                }
            }
        }
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
        for (score, activity) in scores.iter_mut().zip(&self.activity[0]) {
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

    /// Their values in a column of the model; 0 where a version of an older format has none.
    fn take(&self, from: &Array<f32>, to: &mut Lanes<f32>) {
        let from: &[f32] = from;
        match self {
            _ if from.is_empty() => to.fill(0.0),
            Self::Run(rows) => to[..rows.len()].copy_from_slice(&from[rows.start as usize..rows.end as usize]),
            Self::Some(rows) => rows.iter().zip(&mut *to).for_each(|(row, to)| *to = from[*row as usize]),
        }
        // What an earlier block left there is of no use, and may be out of range.
        to[self.len()..].fill(0.0);
    }
}

impl Posting<'_> {
    /// What entries count.
    fn values(&self, entries: Range<usize>, factor: f32, into: &mut [f32]) {
        match self.is_log {
            true => count_log(&self.counts[entries], self.scale, factor, into),
            false => count_linear(&self.counts[entries], self.scale, factor, into),
        }
    }

    /// What an entry counts.
    fn counted(&self, at: usize, factor: f32) -> f32 {
        factor * self.value(at)
    }
}

dispatched! {
    fn count_log(counts: &[f32], scale: f32, factor: f32, into: &mut [f32]) {
        into.iter_mut().zip(counts).for_each(|(into, count)| *into = factor * ln_1p(scale * count));
    }
}

dispatched! {
    fn count_linear(counts: &[f32], scale: f32, factor: f32, into: &mut [f32]) {
        into.iter_mut().zip(counts).for_each(|(into, count)| *into = factor * (scale * count));
    }
}

dispatched! {
    /// Bends what is known of members as their signals have it, and turns lengths into what they divide by.
    fn bend(statics: [&mut Lanes<f32>; STATICS], usual: &mut Lanes<f32>, lengths: &mut Lanes<f32>) {
        usual.iter_mut().zip(&*statics[0]).for_each(|(usual, activity)| *usual = ln_1p(activity / HABIT_PRIOR));
        for (k, lanes) in statics.into_iter().enumerate() {
            let sign = if k == 3 { -1.0 } else { 1.0 };
            lanes.iter_mut().for_each(|x| *x = sign * ln_1p(*x));
        }
        lengths.iter_mut().for_each(|x| *x = if *x > 1e-12 { 1.0 / *x } else { 0.0 });
    }
}

dispatched! {
    fn weigh(
        dense: &Dense,
        statics: &[Lanes<f32>; STATICS],
        usual: &Lanes<f32>,
        sums: &[Lanes<f32>; COLUMNS],
        scores: &mut Lanes<f32>,
    ) {
        for i in 0..BLOCK {
            let mut score = sums[LINEAR][i] + dense.usual * usual[i];
            for (weight, lanes) in dense.statics.iter().zip(statics) {
                score += weight * lanes[i];
            }
            let mut bought = 0.0;
            for (column, weight) in ANALOGUE_COLUMNS.into_iter().zip(dense.analogues) {
                bought += sums[column][i];
                score += weight * ln_1p(bought);
            }
            score += dense.goes_with * ln_1p(sums[GOES_WITH_COLUMN][i]);
            score += dense.seeds_buy * ln_1p(sums[SEEDS_COLUMN][i]);
            let price = (sums[PRICE_COLUMN][i] + dense.prior_price) / (sums[PRICED_COLUMN][i] + PRICE_PRIOR);
            scores[i] = score - dense.usual_price * price.abs();
        }
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
    use crate::launch::query::weighed;
    use crate::launch::seeds::Seeds;
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
