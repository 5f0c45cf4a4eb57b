//! Picking the best of many scored things.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A row number with its score. Ordered best first: higher score, then lower row, so that ties are
/// broken the same way everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Row of the product or member.
    pub row: u32,
    /// Higher is better; never NaN.
    pub score: f32,
}

impl Eq for Scored {}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Keeps the best `k` of what is pushed, in `O(log k)` per push and `O(k)` memory.
#[derive(Debug)]
pub struct Top {
    k: usize,
    // The maximum by `Ord` is the worst one kept: the one to beat.
    kept: BinaryHeap<Scored>,
}

impl Top {
    /// An empty selection of at most `k`.
    pub fn new(k: usize) -> Self {
        Self { k, kept: BinaryHeap::new() }
    }

    /// Offers one row.
    #[inline]
    pub fn push(&mut self, row: u32, score: f32) {
        let offered = Scored { row, score };
        if self.kept.len() < self.k {
            self.kept.push(offered);
        } else if let Some(mut worst) = self.kept.peek_mut()
            && offered < *worst
        {
            *worst = offered;
        }
    }

    /// Whether a row would be kept if it were offered now.
    #[inline]
    pub fn would_keep(&self, row: u32, score: f32) -> bool {
        self.kept.len() < self.k || self.kept.peek().is_some_and(|worst| Scored { row, score } < *worst)
    }

    /// The one to beat: the worst that is kept, once there are as many as are wanted.
    #[inline]
    pub fn worst(&self) -> Option<&Scored> {
        if self.kept.len() < self.k { None } else { self.kept.peek() }
    }

    /// Takes over what another selection kept.
    pub fn merge(mut self, other: Self) -> Self {
        for s in other.kept {
            self.push(s.row, s.score);
        }
        self
    }

    /// The kept rows, in no order.
    pub fn into_rows(self) -> impl Iterator<Item = u32> {
        self.kept.into_iter().map(|s| s.row)
    }

    /// The kept rows, best first.
    pub fn into_sorted(self) -> Vec<Scored> {
        self.kept.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn top_is_the_head_of_a_full_sort(scores in prop::collection::vec(-5i8..5, 0..60), k in 0usize..20, cut in 0usize..60) {
            let all: Vec<Scored> =
                scores.iter().enumerate().map(|(row, s)| Scored { row: row as u32, score: f32::from(*s) }).collect();
            let (mut left, mut right) = (Top::new(k), Top::new(k));
            for s in &all {
                if (s.row as usize) < cut { left.push(s.row, s.score) } else { right.push(s.row, s.score) }
            }
            let mut sorted = all;
            sorted.sort();
            sorted.truncate(k);
            prop_assert_eq!(left.merge(right).into_sorted(), sorted);
        }
    }
}
