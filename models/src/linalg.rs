//! Symmetric positive definite systems, small and dense.

use crate::kernels::dot;

/// Solves `A x = b` in place for a symmetric positive definite `A` (row-major, `n × n`, lower triangle
/// read and overwritten by its Cholesky factor); `b` becomes `x`. Pivots are kept above a tiny floor, so
/// that a matrix that is singular in `f32` gives a finite answer.
pub fn solve_spd(a: &mut [f32], b: &mut [f32]) {
    let n = b.len();
    debug_assert_eq!(a.len(), n * n);
    for i in 0..n {
        let (above, from_i) = a.split_at_mut(i * n);
        let row = &mut from_i[..n];
        for j in 0..i {
            let upper = &above[j * n..j * n + n];
            row[j] = (row[j] - dot(&row[..j], &upper[..j])) / upper[j];
        }
        let floor = 1e-6 * row[i].abs() + f32::MIN_POSITIVE;
        row[i] = (row[i] - dot(&row[..i], &row[..i])).max(floor).sqrt();
    }
    for i in 0..n {
        let row = &a[i * n..i * n + n];
        b[i] = (b[i] - dot(&row[..i], &b[..i])) / row[i];
    }
    for i in (0..n).rev() {
        b[i] /= a[i * n + i];
        let x = b[i];
        for j in 0..i {
            b[j] -= x * a[i * n + j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let (mut factor, mut x) = (a.clone(), b.clone());
            solve_spd(&mut factor, &mut x);
            for i in 0..n {
                prop_assert!((dot(&a[i * n..(i + 1) * n], &x) - b[i]).abs() < 1e-3);
            }
        }
    }
}
