//! Where ALS starts: near the largest singular vectors of the weights, scaled down by the sums of their row and column.
//! Found by a few steps of subspace iteration from random vectors (Halko, Martinsson and Tropp 2011, algorithm
//! 4.4), each of which costs a small part of an epoch; from random vectors alone, the first epochs do little else.

use kindred_models::linalg::{Observed, add_weighted};
use kindred_models::sparse::Matrix;
use ndarray::{Array2, Axis};
use rayon::prelude::*;

use crate::error::TrainError;
use crate::ials::{eigenbasis, rotate};

/// Times that the vectors pass through all weights, there and back.
const ROUNDS: usize = 2;
/// What a weight is multiplied by: this power of the sum of its row, and of that of its column.
const DEGREE_POWER: f32 = -0.25;
/// Eigenvalues below this share of the largest are noise.
const NOISE: f32 = 1e-6;

/// Takes random vectors of the products (zero where nobody bought) near to the singular ones, so that those bought are
/// `norm` long, as a root mean square. `members` is working memory.
///
/// # Errors
/// [`TrainError::Diverged`] where weights are beyond all bounds.
pub(crate) fn approach(
    weights: &Matrix,
    by_product: &Matrix,
    norm: f32,
    products: &mut Array2<f32>,
    members: &mut Array2<f32>,
) -> Result<(), TrainError> {
    let (of_member, of_product) = (scales(weights), scales(by_product));
    for _ in 0..ROUNDS {
        scale(products, &of_product);
        multiply(weights, products, members);
        scale(members, &of_member);
        whiten(members)?;
        scale(members, &of_member);
        multiply(by_product, members, products);
        scale(products, &of_product);
    }
    let bought = (0..products.nrows() as u32).filter(|row| !by_product.rows.range(*row).is_empty()).count();
    let length = (products.iter().map(|x| f64::from(x * x)).sum::<f64>() / bought.max(1) as f64).sqrt();
    products.mapv_inplace(|x| x * norm / (length as f32).max(f32::MIN_POSITIVE));
    Ok(())
}

/// What each row is scaled by.
fn scales(weights: &Matrix) -> Vec<f32> {
    let sum = |row: u32| weights.row(row).1.iter().sum::<f32>();
    (0..weights.rows.len() as u32).map(|row| sum(row).max(f32::MIN_POSITIVE).powf(DEGREE_POWER)).collect()
}

fn scale(table: &mut Array2<f32>, by: &[f32]) {
    table.axis_iter_mut(Axis(0)).into_par_iter().zip(by).for_each(|(mut row, by)| row.mapv_inplace(|x| x * by));
}

/// `out = matrix · table`.
fn multiply(matrix: &Matrix, table: &Array2<f32>, out: &mut Array2<f32>) {
    let table = table.as_slice().expect("tables are made row by row, and turned in place");
    out.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(row, mut vector)| {
        let (rows, weights) = matrix.row(row as u32);
        vector.fill(0.0);
        if let Some(out) = vector.as_slice_mut() {
            add_weighted(Observed { table, rows, weights }, out);
        }
    });
}

/// Makes the columns orthogonal and equally long.
fn whiten(table: &mut Array2<f32>) -> Result<(), TrainError> {
    let (values, mut vectors) = eigenbasis(table)?;
    let least = NOISE * values.first().copied().unwrap_or(0.0) + f32::MIN_POSITIVE;
    for (mut column, value) in vectors.axis_iter_mut(Axis(1)).zip(values) {
        column.mapv_inplace(|x| x / value.max(least).sqrt());
    }
    rotate(table, &vectors);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_models::kernels::dot;

    #[test]
    fn what_the_same_members_buy_points_the_same_way() {
        // Two sorts of members, who buy two sorts of products; the first product of each more often.
        let entries = (0..40u32).flat_map(|member| {
            let products = (0..20u32).filter(move |product| product % 2 == member % 2);
            products.map(move |product| (member, product, if product < 2 { 3.0 } else { 1.0 }))
        });
        let weights = Matrix::from_sorted(40, &entries.collect::<Vec<_>>());
        let mut products = Array2::from_shape_fn((20, 2), |(row, k)| ((7 * row + 3 * k) % 11) as f32 - 5.0);
        let mut members = Array2::zeros((40, 2));
        approach(&weights, &weights.transposed(20), 0.1, &mut products, &mut members).unwrap();
        let cosine = |a: usize, b: usize| {
            let row = |row: usize| products.row(row).to_vec();
            dot(&row(a), &row(b)) / (dot(&row(a), &row(a)) * dot(&row(b), &row(b))).sqrt()
        };
        assert!((2..20).all(|row| cosine(row, row % 2) > 0.999), "{products}");
        assert!((0..10).all(|row| cosine(2 * row, 2 * row + 1).abs() < 1e-3), "{products}");
        let length = |row: usize| products.row(row).mapv(|x| x * x).sum().sqrt();
        assert!(
            (length(0) / length(2) - 3f32.powf(0.75)).abs() < 1e-3,
            "scaled by the fourth root of three times as many"
        );
        let squares = products.iter().map(|x| x * x).sum::<f32>() / 20.0;
        assert!((squares.sqrt() - 0.1).abs() < 1e-5);
    }

    #[test]
    fn what_nobody_bought_stays_zero() {
        let weights = Matrix::from_sorted(2, &[(0, 0, 1.0), (0, 2, 2.0)]);
        let mut products = Array2::from_shape_vec((3, 3), vec![1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 1.0]).unwrap();
        let mut members = Array2::zeros((2, 3));
        approach(&weights, &weights.transposed(3), 0.1, &mut products, &mut members).unwrap();
        assert!(products.row(1).iter().all(|x| *x == 0.0) && products.iter().all(|x| x.is_finite()));
        let squares = products.iter().map(|x| x * x).sum::<f32>() / 2.0;
        assert!((squares.sqrt() - 0.1).abs() < 1e-5, "of those bought");
    }
}
