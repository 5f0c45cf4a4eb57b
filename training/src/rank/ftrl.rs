//! Logistic regression by following the regularized leader (McMahan et al. 2013), batch by batch; its answer is the mean
//! of the leaders (Polyak and Juditsky 1992), as each of them follows the latest batches.

use kindred_models::feed::FEATURES;
use kindred_models::ranker::Linear;
use linfa::Dataset;
use linfa::traits::FitWith;
use linfa_ftrl::Ftrl;
use ndarray::{Array1, Array2, Axis, concatenate};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;

use super::examples::Examples;
use super::inputs::Inputs;

/// Passes over the rows.
const PASSES: u64 = 5;
/// Rows per step.
const BATCH: usize = 256;
/// Length of the first steps, `α`; `β` is 1.
const RATE: f64 = 0.3;
/// L1 and L2 penalties on a weight, against the sum of losses.
const PENALTIES: (f64, f64) = (1.0, 1.0);

/// Fits a weight per feature; none where only one outcome was seen.
pub(super) fn fit(examples: &Examples) -> Linear {
    let inputs = Inputs::of(examples);
    let n = inputs.bought.len();
    let positives = inputs.bought.iter().filter(|b| **b).count();
    // The intercept is the weight of a column of ones.
    let Ok(rows) = concatenate(Axis(1), &[inputs.values.view(), Array2::ones((n, 1)).view()]) else {
        return Linear::default();
    };
    if positives == 0 || positives == n {
        return Linear::default();
    }
    let params = Ftrl::params().alpha(RATE).beta(1.0).l1_ratio(PENALTIES.0).l2_ratio(PENALTIES.1);
    let mut model: Option<Ftrl<f64>> = None;
    let mut order: Vec<usize> = (0..n).collect();
    let (mut sum, mut leaders) = (Array1::<f64>::zeros(FEATURES.len() + 1), 0.0);
    for pass in 0..PASSES {
        order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(pass));
        for batch in order.chunks(BATCH) {
            let bought: Array1<bool> = batch.iter().map(|row| inputs.bought[*row]).collect();
            let batch = Dataset::new(rows.select(Axis(0), batch), bought);
            let Ok(fitted) = params.fit_with(model.take(), &batch) else { return Linear::default() };
            // The first pass is on its way.
            if pass > 0 {
                sum += &fitted.get_weights();
                leaders += 1.0;
            }
            model = Some(fitted);
        }
    }
    let weights = (sum / leaders).to_vec();
    inputs.unscaled(&weights[..FEATURES.len()], weights[FEATURES.len()])
}
