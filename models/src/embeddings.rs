//! Embeddings: one vector per member and product, whose inner product says how well they fit.
//!
//! The objective is that of implicit ALS as in Rendle et al. 2021, "Revisiting the Performance of iALS on
//! Item Recommendation Benchmarks" (equations 1 to 5), with weighted observations:
//!
//! `Σ_observed w (1 − ⟨u, v⟩)² + α₀ Σ_all ⟨u, v⟩² + Σ_u λ(n_u + α₀ N_v)^ν ‖u‖² + Σ_v λ(n_v + α₀ N_u)^ν ‖v‖²`
//!
//! With one side fixed, each row of the other is a ridge regression of its own, solved exactly by
//! [`RowSolver`]: in training, and when a member is folded in at serving time.

use ndarray::{ArrayView2, ArrayViewMut2};
use serde::{Deserialize, Serialize};

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::kernels::{Packed, add_scaled, lower_inner_products};
use crate::linalg::solve_spd;
use crate::quantized::Quantized;

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
    pub table: &'a [f32],
    /// Its Gramian.
    pub gramian: Gramian<'a>,
    /// `N`: how many rows of the fixed side count in the objective.
    pub population: usize,
    /// The objective's parameters.
    pub objective: Objective,
}

/// Working memory of [`RowSolver::solve`], reused from row to row.
#[derive(Debug, Default)]
pub struct Scratch {
    gathered: Vec<f32>,
    scaled: Vec<f32>,
    system: Vec<f32>,
    solution: Vec<f32>,
    inverses: Vec<f32>,
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
        self.gather(observed, d, &mut scratch.gathered);
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
            self.gather(rows, d, &mut scratch.gathered);
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

    fn gather(&self, rows: &[u32], d: usize, into: &mut Vec<f32>) {
        into.clear();
        rows.iter().for_each(|row| into.extend_from_slice(&self.table[*row as usize * d..][..d]));
    }
}

/// The learned vectors of both sides, in the basis in which the products' Gramian is diagonal.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// Length of a vector.
    pub factors: usize,
    /// `members × factors`, in a byte per coordinate; zero for a member without purchases or without consent.
    pub members: Quantized,
    /// `products × factors`; a product that nobody bought has its vector from its content.
    pub products: Array<f32>,
    /// Diagonal of the Gramian of the products that were bought.
    pub product_gramian: Array<f32>,
    /// Gramian of the members, `factors × factors`.
    pub member_gramian: Array<f32>,
    /// Small values beside the tables.
    pub fit: Fit,
}

/// What a fold-in needs to know of the fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Length of a vector.
    pub factors: usize,
    /// The objective that was minimized.
    pub objective: Objective,
    /// Products that somebody bought: the population of a member's solve.
    pub bought_products: usize,
    /// Members who bought something: the population of a product's solve.
    pub active_members: usize,
}

impl Embeddings {
    /// Vector of a member.
    pub fn member(&self, row: u32) -> Vec<f32> {
        self.members.decoded([row], self.factors)
    }

    /// Vector of a product.
    #[inline]
    pub fn product(&self, row: u32) -> &[f32] {
        &self.products[row as usize * self.factors..][..self.factors]
    }

    /// The vector of a member with these purchases: the very solve that training ends with.
    pub fn fold_in_member(&self, products: &[u32], weights: &[f32]) -> Vec<f32> {
        let mut vector = vec![0.0; self.factors];
        let solver = RowSolver {
            table: &self.products,
            gramian: Gramian::Diagonal(&self.product_gramian),
            population: self.fit.bought_products,
            objective: self.fit.objective,
        };
        solver.solve(products, weights, None, &mut Scratch::default(), &mut vector);
        vector
    }

    /// The vector of a product with these buyers, pulled towards `prior`, its vector by content.
    pub fn fold_in_product(&self, members: &[u32], prior: &[f32]) -> Vec<f32> {
        let mut vector = vec![0.0; self.factors];
        let (rows, weights): (Vec<u32>, Vec<f32>) = (0..members.len() as u32).map(|row| (row, 1.0)).unzip();
        let solver = RowSolver {
            table: &self.members.decoded(members.iter().copied(), self.factors),
            gramian: Gramian::Dense(&self.member_gramian),
            population: self.fit.active_members,
            objective: self.fit.objective,
        };
        solver.solve(&rows, &weights, Some(prior), &mut Scratch::default(), &mut vector);
        vector
    }

    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("embeddings", &self.fit, |s| {
            self.members.write("member_codes", s)?;
            s.array("products", &self.products)?;
            s.array("product_gramian", &self.product_gramian)?;
            s.array("member_gramian", &self.member_gramian)
        })
    }

    pub(crate) fn read(from: &Reader, members: usize, products: usize) -> Result<Self, ArtifactError> {
        let s = from.section("embeddings")?;
        let fit: Fit = s.values()?;
        let d = fit.factors;
        s.ensure((1..=4096).contains(&d), "vectors do not have 1 to 4,096 coordinates")?;
        let embeddings = Self {
            factors: d,
            members: if from.manifest().format_version < 6 {
                let vectors: Array<f32> = s.array("members")?;
                s.ensure(vectors.len() == members * d, "vectors do not fit their members or factors")?;
                Quantized::new(&vectors, d)
            } else {
                Quantized::read("member_codes", members, d, &s)?
            },
            products: s.array("products")?,
            product_gramian: s.array("product_gramian")?,
            member_gramian: s.array("member_gramian")?,
            fit,
        };
        let fits = embeddings.products.len() == products * d
            && embeddings.product_gramian.len() == d
            && embeddings.member_gramian.len() == d * d;
        s.ensure(fits, "embeddings do not fit their members, products or factors")?;
        Ok(embeddings)
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
        RowSolver { table: table.as_slice().unwrap(), gramian, population: table.nrows(), objective: OBJECTIVE }
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
        fn short_and_long_solves_agree(values in prop::collection::vec(-1f32..1.0, 8 * 6), weights in prop::collection::vec(0.2f32..4.0, 5), n in 1usize..6) {
            // Columns made orthogonal by construction would be a special case: use the diagonal of any
            // table as "its Gramian" in both forms, which is what the identity needs.
            let table = Array2::from_shape_vec((8, 6), values).unwrap();
            let diagonal: Vec<f32> = (0..6).map(|k| table.column(k).dot(&table.column(k))).collect();
            let mut dense = vec![0.0; 36];
            for k in 0..6 { dense[k * 7] = diagonal[k]; }
            let observed: Vec<u32> = (0..n as u32).collect();
            let (mut low, mut direct) = ([0f32; 6], [0f32; 6]);
            solver(&table, Gramian::Diagonal(&diagonal)).solve(&observed, &weights[..n], None, &mut Scratch::default(), &mut low);
            solver(&table, Gramian::Dense(&dense)).solve(&observed, &weights[..n], None, &mut Scratch::default(), &mut direct);
            for (a, b) in low.iter().zip(direct) { prop_assert!((a - b).abs() < 2e-4, "{low:?} {direct:?}"); }
        }
    }
}
