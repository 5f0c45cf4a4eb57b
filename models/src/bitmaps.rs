//! Sets of rows, compressed.

use std::io::Cursor;

use roaring::RoaringBitmap;

use crate::artifact::{Array, ArtifactError, Section, SectionWriter};
use crate::sparse::Rows;
use crate::strings::Labels;

/// One set of rows per value of a column, as roaring bitmaps (Lemire et al. 2018, "Roaring bitmaps:
/// implementation of an optimized software library"). They stay as they are stored, mapped, and one is unpacked
/// when it is asked for.
#[derive(Clone, Debug)]
pub struct Bitmaps {
    /// `n + 1` ends: set `i` is `bytes[offsets[i]..offsets[i + 1]]`.
    offsets: Array<u64>,
    bytes: Array<u8>,
}

impl Default for Bitmaps {
    fn default() -> Self {
        Self::of_sets([])
    }
}

impl Bitmaps {
    /// Packs sets.
    pub fn of_sets(sets: impl IntoIterator<Item = RoaringBitmap>) -> Self {
        let (mut offsets, mut bytes) = (vec![0u64], Vec::new());
        for set in sets {
            // Writing into memory can't fail.
            let _ = set.serialize_into(&mut bytes);
            offsets.push(bytes.len() as u64);
        }
        Self { offsets: offsets.into(), bytes: bytes.into() }
    }

    /// The rows that have each value of a column.
    pub fn of_labels(labels: &Labels) -> Self {
        Self::inverted(labels.rows.iter().map(std::slice::from_ref), labels.values.len())
    }

    /// The rows that have each of `columns` columns.
    pub fn of_rows(rows: &Rows, columns: usize) -> Self {
        Self::inverted((0..rows.len() as u32).map(|row| rows.row(row)), columns)
    }

    /// The rows that name each of `values` values; values beyond are none.
    fn inverted<'a>(rows: impl Iterator<Item = &'a [u32]>, values: usize) -> Self {
        let mut sets = vec![RoaringBitmap::new(); values];
        for (row, named) in (0u32..).zip(rows) {
            for value in named {
                if let Some(set) = sets.get_mut(*value as usize) {
                    set.insert(row);
                }
            }
        }
        Self::of_sets(sets)
    }

    /// Number of sets.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A set; empty beyond the last.
    pub fn get(&self, value: u32) -> RoaringBitmap {
        // `read` unpacked every one of them.
        self.unpacked(value as usize).unwrap_or_default()
    }

    fn unpacked(&self, value: usize) -> Option<RoaringBitmap> {
        let [start, end] = self.offsets.get(value..value + 2)? else { return None };
        RoaringBitmap::deserialize_from(Cursor::new(self.bytes.get(*start as usize..*end as usize)?)).ok()
    }

    /// All rows of some sets.
    pub fn union(&self, values: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        values.into_iter().fold(RoaringBitmap::new(), |all, value| all | self.get(value))
    }

    /// Writes the sets into a section under `name`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, name: &str, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        to.array(&format!("{name}.offsets"), &self.offsets)?;
        to.array(&format!("{name}.bytes"), &self.bytes)
    }

    /// Reads `len` sets of rows below `rows`.
    ///
    /// # Errors
    /// If they are not there, or can't be unpacked.
    pub fn read(name: &str, len: usize, rows: usize, from: &Section<'_>) -> Result<Self, ArtifactError> {
        let sets =
            Self { offsets: from.array(&format!("{name}.offsets"))?, bytes: from.array(&format!("{name}.bytes"))? };
        let fits = |set: RoaringBitmap| set.max().is_none_or(|last| (last as usize) < rows);
        let what = format!("bitmaps '{name}' are not {len} sets of {rows} rows");
        from.ensure(sets.offsets.len() == len + 1 && sets.offsets.is_sorted(), &what)?;
        from.ensure_all(|| (0..len).all(|value| sets.unpacked(value).is_some_and(fits)), &what)?;
        Ok(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sets_are_the_rows_that_name_them(lists in prop::collection::vec(prop::collection::vec(0u32..8, 0..6), 0..200)) {
            let rows = Rows::from_lists(lists.clone());
            let sets = Bitmaps::of_rows(&rows, 8);
            prop_assert_eq!(sets.len(), 8);
            for value in 0..9 {
                let named = (0u32..).zip(&lists).filter(|(_, list)| list.contains(&value)).map(|(row, _)| row);
                prop_assert!(sets.get(value).iter().eq(named));
            }
            let some = sets.union([1, 2]);
            prop_assert!((0u32..).zip(&lists).all(|(row, l)| some.contains(row) == (l.contains(&1) || l.contains(&2))));
        }
    }

    #[test]
    fn rows_without_a_label_are_in_no_set() {
        let sets = Bitmaps::of_labels(&Labels::encode(&[Some("b"), None, Some("a"), Some("b")]));
        assert_eq!(sets.get(0).iter().collect::<Vec<_>>(), [2]);
        assert_eq!(sets.get(1).iter().collect::<Vec<_>>(), [0, 3]);
        assert!(sets.get(2).is_empty() && Bitmaps::default().is_empty());
    }
}
