//! How many buy a product that has sold already, from its sales of late.

use kindred_models::events::DAY_SECONDS;
use kindred_models::launch::Spread;

use super::expectation::{drift, quantile, spread};
use super::replay::had_bought;
use super::statics::launch_times;
use crate::config::LaunchParams;
use crate::data::Dataset;
use crate::slice::{Slice, kept_purchases};

/// Products, over all moments, below which nothing is said.
const MIN_PRODUCTS: usize = 30;

/// By product, the share of the members who bought anything that buys it within the horizon after the slice.
pub(crate) fn selling(dataset: &Dataset, slice: &Slice, params: &LaunchParams) -> Vec<f32> {
    let end = slice.bought_until();
    let had_bought = had_bought(slice, dataset, end);
    Sales::new(dataset, slice, params).shares(end, &had_bought)
}

/// How the buyers of products followed from their sales, at earlier moments: `ln(actual / expected)` of the middle one, and
/// how far the others lay from that; `None` where too few had any.
pub(super) fn learn(dataset: &Dataset, slice: &Slice, params: &LaunchParams, moments: &[i64]) -> Option<(f32, Spread)> {
    let sales = Sales::new(dataset, slice, params);
    let (mut residuals, mut expected_buyers) = (Vec::new(), Vec::new());
    for moment in moments {
        let had_bought = had_bought(slice, dataset, *moment);
        let members = had_bought.iter().filter(|had| **had).count() as f64;
        let came = sales.buyer_counts(&had_bought, *moment, moment + sales.horizon);
        let mut of_moment = Vec::new();
        for (product, share) in sales.shares(*moment, &had_bought).into_iter().enumerate() {
            let expected = f64::from(share) * members;
            if sales.launched[product] <= *moment && expected >= f64::from(params.min_buyers) {
                of_moment.push((f64::from(came[product]).max(0.5) / expected).ln());
                expected_buyers.push(expected);
            }
        }
        residuals.push(of_moment);
    }
    let drift = drift(&residuals);
    let mut residuals = residuals.concat();
    let bias = quantile(&mut residuals, 0.5);
    residuals.iter_mut().for_each(|residual| *residual -= bias);
    (residuals.len() >= MIN_PRODUCTS).then(|| (bias as f32, spread(residuals, drift, expected_buyers)))
}

/// What was sold.
struct Sales<'a> {
    dataset: &'a Dataset,
    slice: &'a Slice,
    /// In seconds.
    horizon: i64,
    /// When each product was launched.
    launched: Vec<i64>,
}

impl<'a> Sales<'a> {
    fn new(dataset: &'a Dataset, slice: &'a Slice, params: &LaunchParams) -> Self {
        let horizon = i64::from(params.horizon_days) * DAY_SECONDS;
        Self { dataset, slice, horizon, launched: launch_times(dataset, slice) }
    }

    /// By product, the share of the members that buys it within the horizon after a moment.
    ///
    /// As many as in the horizon before. What was launched within it sold for a part of that time: its rate has a gamma
    /// prior, the middle product's sales, as sure as one buyer, which fades as it ages; its buyers so far are Poisson
    /// (Gelman et al., "Bayesian Data Analysis", 3rd ed., section 2.6). Past launches would say too much of it: those
    /// that were replayed had some buyers at least, most new products hardly have any.
    fn shares(&self, moment: i64, members: &[bool]) -> Vec<f32> {
        let count = members.iter().filter(|had| **had).count().max(1) as f64;
        let sold = self.buyer_counts(members, moment - self.horizon, moment);
        let mut some: Vec<f64> = sold.iter().filter(|sold| **sold > 0).map(|sold| f64::from(*sold)).collect();
        let middle = quantile(&mut some, 0.5).max(0.5);
        let share = |(sold, launched): (&u32, &i64)| {
            let age = ((moment - launched.min(&moment)) as f64 / self.horizon as f64).min(1.0);
            let prior = 1.0 - age;
            // Half a buyer more: none so far does not mean none ever.
            ((prior + f64::from(*sold) + 0.5 * age) / (prior / middle + age) / count) as f32
        };
        sold.iter().zip(&self.launched).map(share).collect()
    }

    /// By product, how many of the members bought it after a moment and up to another, and kept it.
    fn buyer_counts(&self, members: &[bool], after: i64, until: i64) -> Vec<u32> {
        let mut counts = vec![0; self.dataset.products.len()];
        for pair in self.slice.pairs().filter(|pair| members[pair[0].member as usize]) {
            let known = &pair[..pair.partition_point(|e| e.time <= until)];
            let is_late = known.last().is_some_and(|e| e.time > after);
            if is_late && kept_purchases(known).last().is_some_and(|at| *at > after) {
                counts[pair[0].product as usize] += 1;
            }
        }
        counts
    }
}
