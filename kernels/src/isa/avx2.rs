//! Eight lanes as one AVX2 register.
//!
//! [`Avx2`] exists only where [`Avx2::detect`] found AVX2, FMA and F16C: whoever holds one may use their instructions.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that AVX2, FMA and F16C are there.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, if the machine has them.
    #[inline(always)]
    pub(crate) fn detect() -> Option<Self> {
        let there =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        there.then_some(Self(()))
    }
}

/// Runs a kernel compiled for AVX2.
pub(super) fn run<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline(never)]
    fn compiled<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
        kernel.run(simd)
    }
    // SAFETY: `simd` proves that the three sets are there (Avx2::detect).
    unsafe { compiled(simd, kernel) }
}

/// Calls intrinsics on the strength of an [`Avx2`].
macro_rules! proven {
    ($call:expr) => {{
        // SAFETY: `self` proves that AVX2, FMA and F16C are there; loads and stores are of whole arrays behind references.
        unsafe { $call }
    }};
}

/// Hides that these are words that were just used: kept in registers for a second use they would push sums of a block of six rows out to the
/// stack; loaded twice they cost nothing.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "the block only hides where the pointer comes from")]
fn hidden(from: &[u32; 8]) -> *const u32 {
    let mut from = from.as_ptr();
    // SAFETY: no instruction, and the pointer stays what it was.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) from, options(pure, nomem, nostack, preserves_flags)) };
    from
}

impl Simd for Avx2 {
    type V = __m256;
    type I = __m256i;

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        proven!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> __m256 {
        proven!(_mm256_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn store(self, value: __m256, to: &mut [f32; 8]) {
        proven!(_mm256_storeu_ps(to.as_mut_ptr(), value))
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        proven!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    #[inline(always)]
    fn zero_below(self, x: __m256, limit: __m256, value: __m256) -> __m256 {
        proven!(_mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x, limit), value))
    }

    #[inline(always)]
    fn with_sign(self, magnitude: __m256, sign: __m256) -> __m256 {
        let mask = self.splat(-0.0);
        proven!(_mm256_or_ps(_mm256_andnot_ps(mask, magnitude), _mm256_and_ps(mask, sign)))
    }

    #[inline(always)]
    fn power_of_two(self, n: __m256) -> __m256 {
        proven!({
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        })
    }

    #[inline(always)]
    fn widen_f16(self, from: &[u16; 8]) -> __m256 {
        proven!(_mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn widen_low(self, from: &[u32; 8]) -> __m256 {
        proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_loadu_si256(from.as_ptr().cast()))))
    }

    #[inline(always)]
    fn widen_high(self, from: &[u32; 8]) -> __m256 {
        let from = hidden(from);
        proven!({
            let words = _mm256_loadu_si256(from.cast());
            _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(-65536)))
        })
    }

    #[inline(always)]
    fn widen_byte(self, from: &[u32; 8], byte: usize) -> __m256 {
        proven!({
            let words = _mm256_loadu_si256(from.as_ptr().cast());
            let top = match byte {
                0 => _mm256_slli_epi32::<24>(words),
                1 => _mm256_slli_epi32::<16>(words),
                2 => _mm256_slli_epi32::<8>(words),
                _ => words,
            };
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(top))
        })
    }

    #[inline(always)]
    fn widen_nibble(self, from: &[u32; 8], nibble: usize) -> __m256 {
        proven!({
            let words = _mm256_loadu_si256(from.as_ptr().cast());
            let low = match nibble {
                0 => words,
                1 => _mm256_srli_epi32::<4>(words),
                2 => _mm256_srli_epi32::<8>(words),
                3 => _mm256_srli_epi32::<12>(words),
                4 => _mm256_srli_epi32::<16>(words),
                5 => _mm256_srli_epi32::<20>(words),
                6 => _mm256_srli_epi32::<24>(words),
                _ => _mm256_srli_epi32::<28>(words),
            };
            _mm256_cvtepi32_ps(_mm256_and_si256(low, _mm256_set1_epi32(15)))
        })
    }

    #[inline(always)]
    fn load_words(self, from: &[u32; 8]) -> __m256i {
        proven!(_mm256_loadu_si256(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn reload_words(self, from: &[u32; 8]) -> __m256i {
        let from = hidden(from);
        proven!(_mm256_loadu_si256(from.cast()))
    }

    #[inline(always)]
    fn splat_word(self, word: u32) -> __m256i {
        proven!(_mm256_set1_epi32(word.cast_signed()))
    }

    #[inline(always)]
    fn low_bytes(self, words: __m256i) -> __m256i {
        proven!(_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(words)))
    }

    #[inline(always)]
    fn high_bytes(self, words: __m256i) -> __m256i {
        proven!(_mm256_srai_epi16::<8>(words))
    }

    #[inline(always)]
    fn low_nibbles(self, words: __m256i) -> __m256i {
        proven!(_mm256_and_si256(words, _mm256_set1_epi8(15)))
    }

    #[inline(always)]
    fn high_nibbles(self, words: __m256i) -> __m256i {
        proven!(_mm256_and_si256(_mm256_srli_epi16::<4>(words), _mm256_set1_epi8(15)))
    }

    #[inline(always)]
    fn multiply_halves(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_madd_epi16(a, b))
    }

    #[inline(always)]
    fn multiply_bytes(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_maddubs_epi16(a, b))
    }

    #[inline(always)]
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_add_epi32(a, b))
    }

    #[inline(always)]
    fn add_halves(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_add_epi16(a, b))
    }

    #[inline(always)]
    fn floats(self, words: __m256i) -> __m256 {
        proven!(_mm256_cvtepi32_ps(words))
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(at.cast()))
    }

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        run(self, kernel)
    }
}
