//! Sums over products that few of many touch: how sparse models add up one member's scores.

use std::cell::RefCell;

use crate::ranking::{Scored, best};

thread_local! {
    /// Tables of this thread that are not in use, all zero: a request costs what it touches, not a table.
    static POOL: RefCell<Vec<Scatter>> = const { RefCell::new(Vec::new()) };
}

/// One sum per product, zero where nothing was added.
#[derive(Debug, Default)]
pub struct Scatter {
    sums: Vec<f32>,
    touched: Vec<u32>,
}

impl Scatter {
    /// A table of `n` zeros, from this thread's pool; goes back when the guard is dropped.
    pub fn take(n: usize) -> Borrowed {
        let mut scatter = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
        if scatter.sums.len() < n {
            scatter.sums.resize(n, 0.0);
        }
        Borrowed(scatter)
    }

    /// Adds a value above 0 to a row.
    #[inline]
    pub fn add(&mut self, row: u32, value: f32) {
        let sum = &mut self.sums[row as usize];
        if *sum == 0.0 {
            self.touched.push(row);
        }
        // What is added may be too small to be seen: the row was touched all the same, once.
        *sum += value.max(f32::MIN_POSITIVE);
    }

    /// The sum of a row.
    #[inline]
    pub fn get(&self, row: u32) -> f32 {
        self.sums[row as usize]
    }

    /// The `k` allowed rows with the largest sums above 0, in no order. Of few is asked whether they are allowed.
    pub fn best(&self, k: usize, allowed: impl Fn(u32) -> bool) -> Vec<Scored> {
        let sums = self.touched.iter().map(|row| Scored { row: *row, score: self.get(*row) });
        best(sums.filter(|s| s.score > 0.0).collect(), k, allowed)
    }

    /// The same for who keeps them: without the room that all rows took.
    pub fn best_to_keep(&self, k: usize, allowed: impl Fn(u32) -> bool) -> Vec<Scored> {
        let mut best = self.best(k, allowed);
        best.shrink_to_fit();
        best
    }

    /// Every row that something was added to, with its sum.
    pub fn each(&self, mut f: impl FnMut(u32, f32)) {
        for row in &self.touched {
            f(*row, self.get(*row));
        }
    }
}

/// A [`Scatter`] on loan from its thread.
#[derive(Debug)]
pub struct Borrowed(Scatter);

impl std::ops::Deref for Borrowed {
    type Target = Scatter;

    fn deref(&self) -> &Scatter {
        &self.0
    }
}

impl std::ops::DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Scatter {
        &mut self.0
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut scatter = std::mem::take(&mut self.0);
        for row in scatter.touched.drain(..) {
            scatter.sums[row as usize] = 0.0;
        }
        // A thread that ends has no pool any more, and needs none.
        let _ = POOL.try_with(|pool| pool.borrow_mut().push(scatter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_back_empty() {
        {
            let mut a = Scatter::take(4);
            a.add(2, 1.5);
            a.add(2, 1.0);
            a.add(3, 2.5);
            assert_eq!(a.best(1, |_| true), [Scored { row: 2, score: 2.5 }]);
            assert_eq!((a.get(1), a.get(3)), (0.0, 2.5));
        }
        let b = Scatter::take(6);
        assert!((0..6).all(|row| b.get(row) == 0.0) && b.best(9, |_| true).is_empty());
    }

    #[test]
    fn what_is_kept_takes_no_more_room_than_it_needs() {
        let mut sums = Scatter::take(10_000);
        (0..10_000).for_each(|row| sums.add(row, row as f32));
        let mut kept = sums.best_to_keep(3, |row| row != 9_998);
        kept.sort_unstable();
        assert_eq!(kept.iter().map(|s| s.row).collect::<Vec<_>>(), [9_999, 9_997, 9_996]);
        assert!(kept.capacity() < 100, "there may be such a list for each member");
    }
}
