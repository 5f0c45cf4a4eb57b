//! Tables of strings without a heap object per string.

use std::collections::BTreeSet;

use crate::artifact::{Array, ArtifactError, Section, SectionWriter};

/// Row numbers that stand for "none".
pub const NONE: u32 = u32::MAX;

/// Strings by row. Mapped or owned; a row costs its bytes and one offset.
#[derive(Clone, Debug)]
pub struct Strings {
    /// `n + 1` ends: string `i` is `bytes[offsets[i]..offsets[i + 1]]`.
    offsets: Array<u64>,
    bytes: Array<u8>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { offsets: vec![0].into(), bytes: Array::default() }
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let (mut offsets, mut bytes) = (vec![0u64], Vec::new());
        for s in strings {
            bytes.extend_from_slice(s.as_ref().as_bytes());
            offsets.push(bytes.len() as u64);
        }
        Self { offsets: offsets.into(), bytes: bytes.into() }
    }
}

impl Strings {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The string of a row, or "" beyond the last.
    pub fn get(&self, row: u32) -> &str {
        // `read` checked the UTF-8 of the whole table.
        str::from_utf8(self.bytes_of(row)).unwrap_or("")
    }

    fn bytes_of(&self, row: u32) -> &[u8] {
        let row = row as usize;
        let Some([start, end]) = self.offsets.get(row..row + 2) else { return &[] };
        // `read` checked the bounds.
        self.bytes.get(*start as usize..*end as usize).unwrap_or(&[])
    }

    /// All strings by row.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len() as u32).map(|row| self.get(row))
    }

    /// The row of a string, in a table whose strings are sorted: `O(log n)`.
    pub fn find(&self, wanted: &str) -> Option<u32> {
        self.find_within(self.len(), wanted)
    }

    /// The same among the first `len` strings, which are sorted.
    pub fn find_within(&self, len: usize, wanted: &str) -> Option<u32> {
        let (mut low, mut high) = (0, len as u32);
        while low < high {
            let middle = low + (high - low) / 2;
            // Strings are in the order of their bytes.
            match self.bytes_of(middle).cmp(wanted.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// Writes the table into a section under `name`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, name: &str, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        to.array(&format!("{name}.offsets"), &self.offsets)?;
        to.array(&format!("{name}.bytes"), &self.bytes)
    }

    /// Reads a table from a section.
    ///
    /// # Errors
    /// If it is not there, or not a table of UTF-8 strings.
    pub fn read(name: &str, from: &Section<'_>) -> Result<Self, ArtifactError> {
        let offsets: Array<u64> = from.array(&format!("{name}.offsets"))?;
        let bytes: Array<u8> = from.array(&format!("{name}.bytes"))?;
        let whole = offsets.first() == Some(&0) && offsets.last() == Some(&(bytes.len() as u64));
        let cut_well = |text: &str| offsets.is_sorted() && offsets.iter().all(|o| text.is_char_boundary(*o as usize));
        let what = format!("strings '{name}' are not a table of UTF-8 strings");
        from.ensure(whole, &what)?;
        from.ensure_all(|| str::from_utf8(&bytes).is_ok_and(cut_well), &what)?;
        Ok(Self { offsets, bytes })
    }
}

/// A column of strings with few distinct values: a sorted table of the values and one row number of it
/// per row, [`NONE`] where there is no value.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The distinct values, sorted.
    pub values: Strings,
    /// The value's row by row.
    pub rows: Array<u32>,
}

impl Labels {
    /// Encodes a column.
    pub fn encode<S: AsRef<str>>(column: &[Option<S>]) -> Self {
        let distinct: BTreeSet<&str> = column.iter().flatten().map(S::as_ref).collect();
        let values: Strings = distinct.into_iter().collect();
        let row = |value: &Option<S>| value.as_ref().and_then(|v| values.find(v.as_ref())).unwrap_or(NONE);
        let rows: Vec<u32> = column.iter().map(row).collect();
        Self { rows: rows.into(), values }
    }

    /// The value of a row.
    pub fn get(&self, row: u32) -> Option<&str> {
        let value = *self.rows.get(row as usize)?;
        (value != NONE).then(|| self.values.get(value))
    }

    /// Writes the column into a section under `name`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, name: &str, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        self.values.write(name, to)?;
        to.array(&format!("{name}.rows"), &self.rows)
    }

    /// Reads a column of `len` rows.
    ///
    /// # Errors
    /// If it is not there, or of another length.
    pub fn read(name: &str, len: usize, from: &Section<'_>) -> Result<Self, ArtifactError> {
        let values = Strings::read(name, from)?;
        let rows: Array<u32> = from.array(&format!("{name}.rows"))?;
        let what = format!("labels '{name}' do not fit their values");
        from.ensure(rows.len() == len, &what)?;
        from.ensure_all(|| rows.iter().all(|r| *r == NONE || (*r as usize) < values.len()), &what)?;
        Ok(Self { values, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorted_strings_are_found_again(strings in prop::collection::btree_set(".{0,6}", 0..40), other in ".{0,6}") {
            let table: Strings = strings.iter().collect();
            for (row, s) in strings.iter().enumerate() {
                prop_assert_eq!(table.find(s), Some(row as u32));
                prop_assert_eq!(table.get(row as u32), s.as_str());
            }
            prop_assert_eq!(table.find(&other).is_some(), strings.contains(&other));
        }
    }

    #[test]
    fn labels_keep_missing_values_apart() {
        let labels = Labels::encode(&[Some("b"), None, Some("a"), Some("b")]);
        assert_eq!((0..5).map(|r| labels.get(r)).collect::<Vec<_>>(), [Some("b"), None, Some("a"), Some("b"), None]);
    }
}
