//! Vectors in a byte per coordinate.
//!
//! Each row has a scale of its own, by which its largest coordinate becomes 127. A query has 16 bits per coordinate,
//! so that nearly all that is lost is lost of the row, and inner products are sums of whole numbers: exact, and the
//! same on every CPU.

use rayon::prelude::*;

use crate::artifact::{Array, ArtifactError, Section, SectionWriter};
use crate::kernels::dot_codes;

/// Largest code of a row.
const MAX_CODE: f32 = 127.0;

/// Rows of equal length, a byte per coordinate.
#[derive(Clone, Debug, Default)]
pub struct Quantized {
    /// `rows × dimension`, −127 to 127.
    pub codes: Array<i8>,
    /// What a unit of each row's codes is; 0 for a row of zeros.
    pub scales: Array<f32>,
    /// Length of each row as it is coded.
    pub lengths: Array<f32>,
}

/// A query against [`Quantized`] rows.
#[derive(Clone, Debug, Default)]
pub struct QuantizedQuery {
    /// One per coordinate; no inner product with a row exceeds an `i32`.
    pub codes: Vec<i16>,
    /// What a unit of them is.
    pub scale: f32,
}

impl Quantized {
    /// Of a table, `rows × dimension`.
    pub fn new(values: &[f32], dimension: usize) -> Self {
        let rows = values.len() / dimension.max(1);
        let (mut codes, mut scales) = (vec![0i8; rows * dimension], vec![0f32; rows]);
        let coded = codes.par_chunks_exact_mut(dimension.max(1)).zip(&mut scales);
        coded.zip(values.par_chunks_exact(dimension.max(1))).for_each(|((codes, scale), row)| {
            *scale = largest(row) / MAX_CODE;
            if *scale > 0.0 {
                // So small a scale that it is rounded itself would lead beyond the largest code.
                let code = |x: &f32| (x / *scale).round().clamp(-MAX_CODE, MAX_CODE) as i8;
                codes.iter_mut().zip(row).for_each(|(to, x)| *to = code(x));
            }
        });
        let length = |(codes, scale): (&[i8], &f32)| scale * squares(codes).sqrt();
        let lengths: Vec<f32> = codes.par_chunks_exact(dimension.max(1)).zip(&scales).map(length).collect();
        Self { codes: codes.into(), scales: scales.into(), lengths: lengths.into() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Coordinates of a row; 0 where there is none.
    pub fn dimension(&self) -> usize {
        self.codes.len() / self.len().max(1)
    }

    /// Parts, one after the other, as some rows, in order, of a table of `len`, whose others are zero.
    pub fn spread(parts: &[Self], rows: &[u32], len: usize, dimension: usize) -> Self {
        let mut codes = vec![0; len * dimension];
        let (mut scales, mut lengths) = (vec![0.0; len], vec![0.0; len]);
        let each = parts.iter().flat_map(|part| (0..part.len()).map(move |row| (part, row)));
        for ((part, from), to) in each.zip(rows) {
            let to = *to as usize;
            codes[to * dimension..][..dimension].copy_from_slice(part.row(from as u32, dimension));
            (scales[to], lengths[to]) = (part.scales[from], part.lengths[from]);
        }
        Self { codes: codes.into(), scales: scales.into(), lengths: lengths.into() }
    }

    /// The `dimension` codes of a row.
    #[inline]
    pub fn row(&self, row: u32, dimension: usize) -> &[i8] {
        &self.codes[row as usize * dimension..][..dimension]
    }

    /// Rows of so many coordinates, as they are coded.
    pub fn decoded(&self, rows: impl IntoIterator<Item = u32>, dimension: usize) -> Vec<f32> {
        let mut values = Vec::new();
        for row in rows {
            let scale = self.scales[row as usize];
            values.extend(self.row(row, dimension).iter().map(|code| scale * f32::from(*code)));
        }
        values
    }

    /// Inner product of a row with a query.
    pub fn dot(&self, row: u32, query: &QuantizedQuery) -> f32 {
        let mut sum = [0];
        dot_codes(self.row(row, query.codes.len()), &query.codes, &mut sum);
        sum[0] as f32 * (self.scales[row as usize] * query.scale)
    }

    pub(crate) fn write(&self, name: &str, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        to.array(&format!("{name}.codes"), &self.codes)?;
        to.array(&format!("{name}.scales"), &self.scales)?;
        to.array(&format!("{name}.lengths"), &self.lengths)
    }

    pub(crate) fn read(name: &str, rows: usize, dimension: usize, from: &Section<'_>) -> Result<Self, ArtifactError> {
        let read = Self {
            codes: from.array(&format!("{name}.codes"))?,
            scales: from.array(&format!("{name}.scales"))?,
            lengths: from.array(&format!("{name}.lengths"))?,
        };
        let fits = read.codes.len() == rows * dimension && read.len() == rows && read.lengths.len() == rows;
        from.ensure(fits, &format!("quantized rows '{name}' are not {rows} of {dimension} codes"))?;
        let is_size = |x: &f32| x.is_finite() && *x >= 0.0;
        let sound = || {
            read.codes.par_iter().all(|code| *code != i8::MIN)
                && read.scales.iter().all(is_size)
                && read.lengths.iter().all(is_size)
        };
        from.ensure_all(sound, &format!("quantized rows '{name}' have codes or scales out of range"))?;
        Ok(read)
    }
}

impl QuantizedQuery {
    /// Of a vector.
    pub fn new(vector: &[f32]) -> Self {
        let fits = i32::MAX as f32 / (MAX_CODE * vector.len().max(1) as f32);
        let most = f32::from(i16::MAX).min(fits.floor());
        let scale = largest(vector) / most;
        // As in a table: so small a scale may have been rounded itself.
        let code = |x: &f32| if scale > 0.0 { (x / scale).round().clamp(-most, most) as i16 } else { 0 };
        Self { codes: vector.iter().map(code).collect(), scale }
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, x| x.abs().max(largest))
}

fn squares(codes: &[i8]) -> f32 {
    codes.iter().map(|c| i32::from(*c) * i32::from(*c)).sum::<i32>() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::dot;
    use proptest::prelude::*;

    #[test]
    fn codes_worked_by_hand() {
        let q = Quantized::new(&[1.27, -0.635, 0.0, 0.0], 2);
        assert_eq!((&*q.codes, q.scales[1], q.lengths[1]), (&[127i8, -64, 0, 0][..], 0.0, 0.0));
        assert!(
            (q.scales[0] - 0.01).abs() < 1e-6
                && (q.lengths[0] - 0.01 * (127.0f32 * 127.0 + 64.0 * 64.0).sqrt()).abs() < 1e-5
        );
        let query = QuantizedQuery::new(&[2.0, 1.0]);
        assert!((q.dot(0, &query) - (2.0 * 1.27 - 0.64)).abs() < 1e-3);
        assert_eq!(q.dot(1, &query), 0.0);
        assert_eq!(q.dot(0, &QuantizedQuery::new(&[0.0, 0.0])), 0.0);
    }

    #[test]
    fn what_is_next_to_nothing_is_coded_like_anything_else() {
        // A scale of 23 units of the smallest number, for 2970 of them.
        let q = Quantized::new(&[f32::from_bits(0x8000_0b9a)], 1);
        assert_eq!(q.codes[..], [-127]);
    }

    proptest! {
        #[test]
        fn inner_products_are_close(pairs in prop::collection::vec((-9f32..9.0, -9f32..9.0), 1..300)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let q = Quantized::new(&a, a.len());
            // Each coordinate is off by half a unit at most.
            let off = 0.51 * largest(&a) / 127.0 * b.iter().map(|x| x.abs()).sum::<f32>();
            let found = q.dot(0, &QuantizedQuery::new(&b));
            let of_query = largest(&b) / 3e4 * a.iter().map(|x| x.abs()).sum::<f32>() * a.len() as f32 / 50.0;
            prop_assert!((found - dot(&a, &b)).abs() <= off + of_query + 1e-4);
        }

        #[test]
        fn no_sum_overflows(d in 1usize..4097) {
            let (a, b) = (vec![1.0; d], vec![-1.0; d]);
            let found = Quantized::new(&a, d).dot(0, &QuantizedQuery::new(&b));
            prop_assert!((found + d as f32).abs() < 1e-3 * d as f32, "{found}");
        }
    }
}
