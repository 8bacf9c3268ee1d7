//! Up to six rows: weights pass through registers once, at the speed of memory.
//!
//! One or two rows read two panels at a time: one panel's chains are too few to keep up with memory (two accumulators of four cycles
//! each). Three rows by two panels no longer fit the registers.

use super::Strip;
use crate::isa::Simd;
use crate::panel::{Ahead, Format, LANES};

/// Bytes that prefetches run ahead of each of two streams, and of a single one (measured).
const AHEAD_OF_TWO: usize = 1024;
const AHEAD_OF_ONE: usize = 2048;

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

#[inline(always)]
fn rows<S: Simd, F: Format, const R: usize, const P: usize>(s: S, strip: &Strip<'_>) {
    let mut panel = strip.panels.start;
    while panel + P <= strip.panels.end {
        panels::<S, F, R, P>(s, strip, panel);
        panel += P;
    }
    if panel < strip.panels.end {
        panels::<S, F, R, 1>(s, strip, panel);
    }
}

/// R rows by P panels over all of K.
#[inline(always)]
fn panels<S: Simd, F: Format, const R: usize, const P: usize>(s: S, strip: &Strip<'_>, panel: usize) {
    let line = size_of::<F::Line>();
    let pairs = (strip.task.part.weight.spec().k as usize).div_ceil(2);
    let all = strip.task.part.weight.lines::<F>();
    let lines: [&[F::Line]; P] = std::array::from_fn(|p| &all[(panel + p) * pairs..][..pairs]);
    let distance = if P == 2 { AHEAD_OF_TWO } else { AHEAD_OF_ONE };
    // The last lines prefetch the start of the panels that come next, past the partner's panel.
    let main = pairs.saturating_sub(distance / line);
    let within = lines.map(|lines| lines.as_ptr().cast::<u8>().wrapping_add(distance));
    let behind = lines.map(|lines| lines.as_ptr().cast::<u8>().wrapping_add(P * pairs * line));
    let (x, x_end) = strip.task.x.split_at((main * 2 * R).min(strip.task.x.len()));
    let mut sums = [[[0.0; LANES]; P]; R];
    F::stream(s, lines.map(|l| &l[..main]), x, &mut sums, Ahead { from: within, step: line });
    F::stream(s, lines.map(|l| &l[main..]), x_end, &mut sums, Ahead { from: behind, step: line });
    for (row, sums) in sums.iter().enumerate() {
        for (p, sums) in sums.iter().enumerate() {
            // SAFETY: the strip's panels are this thread's alone.
            unsafe { strip.task.finish(row, panel + p, sums) };
        }
    }
}
