//! The exact answer without looking at every vector: the longest come first.
//!
//! No inner product exceeds the product of the lengths (Cauchy and Schwarz), so a search in order of length ends where
//! what is left is too short to be in the answer (Teflioudi, Gemulla & Mykytiuk 2015, "LEMP: Fast Retrieval of Large
//! Entries in a Matrix Product", section 4.1). Vectors of products are as long as the products are popular: of 92,000
//! of a grocer's, the first 1% hold the ten best. On the way a byte per coordinate is read; only a vector whose bytes
//! say that it may be among the best is looked at in full.

use std::mem::replace;

use rayon::prelude::*;

use super::{Allowed, Table, VectorIndex};
use crate::artifact::{Array, ArtifactError, Section};
use crate::kernels::{dispatched, dot, dot_codes};
use crate::quantized::{Quantized, QuantizedQuery};
use crate::ranking::{Scored, Top};

/// Vectors looked at between two looks at whether the rest may be left out.
const BLOCK: usize = 256;
/// Where fewer than one in so many are allowed, it is asked first who is.
const NARROW: usize = 64;
/// Where the longest is no more than so many times as long as the shortest, few are left out for their length.
const EVEN: f32 = 2.0;
/// How much a computed inner product may exceed the true one, as a share of the product of the lengths.
const ROUNDING: f32 = 1e-5;

/// Lengths between which products of lengths neither vanish nor overflow, so that bounds are bounds.
const PLAIN: std::ops::RangeInclusive<f32> = 1e-15..=1e15;

/// Looks at vectors in order of length.
#[derive(Clone, Debug)]
pub struct LengthIndex {
    table: Table,
    /// Rows of the table, the longest first.
    order: Array<u32>,
    /// Length of each, in that order, or of a later one that is longer; of one too short for its length to be exact,
    /// the shortest plain one.
    lengths: Vec<f32>,
    /// The vectors in that order, in bytes.
    codes: Quantized,
    /// Whether no vector is too long for bounds.
    is_plain: bool,
}

impl LengthIndex {
    /// Over a table.
    pub fn new(table: Table) -> Self {
        let of_row = lengths(&table);
        let mut order: Vec<u32> = (0..table.len() as u32).collect();
        order.par_sort_unstable_by(|a, b| of_row[*b as usize].total_cmp(&of_row[*a as usize]).then(a.cmp(b)));
        Self::with_lengths(table, order.into(), &of_row)
    }

    /// Over a table, in the order that a section holds: a graph's points are places in it, which another CPU's lengths,
    /// different in the last bit, could change.
    pub(super) fn read(table: Table, from: &Section<'_>) -> Result<Self, ArtifactError> {
        let order: Array<u32> = from.array("order")?;
        let what = format!("the order does not have each of {} rows once", table.len());
        from.ensure(order.len() == table.len(), &what)?;
        let is_whole = || {
            let mut seen = vec![false; table.len()];
            order.iter().all(|row| seen.get_mut(*row as usize).is_some_and(|seen| !replace(seen, true)))
        };
        from.ensure_all(is_whole, &what)?;
        let of_row = lengths(&table);
        Ok(Self::with_lengths(table, order, &of_row))
    }

    fn with_lengths(table: Table, order: Array<u32>, of_row: &[f32]) -> Self {
        let ordered: Vec<f32> = order.par_iter().flat_map_iter(|row| table.row(*row)).copied().collect();
        let mut lengths: Vec<f32> = order.iter().map(|row| of_row[*row as usize]).collect();
        // Where the order is of other lengths than these, so that a bound by one holds for all after it.
        (1..lengths.len()).rev().for_each(|i| lengths[i - 1] = lengths[i - 1].max(lengths[i]));
        Self {
            is_plain: of_row.iter().all(|length| length <= PLAIN.end()),
            codes: Quantized::new(&ordered, table.dimension),
            lengths,
            order,
            table,
        }
    }

    /// Whether all are so alike in length that rows one after another in memory are worth more than this order.
    fn are_even(&self) -> bool {
        self.lengths.first().zip(self.lengths.last()).is_some_and(|(longest, shortest)| *longest <= EVEN * shortest)
    }

    /// The vectors.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Rows of the table in the order of this index.
    pub fn order(&self) -> &Array<u32> {
        &self.order
    }

    /// The vectors in that order, in bytes.
    pub fn codes(&self) -> &Quantized {
        &self.codes
    }

