//! A question with the weights of its signals folded into what is added up.

use std::ops::Range;

use super::LaunchModel;
use super::leanings::Leaning;
use super::query::LaunchQuery;
use super::question::Question;
use super::signals::{
    ANALOGUE_SUMS, ANALOGUES_5, BOUGHT, GOES_WITH, GOES_WITH_ANALOGUES, HABIT_SIGNALS, HABITS, MEAN_HABITS,
    MEMBER_TAGS, NOT_CARRIED, OTHER_LEVELS, OWN, PREMIUM, PREMIUM_OF_ANALOGUES, PRICE, PRICE_LEVEL, PRICE_PRIOR,
    PRICED, RECENCY, SEED_COSINE, SEED_PRODUCTS, SEED_VECTOR, SEEDS_BUY, STATICS, Signals, Sums, TAGS, USUAL_PRICE,
    VECTOR, VECTOR_COSINE, VECTOR_COSINE_20,
};
use crate::embeddings::Embeddings;

/// Columns of what is added up: all that counts by itself, and what is bent or divided once it is whole.
pub(super) const LINEAR: usize = 0;
pub(super) const ANALOGUE_COLUMNS: [usize; 3] = [1, 2, 3];
pub(super) const GOES_WITH_COLUMN: usize = 4;
pub(super) const SEEDS_COLUMN: usize = 5;
pub(super) const PRICED_COLUMN: usize = 6;
pub(super) const PRICE_COLUMN: usize = 7;
pub(super) const OWN_COLUMN: usize = 8;
pub(super) const COLUMNS: usize = 9;

/// A question with its weights folded in.
#[derive(Debug)]
pub(super) struct Folded<'a> {
    pub(super) model: &'a LaunchModel,
    pub(super) question: Question<'a>,
    /// By place of [`Sums`]: the column that a purchase is added to, and what it counts there.
    pub(super) places: [(usize, f32); size_of::<Sums>() / size_of::<f32>()],
    pub(super) leaning: Leaning<'a>,
    pub(super) dense: Dense,
    /// By vector of the question: what a unit of the inner product of codes counts, and what it counts per length.
    pub(super) vectors: [[f32; 2]; 4],
    pub(super) not_carried: f32,
    pub(super) member_tags: f32,
}

/// How whole sums count, and what counts beside them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dense {
    pub(super) usual: f32,
    pub(super) analogues: [f32; 3],
    pub(super) goes_with: f32,
    pub(super) seeds_buy: f32,
    pub(super) bought: f32,
    pub(super) usual_price: f32,
    /// Prices of a member of whom none is known.
    pub(super) prior_price: f32,
    /// Of how dear the member buys: in each category, and at all.
    pub(super) dear: [f32; 2],
}

/// Weight of each signal of the member alone, per unit of `ln(1 + column)`.
pub(super) fn weights_of_statics(weights: &Signals) -> [f32; STATICS] {
    // Of recency, less is more.
    std::array::from_fn(|k| if k == RECENCY { -weights[k] } else { weights[k] })
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
        places[OWN] = (OWN_COLUMN, 1.0);
        let [length, few_length] = question.lengths.map(|length| if length > 1e-12 { 1.0 / length } else { 0.0 });
        let unit = question.codes.each_ref().map(|query| query.scale);
        let vectors = [
            [weights[VECTOR], weights[VECTOR_COSINE] * length],
            [0.0, weights[VECTOR_COSINE_20] * few_length],
            [weights[SEED_VECTOR], 0.0],
            [0.0, weights[SEED_COSINE]],
        ];
        Self {
            model,
            places,
            leaning: model.leanings.by(weights_of_statics(&weights)),
            dense: Dense {
                usual,
                analogues: std::array::from_fn(|k| weights[ANALOGUES_5 + k]),
                goes_with: weights[GOES_WITH_ANALOGUES],
                seeds_buy: weights[SEEDS_BUY],
                bought: weights[BOUGHT],
                usual_price: weights[USUAL_PRICE],
                prior_price: PRICE_PRIOR * question.usual_price_band,
                dear: [
                    weights[PREMIUM] * query.prices[0] + weights[PREMIUM_OF_ANALOGUES] * query.prices[1],
                    weights[PRICE_LEVEL] * query.prices[2],
                ],
            },
            vectors: std::array::from_fn(|v| vectors[v].map(|weight| weight * unit[v])),
            not_carried: weights[NOT_CARRIED],
            member_tags: weights[MEMBER_TAGS],
            question,
        }
    }

    /// The vectors that it is asked of.
    pub(super) fn embeddings(&self) -> &'a Embeddings {
        self.question.embeddings
    }

    /// Codes of a run's vectors.
    pub(super) fn codes(&self, rows: &Range<u32>) -> &'a [i8] {
        let embeddings = self.question.embeddings;
        &embeddings.members.codes[rows.start as usize * embeddings.factors..rows.end as usize * embeddings.factors]
    }

    /// Which columns anything is added to.
    pub(super) fn is_used(&self, column: usize) -> bool {
        match column {
            SEEDS_COLUMN => self.question.query.has_seeds(),
            OWN_COLUMN => self.question.query.own.is_some(),
            _ => true,
        }
    }

    /// Where each posting has its first member of a row or later.
    pub(super) fn cursors(&self, start: u32) -> Vec<usize> {
        self.question.postings.iter().map(|posting| posting.members.partition_point(|m| *m < start)).collect()
    }
}
