//! Sparse rows, compressed.

use rayon::prelude::*;

use crate::artifact::{Array, ArtifactError, Section, SectionWriter};

/// Sorted values that are compared side by side.
const NEAR: usize = 16;
/// Rows that are computed side by side.
const COMPUTED_ROWS: usize = 1 << 16;

/// Which columns each row has, without values: compressed sparse rows.
#[derive(Clone, Debug)]
pub struct Rows {
    /// `n + 1` ends: row `i` is `columns[offsets[i]..offsets[i + 1]]`.
    pub offsets: Array<u64>,
    /// Columns, sorted within a row.
    pub columns: Array<u32>,
}

impl Default for Rows {
    fn default() -> Self {
        Self { offsets: vec![0].into(), columns: Array::default() }
    }
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a row stands in `columns`, and in every array beside it; empty beyond the last row.
    #[inline]
    pub fn range(&self, row: u32) -> std::ops::Range<usize> {
        let row = row as usize;
        match self.offsets.get(row..row + 2) {
            Some([start, end]) => *start as usize..*end as usize,
            _ => 0..0,
        }
    }

    /// The columns of a row.
    #[inline]
    pub fn row(&self, row: u32) -> &[u32] {
        &self.columns[self.range(row)]
    }

    /// Builds from lists of columns.
    pub fn from_lists(lists: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let (mut offsets, mut columns) = (vec![0u64], Vec::new());
        for mut list in lists {
            list.sort_unstable();
            list.dedup();
            columns.append(&mut list);
            offsets.push(columns.len() as u64);
        }
        Self { offsets: offsets.into(), columns: columns.into() }
    }

    /// Writes the rows into a section under `name`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, name: &str, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        to.array(&format!("{name}.offsets"), &self.offsets)?;
        to.array(&format!("{name}.columns"), &self.columns)
    }

    /// Reads `len` rows over `columns` columns.
    ///
    /// # Errors
    /// If they are not there, or of another shape.
    pub fn read(name: &str, len: usize, columns: usize, from: &Section<'_>) -> Result<Self, ArtifactError> {
        let rows =
            Self { offsets: from.array(&format!("{name}.offsets"))?, columns: from.array(&format!("{name}.columns"))? };
        let whole = rows.offsets.len() == len + 1
            && rows.offsets.first() == Some(&0)
            && rows.offsets.last() == Some(&(rows.columns.len() as u64));
        let fits = || rows.offsets.is_sorted() && rows.columns.par_iter().all(|c| (*c as usize) < columns);
        let what = format!("sparse rows '{name}' are not {len} rows over {columns} columns");
        from.ensure(whole, &what)?;
        from.ensure_all(fits, &what)?;
        let sorted = || (0..len as u32).into_par_iter().all(|row| rows.row(row).is_sorted_by(|a, b| a < b));
        from.ensure_all(sorted, &format!("sparse rows '{name}' are not sorted"))?;
        Ok(rows)
    }
}

/// Sparse rows with one value per column.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// Which columns each row has.
    pub rows: Rows,
    /// The value of each, in the same order.
    pub values: Array<f32>,
}

impl Matrix {
    /// Builds from `(row, column, value)` sorted by row, then column, without repeats.
    pub fn from_sorted(len: usize, entries: &[(u32, u32, f32)]) -> Self {
        let mut offsets = vec![0u64; len + 1];
        for (row, _, _) in entries {
            offsets[*row as usize + 1] += 1;
        }
        accumulate(&mut offsets);
        let columns: Vec<u32> = entries.iter().map(|e| e.1).collect();
        let values: Vec<f32> = entries.iter().map(|e| e.2).collect();
        Self { rows: Rows { offsets: offsets.into(), columns: columns.into() }, values: values.into() }
    }

    /// The columns and values of a row.
    #[inline]
    pub fn row(&self, row: u32) -> (&[u32], &[f32]) {
        let range = self.rows.range(row);
        (&self.rows.columns[range.clone()], &self.values[range])
    }

    /// Rows and columns exchanged, over `columns` columns; within a row, columns are sorted.
    pub fn transposed(&self, columns: usize) -> Self {
        let mut offsets = vec![0u64; columns + 1];
        for column in self.rows.columns.iter() {
            offsets[*column as usize + 1] += 1;
        }
        accumulate(&mut offsets);
        let mut next = offsets.clone();
        let mut rows = vec![0u32; self.values.len()];
        let mut values = vec![0f32; self.values.len()];
        for row in 0..self.rows.len() as u32 {
            let (of_row, with) = self.row(row);
            for (column, value) in of_row.iter().zip(with) {
                let at = next[*column as usize] as usize;
                next[*column as usize] += 1;
                rows[at] = row;
                values[at] = *value;
            }
        }
        Self { rows: Rows { offsets: offsets.into(), columns: rows.into() }, values: values.into() }
    }

