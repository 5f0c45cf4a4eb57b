//! What the ranker knows of a product whoever it is shown to.

use rayon::prelude::*;

use crate::categories::LEVELS;
use crate::kernels::ln_1p;
use crate::model::Model;
use crate::strings::NONE;

/// Added to shares, so that a product never bought differs by a step and not without bound.
pub(super) const SHARE_PRIOR: f32 = 1e-7;

/// What stands in many columns of a model, by product, as the ranker takes it: one line of cache for a candidate, and no
/// logarithm. A feature that nothing is known of is 0.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Facts {
    /// Its share of all purchases, and the prior.
    pub(crate) share: f32,
    /// [`Popularity`](super::Feature::Popularity).
    pub(crate) popularity: f32,
    /// [`LongTrend`](super::Feature::LongTrend).
    pub(crate) long_trend: f32,
    /// [`ShortTrend`](super::Feature::ShortTrend).
    pub(crate) short_trend: f32,
    /// [`Trial`](super::Feature::Trial).
    pub(crate) trial: f32,
    /// [`Age`](super::Feature::Age).
    pub(crate) age: f32,
    /// [`ReturnRate`](super::Feature::ReturnRate).
    pub(crate) return_rate: f32,
    /// [`ProductGap`](super::Feature::ProductGap).
    pub(crate) gap: f32,
    /// [`ShareInCategory`](super::Feature::ShareInCategory).
    pub(crate) share_in_category: f32,
    /// [`Price`](super::Feature::Price).
    pub(crate) price: Option<f32>,
    /// Of its category, finest first; [`NONE`] where there is none.
    pub(crate) nodes: [u32; LEVELS],
    /// Its brand; [`NONE`] where it has none.
    pub(crate) brand: u32,
    /// Its place among the model's [`Unsold`](super::Unsold); [`NONE`] where it is none of these.
    pub(crate) unsold: u32,
}

const _: () = assert!(size_of::<Facts>() == 64, "as much as a line of cache");

impl Model {
    /// The same model, with the facts of its products looked up anew: after any of what they are made of has changed.
    /// Costs time in proportion to the products.
    pub fn with_facts(mut self) -> Self {
        let mut facts: Vec<Facts> =
            (0..self.products.len() as u32).into_par_iter().map(|product| Facts::of(&self, product)).collect();
        let of_unsold: Vec<Facts> =
            (0..self.unsold.len()).into_par_iter().map(|at| Facts::of_unsold(&self, &facts, at)).collect();
        self.unsold.iter().zip(of_unsold).for_each(|(unsold, of_it)| facts[unsold.product as usize] = of_it);
        self.facts = facts.into();
        self.tag_shares = self.shares_by_tag().into();
        self
    }

    /// The share of all purchases that each tag has, by number.
    fn shares_by_tag(&self) -> Vec<f32> {
        let mut shares = vec![0.0; self.products.tag_names.len()];
        for product in 0..self.products.len() as u32 {
            let share = self.popularity.share(product);
            self.products.tags.row(product).iter().for_each(|tag| shares[*tag as usize] += share);
        }
        shares
    }
}

impl Facts {
    fn of(model: &Model, product: u32) -> Self {
        let (p, repeat, products, row) = (&model.popularity, &model.repeat, &model.products, product as usize);
        let shares = [p.share(product), p.long_share(product), p.short_share(product)];
        let [share, long, short] = shares.map(|share| share + SHARE_PRIOR);
        let (nodes, price) = (model.tree.levels(products.categories.rows[row]), products.prices[row]);
        let in_category = |node: u32| share / (model.tree.share(node) + 10.0 * SHARE_PRIOR);
        Self {
            share,
            popularity: share.ln(),
            long_trend: (share / long).ln(),
            short_trend: (short / share).ln(),
            trial: (p.trial_share(product) + SHARE_PRIOR).ln(),
            age: ln_1p(f32::from(p.age_days[row])),
            return_rate: repeat.rates.get(row).copied().unwrap_or(0.0),
            gap: repeat.gaps.get(row).map_or(0.0, |gap| gap.ln()),
            share_in_category: if nodes[0] == NONE { 0.0 } else { in_category(nodes[0]).ln() },
            price: (price > 0.0).then(|| price.ln()),
            nodes,
            brand: products.brands.rows[row],
            unsold: NONE,
        }
    }

    /// Of a new product that nobody had bought when the model learned: its sales are those of the products most like it, or
    /// its own since, where these are more.
    fn of_unsold(model: &Model, facts: &[Self], at: usize) -> Self {
        let unsold = &model.unsold[at];
        let own = facts[unsold.product as usize];
        let mean = |of: fn(&Self) -> f32| unsold.mean(|row| of(&facts[row as usize]));
        let share = mean(|facts| facts.share).max(own.share);
        let in_category = |node: u32| (share / (model.tree.share(node) + share)).ln();
        Self {
            share,
            popularity: share.ln(),
            long_trend: mean(|facts| facts.long_trend),
            short_trend: mean(|facts| facts.short_trend),
            trial: mean(|facts| facts.trial.exp()).max(own.trial.exp()).ln(),
            age: mean(|facts| facts.age),
            return_rate: mean(|facts| facts.return_rate),
            gap: mean(|facts| facts.gap),
            share_in_category: if own.nodes[0] == NONE { 0.0 } else { in_category(own.nodes[0]) },
            unsold: at as u32,
            ..own
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::model;
    use crate::kernels::ln_1p;
    use crate::model::Model;
    use crate::strings::NONE;

    #[test]
    fn facts_worked_by_hand() {
        let mut model = model(&[("a/b", "A", [1.0, 0.0], 90), ("a/c", "B", [1.0, 0.0], 9)], &[]);
        model.products.prices = vec![2.0, 0.0].into();
        model.repeat.rates = vec![0.25, 0.5].into();
        model.repeat.gaps = vec![30.0, 7.0].into();
        let [first, second] = model.with_facts().facts[..] else { panic!("one for each product") };
        // Each has half of all purchases, and all of its category.
        assert!((first.popularity - 0.5f32.ln()).abs() < 1e-6 && (first.trial - 0.5f32.ln()).abs() < 1e-6);
        assert_eq!((first.long_trend, first.short_trend), (0.0, 0.0));
        assert!(first.share_in_category.abs() < 1e-5);
        assert_eq!((first.age, first.return_rate, first.gap), (ln_1p(90.0), 0.25, 30f32.ln()));
        assert_eq!((first.price, second.price, second.age), (Some(2f32.ln()), None, ln_1p(9.0)));
        assert_eq!((first.nodes, second.nodes), ([1, 0, NONE], [2, 0, NONE]));
        assert_eq!((first.brand, second.brand), (0, 1));
    }

    #[test]
    fn facts_follow_popularity() {
        let learned = model(&[("a", "A", [1.0, 0.0], 90), ("a", "B", [1.0, 0.0], 90)], &[]);
        let forgotten = Model { facts: Default::default(), ..learned.clone() };
        assert_eq!(forgotten.with_popularity(&learned).facts.len(), 2);
    }
}
