//! Implicit ALS: fits the embeddings.
//!
//! Each half-epoch fixes one side and takes every row of the other nearer to its solution by [`RowSolver`], in
//! parallel; the last one, the members', solves them. The objective does not change when both sides are rotated, so
//! both are first turned into the basis in which the fixed one's Gramian is diagonal: of a row with `n` purchases a
//! step then costs `O(n d)`, and a solve `O(n² d)` where `n < d`.
//! Sums are taken in an order that does not depend on the number of threads.

use kindred_models::embeddings::{Embeddings, Fit, Gramian, RowSolver, Scratch};
use kindred_models::quantized::Quantized;
use kindred_models::sparse::{Matrix, Rows};
use kindred_models::stop::Stop;
use linfa_linalg::eigh::{EigSort, Eigh};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

use crate::config::IalsValidParams;
use crate::error::TrainError;
use crate::progress::Progress;
use crate::spectral;

/// Rows per task when a table is summed or rotated.
const CHUNK_ROWS: usize = 4096;
/// Steps that each pass takes every row nearer to its solution.
const STEPS: usize = 3;
/// How long the products' first vectors are, see [`spectral::approach`].
const FIRST_NORM: f32 = 0.1;

/// Fits embeddings to weights, members × products (all above 0).
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised, [`TrainError::Diverged`] where vectors grow without bound.
pub fn fit(
    weights: &Matrix,
    products: usize,
    params: &IalsValidParams,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Embeddings, TrainError> {
    let active = occupied(&weights.rows);
    let all_members = weights.rows.len();
    let weights = &with_rows(weights, &active);
    let by_product = weights.transposed(products);
    let (active_members, bought_products) = (active.len(), occupied(&by_product.rows).len());
    let mut items = random_vectors(&by_product, params);
    let mut members = Array2::zeros((active_members, params.factors));
    spectral::approach(weights, &by_product, FIRST_NORM, &mut items, &mut members)?;
    members.fill(0.0);
    for epoch in 0..params.epochs {
        stop.check()?;
        let is_last = epoch + 1 == params.epochs;
        solve_side(&mut items, bought_products, weights, &mut members, is_last, params)?;
        if !is_last {
            solve_side(&mut members, active_members, &by_product, &mut items, false, params)?;
        }
        progress.advance(1);
    }
    // The last half-epoch was the members': their vectors are what a fold-in of their purchases gives.
    let product_gramian = gramian(&items.view()).diag().mapv(|x| x as f32);
    let member_gramian = gramian(&members.view()).mapv(|x| x as f32);
    let members = members.into_raw_vec_and_offset().0;
    Ok(Embeddings {
        factors: params.factors,
        members: Quantized::new(&members, params.factors).spread(&active, all_members, params.factors),
        products: items.into_raw_vec_and_offset().0.into(),
        product_gramian: product_gramian.to_vec().into(),
        member_gramian: member_gramian.iter().copied().collect::<Vec<_>>().into(),
        fit: Fit { factors: params.factors, objective: params.objective(), bought_products, active_members },
    })
}

/// Rows that are not empty.
fn occupied(rows: &Rows) -> Vec<u32> {
    (0..rows.len() as u32).filter(|row| !rows.range(*row).is_empty()).collect()
}

/// Some rows of a matrix, those that are not empty: neither time nor memory is spent on the others.
fn with_rows(matrix: &Matrix, occupied: &[u32]) -> Matrix {
    let ends = occupied.iter().map(|row| matrix.rows.range(*row).end as u64);
    let offsets: Vec<u64> = std::iter::once(0).chain(ends).collect();
    let rows = Rows { offsets: offsets.into(), columns: matrix.rows.columns.clone() };
    Matrix { rows, values: matrix.values.clone() }
}

/// Vectors of random signs for the products that were bought, zero for the others.
fn random_vectors(by_product: &Matrix, params: &IalsValidParams) -> Array2<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(params.seed);
    let mut items = Array2::zeros((by_product.rows.len(), params.factors));
    for (row, mut vector) in items.outer_iter_mut().enumerate() {
        if !by_product.rows.range(row as u32).is_empty() {
            vector.mapv_inplace(|_| if rng.random::<bool>() { 1.0 } else { -1.0 });
        }
    }
    items
}

