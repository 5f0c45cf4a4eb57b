//! Vector kernels, dispatched once per call to the widest instructions that the CPU has.
//!
//! Each kernel has a scalar twin, which is the test oracle and the fallback. Sums are taken in a fixed
//! order for a given instruction set, so that results repeat on every run and thread count; what is
//! `dispatched` takes every step element by element or in whole numbers, and gives the same everywhere, unless it
//! says that it asks for [`dot`].

mod codes;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

pub use codes::{dot_codes, dot_codes_at, dot_codes_of_both};

/// Defines a function as several compilations of one body, of which each call runs the widest that the CPU has. On
/// aarch64 the one compilation has NEON, which is part of the architecture. Nothing is contracted or reordered: all
/// give the same bits.
macro_rules! dispatched {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            fn scalar($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
                fn avx512($($arg: $type),*) {
                    scalar($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) {
                    scalar($($arg),*)
                }
                if $crate::kernels::has_avx512() {
                    // SAFETY: the CPU has what the function is compiled for, checked on the line above.
                    #[allow(unsafe_code)]
                    return unsafe { avx512($($arg),*) };
                }
                if $crate::kernels::has_avx2() {
                    // SAFETY: as above.
                    #[allow(unsafe_code)]
                    return unsafe { avx2($($arg),*) };
                }
            }
            scalar($($arg),*)
        }
    };
}
pub(crate) use dispatched;

/// Lanes summed side by side: four registers of eight floats hide the latency of a fused multiply-add.
const LANES: usize = 32;
/// Bytes that come from memory at once.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// The sum of many numbers: beside what millions add up to, `f32` would lose the small.
pub(crate) fn total(values: &[f32]) -> f32 {
    values.iter().map(|x| f64::from(*x)).sum::<f64>() as f32
}

/// Inner product of `a` and `b`, which must be of equal length (the shorter one counts).
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the CPU has AVX2 and FMA, checked on the line above.
        #[allow(unsafe_code)]
        return unsafe { dot_avx2(a, b) };
    }
    dot_scalar(a, b)
}

