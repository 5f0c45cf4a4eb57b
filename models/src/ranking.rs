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

/// A bit for each of so many rows is sooner looked through than one row is sorted.
const MARKED: usize = 1024;
/// Rows beyond those wanted, and a quarter of these, that are taken before it is asked who is allowed.
const SPARE: usize = 16;

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

    /// The one to beat: the worst that is kept, once there are as many as are wanted.
    #[inline]
    pub fn worst(&self) -> Option<&Scored> {
        if self.kept.len() < self.k { None } else { self.kept.peek() }
    }

    /// The kept rows, best first.
    pub fn into_sorted(self) -> Vec<Scored> {
        self.kept.into_sorted_vec()
    }
}

/// The best `k` allowed of some rows, in no order; in time that grows with the rows alone. Where most are allowed, few
/// are asked whether they are.
pub fn best(mut rows: Vec<Scored>, k: usize, allowed: impl Fn(u32) -> bool) -> Vec<Scored> {
    let is_allowed = |s: &Scored| allowed(s.row);
    let rest = cut(&mut rows, k + k / 4 + SPARE);
    rows.retain(is_allowed);
    if rows.len() < k {
        rows.extend(rest.into_iter().filter(is_allowed));
    }
    cut(&mut rows, k);
    rows
}

/// Keeps the best `k`; gives the others.
fn cut(rows: &mut Vec<Scored>, k: usize) -> Vec<Scored> {
    if rows.len() <= k {
        return Vec::new();
    }
    rows.select_nth_unstable(k);
    rows.split_off(k)
}

/// Rows below `n`, in order and each once.
pub(crate) fn distinct(mut rows: Vec<u32>, n: usize) -> Vec<u32> {
    if n > MARKED * rows.len() {
        rows.sort_unstable();
        rows.dedup();
        return rows;
    }
    let mut marks = vec![0u64; n.div_ceil(64)];
    rows.drain(..).for_each(|row| marks[row as usize / 64] |= 1 << (row % 64));
    for (word, mut bits) in (0u32..).zip(marks) {
        while bits != 0 {
            rows.push(64 * word + bits.trailing_zeros());
            bits &= bits - 1;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn distinct_rows_are_in_order(rows in prop::collection::vec(0u32..400, 0..90), far in 0usize..2) {
            let set: std::collections::BTreeSet<u32> = rows.iter().copied().collect();
            prop_assert_eq!(distinct(rows, 400 + far * 200_000), set.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn the_best_allowed_are_the_head_of_a_sort(scores in prop::collection::vec(-5i8..5, 0..90), k in 0usize..20, every in 1u32..9) {
            let rows = scores.iter().zip(0..).map(|(s, row)| Scored { row, score: f32::from(*s) });
            let allowed = |row: u32| row.is_multiple_of(every);
            let mut sorted: Vec<Scored> = rows.clone().filter(|s| allowed(s.row)).collect();
            sorted.sort();
            sorted.truncate(k);
            let mut found = best(rows.collect(), k, allowed);
            found.sort();
            prop_assert_eq!(found, sorted);
        }

        #[test]
        fn top_is_the_head_of_a_full_sort(scores in prop::collection::vec(-5i8..5, 0..60), k in 0usize..20) {
            let all: Vec<Scored> =
                scores.iter().enumerate().map(|(row, s)| Scored { row: row as u32, score: f32::from(*s) }).collect();
            let mut top = Top::new(k);
            all.iter().for_each(|s| top.push(s.row, s.score));
            let mut sorted = all;
            sorted.sort();
            sorted.truncate(k);
            prop_assert_eq!(top.into_sorted(), sorted);
        }
    }
}