/// One half-epoch: diagonalizes the fixed side's Gramian, and solves all rows of the other side, or takes them nearer
/// to their solution.
fn solve_side(
    fixed: &mut Array2<f32>,
    population: usize,
    observed: &Matrix,
    solved: &mut Array2<f32>,
    exactly: bool,
    params: &IalsValidParams,
) -> Result<(), TrainError> {
    let (values, rotation) = eigenbasis(fixed)?;
    rotate(fixed, &rotation);
    if !exactly {
        rotate(solved, &rotation);
    }
    let solver = RowSolver {
        table: fixed.as_slice().expect("tables are made row by row, and turned in place"),
        gramian: Gramian::Diagonal(&values),
        population,
        objective: params.objective(),
    };
    let rows = solved.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
    rows.for_each_init(Scratch::default, |scratch, (row, mut vector)| {
        let (columns, weights) = observed.row(row as u32);
        match vector.as_slice_mut() {
            Some(out) if exactly => solver.solve(columns, weights, None, scratch, out),
            Some(out) => solver.approach(columns, weights, STEPS, scratch, out),
            None => {}
        }
    });
    Ok(())
}

/// Eigenvalues and eigenvectors of a table's Gramian.
pub(crate) fn eigenbasis(table: &Array2<f32>) -> Result<(Vec<f32>, Array2<f32>), TrainError> {
    let g = gramian(&table.view());
    if g.iter().any(|x| !x.is_finite()) {
        return Err(TrainError::Diverged);
    }
    let (values, vectors): (Array1<f64>, Array2<f64>) = g.eigh().map_err(|_| TrainError::Diverged)?.sort_eig_desc();
    Ok((values.iter().map(|x| x.max(0.0) as f32).collect(), vectors.mapv(|x| x as f32)))
}

pub(crate) fn rotate(table: &mut Array2<f32>, rotation: &Array2<f32>) {
    table.axis_chunks_iter_mut(Axis(0), CHUNK_ROWS).into_par_iter().for_each(|mut rows| {
        let rotated = rows.dot(rotation);
        rows.assign(&rotated);
    });
}

