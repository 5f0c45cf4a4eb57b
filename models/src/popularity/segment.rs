//! Counts by some part of the chain.

use std::sync::Arc;

use rayon::prelude::*;

use super::PRIOR;
use crate::artifact::{Array, ArtifactError, Section, SectionWriter};
use crate::ranking::Top;
use crate::sparse::Matrix;
use crate::strings::{NONE, Strings};

/// Products of a part that are kept in order.
pub(super) const BEST: usize = 512;

/// Counts by some part of the chain.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Names of the parts, sorted.
    pub names: Strings,
    /// Decayed purchases, parts × products.
    pub counts: Matrix,
    /// Sum of each row of `counts`.
    pub totals: Array<f32>,
    /// The products bought most in each part, best first, up to [`BEST`]; not stored.
    best: Arc<Vec<Vec<u32>>>,
    /// The counts of a part that sells most of the products, by product; empty for others. Not stored.
    dense: Arc<Vec<Vec<f32>>>,
}

impl Segment {
    /// From counts by part and product.
    pub fn new(names: Strings, counts: Matrix) -> Self {
        let rows = 0..counts.rows.len() as u32;
        let totals: Vec<f32> = rows.clone().map(|row| counts.row(row).1.iter().sum()).collect();
        let best = rows.clone().into_par_iter().map(|row| most_bought(counts.row(row), BEST, |_| true));
        let best = Arc::new(best.collect());
        let dense = Arc::new(rows.into_par_iter().map(|row| dense(counts.row(row))).collect());
        Self { names, counts, totals: totals.into(), best, dense }
    }

    /// The `k` allowed products that are bought most in a part, best first.
    pub(super) fn top(&self, row: Option<u32>, k: usize, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
        let Some(best) = row.and_then(|row| self.best.get(row as usize)) else { return Vec::new() };
        let all = self.counts.row(row.unwrap_or(NONE));
        let found: Vec<u32> = best.iter().copied().filter(|product| allowed(*product)).take(k).collect();
        // Of few that are allowed, more may stand further down.
        if found.len() == k || best.len() == all.0.len() { found } else { most_bought(all, k, allowed) }
    }

    pub(super) fn count(&self, row: u32, product: u32) -> f32 {
        if let Some(count) = self.dense[row as usize].get(product as usize) {
            return *count;
        }
        let (products, counts) = self.counts.row(row);
        products.binary_search(&product).map_or(0.0, |at| counts[at])
    }

    /// The part's share of a product, smoothed to its parent's share.
    pub(super) fn share(&self, row: Option<u32>, product: u32, parent: f32) -> f32 {
        match row {
            Some(row) => (self.count(row, product) + PRIOR * parent) / (self.totals[row as usize] + PRIOR),
            None => parent,
        }
    }

    pub(super) fn find(&self, name: Option<&str>) -> Option<u32> {
        name.and_then(|name| self.names.find(name))
    }

    pub(super) fn write(&self, name: &str, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        self.names.write(name, to)?;
        self.counts.write(&format!("by_{name}"), to)
    }

    pub(super) fn read(name: &str, products: usize, from: &Section<'_>) -> Result<Self, ArtifactError> {
        let names = Strings::read(name, from)?;
        let counts = Matrix::read(&format!("by_{name}"), names.len(), products, from)?;
        Ok(Self::new(names, counts))
    }
}

/// Counts by product where at least half of those up to the last are bought: no more memory than the row itself takes.
fn dense((products, counts): (&[u32], &[f32])) -> Vec<f32> {
    let len = products.last().map_or(0, |last| *last as usize + 1);
    if 2 * products.len() < len {
        return Vec::new();
    }
    let mut dense = vec![0.0; len];
    products.iter().zip(counts).for_each(|(product, count)| dense[*product as usize] = *count);
    dense
}

fn most_bought((products, counts): (&[u32], &[f32]), k: usize, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
    let mut top = Top::new(k);
    let pairs = products.iter().zip(counts).filter(|(product, _)| allowed(**product));
    pairs.for_each(|(product, count)| top.push(*product, *count));
    top.into_sorted().iter().map(|s| s.row).collect()
}
