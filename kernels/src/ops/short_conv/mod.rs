//! y[t][c] = Σ_j w[c][j] · x[t - (taps - 1) + j][c]: each channel by itself over its last `taps` rows, zeros before the first.
//!
//! Shapes: x, y `[rows, channels]`, w `[channels, taps]` with 2 to 8 taps. State: the last taps - 1 rows of x, `[taps - 1, channels]`.
//! Maths: one accumulator an output, taps in order. The rows of a state are the raw ones, so a row's bits do not depend on chunks.
//! Bytes: 4 read, 4 written an element, and the states. Error: within 4e-7 · Σ|w x|.
//! Source: Gu & Dao 2023, arXiv:2312.00752, §3.4; Dao & Gu 2024, arXiv:2405.21060, §7.

pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use crate::isa::{Kernel, Simd};
use crate::slab::Slab;
use crate::states::{States, StatesView};
use crate::step::{Span, Step};
use std::ops::Range;

/// Most taps of a filter.
pub(crate) const TAPS_MAX: usize = 8;

/// The operands of one call.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// Raw rows.
    pub(crate) x: Slab<'a>,
    /// Filters, `[channels, taps]`.
    pub(crate) w: &'a [f32],
    /// Result.
    pub(crate) y: Slab<'a>,
    /// Elements of a row.
    pub(crate) channels: usize,
}

struct Convolve<'a> {
    step: &'a Step,
    operands: Operands<'a>,
    states: StatesView<'a>,
    channels: Range<usize>,
}

impl Kernel for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for first in self.channels.clone().step_by(8) {
            let count = (self.channels.end - first).min(8);
            self.block(s, first, count);
        }
    }
}

impl Convolve<'_> {
    /// Up to eight channels over all spans.
    #[inline(always)]
    fn block<S: Simd>(&self, s: S, first: usize, count: usize) {
        let Operands { x, w, y, channels } = self.operands;
        let taps = w.len() / channels;
        let mut filter = [s.zero(); TAPS_MAX];
        for (tap, filter) in filter.iter_mut().enumerate().take(taps) {
            let mut lanes = [0.0; 8];
            lanes.iter_mut().take(count).enumerate().for_each(|(i, lane)| *lane = w[(first + i) * taps + tap]);
            *filter = s.load(&lanes);
        }
        for (span, state) in self.step.spans.iter().zip(&self.step.states) {
            // The window before the span's first row, oldest row first.
            let mut window = [s.zero(); TAPS_MAX];
            if let Some(slot) = state.from {
                for (row, held) in window.iter_mut().enumerate().take(taps - 1) {
                    // SAFETY: no span of a step writes a slot that one reads (states::check).
                    *held = load(s, unsafe { self.states.read(slot, row * channels + first, count) });
                }
            }
            for row in 0..span.rows as usize {
                let at = (span.first_row as usize + row) * channels + first;
                // SAFETY: x is only read while a call runs.
                window[taps - 1] = unsafe { x.load(s, at, count) };
                let mut sum = s.zero();
                for tap in 0..taps {
                    sum = s.fma(filter[tap], window[tap], sum);
                }
                // SAFETY: this thread alone has these channels of y.
                unsafe { y.store(s, sum, at, count) };
                window.copy_within(1..taps, 0);
            }
            self.keep(span, span.start + span.rows, (state.from, state.to), first..first + count);
            for snapshot in self.step.snapshots_of(state) {
                self.keep(span, snapshot.end, (state.from, snapshot.slot), first..first + count);
            }
        }
    }

    /// Writes the rows before position `end` of some channels into a slot.
    fn keep(&self, span: &Span, end: u32, (from, to): (Option<u32>, u32), part: Range<usize>) {
        let Operands { x, w, channels, .. } = self.operands;
        let held = w.len() / channels - 1;
        let inside = (end - span.start) as usize;
        for row in 0..held {
            // SAFETY: this thread alone has these channels of the slots that a step writes.
            let kept = unsafe { self.states.write(to, row * channels + part.start, part.len()) };
            // The row lies `held - row` before the end.
            if inside + row >= held {
                let at = (span.first_row as usize + inside + row - held) * channels + part.start;
                // SAFETY: x is only read while a call runs.
                kept.copy_from_slice(unsafe { x.read(at, part.len()) });
            } else if let Some(slot) = from {
                // SAFETY: no span of a step writes a slot that one reads (states::check).
                kept.copy_from_slice(unsafe {
                    self.states.read(slot, (inside + row) * channels + part.start, part.len())
                });
            } else {
                kept.fill(0.0);
            }
        }
    }
}

/// Up to eight elements; zero in the lanes past them.
#[inline(always)]
fn load<S: Simd>(s: S, elements: &[f32]) -> S::V {
    let mut lanes = [0.0; 8];
    lanes[..elements.len()].copy_from_slice(elements);
    s.load(&lanes)
}

/// Convolves every span and keeps its last rows.
///
/// # Safety
/// The operands are this call's alone until it returns; `y` does not overlap `x`. The step's states were checked
/// ([`crate::states::check`]).
pub(crate) unsafe fn run(workers: Workers<'_>, step: &Step, operands: Operands<'_>, states: &mut States) {
    let states = states.view();
    let elements = operands.x.len();
    workers.cut(operands.channels, 16, elements, &|channels| {
        workers.isa.run(Convolve { step, operands, states, channels });
    });
}
