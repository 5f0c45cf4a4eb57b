//! One row of the embeddings, with the other side fixed: a ridge regression.

use ndarray::{ArrayView2, ArrayViewMut2};
use serde::{Deserialize, Serialize};

use crate::kernels::{Packed, add_scaled, lower_inner_products};
use crate::linalg::{Observed, Table, approach_ridge, solve_spd};

/// Observations gathered at a time by the direct solve, so that its memory does not grow with a row.
const GATHER_ROWS: usize = 512;

/// The parameters of the objective that a solve needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// `α₀`: how much a pair without a purchase counts against one purchase; above 0.
    pub unobserved_weight: f32,
    /// `λ`: above 0.
    pub regularization: f32,
    /// `ν`: 0 regularizes every row alike, 1 by its number of purchases; 0 to 1.
    pub regularization_exponent: f32,
}

/// The Gramian `Σ v vᵀ` of the fixed side, in the basis that its table is in.
#[derive(Clone, Copy, Debug)]
pub enum Gramian<'a> {
    /// Its diagonal, where the basis makes it diagonal: then short rows are cheap.
    Diagonal(&'a [f32]),
    /// All of it, row-major.
    Dense(&'a [f32]),
}

/// Solves one row against a fixed table.
#[derive(Clone, Copy, Debug)]
pub struct RowSolver<'a> {
    /// The fixed side, `rows × factors`.
    pub table: Table<'a>,
    /// Its Gramian.
    pub gramian: Gramian<'a>,
    /// `N`: how many rows of the fixed side count in the objective.
    pub population: usize,
    /// The objective's parameters.
    pub objective: Objective,
}

/// Working memory of a [`RowSolver`], reused from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    gathered: Vec<f32>,
    scaled: Vec<f32>,
    system: Vec<f32>,
    solution: Vec<f32>,
    inverses: Vec<f32>,
    diagonal: Vec<f32>,
    work: Vec<f32>,
    packed: Packed,
}

