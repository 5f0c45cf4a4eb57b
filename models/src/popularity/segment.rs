//! Counts by some part of the chain.

use std::cmp::Ordering;
use std::sync::Arc;

use rayon::prelude::*;

use super::PRIOR;
use super::counts::Counts;
use super::places::Places;
use crate::artifact::{Array, ArtifactError, Section, SectionWriter};
use crate::kernels::fetch;
use crate::ranking::Top;
use crate::rowmap::RowMap;
use crate::sparse::{Matrix, gallop};
use crate::strings::{NONE, Strings};

/// Products of a part that are kept in order.
const BEST: usize = 512;
/// What was bought since a version learned is little beside what it learned from: one candidate for so many.
const SINCE_SHARE: usize = 4;

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
    /// Where products stand in each part's row; `None` of a part that sells few of them. Not stored.
    places: Arc<Vec<Option<Places>>>,
    /// What was bought since; not stored.
    since: Option<Since>,
}

/// What was bought in parts of the chain since a model learned.
#[derive(Clone, Debug)]
pub(crate) struct Since {
    /// What is left of 1 that the model counted.
    pub(crate) left: f32,
    /// What 1 of `parts` counts now.
    pub(crate) scale: f32,
    /// By row of the part.
    pub(crate) parts: RowMap<Bought>,
}

/// Purchases less refunds in one part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bought {
    by_product: Counts,
    total: f32,
    /// The products bought most, at least [`BEST`] of them if there are as many, in no order.
    best: Vec<Counted>,
    /// No product outside of `best` was bought more than this.
    most_outside: f32,
}

/// A product with its count.
#[derive(Clone, Copy, Debug)]
struct Counted {
    product: u32,
    count: f32,
}

impl Bought {
    pub(crate) fn of(product: u32, count: f32) -> Self {
        let mut bought = Self::default();
        bought.add(product, count);
        bought
    }

    pub(crate) fn add(&mut self, product: u32, count: f32) {
        self.total += count;
        let count = count + self.by_product.get(product);
        self.by_product.set(product, count);
        match self.best.iter_mut().find(|known| known.product == product) {
            Some(known) => known.count = count,
            None if count > self.most_outside => self.best.push(Counted { product, count }),
            None => {}
        }
        if self.best.len() == 2 * BEST {
            let (_, first_out, _) = self.best.select_nth_unstable_by(BEST, Counted::by_count);
            // Refunds may have brought down what is in; what was left out before stays as large.
            self.most_outside = self.most_outside.max(first_out.count);
            self.best.truncate(BEST);
        }
    }

    /// The same with so much of every count.
    pub(crate) fn scaled(&self, by: f32) -> Self {
        let mut by_product = Counts::default();
        self.by_product.iter().for_each(|(product, count)| by_product.set(product, count * by));
        let best = self.best.iter().map(|counted| Counted { count: counted.count * by, ..*counted }).collect();
        Self { by_product, total: self.total * by, best, most_outside: self.most_outside * by }
    }

    /// The `k` allowed products bought most, in no order.
    pub(super) fn top(&self, k: usize, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
        let is_wanted = |counted: &Counted| counted.count > 0.0 && allowed(counted.product);
        let mut found: Vec<Counted> = self.best.iter().copied().filter(is_wanted).collect();
        // Of few that are allowed, more may stand further down.
        if found.len() < k && self.best.len() >= BEST {
            let all = self.by_product.iter().map(|(product, count)| Counted { product, count });
            found = all.filter(is_wanted).collect();
        }
        if k < found.len() {
            found.select_nth_unstable_by(k, Counted::by_count);
            found.truncate(k);
        }
        found.iter().map(|counted| counted.product).collect()
    }
}

impl Counted {
    /// More before less, and as ever where there are as many.
    fn by_count(&self, other: &Self) -> Ordering {
        other.count.total_cmp(&self.count).then(self.product.cmp(&other.product))
    }
}

impl Segment {
    /// From counts by part and product.
    pub fn new(names: Strings, counts: Matrix) -> Self {
        let rows = 0..counts.rows.len() as u32;
        let totals: Vec<f32> = rows.clone().map(|row| counts.row(row).1.iter().sum()).collect();
        let best = rows.clone().into_par_iter().map(|row| most_bought(counts.row(row), BEST, |_| true));
        let best = Arc::new(best.collect());
        let places = Arc::new(rows.into_par_iter().map(|row| Places::of(counts.row(row).0)).collect());
        Self { names, counts, totals: totals.into(), best, places, since: None }
    }

    /// The same with what was bought since.
    pub(super) fn with_purchases(&self, since: Since) -> Self {
        Self { since: Some(since), ..self.clone() }
    }

    /// The part of a name; one of which nothing is known where there is none.
    pub(super) fn part(&self, row: Option<u32>) -> Part<'_> {
        let bought = row.and_then(|row| self.since.as_ref()?.parts.get(&row));
        let mut part = Part { segment: self, row, total: 0.0, bought };
        if let Some(row) = row {
            part.total = part.now(self.totals[row as usize], |bought| bought.total);
        }
        part
    }

    fn learned_top(&self, row: Option<u32>, k: usize, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
        let Some(best) = row.and_then(|row| self.best.get(row as usize)) else { return Vec::new() };
        let all = self.counts.row(row.unwrap_or(NONE));
        let found: Vec<u32> = best.iter().copied().filter(|product| allowed(*product)).take(k).collect();
        // Of few that are allowed, more may stand further down.
        if found.len() == k || best.len() == all.0.len() { found } else { most_bought(all, k, allowed) }
    }

    /// What a part's products count; fastest where they are asked for in order.
    fn learned_counts(&self, row: u32, asked: &[u32]) -> impl Iterator<Item = f32> {
        let (marked, (products, counts)) = (self.places[row as usize].as_ref(), self.counts.row(row));
        let (mut at, mut last) = (0, 0);
        let mut place = |product: u32| match marked {
            Some(places) => places.get(product),
            None => {
                at = gallop(products, if product < last { 0 } else { at }, product);
                last = product;
                (products.get(at) == Some(&product)).then_some(at)
            }
        };
        // All are asked for before any is waited for: those of one part of many are in no cache.
        let place = |product: &u32| place(*product).inspect(|at| fetch(&counts[*at..][..1]));
        let places: Vec<Option<usize>> = asked.iter().map(place).collect();
        places.into_iter().map(|place| place.map_or(0.0, |at| counts[at]))
    }

    pub(crate) fn find(&self, name: Option<&str>) -> Option<u32> {
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

/// One part of the chain, looked up once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    segment: &'a Segment,
    row: Option<u32>,
    total: f32,
    bought: Option<&'a Bought>,
}

