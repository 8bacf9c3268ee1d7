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

impl Simd for Portable {
    type V = [f32; 8];

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
    fn prefetch(self, _at: *const u8) {}

    #[inline(never)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}