    /// The `k` allowed rows with the largest inner product, best first, and how many vectors were looked at.
    pub fn search_counted(&self, query: &[f32], k: usize, allowed: Allowed<'_>) -> (Vec<Scored>, usize) {
        let (mut top, mut looked_at) = (Top::new(k), 0);
        if k == 0 {
            return (Vec::new(), 0);
        }
        let bounds = Bounds::of(query);
        if !self.is_plain || !PLAIN.contains(&bounds.length) {
            return (self.table.search(query, k, allowed), self.table.len());
        }
        let (mut sums, mut most, mut asked, mut let_in) = ([0; BLOCK], [0.0; BLOCK], 0, 0);
        for (block, rows) in self.order.chunks(BLOCK).enumerate() {
            let start = block * BLOCK;
            if top.worst().is_some_and(|worst| bounds.product(self.lengths[start]) < worst.score) {
                break;
            }
            looked_at += rows.len();
            if let_in * NARROW < asked {
                // Most would be looked at in vain.
                if self.are_even() {
                    return (self.table.search(query, k, allowed), self.table.len());
                }
                asked += rows.len();
                for row in rows.iter().filter(|row| allowed(**row)) {
                    let_in += 1;
                    top.push(*row, dot(self.table.row(*row), query));
                }
                continue;
            }
            let codes = &self.codes.codes[start * self.table.dimension..][..rows.len() * self.table.dimension];
            dot_codes(codes, &bounds.query.codes, &mut sums[..rows.len()]);
            let of_block = start..start + rows.len();
            bounds.by_codes(&sums, &self.codes.scales[of_block.clone()], &self.lengths[of_block], &mut most);
            let worst = |top: &Top| top.worst().map_or(f32::NEG_INFINITY, |worst| worst.score);
            let mut least = worst(&top);
            for (row, most) in rows.iter().zip(most) {
                if most >= least {
                    asked += 1;
                    if allowed(*row) {
                        let_in += 1;
                        top.push(*row, dot(self.table.row(*row), query));
                        least = worst(&top);
                    }
                }
            }
        }
        (top.into_sorted(), looked_at)
    }
}

/// Length of each row; [`PLAIN`]'s least for one too short for its length to be exact.
fn lengths(table: &Table) -> Vec<f32> {
    let length = |row: &[f32]| {
        let is_zero = row.iter().all(|x| *x == 0.0);
        if is_zero { 0.0 } else { dot(row, row).sqrt().max(*PLAIN.start()) }
    };
    let values: &[f32] = &table.values;
    values.par_chunks_exact(table.dimension).map(length).collect()
}

/// What inner products with a query can come to at most.
struct Bounds {
    query: QuantizedQuery,
    length: f32,
    /// Half the sum of the query's coordinates, without their signs: by so many units of a row's scale may its codes
    /// be off.
    half_sum: f32,
    /// How much of a row's length the query's own codes may be off by.
    of_query: f32,
}

impl Bounds {
    fn of(query: &[f32]) -> Self {
        let coded = QuantizedQuery::new(query);
        Self {
            length: dot(query, query).sqrt(),
            half_sum: 0.5 * query.iter().map(|x| x.abs()).sum::<f32>(),
            // Twice the rounding of half a unit: a row may be longer as it is coded than it is.
            of_query: coded.scale * (query.len() as f32).sqrt(),
            query: coded,
        }
    }

    fn product(&self, length: f32) -> f32 {
        self.length * length * (1.0 + ROUNDING)
    }

    /// By the inner products of rows' codes with the query's, the rows' scales and lengths.
    fn by_codes(&self, sums: &[i32; BLOCK], scales: &[f32], lengths: &[f32], most: &mut [f32; BLOCK]) {
        let per_scale = self.half_sum * (1.0 + ROUNDING);
        let per_length = self.of_query + ROUNDING * self.length;
        add_up(sums, scales, lengths, self.query.scale, per_scale, per_length, most);
    }
}