/// Asks for a slice to be brought near, without waiting for it.
#[inline(always)]
pub(crate) fn fetch<T>(slice: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..size_of_val(slice).div_ceil(LINE) {
        // SAFETY: nothing is read: any address may be asked for.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().cast::<i8>().wrapping_add(line * LINE))
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = slice;
}

/// Adds `scale · x` to `y`, element by element; the shorter length counts.
#[inline]
pub fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

/// Inner product for use within what is [`dispatched`]: in an order that does not depend on the instructions.
#[inline(always)]
pub(crate) fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let ((a, rest_a), (b, rest_b)) = (a[..n].as_chunks::<LANES>(), b[..n].as_chunks::<LANES>());
    let mut sums = [0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (lane, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
        sums[lane] += a * b;
    }
    fold(sums)
}

/// Lets a test run the narrower compilations: 2 for all, 1 up to AVX2, 0 for none but the scalar one.
#[cfg(test)]
pub(crate) mod widest {
    use std::cell::Cell;

    thread_local! {
        static WIDEST: Cell<u8> = const { Cell::new(2) };
    }

    pub(crate) fn get() -> u8 {
        WIDEST.get()
    }

    /// What `f` gives with each compilation that the CPU has, the narrowest first.
    pub(crate) fn each<T>(f: impl Fn() -> T) -> Vec<T> {
        let of = |widest| {
            WIDEST.set(widest);
            f()
        };
        (0..3).map(of).collect()
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx2() -> bool {
    #[cfg(test)]
    if widest::get() < 1 {
        return false;
    }
    // The macro caches its answer in an atomic: a load and a branch per call.
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    #[cfg(test)]
    if widest::get() < 2 {
        return false;
    }
    has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni")
}

/// Rows that are multiplied side by side.
const PACKED: usize = 16;
/// Rows, 16 side by side, by coordinate.
pub type Packed = Vec<[f32; PACKED]>;

dispatched! {
    /// Inner products of the rows of `a` with those of `b`, both of length `d`: the lower triangle of the matrix `out`,
    /// row-major, with as many rows as they have. `packed` is working memory.
    pub fn lower_inner_products(a: &[f32], b: &[f32], d: usize, packed: &mut Packed, out: &mut [f32]) {
        let n = a.len() / d.max(1);
        packed.clear();
        packed.resize(n.div_ceil(PACKED) * d, [0.0; PACKED]);
        for (j, row) in b.chunks_exact(d).enumerate() {
            let block = &mut packed[j / PACKED * d..][..d];
            block.iter_mut().zip(row).for_each(|(lanes, x)| lanes[j % PACKED] = *x);
        }
        for (first, block) in (0..n).step_by(PACKED).zip(packed.chunks_exact(d)) {
            for i in (first..n).step_by(4) {
                // Beyond the last row, it is taken again, and thrown away.
                let rows = [i, i + 1, i + 2, i + 3].map(|row| &a[row.min(n - 1) * d..][..d]);
                for (row, sums) in (i..n).zip(four_by_packed(rows, block)) {
                    let until = (row + 1 - first).min(PACKED);
                    out[row * n + first..][..until].copy_from_slice(&sums[..until]);
                }
            }
        }
    }
}

/// Inner products of four rows with packed ones: named one by one, they stay in registers.
#[inline(always)]
fn four_by_packed(rows: [&[f32]; 4], block: &[[f32; PACKED]]) -> [[f32; PACKED]; 4] {
    let add = |sums: [f32; PACKED], x: f32, lanes: &[f32; PACKED]| -> [f32; PACKED] {
        std::array::from_fn(|lane| sums[lane] + x * lanes[lane])
    };
    let (mut a, mut b, mut c, mut d) = ([0.0; PACKED], [0.0; PACKED], [0.0; PACKED], [0.0; PACKED]);
    for (k, lanes) in block.iter().enumerate() {
        a = add(a, rows[0][k], lanes);
        b = add(b, rows[1][k], lanes);
        c = add(c, rows[2][k], lanes);
        d = add(d, rows[3][k], lanes);
    }
    [a, b, c, d]
}

/// By intrinsics: left to itself, the compiler may carry the sums in registers of two floats, as `fold` ends with two.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let ((a, rest_a), (b, rest_b)) = (a[..n].as_chunks::<LANES>(), b[..n].as_chunks::<LANES>());
    let mut sums = [_mm256_setzero_ps(); 4];
    for (x, y) in a.iter().zip(b) {
        sums = multiply_add(sums, x, y);
    }
    if !rest_a.is_empty() {
        let [x, y] = [padded(rest_a), padded(rest_b)];
        sums = multiply_add(sums, &x, &y);
    }
    // In the order of `fold`.
    let eight = _mm256_add_ps(_mm256_add_ps(sums[0], sums[2]), _mm256_add_ps(sums[1], sums[3]));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// By itself, so that whole chunks need no room on the stack.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn padded(rest: &[f32]) -> [f32; LANES] {
    let mut padded = [0.0; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    padded
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn multiply_add([a, b, c, d]: [__m256; 4], x: &[f32; LANES], y: &[f32; LANES]) -> [__m256; 4] {
    let ([p, q, r, s], [t, u, v, w]): ([__m256; 4], [__m256; 4]) = (bytemuck::cast(*x), bytemuck::cast(*y));
    [_mm256_fmadd_ps(p, t, a), _mm256_fmadd_ps(q, u, b), _mm256_fmadd_ps(r, v, c), _mm256_fmadd_ps(s, w, d)]
}

/// The scalar twin of [`dot`].
pub fn dot_scalar(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        sums[i % LANES] += x * y;
    }
    fold(sums)
}

#[inline]
fn fold(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// `ln(1 + x)` for finite `x ≥ 0`, to within 2·10⁻⁷ absolute or relative, whichever is larger: several times faster
/// than the library's, and vectorized where it stands in a loop.
#[inline(always)]
pub fn ln_1p(x: f32) -> f32 {
    /// √½: mantissas from here to √2 are nearest to 1.
    const SQRT_HALF: i32 = 0x3f35_04f3;
    let bits = (1.0 + x).to_bits() as i32;
    let exponent = (bits - SQRT_HALF) >> 23;
    let mantissa = f32::from_bits((bits - (exponent << 23)) as u32);
    // ln m = 2 artanh s, as a series in s² ≤ 0.03.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dot_agrees_with_its_scalar_twin(pairs in prop::collection::vec((-9f32..9.0, -9f32..9.0), 0..300)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let size: f32 = a.iter().zip(&b).map(|(x, y)| (x * y).abs()).sum();
            prop_assert!((dot(&a, &b) - dot_scalar(&a, &b)).abs() <= 1e-5 * size + 1e-6);
        }
    }

    proptest! {
        #[test]
        fn rows_multiply_as_they_do_one_by_one(n in 0usize..40, d in 1usize..25, values in prop::collection::vec(-2f32..2.0, 2000)) {
            let (a, b) = (&values[..n * d], &values[1000..1000 + n * d]);
            let by_width = widest::each(|| {
                let mut out = vec![f32::NAN; n * n];
                lower_inner_products(a, b, d, &mut Packed::new(), &mut out);
                out
            });
            let bits = |out: &Vec<f32>| out.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert!(by_width.iter().all(|out| bits(out) == bits(&by_width[0])));
            let out = &by_width[0];
            for i in 0..n {
                for j in 0..n {
                    let exact = dot_scalar(&a[i * d..][..d], &b[j * d..][..d]);
                    let found = out[i * n + j];
                    let right = if j <= i { (found - exact).abs() < 1e-3 } else { found.is_nan() };
                    prop_assert!(right);
                }
            }
        }
    }

    #[test]
    fn logarithms_agree_with_the_library() {
        let mut x = 1e-9f32;
        while x < 1e9 {
            let exact = f64::from(x).ln_1p();
            assert!((f64::from(ln_1p(x)) - exact).abs() <= 2e-7 * exact.max(1.0), "{x}: {} {exact}", ln_1p(x));
            x *= 1.0007;
        }
        assert_eq!(ln_1p(0.0), 0.0);
    }

    #[test]
    fn known_inner_product() {
        assert_eq!(dot(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 32.0);
        assert_eq!(dot(&[], &[]), 0.0);
    }
}
