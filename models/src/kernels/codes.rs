//! Inner products of vectors in a byte per coordinate: whole numbers, and the same on every CPU.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::dispatched;
#[cfg(target_arch = "x86_64")]
use super::{has_avx2, has_avx512};

dispatched! {
    /// Inner products of a query with rows of codes as long as it, one per row: whole numbers, and exact, as long as
    /// no sum exceeds an `i32`.
    pub fn dot_codes(codes: &[i8], query: &[i16], out: &mut [i32]) {
        // A length known beforehand halves the time.
        match query.len() {
            64 => dot_codes_of::<64>(codes, query, out),
            128 => dot_codes_of::<128>(codes, query, out),
            256 => dot_codes_of::<256>(codes, query, out),
            d => codes.chunks_exact(d.max(1)).zip(out).for_each(|(row, out)| *out = dot_row(row, query)),
        }
    }
}

dispatched! {
    /// The same of two queries of one length; with AVX-512, each row is widened once for both.
    pub fn dot_codes_of_both(codes: &[i8], queries: [&[i16]; 2], out: [&mut [i32]; 2]) {
        match queries[0].len() {
            64 => dot_codes_of_two::<64>(codes, queries, out),
            128 => dot_codes_of_two::<128>(codes, queries, out),
            256 => dot_codes_of_two::<256>(codes, queries, out),
            _ => queries.into_iter().zip(out).for_each(|(query, out)| dot_codes(codes, query, out)),
        }
    }
}

dispatched! {
    /// The same of the rows of a table that are named, one after the other.
    pub fn dot_codes_at(codes: &[i8], rows: &[u32], query: &[i16], out: &mut [i32]) {
        match query.len() {
            64 => dot_codes_at_of::<64>(codes, rows, query, out),
            128 => dot_codes_at_of::<128>(codes, rows, query, out),
            256 => dot_codes_at_of::<256>(codes, rows, query, out),
            d => rows.iter().zip(out).for_each(|(row, out)| *out = dot_row(&codes[*row as usize * d..][..d], query)),
        }
    }
}

#[inline(always)]
fn dot_codes_of<const D: usize>(codes: &[i8], query: &[i16], out: &mut [i32]) {
    let (Some(query), rows) = (query.first_chunk::<D>(), codes.as_chunks::<D>().0) else { return };
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        let (fours, rest) = rows.as_chunks();
        let (out, rest_out) = out.as_chunks_mut();
        // SAFETY: the CPU has AVX2, checked above.
        #[allow(unsafe_code)]
        fours.iter().zip(out).for_each(|(rows, out)| *out = unsafe { dot_four_avx2(rows.each_ref(), query) });
        rest.iter().zip(rest_out).for_each(|(row, out)| *out = dot_row(row, query));
        return;
    }
    rows.iter().zip(out).for_each(|(row, out)| *out = dot_row(row, query));
}

#[inline(always)]
fn dot_codes_of_two<const D: usize>(codes: &[i8], queries: [&[i16]; 2], out: [&mut [i32]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if let (true, [Some(one), Some(other)]) = (has_avx512(), queries.map(|query| query.first_chunk::<D>())) {
        let (fours, rest) = codes.as_chunks::<D>().0.as_chunks();
        let whole = fours.len() * 4;
        let [(out, rest_out), (other_out, rest_other)] = out.map(|out| out.split_at_mut(whole.min(out.len())));
        let both = out.as_chunks_mut().0.iter_mut().zip(other_out.as_chunks_mut().0);
        for (rows, (out, other_out)) in fours.iter().zip(both) {
            // SAFETY: the CPU has AVX-512 with VNNI, checked above.
            #[allow(unsafe_code)]
            let sums = unsafe { dot_four_avx512(rows.each_ref(), [one, other]) };
            [*out, *other_out] = sums;
        }
        for (query, out) in [(one, rest_out), (other, rest_other)] {
            rest.iter().zip(out).for_each(|(row, out)| *out = dot_row(row, query));
        }
        return;
    }
    queries.into_iter().zip(out).for_each(|(query, out)| dot_codes_of::<D>(codes, query, out));
}

#[inline(always)]
fn dot_codes_at_of<const D: usize>(codes: &[i8], rows: &[u32], query: &[i16], out: &mut [i32]) {
    let (Some(query), table) = (query.first_chunk::<D>(), codes.as_chunks::<D>().0) else { return };
    let row = |row: u32| &table[row as usize];
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // The last again for what four lack: one by one, they take longer.
        for (rows, out) in rows.chunks(4).zip(out.chunks_mut(4)) {
            let four = std::array::from_fn(|i| row(rows[i.min(rows.len() - 1)]));
            // SAFETY: the CPU has AVX2, checked above.
            #[allow(unsafe_code)]
            let sums = unsafe { dot_four_avx2(four, query) };
            out.copy_from_slice(&sums[..out.len()]);
        }
        return;
    }
    rows.iter().zip(out).for_each(|(at, out)| *out = dot_row(row(*at), query));
}