/// `Σ v vᵀ`, in double precision over chunks in order.
fn gramian(table: &ArrayView2<'_, f32>) -> Array2<f64> {
    let chunks: Vec<Array2<f64>> = table
        .axis_chunks_iter(Axis(0), CHUNK_ROWS)
        .into_par_iter()
        .map(|rows| rows.t().dot(&rows).mapv(f64::from))
        .collect();
    let zero = Array2::zeros((table.ncols(), table.ncols()));
    chunks.into_iter().fold(zero, |sum, chunk| sum + chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IalsParams;
    use crate::progress::Quiet;
    use kindred_models::kernels::dot;

    fn fitted(entries: &[(u32, u32, f32)], members: usize, products: usize, params: IalsParams) -> Embeddings {
        let weights = Matrix::from_sorted(members, entries);
        fit(&weights, products, &params.validate().unwrap(), &Quiet, &Stop::default()).unwrap()
    }

    /// Even members buy even products, odd members odd ones; each left out one.
    fn checkerboard() -> Vec<(u32, u32, f32)> {
        let cells = (0..50u32).flat_map(|m| (0..50u32).map(move |p| (m, p)));
        cells.filter(|(m, p)| m % 2 == p % 2 && m != p).map(|(m, p)| (m, p, 1.0)).collect()
    }

    #[test]
    fn a_checkerboard_is_completed() {
        let params = IalsParams { factors: 6, epochs: 10, unobserved_weight: 0.02, ..IalsParams::default() };
        let e = fitted(&checkerboard(), 50, 50, params);
        for m in 0..50 {
            let score = |p| dot(&e.member(m), e.product(p));
            assert!(score(m) > 0.8, "the product left out belongs to the member: {}", score(m));
            assert!(score((m + 1) % 50).abs() < 0.1, "the other colour does not");
        }
    }

    #[test]
    fn more_factors_than_products_and_no_purchase_at_all_are_fitted() {
        let e = fitted(&checkerboard()[..40], 50, 50, IalsParams { factors: 64, ..IalsParams::default() });
        assert!(e.products.iter().all(|x| x.is_finite()));
        assert!(dot(&e.member(0), e.product(2)) > 0.3, "{}", dot(&e.member(0), e.product(2)));
        for (members, products) in [(3, 3), (0, 3), (3, 0), (0, 0)] {
            let e = fitted(&[], members, products, IalsParams::default());
            assert!(e.products.iter().all(|x| *x == 0.0) && e.members.scales.iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn who_bought_nothing_changes_nothing() {
        let params = IalsParams { factors: 6, ..IalsParams::default() };
        let spaced: Vec<_> = checkerboard().into_iter().map(|(m, p, w)| (3 * m + 1, p, w)).collect();
        let (near, far) = (fitted(&checkerboard(), 50, 50, params), fitted(&spaced, 152, 50, params));
        assert_eq!((&*near.products, near.fit), (&*far.products, far.fit));
        for row in 0..152 {
            let nobody = vec![0.0; 6];
            let expected = if row % 3 == 1 && row < 150 { near.member(row / 3) } else { nobody };
            assert_eq!(far.member(row), expected, "{row}");
        }
    }

    #[test]
    fn folding_in_a_member_gives_the_trained_vector() {
        let e = fitted(&checkerboard(), 50, 50, IalsParams { factors: 6, epochs: 4, ..IalsParams::default() });
        let products: Vec<u32> = (0..50).filter(|p| p % 2 == 1 && *p != 7).collect();
        let folded = e.fold_in_member(&products, &vec![1.0; products.len()]);
        // What is kept of a trained vector is rounded.
        let rounded = 0.5 * e.members.scales[7];
        for (a, b) in folded.iter().zip(e.member(7)) {
            assert!((a - b).abs() < rounded + 1e-4, "{folded:?} {:?}", e.member(7));
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let fit_on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fitted(&checkerboard(), 50, 50, IalsParams { factors: 8, ..IalsParams::default() }))
        };
        let (one, three) = (fit_on(1), fit_on(3));
        assert_eq!((&*one.members.codes, &*one.members.scales), (&*three.members.codes, &*three.members.scales));
        assert_eq!(*one.products, *three.products);
    }

    #[test]
    fn each_pass_lowers_the_objective() {
        let entries = checkerboard();
        let objective = |epochs| {
            let params = IalsParams { factors: 3, epochs, regularization_exponent: 0.0, ..IalsParams::default() };
            let e = fitted(&entries, 50, 50, params);
            let all = (0..50).flat_map(|m| (0..50).map(move |p| (m, p)));
            let unobserved: f32 = all.map(|(m, p)| dot(&e.member(m), e.product(p)).powi(2)).sum();
            let observed: f32 =
                entries.iter().map(|(m, p, w)| w * (1.0 - dot(&e.member(*m), e.product(*p))).powi(2)).sum();
            let norms: f32 = (0..50).map(|i| dot(&e.member(i), &e.member(i)) + dot(e.product(i), e.product(i))).sum();
            observed + params.unobserved_weight * unobserved + params.regularization * norms
        };
        let values: Vec<f32> = (1..6).map(objective).collect();
        assert!(values.windows(2).all(|w| w[1] <= w[0] * 1.0001), "{values:?}");
    }
}
