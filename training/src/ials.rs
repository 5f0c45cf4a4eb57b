//! Implicit ALS: fits the embeddings.
//!
//! Each half-epoch fixes one side and takes every row of the other nearer to its solution by [`RowSolver`], in
//! parallel; the last one, the members', solves them. The objective does not change when both sides are rotated, so
//! both are first turned into the basis in which the fixed one's Gramian is diagonal: of a row with `n` purchases a
//! step then costs `O(n d)`, and a solve `O(n² d)` where `n < d`.
//! Sums are taken in an order that does not depend on the number of threads.

use half::bf16;
use kindred_models::embeddings::{Embeddings, Fit, Gramian, RowSolver, Scratch};
use kindred_models::kernels::dot;
use kindred_models::linalg::Coordinate;
use kindred_models::quantized::Quantized;
use kindred_models::sparse::{Matrix, Rows};
use kindred_models::stop::Stop;
use ndarray::Array2;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

use crate::config::IalsValidParams;
use crate::error::TrainError;
use crate::progress::Progress;
use crate::spectral;
use crate::vectors::{CHUNK_ROWS, CHUNKS, Vectors, gramian};

/// Steps that each pass takes every row nearer to its solution.
const STEPS: usize = 3;
/// How long the products' first vectors are, see [`spectral::approach`].
const FIRST_NORM: f32 = 0.1;

/// Passes after which it is plain whether vectors say anything of purchases.
const TRIED: usize = 3;
/// The mean inner product of what was bought, below which they say next to nothing, and what the weight of all other pairs is
/// divided by then.
const LEAST_SAID: f64 = 0.15;
const LESS: f32 = 3.162_277_7;
/// Where that ends, about.
const LEAST_UNOBSERVED: f32 = 1e-4;
/// Members that the mean is taken of, about.
const SAMPLED: usize = 2000;

/// The parameters, with a smaller `unobserved_weight` where vectors would come to nothing.
///
/// Regularization grows with what was not bought (`λα₀N`). Of very many products, of which each member bought few, it may be
/// more than all that was bought: then zero is the best of all vectors.
///
/// # Errors
/// As [`fit`].
pub fn settled(
    weights: &Matrix,
    products: usize,
    params: &IalsValidParams,
    stop: &Stop,
) -> Result<IalsValidParams, TrainError> {
    let weights = &with_rows(weights, &occupied(&weights.rows));
    let by_product = weights.transposed(products);
    let populations = [weights.rows.len(), occupied(&by_product.rows).len()];
    let (first, mut params) = (first_items(weights, &by_product, params)?, *params);
    loop {
        let mut items = Vectors { values: first.values.clone(), factors: first.factors };
        let mut members = Vectors::<bf16>::zeros(weights.rows.len(), params.factors);
        for _ in 0..TRIED {
            stop.check()?;
            approach(&mut items, populations[1], weights, &mut members, &params)?;
            approach(&mut members, populations[0], &by_product, &mut items, &params)?;
        }
        if said(weights, &items, &members) >= LEAST_SAID || params.unobserved_weight < LEAST_UNOBSERVED {
            return Ok(params);
        }
        params = params.with_unobserved_weight(params.unobserved_weight / LESS);
    }
}

/// The mean inner product of some members' vectors with those of what they bought, by its weight; 1 without any.
fn said(weights: &Matrix, items: &Vectors<f32>, members: &Vectors<bf16>) -> f64 {
    let (d, rows) = (items.factors, weights.rows.len());
    let (mut sum, mut all, mut member) = (0.0, 0.0, vec![0.0; d]);
    for row in (0..rows).step_by(rows.div_ceil(SAMPLED).max(1)) {
        bf16::load(&members.values[row * d..][..d], &mut member);
        let (products, values) = weights.row(row as u32);
        for (product, weight) in products.iter().zip(values) {
            sum += f64::from(weight * dot(&member, &items.values[*product as usize * d..][..d]));
            all += f64::from(*weight);
        }
    }
    if all > 0.0 { sum / all } else { 1.0 }
}

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
    let mut items = first_items(weights, &by_product, params)?;
    let mut members = Vectors::<bf16>::zeros(active_members, params.factors);
    for _ in 1..params.epochs {
        stop.check()?;
        approach(&mut items, bought_products, weights, &mut members, params)?;
        approach(&mut members, active_members, &by_product, &mut items, params)?;
        progress.advance(1);
    }
    stop.check()?;
    drop((by_product, members));
    // The last half-epoch is the members': their vectors are what a fold-in of their purchases gives.
    let solved = solve_members(&mut items, bought_products, weights, params)?;
    progress.advance(1);
    let product_gramian: Vec<f32> = items.gramian().diag().iter().map(|x| *x as f32).collect();
    let member_gramian: Vec<f32> = solved.gramian.iter().map(|x| *x as f32).collect();
    Ok(Embeddings {
        factors: params.factors,
        members: Quantized::spread(&solved.parts, &active, all_members, params.factors),
        products: items.values.into(),
        product_gramian: product_gramian.into(),
        member_gramian: member_gramian.into(),
        fit: Fit { factors: params.factors, objective: params.objective(), bought_products, active_members },
    })
}

/// Vectors of the products to begin with.
fn first_items(weights: &Matrix, by_product: &Matrix, params: &IalsValidParams) -> Result<Vectors<f32>, TrainError> {
    let mut items = random_vectors(by_product, params);
    let mut members = Vectors::<bf16>::zeros(weights.rows.len(), params.factors);
    spectral::approach(weights, by_product, FIRST_NORM, &mut items, &mut members)?;
    Ok(items)
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
fn random_vectors(by_product: &Matrix, params: &IalsValidParams) -> Vectors<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(params.seed);
    let mut items = Vectors::zeros(by_product.rows.len(), params.factors);
    for (row, vector) in items.values.chunks_exact_mut(params.factors).enumerate() {
        if !by_product.rows.range(row as u32).is_empty() {
            vector.iter_mut().for_each(|x| *x = if rng.random::<bool>() { 1.0 } else { -1.0 });
        }
    }
    items
}

