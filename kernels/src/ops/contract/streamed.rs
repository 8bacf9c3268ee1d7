//! Up to six rows: weights pass through registers once, at the speed of memory.
//!
//! One or two rows read two panels at a time: one panel's chains are too few to keep up with memory (two accumulators of four cycles
//! each). Three rows by two panels no longer fit the registers. Each of the two streams reads its own half of the strip front to
//! back: neighbouring panels as pairs would make both jump behind every panel, which costs a fifth of the speed at k = 1024.

use super::{Strip, tree};
use crate::isa::Simd;
use crate::panel::{Ahead, BLOCK_ROWS, Format, LANES, Sums};
use std::ops::Range;

/// Bytes that prefetches run ahead of each of two streams, and of a single one (measured).
const AHEAD_OF_TWO: usize = 512;
const AHEAD_OF_ONE: usize = 4096;

#[inline(always)]
pub(super) fn run<S: Simd, F: Format>(s: S, strip: Strip<'_>) {
    match strip.task.blocks.rows {
        1 => rows::<S, F, 1, 2>(s, &strip),
        2 => rows::<S, F, 2, 2>(s, &strip),
        3 => rows::<S, F, 3, 1>(s, &strip),
        4 => rows::<S, F, 4, 1>(s, &strip),
        5 => rows::<S, F, 5, 1>(s, &strip),
        6 => rows::<S, F, 6, 1>(s, &strip),
        other => unreachable!("streamed rows are one to six, not {other}"),
    }
}

/// R rows by all panels of the strip, P streams at a time.
#[inline(always)]
fn rows<S: Simd, F: Format, const R: usize, const P: usize>(s: S, strip: &Strip<'_>) {
    let (first, apart) = (strip.panels.start, strip.panels.len() / P);
    for panel in first..first + apart {
        panels::<S, F, R, P>(s, strip, std::array::from_fn(|p| panel + p * apart));
    }
    for panel in first + P * apart..strip.panels.end {
        panels::<S, F, R, 1>(s, strip, [panel]);
    }
}

/// R rows by P panels over all of K. What is prefetched past a panel's end is the next one of its stream.
#[inline(always)]
fn panels<S: Simd, F: Format, const R: usize, const P: usize>(s: S, strip: &Strip<'_>, panels: [usize; P]) {
    let spec = strip.task.part.weight.spec();
    let (lines, parts) = ((spec.k as usize).div_ceil(F::TERMS), spec.sum_parts as usize);
    let mut sums = [[[0.0; LANES]; P]; R];
    if parts == 1 {
        add::<S, F, R, P>(s, strip, panels, 0..lines, &mut sums);
    } else {
        let (each, mut waiting) = (lines / parts, [[0.0; LANES]; tree::LEVELS * BLOCK_ROWS]);
        for part in 0..parts {
            sums = [[[0.0; LANES]; P]; R];
            add::<S, F, R, P>(s, strip, panels, part * each..(part + 1) * each, &mut sums);
            tree::fold(part, sums.as_flattened_mut(), &mut waiting, R * P);
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (panel, sums) in panels.iter().zip(sums) {
            // SAFETY: the strip's panels are this thread's alone.
            unsafe { strip.task.finish(row, *panel, sums) };
        }
    }
}

/// Adds the terms of these lines of each panel.
#[inline(always)]
fn add<S: Simd, F: Format, const R: usize, const P: usize>(
    s: S,
    strip: &Strip<'_>,
    panels: [usize; P],
    part: Range<usize>,
    sums: &mut Sums<R, P>,
) {
    let k = strip.task.part.weight.spec().k as usize;
    let all = strip.task.lines::<F>();
    let lines = panels.map(|panel| &all[panel * k.div_ceil(F::TERMS)..][part.clone()]);
    let distance = if P == 2 { AHEAD_OF_TWO } else { AHEAD_OF_ONE };
    let ahead = Ahead::lines::<F>(lines.map(|lines| lines.as_ptr().wrapping_byte_add(distance)));
    F::stream(s, lines, &strip.task.x[F::TERMS * part.start * R..(F::TERMS * part.end).min(k) * R], sums, ahead);
}
