//! Contractions whose rows are quantised as their weights are: a pass over the weights for each block of at most six rows, which stay near
//! the core meanwhile; many rows go by in groups, panel by panel.

use super::{GROUP_BLOCKS, Strip, tree};
use crate::isa::{Kernel, Simd, sum_lanes};
use crate::panel::{BLOCK_ROWS, Integer, LANES, add_block, store_lanes};
use std::ops::Range;

/// Bytes that prefetches run ahead of a panel's stream.
const AHEAD: usize = 2048;

/// f32 that a packed row of `k` terms takes.
pub(super) fn row_len<F: Integer>(k: usize) -> usize {
    k / F::TERMS * F::WORDS
}

/// Rows of one block, quantised and interleaved: `[block of terms][word][row]`.
pub(super) struct Pack<'a, F, const R: usize> {
    pub(super) rows: [&'a [f32]; R],
    pub(super) to: &'a mut [f32],
    pub(super) format: std::marker::PhantomData<F>,
}

impl<F: Integer, const R: usize> Kernel for Pack<'_, F, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let to: &mut [[u32; R]] = bytemuck::cast_slice_mut(self.to).as_chunks_mut().0;
        for r in 0..R {
            let blocks = self.rows[r].as_chunks::<32>().0.iter().zip(to.chunks_exact_mut(F::WORDS));
            for (block, to) in blocks {
                let (scale, codes) = quantize(s, block);
                F::lay_out(&codes, |number, word| to[number][r] = word);
                to[F::WORDS - 1][r] = scale.to_bits();
            }
        }
    }
}

/// The scale of 32 values and their codes. Of values that are not all finite the scale is no number, so that what they are multiplied into is none.
#[inline(always)]
fn quantize<S: Simd>(s: S, values: &[f32; 32]) -> (f32, [i8; 32]) {
    let eights = values.as_chunks::<8>().0;
    let (minus, mut largest, mut nothing) = (s.splat(-1.0), s.zero(), s.zero());
    for eight in eights {
        let value = s.load(eight);
        largest = s.max(s.max(value, s.mul(value, minus)), largest);
        nothing = s.fma(value, s.zero(), nothing);
    }
    let largest = s.lanes(largest).into_iter().fold(0.0f32, f32::max) + sum_lanes(s.lanes(nothing));
    let inverse = s.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
    let mut codes = [0; 32];
    for (eight, codes) in eights.iter().zip(codes.as_chunks_mut::<8>().0) {
        let rounded = s.lanes(s.round(s.mul(s.load(eight), inverse)));
        for (code, value) in codes.iter_mut().zip(rounded) {
            *code = value as i8;
        }
    }
    (largest / 127.0, codes)
}

/// All rows by the panels of a strip.
#[inline(always)]
pub(super) fn run<S: Simd, F: Integer>(s: S, strip: &Strip<'_>) {
    let (blocks, mut panels) = (strip.task.blocks, strip.panels.clone());
    if blocks.rows == 1 {
        // One panel alone has too few sums under way. Each of the two streams reads its own half of the strip front to back.
        let apart = panels.len() / 2;
        for panel in panels.start..panels.start + apart {
            rows::<S, F, 1, 2>(s, strip, 0, [panel, panel + apart]);
        }
        panels.start += 2 * apart;
    }
    for group in (0..blocks.count).step_by(GROUP_BLOCKS) {
        for panel in panels.clone() {
            for block in group..(group + GROUP_BLOCKS).min(blocks.count) {
                match blocks.at(block).1 {
                    1 => rows::<S, F, 1, 1>(s, strip, block, [panel]),
                    2 => rows::<S, F, 2, 1>(s, strip, block, [panel]),
                    3 => rows::<S, F, 3, 1>(s, strip, block, [panel]),
                    4 => rows::<S, F, 4, 1>(s, strip, block, [panel]),
                    5 => rows::<S, F, 5, 1>(s, strip, block, [panel]),
                    6 => rows::<S, F, 6, 1>(s, strip, block, [panel]),
                    other => unreachable!("a block has at most six rows, not {other}"),
                }
            }
        }
    }
}

/// R rows by P panels over all terms.
#[inline(always)]
fn rows<S: Simd, F: Integer, const R: usize, const P: usize>(
    s: S,
    strip: &Strip<'_>,
    block: usize,
    panels: [usize; P],
) {
    let spec = strip.task.part.weight.spec();
    let (count, parts) = (spec.k as usize / F::TERMS, spec.sum_parts as usize);
    let (first, _) = strip.task.blocks.at(block);
    let len = row_len::<F>(spec.k as usize);
    let x: &[[u32; R]] = bytemuck::cast_slice(&strip.task.x[first * len..][..R * len]).as_chunks().0;
    let lines = strip.task.lines::<F>();
    let mut of_panels = [lines; P];
    for p in 0..P {
        of_panels[p] = &lines[panels[p] * count..][..count];
    }
    let (each, mut waiting) = (count / parts, [[0.0; LANES]; tree::LEVELS * BLOCK_ROWS]);
    let mut sums = [[[0.0; LANES]; P]; R];
    for part in 0..parts {
        s.call(Add::<F, R, P> { lines: of_panels, x, terms: part * each..(part + 1) * each, sums: &mut sums });
        if parts > 1 {
            tree::fold(part, sums.as_flattened_mut(), &mut waiting, R * P);
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (panel, sums) in panels.iter().zip(sums) {
            // SAFETY: the strip's panels are this thread's alone.
            unsafe { strip.task.finish(first + row, *panel, sums) };
        }
    }
}

/// The sums of some blocks of terms.
struct Add<'a, F: Integer, const R: usize, const P: usize> {
    lines: [&'a [F::Line]; P],
    x: &'a [[u32; R]],
    terms: Range<usize>,
    sums: &'a mut [[[f32; LANES]; P]; R],
}

impl<F: Integer, const R: usize, const P: usize> Kernel for Add<'_, F, R, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut sums = [[[s.zero(); 2]; P]; R];
        for block in self.terms {
            let mut lines = [&self.lines[0][block]; P];
            for p in 0..P {
                lines[p] = &self.lines[p][block];
                let at: *const u8 = std::ptr::from_ref(lines[p]).cast();
                for touch in 0..size_of::<F::Line>().div_ceil(64) {
                    s.prefetch(at.wrapping_add(AHEAD + touch * 64));
                }
            }
            add_block::<S, F, R, P>(s, lines, &self.x[block * F::WORDS..][..F::WORDS], &mut sums);
        }
        for r in 0..R {
            for p in 0..P {
                store_lanes(s, sums[r][p], &mut self.sums[r][p]);
            }
        }
    }
}