/// A half-epoch: turns both sides into the basis in which the fixed side's Gramian is diagonal, and takes all rows of
/// the other nearer to their solution.
fn approach<F: Coordinate, S: Coordinate>(
    fixed: &mut Vectors<F>,
    population: usize,
    observed: &Matrix,
    solved: &mut Vectors<S>,
    params: &IalsValidParams,
) -> Result<(), TrainError> {
    let (values, rotation) = fixed.eigenbasis()?;
    fixed.rotate(&rotation);
    solved.rotate(&rotation);
    let solver = solver(fixed, &values, population, params);
    solved.change(|scratch: &mut Scratch, row, vector| {
        let (columns, weights) = observed.row(row);
        solver.approach(columns, weights, STEPS, scratch, vector);
    });
    Ok(())
}

fn solver<'a, F: Coordinate>(
    fixed: &'a Vectors<F>,
    eigenvalues: &'a [f32],
    population: usize,
    params: &IalsValidParams,
) -> RowSolver<'a> {
    RowSolver {
        table: fixed.table(),
        gramian: Gramian::Diagonal(eigenvalues),
        population,
        objective: params.objective(),
    }
}

/// All members' vectors, a chunk after the other, and their Gramian before they were coded.
struct Solved {
    parts: Vec<Quantized>,
    gramian: Array2<f64>,
}

/// The last half-epoch, which solves every row, and codes it at once: uncoded, they take four times as much memory.
fn solve_members(
    items: &mut Vectors<f32>,
    population: usize,
    observed: &Matrix,
    params: &IalsValidParams,
) -> Result<Solved, TrainError> {
    let (values, rotation) = items.eigenbasis()?;
    items.rotate(&rotation);
    let solver = solver(items, &values, population, params);
    let (d, members) = (params.factors, observed.rows.len());
    let chunk = |scratch: &mut Scratch, first: usize| {
        let rows = first..(first + CHUNK_ROWS).min(members);
        let mut vectors = Array2::zeros((rows.len(), d));
        for (row, mut vector) in rows.zip(vectors.outer_iter_mut()) {
            let (columns, weights) = observed.row(row as u32);
            let out = vector.as_slice_mut().expect("a table is made row by row");
            solver.solve(columns, weights, None, scratch, out);
        }
        let gramian = gramian(&vectors.view());
        (Quantized::new(&vectors.into_raw_vec_and_offset().0, d), gramian)
    };
    let mut solved = Solved { parts: Vec::new(), gramian: Array2::zeros((d, d)) };
    let firsts: Vec<usize> = (0..members).step_by(CHUNK_ROWS).collect();
    for firsts in firsts.chunks(CHUNKS) {
        let each: Vec<_> = firsts.par_iter().map_init(Scratch::default, |s, first| chunk(s, *first)).collect();
        for (part, gramian) in each {
            solved.parts.push(part);
            solved.gramian += &gramian;
        }
    }
    Ok(solved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IalsParams;
    use crate::progress::Quiet;

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
    fn many_products_of_which_each_member_buys_few_have_vectors() {
        // A hundred kinds of thirty products; each member buys five of one kind. λα₀N is 30 for members, and 5 are bought.
        let of = |m: u32| (0..5).map(move |k| (m, 30 * (m % 100) + (7 * (m / 100) + k) % 30, 1.0));
        let mut entries: Vec<(u32, u32, f32)> = (0..3000).flat_map(of).collect();
        entries.sort_by_key(|(m, p, _)| (*m, *p));
        let params = IalsParams { factors: 16, unobserved_weight: 1.0, regularization: 0.01, ..IalsParams::default() };
        let mean = |params: IalsParams| {
            let e = fitted(&entries, 3000, 3000, params);
            entries.iter().map(|(m, p, _)| dot(&e.member(*m), e.product(*p))).sum::<f32>() / entries.len() as f32
        };
        assert!(mean(params) < 0.01);
        let (weights, valid) = (Matrix::from_sorted(3000, &entries), params.validate().unwrap());
        let lower = settled(&weights, 3000, &valid, &Stop::default()).unwrap().unobserved_weight;
        let mean = mean(IalsParams { unobserved_weight: lower, ..params });
        assert!(mean > 0.1 && (0.001..0.5).contains(&lower), "{mean} with {lower}");
    }

    #[test]
    fn what_is_plain_is_fitted_as_it_is_asked_for() {
        let (params, stop) = (IalsParams { factors: 6, ..IalsParams::default() }.validate().unwrap(), Stop::default());
        let settle = |entries: &[(u32, u32, f32)]| {
            settled(&Matrix::from_sorted(50, entries), 50, &params, &stop).unwrap().unobserved_weight
        };
        assert_eq!(settle(&checkerboard()), params.unobserved_weight);
        // What was bought long ago, or only looked at, hardly counts.
        let looks = checkerboard().into_iter().map(|(m, p, _)| (m, (p + 1) % 50, 1e-3)).filter(|(m, p, _)| m != p);
        let mut with_looks: Vec<(u32, u32, f32)> = checkerboard().into_iter().chain(looks).collect();
        with_looks.sort_by_key(|(m, p, _)| (*m, *p));
        assert_eq!(settle(&with_looks), params.unobserved_weight);
        assert_eq!(settle(&[]), params.unobserved_weight);
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
