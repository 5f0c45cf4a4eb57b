//! Where ALS starts: near the largest singular vectors of the weights, scaled down by the sums of their row and column.
//! Found by a few steps of subspace iteration from random vectors (Halko, Martinsson and Tropp 2011, algorithm
//! 4.4), each of which costs a small part of an epoch; from random vectors alone, the first epochs do little else.

use kindred_models::linalg::{Coordinate, Observed, add_weighted};
use kindred_models::sparse::Matrix;
use ndarray::Axis;

use crate::error::TrainError;
use crate::vectors::Vectors;

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
pub(crate) fn approach<P: Coordinate, M: Coordinate>(
    weights: &Matrix,
    by_product: &Matrix,
    norm: f32,
    products: &mut Vectors<P>,
    members: &mut Vectors<M>,
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
    let bought = (0..by_product.rows.len() as u32).filter(|row| !by_product.rows.range(*row).is_empty()).count();
    // The trace of the Gramian is the sum of all squares.
    let length = (products.gramian().diag().sum() / bought.max(1) as f64).sqrt();
    let factor = norm / (length as f32).max(f32::MIN_POSITIVE);
    products.change(|(), _, vector| vector.iter_mut().for_each(|x| *x *= factor));
    Ok(())
}

/// What each row is scaled by.
fn scales(weights: &Matrix) -> Vec<f32> {
    let sum = |row: u32| weights.row(row).1.iter().sum::<f32>();
    (0..weights.rows.len() as u32).map(|row| sum(row).max(f32::MIN_POSITIVE).powf(DEGREE_POWER)).collect()
}

fn scale<T: Coordinate>(table: &mut Vectors<T>, by: &[f32]) {
    table.change(|(), row, vector| vector.iter_mut().for_each(|x| *x *= by[row as usize]));
}

/// `out = matrix · table`.
fn multiply<T: Coordinate, O: Coordinate>(matrix: &Matrix, table: &Vectors<T>, out: &mut Vectors<O>) {
    out.change(|(), row, vector| {
        let (rows, weights) = matrix.row(row);
        vector.fill(0.0);
        add_weighted(Observed { table: table.table(), rows, weights }, vector);
    });
}

/// Makes the columns orthogonal and equally long.
fn whiten<T: Coordinate>(table: &mut Vectors<T>) -> Result<(), TrainError> {
    let (values, mut vectors) = table.eigenbasis()?;
    let least = NOISE * values.first().copied().unwrap_or(0.0) + f32::MIN_POSITIVE;
    for (mut column, value) in vectors.axis_iter_mut(Axis(1)).zip(values) {
        column.mapv_inplace(|x| x / value.max(least).sqrt());
    }
    table.rotate(&vectors);
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
        let first = (0..40).map(|i| ((7 * (i / 2) + 3 * (i % 2)) % 11) as f32 - 5.0).collect();
        let mut products = Vectors { values: first, factors: 2 };
        let mut members = Vectors::<f32>::zeros(40, 2);
        approach(&weights, &weights.transposed(20), 0.1, &mut products, &mut members).unwrap();
        let row = |row: usize| &products.values[2 * row..2 * row + 2];
        let cosine = |a, b| dot(row(a), row(b)) / (dot(row(a), row(a)) * dot(row(b), row(b))).sqrt();
        assert!((2..20).all(|row| cosine(row, row % 2) > 0.999), "{products:?}");
        assert!((0..10).all(|row| cosine(2 * row, 2 * row + 1).abs() < 1e-3), "{products:?}");
        let length = |a| dot(row(a), row(a)).sqrt();
        assert!(
            (length(0) / length(2) - 3f32.powf(0.75)).abs() < 1e-3,
            "scaled by the fourth root of three times as many"
        );
        let squares = dot(&products.values, &products.values) / 20.0;
        assert!((squares.sqrt() - 0.1).abs() < 1e-5);
    }

    #[test]
    fn what_nobody_bought_stays_zero() {
        let weights = Matrix::from_sorted(2, &[(0, 0, 1.0), (0, 2, 2.0)]);
        let mut products = Vectors { values: vec![1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 1.0], factors: 3 };
        let mut members = Vectors::<f32>::zeros(2, 3);
        approach(&weights, &weights.transposed(3), 0.1, &mut products, &mut members).unwrap();
        assert_eq!(products.values[3..6], [0.0; 3]);
        assert!(products.values.iter().all(|x| x.is_finite()));
        let squares = dot(&products.values, &products.values) / 2.0;
        assert!((squares.sqrt() - 0.1).abs() < 1e-5, "of those bought");
    }
}
