//! How high a member's score may come, before all of it is added up.
//!
//! Of who can't reach what is asked for, the vector and the tags are not looked at. An inner product is at most the
//! product of the lengths (Cauchy and Schwarz), and members' lengths are known; a sum of tags is at most that of the
//! highest, of as many as a member has.

use super::folded::Folded;
use super::scan::{Lanes, STRIP};
use crate::quantized::QuantizedQuery;

/// How much higher than it is reckoned a score may come by rounding, as a share of it and of 1.
const ROUNDING: f32 = 1e-5;

/// What vectors, tags and stores may count at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Per length of the member's vector.
    per_length: f32,
    /// Whatever the vector.
    flat: f32,
}

impl Reach {
    /// For a question.
    pub(super) fn of(asked: &Folded<'_>) -> Self {
        let length = |query: &QuantizedQuery| query.codes.iter().map(|c| f32::from(*c).powi(2)).sum::<f32>().sqrt();
        let (mut per_length, mut flat) = (0.0, asked.not_carried.max(0.0));
        for (query, [count, cosine]) in asked.question.codes.iter().zip(asked.vectors) {
            per_length += count.abs() * length(query);
            flat += cosine.abs() * length(query);
        }
        let tags = asked.question.query.tags.as_ref();
        flat += tags.map_or(0.0, |tags| tags.most(asked.member_tags));
        Self { per_length, flat }
    }

    /// Which members of a strip may reach a score, by place, and how many these are: `scores` are what counts but vectors,
    /// tags and stores.
    pub(super) fn likely(self, least: f32, lengths: &[f32], scores: &[f32], places: &mut Lanes<u32>) -> usize {
        let more = self.flat - least + ROUNDING * (1.0 + least.abs() + self.flat);
        let mut count = 0;
        for (place, (length, score)) in (0..).zip(lengths.iter().zip(scores)) {
            // In place of a jump, which nobody could foretell.
            places[count % STRIP] = place;
            count += usize::from(score + self.per_length * length + more >= 0.0);
        }
        count
    }
}
