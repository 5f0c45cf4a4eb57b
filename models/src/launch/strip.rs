//! Members whose scores are reckoned side by side, from what was added up of their purchases.

use super::folded::{
    ANALOGUE_COLUMNS, COLUMNS, Dense, Folded, GOES_WITH_COLUMN, LINEAR, OWN_COLUMN, PRICE_COLUMN, PRICED_COLUMN,
    SEEDS_COLUMN,
};
use super::leanings::{Leaning, lean};
use super::scan::{Lanes, Members, NOTHING_KNOWN, STRIP};
use super::signals::{HABIT_PRIOR, PRICE_PRIOR};
use crate::kernels::{dispatched, dot_codes_of_both, ln_1p};

/// Room for a strip.
#[derive(Debug)]
pub(super) struct Strip {
    activity: Lanes<f32>,
    leanings: Lanes<f32>,
    dear: [Lanes<f32>; 2],
    scales: Lanes<f32>,
    lengths: Lanes<f32>,
    dots: [Lanes<i32>; 2],
    /// For what is reckoned on the way.
    pub(super) values: Lanes<f32>,
    codes: Vec<i8>,
}

impl Default for Strip {
    fn default() -> Self {
        let (none, dots) = ([0.0; STRIP], [[0; STRIP]; 2]);
        Self {
            activity: none,
            leanings: none,
            dear: [none; 2],
            scales: none,
            lengths: none,
            dots,
            values: none,
            codes: Vec::new(),
        }
    }
}

impl Strip {
    /// Scores of the members of a strip as far as what was added up, and what is known of the members, make them.
    pub(super) fn weigh(
        &mut self,
        asked: &Folded<'_>,
        members: &Members<'_>,
        sums: [&[f32]; COLUMNS],
        scores: &mut [f32],
    ) {
        let statics = &asked.model.statics;
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
        if asked.question.query.own.is_some() {
            add_log(asked.dense.bought, sums[OWN_COLUMN], scores);
        }
    }

    /// Makes scores whole: adds vectors, stores and tags.
    pub(super) fn finish(&mut self, asked: &Folded<'_>, members: &Members<'_>, scores: &mut [f32]) {
        let vectors = &asked.embeddings().members;
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
        let activity = members.take(&asked.model.statics.activity, &mut self.activity);
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
