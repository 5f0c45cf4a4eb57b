//! How much a member buys of each category and brand.

use crate::categories::LEVELS;
use crate::history::{Past, UNKNOWN_DAYS};
use crate::kernels::ln_1p;
use crate::model::Model;
use crate::scatter::{Borrowed, Scatter};
use crate::strings::NONE;

/// Days since a purchase that never was.
pub(super) const NEVER: f32 = 100_000.0;

/// Decayed purchases by which what a member buys of a tag is pulled to what is usual.
const TAG_PRIOR: f32 = 10.0;
/// The share of all purchases that a tag is taken to have, at least: one purchase of what is rare says little.
const LEAST_TAG_SHARE: f32 = 1e-3;

/// What a member buys, in decayed purchases.
#[derive(Debug)]
pub(super) struct Habits {
    /// By node of the category tree, a place in `categories`.
    places: Vec<u32>,
    /// The first stands for all categories that were never bought.
    categories: Vec<CategoryHabit>,
    brands: Borrowed,
    /// By tag, ln of how many times its usual share it has, less the same of a tag that was never bought.
    tags: Borrowed,
    /// Mean logarithm of the prices.
    pub(super) usual_price: Option<f32>,
    /// Sum of all decayed purchases.
    pub(super) total: f32,
}

/// A habit as the ranker takes it: reckoned once for all candidates of a category.
#[derive(Clone, Copy, Debug)]
pub(super) struct CategoryHabit {
    pub(super) count: f32,
    /// ln(1 + count).
    pub(super) log_count: f32,
    /// Share of all that the member buys.
    pub(super) share: f32,
    /// ln(1 + recent purchases), of products whose finest category it is; as the next two.
    pub(super) log_recent: f32,
    /// ln(1 + days since the last purchase).
    pub(super) log_idle: f32,
    /// Mean logarithm of the prices; `None` where none is known.
    pub(super) log_price: Option<f32>,
}

/// What is added up of a category.
#[derive(Clone, Copy, Debug)]
struct Sums {
    count: f32,
    recent: f32,
    idle: f32,
    /// Decayed purchases that have a price, and what logarithms of prices add up to in them.
    priced: f32,
    log_prices: f32,
}

impl Habits {
    pub(super) fn of(model: &Model, past: &[Past]) -> Self {
        let products = &model.products;
        let mut places = vec![0; model.tree.len()];
        let mut sums = vec![Sums::default()];
        let mut brands = Scatter::take(products.brands.values.len());
        let (mut total, mut priced, mut log_prices) = (0.0, 0.0, 0.0);
        for past in past.iter().filter(|p| p.decayed > 0.0) {
            let row = past.product as usize;
            total += past.decayed;
            let log_price = Some(products.prices[row]).filter(|price| *price > 0.0).map(f32::ln);
            if let Some(log_price) = log_price {
                priced += past.decayed;
                log_prices += past.decayed * log_price;
            }
            let levels: [u32; LEVELS] = model.tree.levels(products.categories.rows[row]);
            for (level, node) in levels.into_iter().enumerate().filter(|(_, node)| *node != NONE) {
                let place = &mut places[node as usize];
                if *place == 0 {
                    *place = sums.len() as u32;
                    sums.push(Sums::default());
                }
                let category = &mut sums[*place as usize];
                category.count += past.decayed;
                if level == 0 {
                    category.add(past, log_price);
                }
            }
            let brand = products.brands.rows[row];
            if brand != NONE {
                brands.add(brand, past.decayed);
            }
        }
        let usual_price = (priced > 0.0).then(|| log_prices / priced);
        let (categories, tags) = (sums.iter().map(|sums| sums.habit(total)).collect(), tags(model, past));
        Self { categories, places, brands, tags, usual_price, total }
    }

    /// Of a node of the category tree, or [`NONE`].
    #[inline]
    pub(super) fn category(&self, node: u32) -> &CategoryHabit {
        let place = if node == NONE { 0 } else { self.places[node as usize] };
        &self.categories[place as usize]
    }

    /// Mean and highest over a product's tags of `ln((count + κ·usual) / ((total + κ)·usual))`; `None` without any.
    #[inline]
    pub(super) fn tags(&self, tags: &[u32]) -> Option<[f32; 2]> {
        let never = (TAG_PRIOR / (self.total + TAG_PRIOR)).ln();
        let (mut sum, mut best) = (0.0, 0.0f32);
        for tag in tags {
            let above = self.tags.get(*tag);
            (sum, best) = (sum + above, best.max(above));
        }
        (!tags.is_empty()).then(|| [never + sum / tags.len() as f32, never + best])
    }

    /// Decayed purchases of a brand.
    #[inline]
    pub(super) fn brand(&self, brand: u32) -> f32 {
        self.brands.get(brand)
    }
}

