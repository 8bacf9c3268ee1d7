//! Eight lanes as an array: for machines without AVX2, and to hold the fast path against.

use super::{Kernel, Simd};
use half::{bf16, f16};

/// Plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn zip(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_feature = "fma") { a.mul_add(b, c) } else { a * b + c }
}

/// The signed halves of a word, the low one first.
#[inline(always)]
fn halves(word: u32) -> [i16; 2] {
    [(word as u16).cast_signed(), ((word >> 16) as u16).cast_signed()]
}

#[inline(always)]
fn of_halves([low, high]: [i16; 2]) -> u32 {
    u32::from(low.cast_unsigned()) | (u32::from(high.cast_unsigned()) << 16)
}

impl Simd for Portable {
    type V = [f32; 8];
    type I = [u32; 8];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; 8]
    }

    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> Self::V {
        *from
    }

    #[inline(always)]
    fn store(self, value: Self::V, to: &mut [f32; 8]) {
        *to = value;
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| multiply_add(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        a.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn zero_below(self, x: Self::V, limit: Self::V, value: Self::V) -> Self::V {
        std::array::from_fn(|i| if x[i] < limit[i] { 0.0 } else { value[i] })
    }

    #[inline(always)]
    fn with_sign(self, magnitude: Self::V, sign: Self::V) -> Self::V {
        zip(magnitude, sign, f32::copysign)
    }

    #[inline(always)]
    fn power_of_two(self, n: Self::V) -> Self::V {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))
    }

    #[inline(always)]
    fn widen_f16(self, from: &[u16; 8]) -> Self::V {
        from.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn widen_low(self, from: &[u32; 8]) -> Self::V {
        from.map(|word| bf16::from_bits(word as u16).to_f32())
    }

    #[inline(always)]
    fn widen_high(self, from: &[u32; 8]) -> Self::V {
        from.map(|word| bf16::from_bits((word >> 16) as u16).to_f32())
    }

    #[inline(always)]
    fn widen_byte(self, from: &[u32; 8], byte: usize) -> Self::V {
        from.map(|word| f32::from(((word >> (8 * byte)) as u8).cast_signed()))
    }

    #[inline(always)]
    fn widen_nibble(self, from: &[u32; 8], nibble: usize) -> Self::V {
        from.map(|word| ((word >> (4 * nibble)) & 15) as f32)
    }

    #[inline(always)]
    fn load_words(self, from: &[u32; 8]) -> Self::I {
        *from
    }

    #[inline(always)]
    fn reload_words(self, from: &[u32; 8]) -> Self::I {
        *from
    }

    #[inline(always)]
    fn splat_word(self, word: u32) -> Self::I {
        [word; 8]
    }

    #[inline(always)]
    fn low_bytes(self, words: Self::I) -> Self::I {
        words.map(|word| of_halves(halves(word).map(|half| i16::from(half as i8))))
    }

    #[inline(always)]
    fn high_bytes(self, words: Self::I) -> Self::I {
        words.map(|word| of_halves(halves(word).map(|half| half >> 8)))
    }

    #[inline(always)]
    fn low_nibbles(self, words: Self::I) -> Self::I {
        words.map(|word| word & 0x0f0f_0f0f)
    }

    #[inline(always)]
    fn high_nibbles(self, words: Self::I) -> Self::I {
        words.map(|word| (word >> 4) & 0x0f0f_0f0f)
    }

    #[inline(always)]
    fn multiply_halves(self, a: Self::I, b: Self::I) -> Self::I {
        let sum = |a: [i16; 2], b: [i16; 2]| i32::from(a[0]) * i32::from(b[0]) + i32::from(a[1]) * i32::from(b[1]);
        std::array::from_fn(|i| sum(halves(a[i]), halves(b[i])).cast_unsigned())
    }

    #[inline(always)]
    fn multiply_bytes(self, a: Self::I, b: Self::I) -> Self::I {
        let product = |a: u8, b: u8| i16::from(a) * i16::from(b.cast_signed());
        std::array::from_fn(|i| {
            let (a, b) = (a[i].to_le_bytes(), b[i].to_le_bytes());
            of_halves([0, 2].map(|at| product(a[at], b[at]) + product(a[at + 1], b[at + 1])))
        })
    }

    #[inline(always)]
    fn add_words(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    fn add_halves(self, a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|i| {
            let (a, b) = (halves(a[i]), halves(b[i]));
            of_halves([a[0].wrapping_add(b[0]), a[1].wrapping_add(b[1])])
        })
    }

    #[inline(always)]
    fn floats(self, words: Self::I) -> Self::V {
        words.map(|word| word.cast_signed() as f32)
    }

    #[inline(always)]
    fn prefetch(self, _at: *const u8) {}

    #[inline(never)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}
