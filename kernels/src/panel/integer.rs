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

/// A format whose codes are multiplied as integers.
pub(crate) trait Integer: Quantized {
    /// Words that a block of a row has: its codes, and what else its products need, its scale last.
    const WORDS: usize;
    /// Lays the 32 codes of a row's block out; `word(number, value)` for every word but the scale.
    fn lay_out(codes: &[i8; 32], word: impl FnMut(usize, u32));
    /// Adds the products of one block of R rows and P panels to the sums.
    fn add_block<S: Simd, const R: usize, const P: usize>(
        s: S,
        lines: [&Self::Line; P],
        x: &[[u32; R]],
        sums: &mut [[[S::V; 2]; P]; R],
    );
}

fn pair(low: i16, high: i16) -> u32 {
    u32::from(low.cast_unsigned()) | (u32::from(high.cast_unsigned()) << 16)
}

/// Multiplies the sums of a block's products by both scales and adds them.
#[inline(always)]
fn finish<S: Simd, L: AsRef<[[u32; 8]]>, const R: usize, const P: usize>(
    s: S,
    lines: [&L; P],
    x: &[u32; R],
    products: &[[[S::I; 2]; P]; R],
    sums: &mut [[[S::V; 2]; P]; R],
) {
    let mut of_weights = [[s.zero(); 2]; P];
    for p in 0..P {
        let [low, high] = halves(scales(&lines[p].as_ref()[0]));
        of_weights[p] = [s.widen_f16(low), s.widen_f16(high)];
    }
    for r in 0..R {
        let scale = s.splat(f32::from_bits(x[r]));
        for p in 0..P {
            for half in 0..2 {
                let scale = s.mul(of_weights[p][half], scale);
                sums[r][p][half] = s.fma(s.floats(products[r][p][half]), scale, sums[r][p][half]);
            }
        }
    }
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
    fn add_block<S: Simd, const R: usize, const P: usize>(
        s: S,
        lines: [&Self::Line; P],
        x: &[[u32; R]],
        sums: &mut [[[S::V; 2]; P]; R],
    ) {
        let mut words = [[[s.splat_word(0); 2]; P]; R];
        for quad in 0..8 {
            for which in 0..2 {
                let mut w = [[s.splat_word(0); 2]; P];
                for p in 0..P {
                    let codes = &lines[p][1 + 2 * quad..][..2];
                    for half in 0..2 {
                        w[p][half] = if which == 0 {
                            s.low_bytes(s.load_words(&codes[half]))
                        } else {
                            s.high_bytes(s.reload_words(&codes[half]))
                        };
                    }
                }
                for r in 0..R {
                    let x = s.splat_word(x[2 * quad + which][r]);
                    for p in 0..P {
                        for half in 0..2 {
                            let products = s.multiply_halves(w[p][half], x);
                            words[r][p][half] = s.add_words(words[r][p][half], products);
                        }
                    }
                }
            }
        }
        finish(s, lines, &x[16], &words, sums);
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
    fn add_block<S: Simd, const R: usize, const P: usize>(
        s: S,
        lines: [&Self::Line; P],
        x: &[[u32; R]],
        sums: &mut [[[S::V; 2]; P]; R],
    ) {
        let mut halves = [[[s.splat_word(0); 2]; P]; R];
        for r in 0..R {
            halves[r] = [[s.splat_word(x[8][r]); 2]; P];
        }
        for run in 0..4 {
            for which in 0..2 {
                let mut w = [[s.splat_word(0); 2]; P];
                for p in 0..P {
                    let codes = &lines[p][1 + 2 * run..][..2];
                    for half in 0..2 {
                        w[p][half] = if which == 0 {
                            s.low_nibbles(s.load_words(&codes[half]))
                        } else {
                            s.high_nibbles(s.reload_words(&codes[half]))
                        };
                    }
                }
                for r in 0..R {
                    let x = s.splat_word(x[2 * run + which][r]);
                    for p in 0..P {
                        for half in 0..2 {
                            let products = s.multiply_bytes(w[p][half], x);
                            halves[r][p][half] = s.add_halves(halves[r][p][half], products);
                        }
                    }
                }
            }
        }
        let ones = s.splat_word(0x0001_0001);
        for r in 0..R {
            for p in 0..P {
                for half in 0..2 {
                    halves[r][p][half] = s.multiply_halves(halves[r][p][half], ones);
                }
            }
        }
        finish(s, lines, &x[9], &halves, sums);
    }
}