/// Of four rows at once, whose sums are folded together: half the time of one after the other.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn dot_four_avx2<const D: usize>(rows: [&[i8; D]; 4], query: &[i16; D]) -> [i32; 4] {
    let mut sums = [_mm256_setzero_si256(); 4];
    for (sum, row) in sums.iter_mut().zip(rows) {
        for (codes, query) in row.as_chunks::<16>().0.iter().zip(query.as_chunks::<16>().0) {
            let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(bytemuck::cast(*codes)), bytemuck::cast(*query));
            *sum = _mm256_add_epi32(*sum, products);
        }
    }
    let [a, b, c, d] = sums;
    let eight = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    bytemuck::cast(_mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight)))
}

/// Of four rows and two queries at once: rows are widened once for both.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn dot_four_avx512<const D: usize>(rows: [&[i8; D]; 4], queries: [&[i16; D]; 2]) -> [[i32; 4]; 2] {
    let mut sums = [[_mm512_setzero_si512(); 4]; 2];
    for (r, row) in rows.into_iter().enumerate() {
        for (k, codes) in row.as_chunks::<32>().0.iter().enumerate() {
            let wide = _mm512_cvtepi8_epi16(bytemuck::cast(*codes));
            for (sums, query) in sums.iter_mut().zip(queries) {
                sums[r] = _mm512_dpwssd_epi32(sums[r], wide, bytemuck::cast(query.as_chunks::<32>().0[k]));
            }
        }
    }
    sums.map(|[a, b, c, d]| {
        let two = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (ab, cd) = (two(a, b), two(c, d));
        // Each of four lanes has a part of all four sums.
        let lanes = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let half = _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64::<1>(lanes));
        bytemuck::cast(_mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half)))
    })
}

#[inline(always)]
fn dot_row(row: &[i8], query: &[i16]) -> i32 {
    row.iter().zip(query).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::widest;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_multiply_exactly(
            d in prop_oneof![Just(64), Just(128), Just(256), 1usize..140],
            rows in 0usize..9,
            seed in any::<u64>(),
        ) {
            let code = |i: usize| (seed.wrapping_mul(2 * i as u64 + 1) >> 40) as i32;
            let codes: Vec<i8> = (0..d * rows).map(|i| code(i) as i8).collect();
            let query: Vec<i16> = (0..d).map(|i| code(i + 7) as i16).collect();
            let by_width = widest::each(|| {
                let mut out = vec![0; rows];
                dot_codes(&codes, &query, &mut out);
                let backwards: Vec<u32> = (0..rows as u32).rev().collect();
                let mut named = vec![0; rows];
                dot_codes_at(&codes, &backwards, &query, &mut named);
                assert!(named.iter().rev().eq(&out));
                let (other, mut both) = (query.iter().rev().copied().collect::<Vec<_>>(), [out.clone(), vec![7; rows]]);
                both[0].fill(7);
                let [one, two] = &mut both;
                dot_codes_of_both(&codes, [&query, &other], [one, two]);
                assert_eq!(both[0], out);
                dot_codes(&codes, &other, &mut named);
                assert_eq!(both[1], named);
                out
            });
            prop_assert!(by_width.iter().all(|out| *out == by_width[0]));
            for (row, out) in codes.chunks_exact(d).zip(by_width[0].iter().copied()) {
                let exact: i64 = row.iter().zip(&query).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum();
                prop_assert_eq!(i64::from(out), exact);
            }
        }
    }
}
