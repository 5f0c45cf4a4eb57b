//! Symmetric positive definite systems.

use half::bf16;

use crate::kernels::{dispatched, dot, fetch, sum_of_products};

/// Rows whose inner products are taken before they are added up, while they are at hand.
const BLOCK: usize = 32;
/// Places of rows that were gathered.
const IN_ORDER: [u32; BLOCK] = {
    let mut places = [0; BLOCK];
    let mut i = 0;
    while i < BLOCK {
        places[i] = i as u32;
        i += 1;
    }
    places
};

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

/// Vectors, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Table<'a> {
    /// In single precision.
    Single(&'a [f32]),
    /// In the upper half of single precision.
    Half(&'a [bf16]),
}

/// What a coordinate is kept as.
pub trait Coordinate: Copy + Default + Send + Sync {
    /// Decodes a row.
    fn load(row: &[Self], into: &mut [f32]);
    /// Encodes a row.
    fn store(row: &[f32], into: &mut [Self]);
    /// Names a table of such.
    fn table(values: &[Self]) -> Table<'_>;
}

/// Rows of a table, `A`, with a weight each, `W`.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Where the rows stand.
    pub table: Table<'a>,
    /// Rows that were observed.
    pub rows: &'a [u32],
    /// Weight of each.
    pub weights: &'a [f32],
}

dispatched! {
    /// Adds `AᵀW1` to `out`, as long as a vector.
    pub fn add_weighted(observed: Observed<'_>, out: &mut [f32]) {
        let mut gathered = vec![0.0; observed.table.room(out.len())];
        for (rows, weights) in observed.rows.chunks(BLOCK).zip(observed.weights.chunks(BLOCK)) {
            let (table, rows) = observed.table.at_hand(rows, out.len(), &mut gathered);
            add_rows(table, rows, weights, out);
        }
    }
}

dispatched! {
    /// Takes `x` some steps towards the solution of `(diag(diagonal) + AᵀWA) x = AᵀW1`: conjugate gradients (Hestenes
    /// and Stiefel 1952), preconditioned by `diagonal` (above 0), so that one step more than there are rows solves it.
    /// `work` is working memory. Bits depend on the CPU, as those of [`dot`] do.
    pub fn approach_ridge(
        observed: Observed<'_>,
        diagonal: &[f32],
        steps: usize,
        work: &mut Vec<f32>,
        x: &mut [f32],
    ) {
        let d = x.len();
        work.clear();
        work.resize(3 * d + observed.table.room(d), 0.0);
        let (residual, rest) = work.split_at_mut(d);
        let (direction, rest) = rest.split_at_mut(d);
        let (image, gathered) = rest.split_at_mut(d);
        observed.add_residual(1.0, x, gathered, residual);
        for k in 0..d {
            residual[k] -= diagonal[k] * x[k];
            direction[k] = residual[k] / diagonal[k];
        }
        let mut size = dot(residual, direction);
        for _ in 0..steps {
            image.fill(0.0);
            // Its negative, less what the diagonal adds.
            observed.add_residual(0.0, direction, gathered, image);
            for k in 0..d {
                image[k] -= diagonal[k] * direction[k];
            }
            let curvature = -dot(direction, image);
            // The matrix is positive definite: where that can't be seen any more, the rest is rounding.
            if curvature <= 0.0 || size <= 0.0 {
                break;
            }
            let step = size / curvature;
            for k in 0..d {
                x[k] += step * direction[k];
                residual[k] += step * image[k];
                image[k] = residual[k] / diagonal[k];
            }
            let next = dot(residual, image);
            let turn = next / size;
            for k in 0..d {
                direction[k] = image[k] + turn * direction[k];
            }
            size = next;
        }
    }
}