dispatched! {
    fn add_up(
        sums: &[i32; BLOCK],
        scales: &[f32],
        lengths: &[f32],
        unit: f32,
        per_scale: f32,
        per_length: f32,
        most: &mut [f32; BLOCK],
    ) {
        for (((most, sum), scale), length) in most.iter_mut().zip(sums).zip(scales).zip(lengths) {
            *most = *sum as f32 * (scale * unit) + scale * per_scale + length * per_length;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(values: Vec<f32>, dimension: usize) -> Table {
        Table { values: values.into(), dimension }
    }

    proptest! {
        #[test]
        fn the_answer_is_the_exact_one(
            dimension in 1usize..20,
            rows in prop::collection::vec((-3i32..9, any::<u64>()), 0..700),
            query in prop::collection::vec(-2f32..2.0, 20),
            k in 0usize..40,
            every in 1u32..9,
        ) {
            // Lengths over many powers of two, some vectors alike, some zero.
            let coordinate = |(power, seed): (i32, u64), i: usize| {
                let x = (seed % 50).wrapping_mul(2 * i as u64 + 77) % 101;
                if seed % 11 == 0 { 0.0 } else { (x as f32 / 50.0 - 1.0) * 2f32.powi(-power) }
            };
            let values: Vec<f32> = rows.iter().flat_map(|row| (0..dimension).map(|i| coordinate(*row, i))).collect();
            let table = table(values, dimension);
            let allowed = |row: u32| row.is_multiple_of(every);
            let query = &query[..dimension];
            let exact = table.search(query, k, &allowed);
            let (found, looked_at) = LengthIndex::new(table.clone()).search_counted(query, k, &allowed);
            prop_assert!(looked_at <= rows.len());
            prop_assert_eq!(&found, &exact);
            let any_order: Vec<u32> = (0..rows.len() as u32).rev().collect();
            let index = LengthIndex::with_lengths(table.clone(), any_order.into(), &lengths(&table));
            prop_assert_eq!(&index.search_counted(query, k, &allowed).0, &exact);
        }
    }

    #[test]
    fn what_is_too_small_or_too_large_for_bounds_is_looked_at_whole() {
        let huge: Vec<f32> = [vec![1e18; 256], vec![2e18]].concat();
        for (values, query) in [(huge, [1e10]), (vec![1.0; 300], [1e-41]), (vec![0.0, 1.0], [f32::INFINITY])] {
            let table = table(values, 1);
            let found = LengthIndex::new(table.clone()).search_counted(&query, 1, &|_| true);
            assert_eq!(found.0[0].row, table.search(&query, 1, &|_| true)[0].row);
            assert_eq!(found.1, table.len());
        }
    }

    #[test]
    fn a_vector_of_next_to_nothing_costs_the_others_nothing() {
        // Down to such as are shorter than their squares can be, and one of zeros.
        let mut values: Vec<f32> = (0..19_998).flat_map(|i| [2f32.powi(-(i / 160)), 0.0]).collect();
        values.extend([f32::from_bits(1), 1e-40, 0.0, 0.0]);
        let index = LengthIndex::new(table(values.clone(), 2));
        for (query, k, most) in [([2.0, 1.0], 10, BLOCK), ([-1.0, 0.0], 10, 20_000)] {
            let (found, looked_at) = index.search_counted(&query, k, &|_| true);
            assert_eq!(found, table(values.clone(), 2).search(&query, k, &|_| true));
            assert!(looked_at <= most, "{looked_at}");
        }
    }

    #[test]
    fn a_few_of_many_that_are_alike_in_length_are_found() {
        let values: Vec<f32> = (0..4000).flat_map(|i| [(i as f32).cos(), (i as f32).sin()]).collect();
        let (table, few) = (table(values, 2), |row: u32| row % 500 == 3);
        let index = LengthIndex::new(table.clone());
        assert!(index.are_even());
        let (found, looked_at) = index.search_counted(&[1.0, 0.5], 5, &few);
        assert_eq!((found.len(), looked_at), (5, 4000));
        assert_eq!(found, table.search(&[1.0, 0.5], 5, &few));
    }

    #[test]
    fn a_long_tail_is_not_looked_at() {
        let values: Vec<f32> = (0..20_000).flat_map(|i| [(1.0 + (i % 7) as f32) / (1.0 + i as f32), 0.0]).collect();
        let index = LengthIndex::new(table(values, 2));
        let (found, looked_at) = index.search_counted(&[2.0, 1.0], 10, &|_| true);
        assert_eq!((found[0].row, found[0].score, looked_at), (0, 2.0, BLOCK));
        assert_eq!(
            index.search_counted(&[0.0, 0.0], 3, &|_| true).0.iter().map(|s| s.row).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
}
