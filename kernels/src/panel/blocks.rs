//! Lines of quantised weights: a block of 32 terms of all 16 outputs, their scales first.
//!
//! A line is words of eight outputs: scales in f16, two a word; then codes, of each output as many to a word as fit. A code times its
//! scale is exact in f32 (8 and 11 bits), so bits are those of a contraction with the widened weights, wherever they are widened.
//! Source: rounding as GGUF's quantizers do it (`quantize_row_q8_0_ref`, `quantize_row_q4_0_ref` of ggml).

use super::formats::{Format, halves};
use super::{Ahead, LANES, Sums, step, store_lanes, sweep};
use crate::isa::Simd;
use graph::{BLOCK, WeightType};
use half::f16;

/// Terms of a line.
const TERMS: usize = BLOCK as usize;
/// Terms whose places in their words are written out.
const UNROLLED: usize = 8;

/// `$each` for each of eight terms, by a number that is a constant in it. (A closure would not be compiled for the instruction set.)
macro_rules! unrolled {
    ($which:ident, $each:expr) => {
        unrolled!($which, $each, 0 1 2 3 4 5 6 7)
    };
    ($which:ident, $each:expr, $($number:literal)*) => {
        $({
            const $which: usize = $number;
            $each;
        })*
    };
}

/// Scales of 16 outputs, as they lie in the first words of a line.
#[inline(always)]
pub(super) fn scales(words: &[u32; 8]) -> &[u16; 16] {
    bytemuck::cast_ref(words)
}

fn set_scale(words: &mut [u32; 8], lane: usize, scale: f16) {
    bytemuck::cast_mut::<_, [u16; 16]>(words)[lane] = scale.to_bits();
}