/// By tag, `ln(1 + count / (κ·usual))`.
fn tags(model: &Model, past: &[Past]) -> Borrowed {
    let n = model.products.tag_names.len();
    let (mut counts, mut above) = (Scatter::take(n), Scatter::take(n));
    for past in past.iter().filter(|p| p.decayed > 0.0) {
        model.products.tags.row(past.product).iter().for_each(|tag| counts.add(*tag, past.decayed));
    }
    counts.each(|tag, count| {
        let usual = model.tag_shares.get(tag as usize).copied().unwrap_or(0.0).max(LEAST_TAG_SHARE);
        above.add(tag, ln_1p(count / (TAG_PRIOR * usual)));
    });
    above
}

impl Default for Sums {
    fn default() -> Self {
        Self { count: 0.0, recent: 0.0, idle: NEVER, priced: 0.0, log_prices: 0.0 }
    }
}

impl Sums {
    /// Adds a product whose finest category it is.
    fn add(&mut self, past: &Past, log_price: Option<f32>) {
        self.recent += past.recent;
        if past.days_since != UNKNOWN_DAYS {
            self.idle = self.idle.min(f32::from(past.days_since));
        }
        if let Some(log_price) = log_price {
            self.priced += past.decayed;
            self.log_prices += past.decayed * log_price;
        }
    }

    fn habit(&self, total: f32) -> CategoryHabit {
        CategoryHabit {
            count: self.count,
            log_count: ln_1p(self.count),
            share: self.count / total.max(f32::MIN_POSITIVE),
            log_recent: ln_1p(self.recent),
            log_idle: ln_1p(self.idle),
            log_price: (self.priced > 0.0).then(|| self.log_prices / self.priced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::model;
    use super::*;
    use crate::sparse::Rows;

    #[test]
    fn tags_worked_by_hand() {
        let mut model = model(&[("a", "A", [1.0, 0.0], 90); 4], &[]);
        // Half of all purchases have the first tag, a quarter the second, three quarters the third, and none the fourth.
        model.products.tag_names = ["cocoa", "nuts", "sweet", "vegan"].into_iter().collect();
        model.products.tags = Rows::from_lists([vec![0, 2], vec![0, 1], vec![2], vec![2]]);
        let model = model.with_facts();
        assert_eq!(model.tag_shares[..], [0.5, 0.25, 0.75, 0.0]);
        let habits = Habits::of(&model, &[Past { decayed: 5.0, ..Past::new(1) }]);
        let lift = |count: f32, usual: f32| ((count + 10.0 * usual) / (15.0 * usual)).ln();
        let [mean, best] = habits.tags(&[0, 1, 2]).unwrap();
        let (cocoa, nuts, sweet) = (lift(5.0, 0.5), lift(5.0, 0.25), lift(0.0, 0.75));
        assert!((mean - (cocoa + nuts + sweet) / 3.0).abs() < 1e-6 && (best - nuts).abs() < 1e-6, "{mean} {best}");
        assert!((habits.tags(&[3]).unwrap()[0] - (10f32 / 15.0).ln()).abs() < 1e-6, "as any that was never bought");
        assert_eq!(habits.tags(&[]), None);
        assert_eq!(Habits::of(&model, &[]).tags(&[0, 3]), Some([0.0; 2]), "of whom nothing is known");
    }

    #[test]
    fn habits_worked_by_hand() {
        let mut model =
            model(&[("a", "A", [1.0, 0.0], 90), ("a/b", "B", [1.0, 0.0], 90), ("a/b", "B", [1.0, 0.0], 90)], &[]);
        model.products.prices = vec![1f32.exp(), 2f32.exp(), 0.0].into();
        let bought = |product, decayed, recent, days_since| Past { decayed, recent, days_since, ..Past::new(product) };
        let past = [bought(0, 1.0, 0.5, 10), bought(1, 3.0, 1.0, 4), bought(2, 1.0, 0.25, UNKNOWN_DAYS)];
        let habits = Habits::of(&model, &past);
        assert_eq!((habits.total, habits.usual_price), (5.0, Some(1.75)));
        assert_eq!((habits.brand(0), habits.brand(1)), (1.0, 4.0));
        let [a, a_b] = [0, 1].map(|node| *habits.category(node));
        assert_eq!((a_b.count, a_b.log_count, a_b.share), (4.0, ln_1p(4.0), 0.8));
        assert_eq!((a_b.log_recent, a_b.log_idle, a_b.log_price), (ln_1p(1.25), ln_1p(4.0), Some(2.0)));
        // What is below it counts, and says nothing of when, or at what price, the products of its own were bought.
        assert_eq!((a.count, a.share), (5.0, 1.0));
        assert_eq!((a.log_recent, a.log_idle, a.log_price), (ln_1p(0.5), ln_1p(10.0), Some(1f32.exp().ln())));
        let never = habits.category(NONE);
        assert_eq!((never.count, never.log_idle, never.log_price), (0.0, ln_1p(NEVER), None));
    }
}