impl RowSolver<'_> {
    /// The row that minimizes the objective given its observations: rows of the table, and the weight
    /// (above 0) of each. `prior` is what the regularization pulls towards, zero if `None`.
    pub fn solve(
        &self,
        observed: &[u32],
        weights: &[f32],
        prior: Option<&[f32]>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        if observed.is_empty() && prior.is_none() {
            out.fill(0.0);
            return;
        }
        match self.gramian {
            Gramian::Diagonal(values) if observed.len() < out.len() && prior.is_none() => {
                self.solve_low_rank(values, observed, weights, scratch, out);
            }
            _ => self.solve_direct(observed, weights, prior, scratch, out),
        }
    }

    /// Takes `out` some steps of conjugate gradients towards that row (Takács, Pilászy and Tikk 2011): in the basis in
    /// which the Gramian is diagonal each costs `4nd` operations, and a row of fewer observations than steps is solved.
    /// In any other basis every row is solved, whatever the steps.
    pub fn approach(&self, observed: &[u32], weights: &[f32], steps: usize, scratch: &mut Scratch, out: &mut [f32]) {
        let values = match self.gramian {
            Gramian::Diagonal(values) if !observed.is_empty() => values,
            _ => return self.solve(observed, weights, None, scratch, out),
        };
        let reg = self.regularization(observed.len());
        scratch.diagonal.clear();
        scratch.diagonal.extend(values.iter().map(|value| self.objective.unobserved_weight * value + reg));
        let observed = Observed { table: self.table, rows: observed, weights };
        approach_ridge(observed, &scratch.diagonal, steps, &mut scratch.work, out);
    }

    fn regularization(&self, observed_count: usize) -> f32 {
        let o = &self.objective;
        let mass = observed_count as f32 + o.unobserved_weight * self.population as f32;
        o.regularization * mass.powf(o.regularization_exponent)
    }

    /// Fewer observations than factors. With `B = α₀ diag(λ) + reg·I` and the observed rows `A`, the
    /// identity `(B + AᵀWA)⁻¹AᵀW1 = B⁻¹Aᵀ(W⁻¹ + AB⁻¹Aᵀ)⁻¹1` leaves a system of the observations' size.
    fn solve_low_rank(
        &self,
        eigenvalues: &[f32],
        observed: &[u32],
        weights: &[f32],
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let (n, d) = (observed.len(), out.len());
        let reg = self.regularization(n);
        let inverse = |value: &f32| 1.0 / (self.objective.unobserved_weight * value + reg);
        scratch.inverses.clear();
        scratch.inverses.extend(eigenvalues.iter().map(inverse));
        scratch.gathered.clear();
        self.table.gather(observed, d, &mut scratch.gathered);
        scratch.scaled.clear();
        for row in scratch.gathered.chunks_exact(d) {
            scratch.scaled.extend(row.iter().zip(&scratch.inverses).map(|(x, inverse)| x * inverse));
        }
        let (rows, scaled) = (&scratch.gathered, &scratch.scaled);
        scratch.system.clear();
        scratch.system.resize(n * n, 0.0);
        lower_inner_products(scaled, rows, d, &mut scratch.packed, &mut scratch.system);
        (0..n).for_each(|i| scratch.system[i * n + i] += 1.0 / weights[i]);
        scratch.solution.clear();
        scratch.solution.resize(n, 1.0);
        solve_spd(&mut scratch.system, &mut scratch.solution);
        out.fill(0.0);
        for (row, z) in scaled.chunks_exact(d).zip(&scratch.solution) {
            add_scaled(out, *z, row);
        }
    }

    /// The normal equations `(α₀G + reg·I + AᵀWA) x = AᵀW1 + reg·prior`, gathered a slab at a time.
    fn solve_direct(
        &self,
        observed: &[u32],
        weights: &[f32],
        prior: Option<&[f32]>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let d = out.len();
        let reg = self.regularization(observed.len());
        let unobserved = self.objective.unobserved_weight;
        scratch.system.clear();
        match self.gramian {
            Gramian::Diagonal(values) => {
                scratch.system.resize(d * d, 0.0);
                (0..d).for_each(|i| scratch.system[i * d + i] = unobserved * values[i]);
            }
            Gramian::Dense(values) => scratch.system.extend(values.iter().map(|x| unobserved * x)),
        }
        (0..d).for_each(|i| scratch.system[i * d + i] += reg);
        out.fill(0.0);
        if let Some(prior) = prior {
            add_scaled(out, reg, prior);
        }
        for (rows, weights) in observed.chunks(GATHER_ROWS).zip(weights.chunks(GATHER_ROWS)) {
            scratch.gathered.clear();
            self.table.gather(rows, d, &mut scratch.gathered);
            scratch.scaled.clear();
            for (row, weight) in scratch.gathered.chunks_exact(d).zip(weights) {
                add_scaled(out, *weight, row);
                scratch.scaled.extend(row.iter().map(|x| x * weight));
            }
            let view = |values| ArrayView2::from_shape((rows.len(), d), values);
            let system = ArrayViewMut2::from_shape((d, d), &mut scratch.system);
            if let (Ok(plain), Ok(scaled), Ok(mut system)) = (view(&scratch.gathered), view(&scratch.scaled), system) {
                ndarray::linalg::general_mat_mul(1.0, &plain.t(), &scaled, 1.0, &mut system);
            }
        }
        solve_spd(&mut scratch.system, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;

    const OBJECTIVE: Objective =
        Objective { unobserved_weight: 0.1, regularization: 0.5, regularization_exponent: 1.0 };

    fn solver<'a>(table: &'a Array2<f32>, gramian: Gramian<'a>) -> RowSolver<'a> {
        RowSolver {
            table: Table::Single(table.as_slice().unwrap()),
            gramian,
            population: table.nrows(),
            objective: OBJECTIVE,
        }
    }

    #[test]
    fn one_factor_has_the_answer_worked_by_hand() {
        // v = [2, 1], one purchase of the first with weight 3: x = 3·2 / (0.1·5 + 0.5·(1 + 0.2) + 3·4).
        let table = Array2::from_shape_vec((2, 1), vec![2.0, 1.0]).unwrap();
        let mut x = [0.0];
        solver(&table, Gramian::Diagonal(&[5.0])).solve(&[0], &[3.0], None, &mut Scratch::default(), &mut x);
        assert!((x[0] - 6.0 / 13.1).abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn without_observations_the_prior_is_all_there_is_to_shrink() {
        let table = Array2::from_shape_vec((1, 1), vec![0.0]).unwrap();
        let mut x = [0.0];
        let solver = solver(&table, Gramian::Dense(&[0.0]));
        solver.solve(&[], &[], Some(&[0.7]), &mut Scratch::default(), &mut x);
        assert!((x[0] - 0.7).abs() < 1e-6);
        solver.solve(&[], &[], None, &mut Scratch::default(), &mut x);
        assert_eq!(x, [0.0]);
    }

    proptest! {
        #[test]
        fn short_and_long_solves_agree(
            values in prop::collection::vec(-1f32..1.0, 8 * 6),
            weights in prop::collection::vec(0.2f32..4.0, 5),
            n in 1usize..6,
        ) {
            // Columns made orthogonal by construction would be a special case: use the diagonal of any
            // table as "its Gramian" in both forms, which is what the identity needs.
            let table = Array2::from_shape_vec((8, 6), values).unwrap();
            let diagonal: Vec<f32> = (0..6).map(|k| table.column(k).dot(&table.column(k))).collect();
            let mut dense = vec![0.0; 36];
            for k in 0..6 { dense[k * 7] = diagonal[k]; }
            let observed: Vec<u32> = (0..n as u32).collect();
            let (mut low, mut direct) = ([0f32; 6], [0f32; 6]);
            let (mut scratch, weights) = (Scratch::default(), &weights[..n]);
            let by_diagonal = solver(&table, Gramian::Diagonal(&diagonal));
            by_diagonal.solve(&observed, weights, None, &mut scratch, &mut low);
            solver(&table, Gramian::Dense(&dense)).solve(&observed, weights, None, &mut scratch, &mut direct);
            for (a, b) in low.iter().zip(direct) { prop_assert!((a - b).abs() < 2e-4, "{low:?} {direct:?}"); }
            let mut near = [0.3f32; 6];
            by_diagonal.approach(&observed, weights, n + 2, &mut scratch, &mut near);
            for (a, b) in near.iter().zip(direct) { prop_assert!((a - b).abs() < 1e-3, "{near:?} {direct:?}"); }
        }
    }
}
