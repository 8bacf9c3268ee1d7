//! Instruction sets: which one a machine has, and eight f32 lanes that kernels are written over.
//!
//! A kernel is written once, over [`Simd`], and compiled for each set. So the order of every sum is the same on all of them; what
//! differs is one rounding a term, since AVX2 machines multiply and add at once.

#[cfg(target_arch = "x86_64")]
mod avx2;
pub(crate) mod math;
mod portable;

use portable::Portable;

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Isa {
    /// x86-64 with AVX2, FMA and F16C. Falls back to portable code on a machine without them.
    Avx2,
    /// Whatever the compiler makes of plain Rust.
    Portable,
}

impl Isa {
    /// The fastest set of this machine.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if avx2::Avx2::detect().is_some() {
            return Self::Avx2;
        }
        Self::Portable
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Runs a kernel compiled for this set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if let (Self::Avx2, Some(simd)) = (self, avx2::Avx2::detect()) {
            return avx2::run(simd, kernel);
        }
        kernel.run(Portable)
    }
}

/// A computation written over lanes. `run` must be `#[inline(always)]`, and so must all it calls with `simd`, else it is not compiled
/// for the set.
pub(crate) trait Kernel {
    /// What it leaves.
    type Output;
    /// Computes.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Proof that an instruction set is there, and its operations on eight f32 lanes.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Eight lanes.
    type V: Copy;
    /// Eight words: integers of 32 bits, 16 of 16 bits, or 32 of 8 bits.
    type I: Copy;
    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::V;
    /// Eight neighbours.
    fn load(self, from: &[f32; 8]) -> Self::V;
    /// Writes eight neighbours.
    fn store(self, value: Self::V, to: &mut [f32; 8]);
    /// a · b + c, rounded once where the set can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger one; `b` where either is not a number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller one; `b` where either is not a number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest integer, halves to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `value`, but zero where x < limit.
    fn zero_below(self, x: Self::V, limit: Self::V, value: Self::V) -> Self::V;
    /// |magnitude| with the sign of `sign`.
    fn with_sign(self, magnitude: Self::V, sign: Self::V) -> Self::V;
    /// 2ⁿ for lanes that hold integers within -126..=127.
    fn power_of_two(self, n: Self::V) -> Self::V;
    /// Eight f16, widened.
    fn widen_f16(self, from: &[u16; 8]) -> Self::V;
    /// The bf16 in the low halves of eight words, widened.
    fn widen_low(self, from: &[u32; 8]) -> Self::V;
    /// The bf16 in the high halves of eight words, widened.
    fn widen_high(self, from: &[u32; 8]) -> Self::V;
    /// The signed byte `byte` of each of eight words, the lowest first, as f32.
    fn widen_byte(self, from: &[u32; 8], byte: usize) -> Self::V;
    /// The four bits `nibble` of each of eight words, the lowest first, as f32.
    fn widen_nibble(self, from: &[u32; 8], nibble: usize) -> Self::V;
    /// Eight words.
    fn load_words(self, from: &[u32; 8]) -> Self::I;
    /// The same, loaded although they were before: for loops whose sums fill all registers.
    fn reload_words(self, from: &[u32; 8]) -> Self::I;
    /// The same word everywhere.
    fn splat_word(self, word: u32) -> Self::I;
    /// Of each 16 bits the low byte, signed.
    fn low_bytes(self, words: Self::I) -> Self::I;
    /// Of each 16 bits the high byte, signed.
    fn high_bytes(self, words: Self::I) -> Self::I;
    /// Of each byte the low half.
    fn low_nibbles(self, words: Self::I) -> Self::I;
    /// Of each byte the high half.
    fn high_nibbles(self, words: Self::I) -> Self::I;
    /// Of each word, the sum of the two products of its signed halves.
    fn multiply_halves(self, a: Self::I, b: Self::I) -> Self::I;
    /// Of each half of a word, the sum of the two products of its bytes, unsigned in `a` and signed in `b`, which must fit 16 bits.
    fn multiply_bytes(self, a: Self::I, b: Self::I) -> Self::I;
    /// a + b, word by word.
    fn add_words(self, a: Self::I, b: Self::I) -> Self::I;
    /// a + b, half a word by half a word.
    fn add_halves(self, a: Self::I, b: Self::I) -> Self::I;
    /// Signed words as f32.
    fn floats(self, words: Self::I) -> Self::V;
    /// Asks for the cache line at an address; any address will do.
    fn prefetch(self, at: *const u8);
    /// Runs a kernel as a function of its own. What many kernels share is compiled once, not once in each of them.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;
    /// The lanes as an array.
    #[inline(always)]
    fn lanes(self, value: Self::V) -> [f32; 8] {
        let mut lanes = [0.0; 8];
        self.store(value, &mut lanes);
        lanes
    }
    /// Zero in every lane.
    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
}

/// The sum of eight lanes, always in this order: neighbours four apart, two apart, one apart.
#[inline(always)]
pub(crate) fn sum_lanes(l: [f32; 8]) -> f32 {
    let four = [l[0] + l[4], l[1] + l[5], l[2] + l[6], l[3] + l[7]];
    (four[0] + four[2]) + (four[1] + four[3])
}