    /// Rows and columns exchanged of `len` rows that are computed when they are asked for, twice each, so that no more
    /// memory is taken than by the answer: `row` pushes the columns of a row, below `columns`, each once, with their
    /// values.
    pub fn transposed_of(len: usize, columns: usize, row: impl Fn(u32, &mut Vec<(u32, f32)>) + Sync) -> Self {
        let each = |f: &mut dyn FnMut(u32, u32, f32)| {
            for start in (0..len).step_by(COMPUTED_ROWS) {
                let rows = (start..len.min(start + COMPUTED_ROWS)).into_par_iter().map(|at| {
                    let mut entries = Vec::new();
                    row(at as u32, &mut entries);
                    // It may have held each column several times before.
                    entries.shrink_to_fit();
                    entries
                });
                for (at, entries) in (start as u32..).zip(rows.collect::<Vec<_>>()) {
                    entries.into_iter().for_each(|(column, value)| f(at, column, value));
                }
            }
        };
        let mut offsets = vec![0u64; columns + 1];
        each(&mut |_, column, _| offsets[column as usize + 1] += 1);
        accumulate(&mut offsets);
        let mut next = offsets.clone();
        let entries = offsets[columns] as usize;
        let (mut rows, mut values) = (vec![0u32; entries], vec![0f32; entries]);
        each(&mut |row, column, value| {
            let at = next[column as usize] as usize;
            next[column as usize] += 1;
            (rows[at], values[at]) = (row, value);
        });
        Self { rows: Rows { offsets: offsets.into(), columns: rows.into() }, values: values.into() }
    }

    /// Writes the matrix into a section under `name`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, name: &str, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        self.rows.write(name, to)?;
        to.array(&format!("{name}.values"), &self.values)
    }

    /// Reads a matrix of `len` rows over `columns` columns.
    ///
    /// # Errors
    /// If it is not there, or of another shape.
    pub fn read(name: &str, len: usize, columns: usize, from: &Section<'_>) -> Result<Self, ArtifactError> {
        let rows = Rows::read(name, len, columns, from)?;
        let values: Array<f32> = from.array(&format!("{name}.values"))?;
        from.ensure(values.len() == rows.columns.len(), &format!("matrix '{name}' lacks values"))?;
        Ok(Self { rows, values })
    }
}

/// Where the first of sorted values that is not below `wanted` stands, at `from` or later: in time that grows with the
/// logarithm of how far that is.
pub fn gallop(sorted: &[u32], from: usize, wanted: u32) -> usize {
    let mut low = from;
    // Mostly it is near: a few are compared side by side, without a branch for each.
    if let Some(near) = sorted.get(from..).and_then(|rest| rest.first_chunk::<NEAR>()) {
        let below: usize = near.iter().map(|value| usize::from(*value < wanted)).sum();
        if below < near.len() {
            return from + below;
        }
        low += near.len();
    }
    let mut step = 1;
    while sorted.get(low + step).is_some_and(|value| *value < wanted) {
        low += step;
        step *= 2;
    }
    let end = (low + step + 1).min(sorted.len());
    low + sorted[low.min(end)..end].partition_point(|value| *value < wanted)
}

fn accumulate(counts: &mut [u64]) {
    for i in 1..counts.len() {
        counts[i] += counts[i - 1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn galloping_finds_what_a_search_finds(set in prop::collection::btree_set(0u32..300, 0..80), wanted in 0u32..310) {
            let sorted: Vec<u32> = set.into_iter().collect();
            let place = sorted.partition_point(|value| *value < wanted);
            for from in 0..=place {
                prop_assert_eq!(gallop(&sorted, from, wanted), place);
            }
        }

        #[test]
        fn transposing_twice_changes_nothing(cells in prop::collection::btree_map((0u32..9, 0u32..7), -3f32..3.0, 0..40)) {
            let entries: Vec<_> = cells.iter().map(|((r, c), v)| (*r, *c, *v)).collect();
            let matrix = Matrix::from_sorted(9, &entries);
            let back = matrix.transposed(7).transposed(9);
            let computed = Matrix::transposed_of(9, 7, |row, into| {
                let (columns, values) = matrix.row(row);
                into.extend(columns.iter().copied().zip(values.iter().copied()));
            });
            prop_assert_eq!(&*computed.rows.offsets, &*matrix.transposed(7).rows.offsets);
            prop_assert_eq!(&*computed.rows.columns, &*matrix.transposed(7).rows.columns);
            prop_assert_eq!(&*computed.values, &*matrix.transposed(7).values);
            prop_assert_eq!(&*back.values, &*matrix.values);
            let mut seen = BTreeMap::new();
            for row in 0..9 {
                let (columns, values) = back.row(row);
                seen.extend(columns.iter().zip(values).map(|(c, v)| ((row, *c), *v)));
            }
            prop_assert_eq!(seen, cells);
        }
    }
}