/// The scale as it is stored: at most the largest of f16.
fn rounded(scale: f32) -> f16 {
    f16::from_f32(scale.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// A format of blocks.
pub(crate) trait Quantized: Format {
    /// The scale of 32 values and their codes: of 8 bits the two's complement, of 4 bits 8 more than they are.
    fn quantize(values: &[f32]) -> (f16, [u8; TERMS]);
}

/// [`super::add_terms`] of whole blocks.
#[inline(always)]
pub(super) fn add_terms<S: Simd, F: Format, const R: usize, const P: usize, const TOUCH: usize>(
    s: S,
    lines: [&[F::Line]; P],
    x: &[f32],
    sums: &mut [[[S::V; 2]; P]; R],
    ahead: Ahead<P>,
) {
    let blocks = x.as_chunks::<R>().0.as_chunks::<TERMS>().0;
    let lines = lines.map(|lines| &lines[..blocks.len()]);
    for (i, block) in blocks.iter().enumerate() {
        for p in 0..P {
            for touch in 0..TOUCH {
                s.prefetch(ahead.from[p].wrapping_add(i * ahead.step + touch * 64));
            }
        }
        for (run, x) in block.as_chunks::<UNROLLED>().0.iter().enumerate() {
            unrolled!(WHICH, {
                let mut w = [[s.zero(); 2]; P];
                for p in 0..P {
                    w[p] = F::term(s, &lines[p][i], run, WHICH);
                }
                step(s, &w, &x[WHICH], sums);
            });
        }
    }
}

/// Widens lines into rows of 16 f32, a row a term.
#[inline(always)]
pub(super) fn widen<S: Simd, F: Format>(s: S, lines: &[F::Line], wide: &mut [[f32; LANES]]) {
    for (line, wide) in lines.iter().zip(wide.as_chunks_mut::<TERMS>().0) {
        for (run, wide) in wide.as_chunks_mut::<UNROLLED>().0.iter_mut().enumerate() {
            unrolled!(WHICH, store_lanes(s, F::term(s, line, run, WHICH), &mut wide[WHICH]));
        }
    }
}

/// Integers of 8 bits, four terms of an output to a word.
#[derive(Clone, Copy)]
pub(crate) struct Q8_0;

impl Quantized for Q8_0 {
    fn quantize(values: &[f32]) -> (f16, [u8; TERMS]) {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let code = |value: f32| ((value * inverse).round() as i8).cast_unsigned();
        (rounded(scale), std::array::from_fn(|which| code(values[which])))
    }
}

impl Format for Q8_0 {
    type Line = [[u32; 8]; 17];
    const DTYPE: WeightType = WeightType::Q8_0;
    const TERMS: usize = TERMS;
    const WIDE_FROM: Option<usize> = Some(7);

    #[inline(always)]
    fn term<S: Simd>(s: S, line: &Self::Line, run: usize, which: usize) -> [S::V; 2] {
        let [low, high] = halves(scales(&line[0]));
        let words = 1 + 4 * run + 2 * (which / 4);
        let low = s.mul(s.widen_byte(&line[words], which % 4), s.widen_f16(low));
        let high = s.mul(s.widen_byte(&line[words + 1], which % 4), s.widen_f16(high));
        [low, high]
    }

    fn fill(line: &mut Self::Line, lane: usize, values: &[f32]) {
        let (scale, codes) = Self::quantize(values);
        set_scale(&mut line[0], lane, scale);
        for (which, code) in codes.into_iter().enumerate() {
            let word = &mut line[1 + which / 4 * 2 + lane / 8][lane % 8];
            let shift = 8 * (which % 4);
            *word = (*word & !(0xff << shift)) | (u32::from(code) << shift);
        }
    }

    fn get(line: &Self::Line, which: usize, lane: usize) -> f32 {
        let word = line[1 + which / 4 * 2 + lane / 8][lane % 8];
        let code = (word >> (8 * (which % 4))) as u8;
        f32::from(code.cast_signed()) * f16::from_bits(scales(&line[0])[lane]).to_f32()
    }

    /// A line is eight and a half cache lines.
    #[inline(always)]
    fn stream<S: Simd, const R: usize, const P: usize>(
        s: S,
        lines: [&[Self::Line]; P],
        x: &[f32],
        sums: &mut Sums<R, P>,
        ahead: Ahead<P>,
    ) {
        sweep::<S, Self, R, P, 9>(s, lines, x, sums, ahead);
    }
}

/// Integers from -8 to 7, eight terms of an output to a word: byte i has terms i and 4 + i of the eight, in its low and its high half,
/// 8 more than they are.
#[derive(Clone, Copy)]
pub(crate) struct Q4_0;

impl Q4_0 {
    /// The place of a term in its word, in bits.
    fn shift(which: usize) -> usize {
        8 * (which % 4) + which / 4 % 2 * 4
    }
}

impl Quantized for Q4_0 {
    fn quantize(values: &[f32]) -> (f16, [u8; TERMS]) {
        // The value of the largest size is -8.
        let larger = |largest: f32, &value: &f32| if value.abs() > largest.abs() { value } else { largest };
        let scale = values.iter().fold(0.0, larger) / -8.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
        (rounded(scale), std::array::from_fn(|which| code(values[which])))
    }
}

impl Format for Q4_0 {
    type Line = [[u32; 8]; 9];
    const DTYPE: WeightType = WeightType::Q4_0;
    const TERMS: usize = TERMS;
    const WIDE_FROM: Option<usize> = Some(7);

    #[inline(always)]
    fn term<S: Simd>(s: S, line: &Self::Line, run: usize, which: usize) -> [S::V; 2] {
        let [low, high] = halves(scales(&line[0]));
        let nibble = which % 4 * 2 + which / 4;
        // (code - 8) · scale, both exact.
        let eight = s.splat(8.0);
        let low = s.mul(s.sub(s.widen_nibble(&line[1 + 2 * run], nibble), eight), s.widen_f16(low));
        let high = s.mul(s.sub(s.widen_nibble(&line[2 + 2 * run], nibble), eight), s.widen_f16(high));
        [low, high]
    }

    fn fill(line: &mut Self::Line, lane: usize, values: &[f32]) {
        let (scale, codes) = Self::quantize(values);
        set_scale(&mut line[0], lane, scale);
        for (which, code) in codes.into_iter().enumerate() {
            let word = &mut line[1 + which / 8 * 2 + lane / 8][lane % 8];
            *word = (*word & !(15 << Self::shift(which))) | (u32::from(code) << Self::shift(which));
        }
    }

    fn get(line: &Self::Line, which: usize, lane: usize) -> f32 {
        let word = line[1 + which / 8 * 2 + lane / 8][lane % 8];
        let code = (word >> Self::shift(which)) & 15;
        (code as f32 - 8.0) * f16::from_bits(scales(&line[0])[lane]).to_f32()
    }

    /// A line is four and a half cache lines.
    #[inline(always)]
    fn stream<S: Simd, const R: usize, const P: usize>(
        s: S,
        lines: [&[Self::Line]; P],
        x: &[f32],
        sums: &mut Sums<R, P>,
        ahead: Ahead<P>,
    ) {
        sweep::<S, Self, R, P, 5>(s, lines, x, sums, ahead);
    }
}
