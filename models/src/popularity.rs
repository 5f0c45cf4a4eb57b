//! Popularity: decayed purchase counts, over all and by store.

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::ranking::Scored;
use crate::sparse::Matrix;
use crate::strings::Strings;

/// Purchases that a store must have for its own counts to weigh as much as the chain's.
const STORE_PRIOR: f32 = 200.0;

/// How much each product is bought, with old purchases counted less.
#[derive(Clone, Debug, Default)]
pub struct Popularity {
    /// Decayed purchases per product.
    pub overall: Array<f32>,
    /// Decayed purchases per store (a row of `stores`) and product.
    pub by_store: Matrix,
    /// Names of the stores where purchases were made, sorted.
    pub stores: Strings,
    /// Products by overall popularity, best first.
    pub order: Array<u32>,
}

impl Popularity {
    /// Ranks products by their decayed purchases.
    pub fn new(overall: Vec<f32>, by_store: Matrix, stores: Strings) -> Self {
        let mut order: Vec<u32> = (0..overall.len() as u32).collect();
        order.sort_by_key(|row| Scored { row: *row, score: overall[*row as usize] });
        Self { overall: overall.into(), by_store, stores, order: order.into() }
    }

    /// A product's popularity on a scale from 0 to 1, on which half as many purchases are a step down that
    /// does not depend on how large the chain is.
    pub fn score(&self, product: u32) -> f32 {
        let best = self.order.first().map_or(0.0, |best| self.overall[*best as usize]);
        if best <= 0.0 { 0.0 } else { (self.overall[product as usize] / best).max(0.0).sqrt() }
    }

    /// The `k` most popular products among those allowed, best first.
    pub fn top(&self, k: usize, allowed: impl Fn(u32) -> bool) -> impl Iterator<Item = u32> {
        self.order.iter().copied().filter(move |row| allowed(*row)).take(k)
    }

    /// The popularity of every product in one store, on the scale of [`score`](Self::score): the store's
    /// shares, smoothed towards the chain's. `None` for a store without purchases.
    pub fn scores_in_store(&self, store: &str) -> Option<Vec<f32>> {
        let (products, counts) = self.by_store.row(self.stores.find(store)?);
        let chain: f32 = self.overall.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        let mut scores: Vec<f32> = self.overall.iter().map(|count| STORE_PRIOR * count / chain).collect();
        for (product, count) in products.iter().zip(counts) {
            scores[*product as usize] += count;
        }
        let best = scores.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        scores.iter_mut().for_each(|score| *score = (score.max(0.0) / best).sqrt());
        Some(scores)
    }

    pub(crate) fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("popularity", &(), |s| {
            s.array("overall", &self.overall)?;
            s.array("order", &self.order)?;
            self.stores.write("stores", s)?;
            self.by_store.write("by_store", s)
        })
    }

    pub(crate) fn read(from: &Reader, products: usize) -> Result<Self, ArtifactError> {
        let s = from.section("popularity")?;
        let stores = Strings::read("stores", &s)?;
        let popularity = Self {
            overall: s.array("overall")?,
            order: s.array("order")?,
            by_store: Matrix::read("by_store", stores.len(), products, &s)?,
            stores,
        };
        let fits = popularity.overall.len() == products
            && popularity.order.len() == products
            && popularity.order.iter().all(|row| (*row as usize) < products);
        s.ensure(fits, "popularity does not fit its products")?;
        Ok(popularity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_with_many_purchases_has_its_own_order() {
        let by_store = Matrix::from_sorted(2, &[(0, 0, 4000.0), (0, 1, 100.0), (1, 1, 1.0)]);
        let popularity = Popularity::new(vec![4000.0, 101.0, 9000.0], by_store, ["a", "b"].iter().collect());
        let order = |store| {
            let scores: Vec<f32> = popularity.scores_in_store(store).unwrap();
            let mut rows = [0, 1, 2];
            rows.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            rows
        };
        assert_eq!(popularity.top(3, |_| true).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(order("a"), [0, 2, 1]);
        assert_eq!(order("b"), [2, 0, 1], "one purchase does not make a trend");
        assert!(popularity.scores_in_store("c").is_none());
        assert_eq!(popularity.top(2, |row| row != 2).next(), Some(0));
        assert_eq!(popularity.score(2), 1.0);
    }
}