impl Part<'_> {
    /// Whether anything is known of it.
    pub(super) fn is_known(&self) -> bool {
        self.row.is_some()
    }

    /// Its shares of products, smoothed to its parent's shares, which they take the place of; fastest where products
    /// are in order.
    pub(super) fn smooth(&self, products: &[u32], shares: &mut [f32]) {
        let Some(row) = self.row else { return };
        let learned = self.segment.learned_counts(row, products);
        for ((product, share), learned) in products.iter().zip(shares).zip(learned) {
            let count = self.now(learned, |bought| bought.by_product.get(*product));
            *share = (count + PRIOR * *share) / (self.total + PRIOR);
        }
    }

    /// The `k` allowed products that were bought most in it when the model learned, best first, and a quarter as many
    /// that were bought most since, in no order.
    pub(super) fn top(&self, k: usize, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut found = self.segment.learned_top(self.row, k, &allowed);
        found.extend(self.bought.into_iter().flat_map(|bought| bought.top(k.div_ceil(SINCE_SHARE), &allowed)));
        found
    }

    /// What was learned and what was bought since, decayed to now.
    fn now(&self, learned: f32, of: impl Fn(&Bought) -> f32) -> f32 {
        let Some(since) = &self.segment.since else { return learned };
        (learned * since.left + self.bought.map_or(0.0, of) * since.scale).max(0.0)
    }
}

fn most_bought((products, counts): (&[u32], &[f32]), k: usize, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
    let mut top = Top::new(k);
    let pairs = products.iter().zip(counts).filter(|(product, _)| allowed(**product));
    pairs.for_each(|(product, count)| top.push(*product, *count));
    top.into_sorted().iter().map(|s| s.row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_few_are_allowed_is_found_further_down() {
        // A later product is bought less.
        let products = 2 * BEST as u32;
        let entries: Vec<(u32, u32, f32)> = (0..products).map(|row| (0, row, (products - row) as f32)).collect();
        let segment = Segment::new(["a"].into_iter().collect(), Matrix::from_sorted(1, &entries));
        let part = segment.part(Some(0));
        assert_eq!(part.top(3, |_| true), [0, 1, 2]);
        assert_eq!(part.top(3, |row| row % 100 == 7), [7, 107, 207]);
        assert_eq!(part.top(3, |row| row > products - 3), [products - 2, products - 1]);
        assert!(segment.part(None).top(3, |_| true).is_empty());
    }

    #[test]
    fn products_are_asked_for_in_any_order() {
        for gap in [7, 77] {
            let entries: Vec<(u32, u32, f32)> = (0..400).map(|i| (0, gap * i, (i + 1) as f32)).collect();
            let segment = Segment::new(["a"].into_iter().collect(), Matrix::from_sorted(1, &entries));
            assert_eq!(segment.places[0].is_some(), gap == 7);
            let asked = [399 * gap, 2 * gap, 2 * gap + 1, 0, 400 * gap, 100 * gap, 100 * gap - 1, 200 * gap, gap];
            let mut shares = [0.5; 9];
            segment.part(Some(0)).smooth(&asked, &mut shares);
            let counts = [400.0, 3.0, 0.0, 1.0, 0.0, 101.0, 0.0, 201.0, 2.0];
            let total = 400.0 * 401.0 / 2.0;
            assert_eq!(shares, counts.map(|count| (count + PRIOR * 0.5) / (total + PRIOR)));
        }
    }

    #[test]
    fn what_is_bought_most_is_known_whatever_came_before() {
        let (mut bought, mut counts) = (Bought::default(), vec![0.0f32; 5 * BEST]);
        // Every product some times, in an order like none, with some brought back; each tenth far more often.
        for i in 0..40 * BEST {
            let product = i * 7919 % counts.len();
            let count = if i % 11 == 3 { -1.0 } else { 1.0 + (product % 10 == 4) as u32 as f32 * product as f32 };
            counts[product] += count;
            bought.add(product as u32, count);
        }
        let best = |allowed: &dyn Fn(u32) -> bool| {
            let mut rows: Vec<u32> = (0..counts.len() as u32).filter(|row| allowed(*row)).collect();
            rows.sort_by(|a, b| counts[*b as usize].total_cmp(&counts[*a as usize]).then(a.cmp(b)));
            rows.truncate(200);
            rows
        };
        for allowed in [&(|_| true) as &dyn Fn(u32) -> bool, &|row| row % 10 != 4, &|row| row % 100 == 7] {
            let mut found = bought.top(200, allowed);
            found.sort_by(|a, b| counts[*b as usize].total_cmp(&counts[*a as usize]).then(a.cmp(b)));
            assert_eq!(found, best(allowed).into_iter().filter(|row| counts[*row as usize] > 0.0).collect::<Vec<_>>());
        }
    }
}
