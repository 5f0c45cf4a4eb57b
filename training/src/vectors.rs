//! Tables of vectors while embeddings are fitted: in single precision, or in half of it where they are many and only
//! passed through.

use kindred_models::linalg::{Coordinate, Table};
use linfa_linalg::eigh::{EigSort, Eigh};
use ndarray::{Array1, Array2, ArrayView2};
use rayon::prelude::*;

use crate::error::TrainError;

/// Rows per task when a table is summed or rotated.
pub(crate) const CHUNK_ROWS: usize = 4096;
/// Tasks whose sums wait to be added up in order.
pub(crate) const CHUNKS: usize = 64;

/// Vectors of equal length, row by row.
#[derive(Debug)]
pub(crate) struct Vectors<T> {
    /// `rows × factors`.
    pub(crate) values: Vec<T>,
    /// Length of a vector.
    pub(crate) factors: usize,
}

impl<T: Coordinate> Vectors<T> {
    /// All zero.
    pub(crate) fn zeros(rows: usize, factors: usize) -> Self {
        Self { values: vec![T::default(); rows * factors], factors }
    }

    /// What a row solver takes its rows from.
    pub(crate) fn table(&self) -> Table<'_> {
        T::table(&self.values)
    }

    /// Changes each row, in parallel, with working memory that is reused from row to row.
    pub(crate) fn change<W: Default>(&mut self, change: impl Fn(&mut W, u32, &mut [f32]) + Sync) {
        let factors = self.factors;
        let working = || (W::default(), vec![0.0; factors]);
        self.values.par_chunks_exact_mut(factors).enumerate().for_each_init(
            working,
            |(work, vector), (row, values)| {
                T::load(values, vector);
                change(work, row as u32, vector);
                T::store(vector, values);
            },
        );
    }

    /// Multiplies every row by a matrix.
    pub(crate) fn rotate(&mut self, rotation: &Array2<f32>) {
        let factors = self.factors;
        self.values.par_chunks_mut(CHUNK_ROWS * factors).for_each(|chunk| {
            let rotated = loaded(chunk, factors).dot(rotation);
            for (values, vector) in chunk.chunks_exact_mut(factors).zip(rotated.outer_iter()) {
                T::store(vector.as_slice().expect("a product is made row by row"), values);
            }
        });
    }

    /// Eigenvalues, the largest first, and eigenvectors of their Gramian.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] where it is not finite.
    pub(crate) fn eigenbasis(&self) -> Result<(Vec<f32>, Array2<f32>), TrainError> {
        let g = self.gramian();
        if g.iter().any(|x| !x.is_finite()) {
            return Err(TrainError::Diverged);
        }
        let (values, vectors): (Array1<f64>, Array2<f64>) = g.eigh().map_err(|_| TrainError::Diverged)?.sort_eig_desc();
        Ok((values.iter().map(|x| x.max(0.0) as f32).collect(), vectors.mapv(|x| x as f32)))
    }

    /// `Σ v vᵀ`, in double precision over chunks in order.
    pub(crate) fn gramian(&self) -> Array2<f64> {
        let mut sum = Array2::zeros((self.factors, self.factors));
        for chunks in self.values.chunks(CHUNKS * CHUNK_ROWS * self.factors) {
            let of_chunk = |chunk: &[T]| gramian(&loaded(chunk, self.factors).view());
            let each: Vec<_> = chunks.par_chunks(CHUNK_ROWS * self.factors).map(of_chunk).collect();
            each.iter().for_each(|chunk| sum += chunk);
        }
        sum
    }
}

/// `Σ v vᵀ` of few rows.
pub(crate) fn gramian(rows: &ArrayView2<'_, f32>) -> Array2<f64> {
    rows.t().dot(rows).mapv(f64::from)
}

fn loaded<T: Coordinate>(rows: &[T], factors: usize) -> Array2<f32> {
    let mut table = Array2::zeros((rows.len() / factors, factors));
    for (values, mut vector) in rows.chunks_exact(factors).zip(table.outer_iter_mut()) {
        T::load(values, vector.as_slice_mut().expect("a table is made row by row"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn half_a_table_turns_as_a_whole_one() {
        let rows = CHUNK_ROWS * CHUNKS + 5;
        let (mut whole, mut half) = (Vectors::<f32>::zeros(rows, 3), Vectors::<bf16>::zeros(rows, 3));
        let number = |row: u32, k: usize| bf16::from_f32(((7 * row + 3 * k as u32) % 11) as f32 - 5.0).to_f32();
        let fill = |_: &mut (), row: u32, vector: &mut [f32]| (0..3).for_each(|k| vector[k] = number(row, k));
        whole.change(fill);
        half.change(fill);
        assert_eq!(whole.gramian(), half.gramian(), "small whole numbers are exact in both");
        let first = (0..rows as u32).map(|row| f64::from(number(row, 0)).powi(2)).sum::<f64>();
        assert_eq!(whole.gramian()[[0, 0]], first);
        let (values, basis) = whole.eigenbasis().unwrap();
        whole.rotate(&basis);
        half.rotate(&basis);
        let turned = whole.gramian();
        for (k, value) in values.iter().enumerate() {
            assert!((turned[[k, k]] - f64::from(*value)).abs() < 1e-4 * turned[[k, k]]);
        }
        for (a, b) in whole.values.iter().zip(&half.values) {
            assert!((a - b.to_f32()).abs() <= a.abs() / 256.0, "{a} {b}");
        }
    }
}
