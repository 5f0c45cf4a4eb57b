//! A query looked up once: what it takes of a member, and the postings to add up over.

use std::ops::Range;

use super::LaunchModel;
use super::query::{ANALOGUE_COUNTS, LaunchQuery};
use super::signals::{ANALOGUE_SUMS, GOES_WITH, HABIT_PRIOR, OTHER_LEVELS, OWN, PRICE, PRICED, SEED_PRODUCTS, Sums};
use crate::embeddings::Embeddings;
use crate::kernels::{dot, ln_1p};
use crate::quantized::QuantizedQuery;
use crate::ranking::Scored;
use crate::sparse::gallop;

/// Rows with fewer others between them are looked for one after the other.
const NEAR: u32 = 16;

/// Members who bought something, with decayed purchases, and the sum that it goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posting<'a> {
    pub(super) place: usize,
    pub(super) scale: f32,
    /// A purchase counts `ln(1 + scale · count)`, how far it stands above what the base's rate would give, in place of
    /// `scale · count`.
    pub(super) is_log: bool,
    pub(super) members: &'a [u32],
    pub(super) counts: &'a [f32],
}

impl Posting<'_> {
    /// What an entry counts.
    #[inline]
    pub(super) fn value(&self, at: usize) -> f32 {
        let x = self.scale * self.counts[at];
        if self.is_log { ln_1p(x) } else { x }
    }
}

/// A query looked up once.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) query: &'a LaunchQuery,
    pub(super) embeddings: &'a Embeddings,
    /// Its vector, that of few analogues, of its seeds, and their centre.
    pub(super) codes: [QuantizedQuery; 4],
    /// Lengths of the first two.
    pub(super) lengths: [f32; 2],
    /// Per habit sum, how many features are in it.
    pub(super) known: [f32; OTHER_LEVELS + 1],
    /// Bands of the base's mean price in the finest category above the product's.
    pub(super) usual_price_band: f32,
    pub(super) postings: Vec<Posting<'a>>,
}

impl<'a> Question<'a> {
    pub(super) fn new(model: &'a LaunchModel, query: &'a LaunchQuery, embeddings: &'a Embeddings) -> Self {
        let mut known = [0.0; OTHER_LEVELS + 1];
        let mut postings = Vec::new();
        for (place, feature) in &query.habits {
            known[*place] += 1.0;
            let scale = 1.0 / (HABIT_PRIOR * model.rates[*feature as usize]);
            let (members, counts) = model.habits.row(*feature);
            postings.push(Posting { place: *place, scale, is_log: true, members, counts });
        }
        let (mut rates, mut above_own) = (0.0, 0.0);
        for (above, feature) in &query.bands {
            let rate = model.rates[*feature as usize];
            (rates, above_own) = (rates + rate, above_own + above * rate);
            let (members, counts) = model.habits.row(*feature);
            let linear = |place, scale| Posting { place, scale, is_log: false, members, counts };
            postings.extend([linear(PRICED, 1.0), linear(PRICE, *above)]);
        }
        let bought = |place: usize, product: &Scored| {
            let (members, counts) = model.buyers.row(product.row);
            Posting { place, scale: product.score, is_log: false, members, counts }
        };
        for (rank, analogue) in query.analogues.iter().enumerate() {
            let class = ANALOGUE_COUNTS.iter().position(|end| rank < *end).unwrap_or(0);
            postings.push(bought(ANALOGUE_SUMS + class, analogue));
        }
        postings.extend(query.own.iter().map(|own| bought(OWN, &Scored { row: own.product, score: 1.0 })));
        postings.extend(query.goes_with.iter().map(|product| bought(GOES_WITH, product)));
        postings.extend(query.seeds.products.iter().map(|product| bought(SEED_PRODUCTS, product)));
        let length = |vector: &[f32]| dot(vector, vector).sqrt();
        let none = vec![0.0; if query.has_seeds() { 0 } else { embeddings.factors }];
        let [seed_vector, centroid] = match query.has_seeds() {
            true => [&query.seeds.vector, &query.seeds.centroid],
            false => [&none; 2],
        };
        Self {
            query,
            embeddings,
            codes: [&query.vector, &query.few_vector, seed_vector, centroid].map(|vector| QuantizedQuery::new(vector)),
            lengths: [length(&query.vector), length(&query.few_vector)],
            known,
            usual_price_band: if rates > 0.0 { above_own / rates } else { 0.0 },
            postings,
        }
    }

    /// Adds up the sums of some members, given by sorted row.
    pub(super) fn add_some(&self, rows: &[u32], sums: &mut [Sums]) {
        self.each_of(rows, |i, posting, at| sums[i][posting.place] += posting.value(at));
    }

    /// Every purchase of some members, given by sorted row, that counts: the member's place among them, the posting
    /// and its entry.
    pub(super) fn each_of(&self, rows: &[u32], mut each: impl FnMut(usize, &Posting<'_>, usize)) {
        let runs = Runs::of(rows);
        for posting in &self.postings {
            let (mut run, mut at) = (0, 0);
            // Both are sorted: each leaps to where the other stands.
            while let Some(places) = runs.places.get(run) {
                at = gallop(posting.members, at, rows[places.start]);
                let Some(member) = posting.members.get(at) else { break };
                if *member > runs.last[run] {
                    run = gallop(&runs.last, run, *member);
                    continue;
                }
                let mut place = places.start;
                while let Some(member) = posting.members.get(at).filter(|member| **member <= runs.last[run]) {
                    // The run's last row is no smaller.
                    place = gallop(rows, place, *member);
                    if rows[place] == *member {
                        each(place, posting, at);
                    }
                    at += 1;
                }
                run += 1;
            }
        }
    }
}

/// Sorted rows as runs of such as are near to each other.
struct Runs {
    /// Of each run, the places of its rows.
    places: Vec<Range<usize>>,
    /// Of each run, its last row.
    last: Vec<u32>,
}

impl Runs {
    fn of(rows: &[u32]) -> Self {
        let mut runs = Self { places: Vec::new(), last: Vec::new() };
        let mut start = 0;
        for run in rows.chunk_by(|a, b| b - a < NEAR) {
            runs.places.push(start..start + run.len());
            runs.last.extend(run.last());
            start += run.len();
        }
        runs
    }
}
