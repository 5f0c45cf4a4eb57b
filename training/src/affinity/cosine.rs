//! A generalized cosine.

use kindred_models::ranking::{Scored, Top};
use kindred_models::scatter::Scatter;
use kindred_models::sparse::Matrix;
use kindred_models::stop::Stop;
use rayon::prelude::*;

use super::{Groups, from_rows};
use crate::config::AffinityParams;
use crate::error::TrainError;

/// Per product `i`, the products `j` with the highest `Σ_g n_g^−a x_gi x_gj / (s_i^b s_j^c + shrinkage)`,
/// where `a`, `b` and `c` are the exponents of group, source and target: ½ for both `b` and `c` is the
/// cosine; a smaller `c` prefers products that many buy.
pub(super) fn fit(groups: &Groups<'_>, params: &AffinityParams, stop: &Stop) -> Result<Matrix, TrainError> {
    let products = groups.sizes.len();
    let targets: Vec<f32> = groups.sizes.iter().map(|size| size.powf(params.target_exponent)).collect();
    let neighbours = |product: u32| -> Result<Vec<Scored>, TrainError> {
        stop.check()?;
        if !groups.is_bought(product) {
            return Ok(Vec::new());
        }
        let mut sums = Scatter::take(products);
        groups.count_together(product, &mut sums);
        let mut top = Top::new(params.neighbours);
        let source = groups.sizes[product as usize].powf(params.source_exponent);
        sums.each(|other, sum| {
            if other != product && groups.is_bought(other) {
                top.push(other, sum / (source * targets[other as usize] + params.shrinkage));
            }
        });
        let mut kept = top.into_sorted();
        kept.sort_unstable_by_key(|s| s.row);
        Ok(kept)
    };
    let rows: Vec<Vec<Scored>> = (0..products as u32).into_par_iter().map(neighbours).collect::<Result<_, _>>()?;
    Ok(from_rows(&rows))
}
