//! How many buy a product that has sold already, from its sales of late.

use kindred_models::launch::{Expectation, Known, Z90};

use super::expectation::{quantile, spread};
use super::replay::had_bought;
use super::statics::launch_times;
use crate::config::LaunchParams;
use crate::data::Dataset;
use crate::prepare::{Slice, kept_purchases};

/// Products, over all moments, below which nothing is said.
const MIN_PRODUCTS: usize = 30;

/// By product, the share of the members who bought anything up to a moment that buys it within the horizon after.
///
/// As many as in the horizon before. What was launched within it sold for a part of that time: its rate has the gamma
/// prior that past launches give, which fades as it ages, and its buyers so far are Poisson (Gelman et al., "Bayesian
/// Data Analysis", 3rd ed., section 2.6).
pub(crate) fn selling(
    dataset: &Dataset,
    slice: &Slice,
    params: &LaunchParams,
    expectation: &Expectation,
    moment: i64,
) -> Vec<f32> {
    let horizon = i64::from(params.horizon_days) * 86_400;
    let had_bought = had_bought(slice, dataset, moment);
    let members = had_bought.iter().filter(|had| **had).count().max(1) as f64;
    let sold = buyers(dataset, slice, &had_bought, moment - horizon, moment);
    let [low, high] = expectation.spread.residuals.map(f64::from);
    let sureness = (2.0 * Z90 / (high - low)).powi(2);
    let times = launch_times(dataset, slice);
    let share = |(product, sold): (usize, &u32)| {
        let age = ((moment - times[product].min(moment)) as f64 / horizon as f64).min(1.0);
        let category = dataset.products.categories.get(product as u32);
        let launch = f64::from(expectation.log_rate_of(category)).exp() * members;
        let prior = sureness * (1.0 - age);
        // Half a buyer more: none so far does not mean none ever.
        ((prior + f64::from(*sold) + 0.5 * age) / (prior / launch + age) / members) as f32
    };
    sold.iter().enumerate().map(share).collect()
}

/// How the buyers of products followed from their sales, at earlier moments; `None` where too few had any.
pub(super) fn learn(
    dataset: &Dataset,
    slice: &Slice,
    params: &LaunchParams,
    expectation: &Expectation,
    moments: &[i64],
) -> Option<Known> {
    let horizon = i64::from(params.horizon_days) * 86_400;
    let times = launch_times(dataset, slice);
    let (mut residuals, mut expected_buyers) = (Vec::new(), Vec::new());
    for moment in moments {
        let had_bought = had_bought(slice, dataset, *moment);
        let members = had_bought.iter().filter(|had| **had).count() as f64;
        let came = buyers(dataset, slice, &had_bought, *moment, moment + horizon);
        for (product, share) in selling(dataset, slice, params, expectation, *moment).into_iter().enumerate() {
            let expected = f64::from(share) * members;
            if times[product] <= *moment && expected >= f64::from(params.min_buyers.max(1)) {
                residuals.push((f64::from(came[product]).max(0.5) / expected).ln());
                expected_buyers.push(expected);
            }
        }
    }
    let bias = quantile(&mut residuals, 0.5);
    residuals.iter_mut().for_each(|residual| *residual -= bias);
    // A season's drift is in the residuals of several moments, and hardly matters beside how products differ.
    (residuals.len() >= MIN_PRODUCTS)
        .then(|| Known { log_bias: bias as f32, spread: spread(residuals, 0.0, expected_buyers) })
}

/// By product, who of the members bought it after a moment and up to another, and kept it.
fn buyers(dataset: &Dataset, slice: &Slice, members: &[bool], after: i64, until: i64) -> Vec<u32> {
    let mut buyers = vec![0; dataset.products.len()];
    for pair in slice.pairs().filter(|pair| members[pair[0].member as usize]) {
        let known = &pair[..pair.partition_point(|e| e.time <= until)];
        if known.last().is_some_and(|e| e.time > after) && kept_purchases(known).last().is_some_and(|at| *at > after) {
            buyers[pair[0].product as usize] += 1;
        }
    }
    buyers
}