impl Observed<'_> {
    /// Adds `AᵀW(target − Ax)` to `out`; `gathered` is [room](Table::room).
    #[inline(always)]
    fn add_residual(self, target: f32, x: &[f32], gathered: &mut [f32], out: &mut [f32]) {
        let d = x.len();
        let mut left = [0f32; BLOCK];
        for (rows, weights) in self.rows.chunks(BLOCK).zip(self.weights.chunks(BLOCK)) {
            let (table, rows) = self.table.at_hand(rows, d, gathered);
            for ((left, row), weight) in left.iter_mut().zip(rows).zip(weights) {
                *left = weight * (target - dot(&table[*row as usize * d..][..d], x));
            }
            add_rows(table, rows, &left, out);
        }
    }
}

impl Table<'_> {
    /// Numbers that a block of rows takes which have to be decoded.
    fn room(self, d: usize) -> usize {
        match self {
            Self::Single(_) => 0,
            Self::Half(_) => BLOCK * d,
        }
    }

    /// Up to a block of rows, each `d` long, as places in a table that can be read: this one, or `room`.
    #[inline(always)]
    fn at_hand<'b>(self, rows: &'b [u32], d: usize, room: &'b mut [f32]) -> (&'b [f32], &'b [u32])
    where
        Self: 'b,
    {
        match self {
            Self::Single(values) => (values, rows),
            Self::Half(values) => {
                // All are on their way before the first is waited for.
                for row in rows {
                    fetch(&values[*row as usize * d..][..d]);
                }
                for (row, into) in rows.iter().zip(room.chunks_exact_mut(d)) {
                    bf16::load(&values[*row as usize * d..][..d], into);
                }
                (room, &IN_ORDER[..rows.len()])
            }
        }
    }

    /// Appends rows, each `d` long.
    pub(crate) fn gather(self, rows: &[u32], d: usize, into: &mut Vec<f32>) {
        for row in rows {
            let range = *row as usize * d..(*row as usize + 1) * d;
            match self {
                Self::Single(values) => into.extend_from_slice(&values[range]),
                Self::Half(values) => into.extend(values[range].iter().map(|x| x.to_f32())),
            }
        }
    }
}

impl Coordinate for f32 {
    fn load(row: &[Self], into: &mut [f32]) {
        into.copy_from_slice(row);
    }

    fn store(row: &[f32], into: &mut [Self]) {
        into.copy_from_slice(row);
    }

    fn table(values: &[Self]) -> Table<'_> {
        Table::Single(values)
    }
}

impl Coordinate for bf16 {
    #[inline(always)]
    fn load(row: &[Self], into: &mut [f32]) {
        for (into, x) in into.iter_mut().zip(row) {
            // What `to_f32` does but for the payload of a NaN, at half of its cost.
            *into = f32::from_bits(u32::from(x.to_bits()) << 16);
        }
    }

    fn store(row: &[f32], into: &mut [Self]) {
        into.iter_mut().zip(row).for_each(|(into, x)| *into = bf16::from_f32(*x));
    }

    fn table(values: &[Self]) -> Table<'_> {
        Table::Half(values)
    }
}

