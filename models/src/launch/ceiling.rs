//! How high a member's score may come, before all of it is added up.
//!
//! Of who can't reach what is asked for, the vector and the tags are not looked at. An inner product is at most the
//! product of the lengths (Cauchy and Schwarz), and members' lengths are known; a sum of tags is at most that of the
//! highest, of as many as a member has.

use super::folded::Folded;
use super::scan::{Lanes, STRIP};
use crate::quantized::QuantizedQuery;

/// How much higher than it is reckoned a score may come by rounding, as a share of what it is made of, and of 1.
const ROUNDING: f32 = 1e-5;

/// A score to be reached, and what vectors, tags and stores count for it at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceiling {
    /// The score.
    pub(super) least: f32,
    /// What they count at most per length of the member's vector.
    per_length: f32,
    /// The same whatever the vector, less the score.
    above_least: f32,
}

impl Ceiling {
    /// Of a question.
    pub(super) fn of(asked: &Folded<'_>, least: f32) -> Self {
        let length =
            |query: &QuantizedQuery| query.codes.iter().map(|c| f64::from(*c).powi(2)).sum::<f64>().sqrt() as f32;
        let (mut per_length, mut flat) = (0.0, asked.not_carried.max(0.0));
        for (query, [count, cosine]) in asked.question.codes.iter().zip(asked.vectors) {
            per_length += count.abs() * length(query);
            flat += cosine.abs() * length(query);
        }
        let tags = asked.question.query.tags.as_ref();
        flat += tags.map_or(0.0, |tags| tags.most(asked.member_tags));
        let above_least = flat - least + ROUNDING * (1.0 + least.abs() + flat);
        Self { least, per_length: per_length * (1.0 + ROUNDING), above_least }
    }

    /// Which members of a strip may reach the score, by place, and how many these are: `scores` are what counts but vectors,
    /// tags and stores.
    pub(super) fn likely(self, lengths: &[f32], scores: &[f32], places: &mut Lanes<u32>) -> usize {
        let mut count = 0;
        for (place, (length, score)) in (0..).zip(lengths.iter().zip(scores)) {
            // In place of a jump, which nobody could foretell.
            places[count % STRIP] = place;
            count += usize::from(score + self.per_length * length + self.above_least >= 0.0);
        }
        count
    }
}
