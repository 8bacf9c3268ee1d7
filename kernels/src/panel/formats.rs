//! How lines of a panel are stored: plain elements. What is quantised in blocks is in [`super::blocks`].

use super::{Ahead, Sums, sweep};
use crate::isa::Simd;
use graph::WeightType;
use half::{bf16, f16};

/// How a line of a panel is stored.
pub(crate) trait Format: Copy + Send + Sync + 'static {
    /// Terms of 16 outputs.
    type Line: bytemuck::Pod + Send + Sync;
    /// The element type.
    const DTYPE: WeightType;
    /// Terms of a line.
    const TERMS: usize = 2;
    /// One term of all outputs: of a line of blocks the `which`-th of eight, of which it is the `run`-th. `which` is written out where it
    /// is called, so that nothing is left to choose when it runs.
    fn term<S: Simd>(s: S, line: &Self::Line, run: usize, which: usize) -> [S::V; 2];
    /// Rounds values into an output's places; those beyond them stay as they are.
    fn fill(line: &mut Self::Line, lane: usize, values: &[f32]);
    /// The value at a place.
    fn get(line: &Self::Line, which: usize, lane: usize) -> f32;
    /// Rows from which a chunk is widened to f32 once, rather than in registers by each row block (measured); `None` where it is f32.
    const WIDE_FROM: Option<usize> = Some(128);
    /// A [`sweep`] that prefetches every cache line of what lies ahead.
    #[inline(always)]
    fn stream<S: Simd, const R: usize, const P: usize>(
        s: S,
        lines: [&[Self::Line]; P],
        x: &[f32],
        sums: &mut Sums<R, P>,
        ahead: Ahead<P>,
    ) {
        sweep::<S, Self, R, P, 1>(s, lines, x, sums, ahead);
    }
}

/// A format of single elements.
pub(crate) trait Plain: Format {
    /// Rounds a value into its place.
    fn set(line: &mut Self::Line, which: usize, lane: usize, value: f32);
}

#[inline(always)]
pub(super) fn halves<T>(sixteen: &[T; 16]) -> [&[T; 8]; 2] {
    let (eights, _) = sixteen.as_chunks::<8>();
    [&eights[0], &eights[1]]
}

/// f32, term after term.
#[derive(Clone, Copy)]
pub(crate) struct F32;

impl Format for F32 {
    type Line = [[f32; 16]; 2];
    const DTYPE: WeightType = WeightType::F32;
    const WIDE_FROM: Option<usize> = None;

    #[inline(always)]
    fn term<S: Simd>(s: S, line: &Self::Line, _run: usize, which: usize) -> [S::V; 2] {
        let [low, high] = halves(&line[which]);
        [s.load(low), s.load(high)]
    }

    #[inline(always)]
    fn fill(line: &mut Self::Line, lane: usize, values: &[f32]) {
        values.iter().enumerate().for_each(|(which, value)| Self::set(line, which, lane, *value));
    }

    #[inline(always)]
    fn get(line: &Self::Line, which: usize, lane: usize) -> f32 {
        line[which][lane]
    }

    /// A line is two cache lines.
    #[inline(always)]
    fn stream<S: Simd, const R: usize, const P: usize>(
        s: S,
        lines: [&[Self::Line]; P],
        x: &[f32],
        sums: &mut Sums<R, P>,
        ahead: Ahead<P>,
    ) {
        sweep::<S, Self, R, P, 2>(s, lines, x, sums, ahead);
    }
}

impl Plain for F32 {
    #[inline(always)]
    fn set(line: &mut Self::Line, which: usize, lane: usize, value: f32) {
        line[which][lane] = value;
    }
}

/// bf16 in words: the first term in the low half, the second in the high half. Widening is a shift or a mask.
#[derive(Clone, Copy)]
pub(crate) struct Bf16;

impl Format for Bf16 {
    type Line = [u32; 16];
    const DTYPE: WeightType = WeightType::Bf16;

    #[inline(always)]
    fn term<S: Simd>(s: S, line: &Self::Line, _run: usize, which: usize) -> [S::V; 2] {
        let [low, high] = halves(line);
        if which == 0 { [s.widen_low(low), s.widen_low(high)] } else { [s.widen_high(low), s.widen_high(high)] }
    }

    #[inline(always)]
    fn fill(line: &mut Self::Line, lane: usize, values: &[f32]) {
        values.iter().enumerate().for_each(|(which, value)| Self::set(line, which, lane, *value));
    }

    #[inline(always)]
    fn get(line: &Self::Line, which: usize, lane: usize) -> f32 {
        bf16::from_bits((line[lane] >> (16 * which)) as u16).to_f32()
    }
}

impl Plain for Bf16 {
    #[inline(always)]
    fn set(line: &mut Self::Line, which: usize, lane: usize, value: f32) {
        let bits = u32::from(bf16::from_f32(value).to_bits());
        let word = line[lane];
        line[lane] = if which == 0 { (word & 0xffff_0000) | bits } else { (word & 0xffff) | (bits << 16) };
    }
}

/// f16, term after term.
#[derive(Clone, Copy)]
pub(crate) struct F16;

impl Format for F16 {
    type Line = [[u16; 16]; 2];
    const DTYPE: WeightType = WeightType::F16;

    #[inline(always)]
    fn term<S: Simd>(s: S, line: &Self::Line, _run: usize, which: usize) -> [S::V; 2] {
        let [low, high] = halves(&line[which]);
        [s.widen_f16(low), s.widen_f16(high)]
    }

    #[inline(always)]
    fn fill(line: &mut Self::Line, lane: usize, values: &[f32]) {
        values.iter().enumerate().for_each(|(which, value)| Self::set(line, which, lane, *value));
    }

    #[inline(always)]
    fn get(line: &Self::Line, which: usize, lane: usize) -> f32 {
        f16::from_bits(line[which][lane]).to_f32()
    }
}

impl Plain for F16 {
    #[inline(always)]
    fn set(line: &mut Self::Line, which: usize, lane: usize, value: f32) {
        line[which][lane] = f16::from_f32(value).to_bits();
    }
}