/// Adds rows with a factor each to `out`: four side by side, as it is read and written once for all.
#[inline(always)]
fn add_rows(table: &[f32], rows: &[u32], factors: &[f32], out: &mut [f32]) {
    let d = out.len();
    let (fours, rest) = rows.as_chunks::<4>();
    for ([p, q, r, s], factors) in fours.iter().zip(factors.as_chunks::<4>().0) {
        let (p, q) = (&table[*p as usize * d..][..d], &table[*q as usize * d..][..d]);
        let (r, s) = (&table[*r as usize * d..][..d], &table[*s as usize * d..][..d]);
        let [a, b, c, e] = *factors;
        for k in 0..d {
            out[k] += (a * p[k] + b * q[k]) + (c * r[k] + e * s[k]);
        }
    }
    for (row, factor) in rest.iter().zip(&factors[rows.len() - rest.len()..]) {
        let row = &table[*row as usize * d..][..d];
        for k in 0..d {
            out[k] += factor * row[k];
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
        fn steps_end_at_the_solution(
            values in prop::collection::vec(-1f32..1.0, 9 * 5),
            weights in prop::collection::vec(0.2f32..4.0, 5),
            n in 0usize..6,
            mut x in prop::collection::vec(-1f32..1.0, 9),
        ) {
            let (rows, weights) = (Vec::from_iter(0..n as u32), &weights[..n]);
            let diagonal: Vec<f32> = (0..9).map(|k| 0.5 + k as f32 / 4.0).collect();
            let observed = Observed { table: Table::Single(&values), rows: &rows, weights };
            approach_ridge(observed, &diagonal, n + 2, &mut Vec::new(), &mut x);
            // (diag + AᵀWA) x = AᵀW1, term by term.
            let row = |i: usize| &values[i * 9..(i + 1) * 9];
            let left: Vec<f32> = (0..n).map(|i| weights[i] * (1.0 - dot(row(i), &x))).collect();
            for k in 0..9 {
                let right: f32 = (0..n).map(|i| left[i] * row(i)[k]).sum();
                prop_assert!((diagonal[k] * x[k] - right).abs() < 2e-3, "{x:?}");
            }
        }

        #[test]
        fn rows_of_any_number_are_added(n in 0usize..80, seed in prop::collection::vec(-1f32..1.0, 80 * 5)) {
            let rows: Vec<u32> = (0..n as u32).map(|i| i * 37 % 80).collect();
            let weights: Vec<f32> = (0..n).map(|i| 1.0 + (i % 7) as f32).collect();
            let observed = Observed { table: Table::Single(&seed), rows: &rows, weights: &weights };
            let by_width = crate::kernels::widest::each(|| {
                let mut sum = vec![0.5f32; 5];
                add_weighted(observed, &mut sum);
                sum
            });
            prop_assert!(by_width.iter().all(|sum| *sum == by_width[0]));
            // One step from nowhere with a diagonal so large that the rows do not count: AᵀW1 / diagonal.
            let by_width = crate::kernels::widest::each(|| {
                let mut x = vec![0f32; 5];
                approach_ridge(observed, &[1e6; 5], 1, &mut Vec::new(), &mut x);
                (by_width[0].clone(), x)
            });
            for (sum, x) in by_width {
                for k in 0..5 {
                    let exact: f32 = rows.iter().zip(&weights).map(|(row, w)| w * seed[*row as usize * 5 + k]).sum();
                    prop_assert!((sum[k] - 0.5 - exact).abs() < 1e-3);
                    prop_assert!((x[k] * 1e6 - exact).abs() < 0.05, "{} {exact}", x[k] * 1e6);
                }
            }
        }

        #[test]
        fn half_a_table_is_the_whole_one_rounded(n in 0usize..80, seed in prop::collection::vec(-1f32..1.0, 80 * 5)) {
            let half: Vec<bf16> = seed.iter().map(|x| bf16::from_f32(*x)).collect();
            let mut whole = vec![0.0; seed.len()];
            bf16::load(&half, &mut whole);
            prop_assert!(whole.iter().zip(&seed).all(|(a, b)| (a - b).abs() <= b.abs() / 256.0));
            let (rows, weights) = (Vec::from_iter((0..n as u32).map(|i| i * 37 % 80)), vec![1.5; n]);
            let of = |table| {
                let (mut sum, mut x) = (vec![0f32; 5], vec![0.1f32; 5]);
                let observed = Observed { table, rows: &rows, weights: &weights };
                add_weighted(observed, &mut sum);
                approach_ridge(observed, &[2.0; 5], 3, &mut Vec::new(), &mut x);
                let mut gathered = Vec::new();
                table.gather(&rows, 5, &mut gathered);
                (sum, x, gathered)
            };
            prop_assert_eq!(of(Table::Half(&half)), of(Table::Single(&whole)));
        }

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
