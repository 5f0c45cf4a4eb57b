//! Symmetric positive definite systems, small and dense.

use crate::kernels::{dispatched, sum_of_products};

/// Solves `A x = b` in place for a symmetric positive definite `A` (row-major, `n × n`, lower triangle
/// read; the upper becomes its Cholesky factor); `b` becomes `x`. Pivots are kept above a tiny floor, so
/// that a matrix that is singular in `f32` gives a finite answer.
pub fn solve_spd(a: &mut [f32], b: &mut [f32]) {
    factorize(a, b.len());
    substitute(a, b);
}

dispatched! {
    /// `A = UᵀU`, with `U` in the upper triangle: row by row, so that every step runs along a row.
    fn factorize(a: &mut [f32], n: usize) {
        debug_assert_eq!(a.len(), n * n);
        let floors: Vec<f32> = (0..n).map(|i| 1e-6 * a[i * n + i].abs() + f32::MIN_POSITIVE).collect();
        for i in 0..n {
            for j in 0..i {
                a[j * n + i] = a[i * n + j];
            }
        }
        for (k, floor) in floors.iter().enumerate() {
            let (above, below) = a.split_at_mut((k + 1) * n);
            let row = &mut above[k * n..];
            let scale = 1.0 / row[k].max(*floor).sqrt();
            row[k..].iter_mut().for_each(|x| *x *= scale);
            row[k] = 1.0 / scale;
            for (i, other) in (k + 1..n).zip(below.chunks_exact_mut(n)) {
                let factor = row[i];
                other[i..].iter_mut().zip(&row[i..]).for_each(|(x, y)| *x -= factor * y);
            }
        }
    }
}

dispatched! {
    /// Solves `UᵀU x = b` in place.
    fn substitute(a: &[f32], b: &mut [f32]) {
        let n = b.len();
        for k in 0..n {
            let row = &a[k * n..(k + 1) * n];
            b[k] /= row[k];
            let x = b[k];
            b[k + 1..].iter_mut().zip(&row[k + 1..]).for_each(|(b, y)| *b -= x * y);
        }
        for k in (0..n).rev() {
            let row = &a[k * n..(k + 1) * n];
            b[k] = (b[k] - sum_of_products(&row[k + 1..], &b[k + 1..])) / row[k];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::dot;
    use proptest::prelude::*;

    #[test]
    fn solves_a_system_worked_by_hand() {
        // [[4, 2], [2, 3]] · [1, 2] = [8, 8]
        let (mut a, mut b) = (vec![4.0, 2.0, 2.0, 3.0], vec![8.0, 8.0]);
        solve_spd(&mut a, &mut b);
        assert!((b[0] - 1.0).abs() < 1e-6 && (b[1] - 2.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn solution_reproduces_the_right_side(n in 1usize..12, seed in prop::collection::vec(-1f32..1.0, 144 + 12)) {
            let m = &seed[..n * n];
            let mut a = vec![0f32; n * n];
            for i in 0..n { for j in 0..n {
                a[i * n + j] = (0..n).map(|k| m[i * n + k] * m[j * n + k]).sum::<f32>() + f32::from(u8::from(i == j));
            } }
            let b = seed[144..144 + n].to_vec();
            let by_width = crate::kernels::widest::each(|| {
                let (mut factor, mut x) = (a.clone(), b.clone());
                solve_spd(&mut factor, &mut x);
                x
            });
            prop_assert!(by_width.iter().all(|x| *x == by_width[0]));
            let x = &by_width[0];
            for i in 0..n {
                prop_assert!((dot(&a[i * n..(i + 1) * n], x) - b[i]).abs() < 1e-3);
            }
        }
    }
}
