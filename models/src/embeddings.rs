//! Embeddings: one vector per member and product, whose inner product says how well they fit.
//!
//! The objective is that of implicit ALS as in Rendle et al. 2021, "Revisiting the Performance of iALS on
//! Item Recommendation Benchmarks" (equations 1 to 5), with weighted observations:
//!
//! `Σ_observed w (1 − ⟨u, v⟩)² + α₀ Σ_all ⟨u, v⟩² + Σ_u λ(n_u + α₀ N_v)^ν ‖u‖² + Σ_v λ(n_v + α₀ N_u)^ν ‖v‖²`
//!
//! With one side fixed, each row of the other is a ridge regression of its own, solved by [`RowSolver`]: in training,
//! and when a member is folded in at serving time.

mod solve;

use serde::{Deserialize, Serialize};

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::linalg::Table;
use crate::quantized::Quantized;
pub use solve::{Gramian, Objective, RowSolver, Scratch};

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
            table: Table::Single(&self.products),
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
            table: Table::Single(&self.members.decoded(members.iter().copied(), self.factors)),
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
