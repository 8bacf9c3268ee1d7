//! Products of quantised weights with quantised rows: integers within a block, one f32 sum over the blocks.
//!
//! A row is quantised to 8 bits by block, with a scale in f32: what it stands for depends on nothing but the row. The products of a
//! block are summed exactly, and a block is a term of the sum: `fma(products, scale of w · scale of x, sum)`, in the order of blocks. So
//! bits are the same for any number of rows beside it, as they are for plain terms.
//! Source: Q8_0 by Q8_0 and Q4_0 by Q8_0 as in ggml; u8 by i8 products summed in 16 bits as in `pmaddubsw`, whose sum here is at most
//! 16 · 8 · 127, once -8 times the row's codes is added to it.

use super::blocks::{Q4_0, Q8_0, Quantized, scales};
use super::formats::halves;
use crate::isa::Simd;

/// A format whose codes are multiplied as integers. A word of the weights has codes for two words of a row, each with half of them.
pub(crate) trait Integer: Quantized<Line: AsRef<[[u32; 8]]>> {
    /// Words that a block of a row has: two for each word of the weights, whatever else its products need, and its scale last.
    const WORDS: usize;
    /// Lays the 32 codes of a row's block out; `word(number, value)` for every word but the scale.
    fn lay_out(codes: &[i8; 32], word: impl FnMut(usize, u32));
    /// What the sums of products of a block begin with.
    fn begin<const R: usize>(x: &[[u32; R]], row: usize) -> u32;
    /// The first half of the codes in some words.
    fn first<S: Simd>(s: S, words: S::I) -> S::I;
    /// The second half of them.
    fn second<S: Simd>(s: S, words: S::I) -> S::I;
    /// Adds the products of codes to their sums.
    fn add<S: Simd>(s: S, codes: S::I, x: S::I, sums: S::I) -> S::I;
    /// The sum of each word, of the sums that it has.
    fn whole<S: Simd>(s: S, sums: S::I) -> S::I;
}

/// Words of an output's codes in a block, and those of a row that belong to them.
const fn words<F: Integer>() -> usize {
    (size_of::<F::Line>() / size_of::<[u32; 8]>() - 1) / 2
}

/// Adds the products of one block of R rows and P panels to the sums.
#[inline(always)]
pub(crate) fn add_block<S: Simd, F: Integer, const R: usize, const P: usize>(
    s: S,
    lines: [&F::Line; P],
    x: &[[u32; R]],
    sums: &mut [[[S::V; 2]; P]; R],
) {
    let mut products = [[[s.splat_word(0); 2]; P]; R];
    for r in 0..R {
        products[r] = [[s.splat_word(F::begin(x, r)); 2]; P];
    }
    for word in 0..words::<F>() {
        for which in 0..2 {
            let mut w = [[s.splat_word(0); 2]; P];
            for p in 0..P {
                let codes = &lines[p].as_ref()[1 + 2 * word..][..2];
                for half in 0..2 {
                    w[p][half] = if which == 0 {
                        F::first(s, s.load_words(&codes[half]))
                    } else {
                        F::second(s, s.reload_words(&codes[half]))
                    };
                }
            }
            for r in 0..R {
                let x = s.splat_word(x[2 * word + which][r]);
                for p in 0..P {
                    for half in 0..2 {
                        products[r][p][half] = F::add(s, w[p][half], x, products[r][p][half]);
                    }
                }
            }
        }
    }
    let mut of_weights = [[s.zero(); 2]; P];
    for p in 0..P {
        let [low, high] = halves(scales(&lines[p].as_ref()[0]));
        of_weights[p] = [s.widen_f16(low), s.widen_f16(high)];
    }
    for r in 0..R {
        let scale = s.splat(f32::from_bits(x[F::WORDS - 1][r]));
        for p in 0..P {
            for half in 0..2 {
                let (scale, whole) = (s.mul(of_weights[p][half], scale), F::whole(s, products[r][p][half]));
                sums[r][p][half] = s.fma(s.floats(whole), scale, sums[r][p][half]);
            }
        }
    }
}

fn pair(low: i16, high: i16) -> u32 {
    u32::from(low.cast_unsigned()) | (u32::from(high.cast_unsigned()) << 16)
}

impl Integer for Q8_0 {
    /// Two words of two codes each for each word of the weights: the first and the third of its four terms, the second and the fourth.
    const WORDS: usize = 17;

    fn lay_out(codes: &[i8; 32], mut word: impl FnMut(usize, u32)) {
        for (quad, four) in codes.as_chunks::<4>().0.iter().enumerate() {
            let [a, b, c, d] = four.map(i16::from);
            word(2 * quad, pair(a, c));
            word(2 * quad + 1, pair(b, d));
        }
    }

    #[inline(always)]
    fn begin<const R: usize>(_x: &[[u32; R]], _row: usize) -> u32 {
        0
    }

    #[inline(always)]
    fn first<S: Simd>(s: S, words: S::I) -> S::I {
        s.low_bytes(words)
    }

    #[inline(always)]
    fn second<S: Simd>(s: S, words: S::I) -> S::I {
        s.high_bytes(words)
    }

    #[inline(always)]
    fn add<S: Simd>(s: S, codes: S::I, x: S::I, sums: S::I) -> S::I {
        s.add_words(sums, s.multiply_halves(codes, x))
    }

    #[inline(always)]
    fn whole<S: Simd>(_s: S, sums: S::I) -> S::I {
        sums
    }
}

impl Integer for Q4_0 {
    /// A word of four codes for each half of the weights' bytes, and -8 times the codes that each half of a word sums.
    const WORDS: usize = 10;

    fn lay_out(codes: &[i8; 32], mut word: impl FnMut(usize, u32)) {
        let mut less = [0i16; 2];
        for (quad, four) in codes.as_chunks::<4>().0.iter().enumerate() {
            word(quad, u32::from_le_bytes(four.map(i8::cast_unsigned)));
            let [a, b, c, d] = four.map(i16::from);
            less = [less[0] - 8 * (a + b), less[1] - 8 * (c + d)];
        }
        word(8, pair(less[0], less[1]));
    }

    #[inline(always)]
    fn begin<const R: usize>(x: &[[u32; R]], row: usize) -> u32 {
        x[8][row]
    }

    #[inline(always)]
    fn first<S: Simd>(s: S, words: S::I) -> S::I {
        s.low_nibbles(words)
    }

    #[inline(always)]
    fn second<S: Simd>(s: S, words: S::I) -> S::I {
        s.high_nibbles(words)
    }

    #[inline(always)]
    fn add<S: Simd>(s: S, codes: S::I, x: S::I, sums: S::I) -> S::I {
        s.add_halves(sums, s.multiply_bytes(codes, x))
    }

    #[inline(always)]
    fn whole<S: Simd>(s: S, sums: S::I) -> S::I {
        s.multiply_halves(sums, s.splat_word(0x0001_0001))
    }
}
