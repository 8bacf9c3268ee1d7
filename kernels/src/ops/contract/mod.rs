//! For each part, y = x · wᵀ.
//!
//! Shapes: x `[rows, k]`, shared; of each part w `[n, k]` in panels, y `[rows, n]`. Any rows, n, k ≥ 1.
//! Maths: an output has one accumulator, to which its terms are added in the order of k, each with one rounding where the set has a
//! fused multiply-add. Nothing else enters: not the rows beside it, the blocking, the threads. A weight whose sums have parts has an
//! accumulator a part, and the parts are added in a [`tree`].
//! Bytes: the weights once up to 6 rows, then once a group of 192 rows; x and y once. Error: within k · 6e-8 of Σ|w x|, in practice
//! 2e-7 of it (k = 8192).
//! Source: the register blocks of Goto & van de Geijn 2008 (doi 10.1145/1356052.1356053), along rows and outputs only.

mod blocked;
pub(crate) mod cuda;
mod integer;
pub(in crate::ops) mod pack;
#[cfg(test)]
mod reference;
mod streamed;
#[cfg(test)]
mod tests;
mod tree;

use super::Workers;
use crate::isa::{Kernel, Simd};
use crate::memory::Memory;
use crate::panel::{BLOCK_ROWS, Bf16, Blocks, F16, F32, Format, LANES, Q4_0, Q8_0};
use crate::slab::Slab;
use crate::weights::Weight;
use graph::WeightType;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Row blocks of a group, whose x stays in the second-level cache while panels pass by.
const GROUP_BLOCKS: usize = 32;
/// Panels a thread takes at a time, at most.
pub(in crate::ops) const STRIP_MAX: usize = 8;
/// Terms of a chunk of K: with the chunk that is prefetched meanwhile, and x, it stays in a first-level cache of 32 KiB.
const CHUNK_TERMS: usize = 256;

/// One weight and its result.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// In panels.
    pub(crate) weight: &'a Weight,
    /// `[rows, n]`.
    pub(crate) y: Slab<'a>,
}

/// Where the sums of a task's rows go.
#[derive(Clone, Copy)]
pub(in crate::ops) enum Target<'a> {
    /// Row by row.
    Rows,
    /// To these rows of the result.
    Scattered(&'a [u32]),
    /// Multiplied by a factor each, and added to the row of the result whose number times `of` is not above the one given.
    Added {
        /// Numbers of the rows, in parts.
        at: &'a [u32],
        /// A factor each.
        by: &'a [f32],
        /// Parts of a row of the result.
        of: u32,
    },
}

/// The parts of a contraction, by number: a call keeps them in its own form, and nothing is allocated to hand them over.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// How many.
    pub(crate) count: usize,
    /// The part of a number.
    pub(crate) at: &'a (dyn Fn(usize) -> Part<'a> + Sync),
}

/// Memory that contractions work in, made once for the largest of them.
pub(crate) struct Room {
    pub(in crate::ops) packed: Memory,
    pub(in crate::ops) threads: Memory,
    pub(in crate::ops) thread_len: usize,
}

/// f32 of a widened chunk, and of the sums of a strip by a row group.
pub(in crate::ops) const WIDE_LEN: usize = CHUNK_TERMS * LANES;
const SUMS_LEN: usize = STRIP_MAX * GROUP_ROWS * LANES;
/// Rows of a group, at most.
const GROUP_ROWS: usize = GROUP_BLOCKS * BLOCK_ROWS;

impl Room {
    /// Room for contractions of at most `rows_max` rows and `k_max` terms on `threads` threads; `parted` where sums have parts.
    pub(crate) fn new(rows_max: usize, k_max: usize, threads: usize, parted: bool) -> Self {
        let thread_len = WIDE_LEN + SUMS_LEN * if parted { 1 + tree::LEVELS } else { 1 };
        Self {
            packed: Memory::zeroed(rows_max * k_max * 4),
            threads: Memory::zeroed(threads * thread_len * 4),
            thread_len,
        }
    }
}

/// How rows are packed for a weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ops) enum Form {
    /// As they are, by blocks of rows.
    Plain,
    /// Quantised for products with [`Q8_0`].
    Eight,
    /// Quantised for products with [`Q4_0`].
    Four,
}

impl Form {
    /// That of a weight.
    pub(in crate::ops) fn of(weight: &Weight) -> Self {
        let spec = weight.spec();
        match spec.dtype {
            WeightType::Q8_0 if spec.integer => Self::Eight,
            WeightType::Q4_0 if spec.integer => Self::Four,
            WeightType::F32 | WeightType::Bf16 | WeightType::F16 | WeightType::Q8_0 | WeightType::Q4_0 => Self::Plain,
        }
    }

    /// f32 that a packed row of `k` terms takes: never more than the row.
    pub(in crate::ops) fn row_len(self, k: usize) -> usize {
        match self {
            Self::Plain => k,
            Self::Eight => integer::row_len::<Q8_0>(k),
            Self::Four => integer::row_len::<Q4_0>(k),
        }
    }
}

/// A part with the rows it is multiplied by, packed in blocks.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Task<'a> {
    pub(in crate::ops) x: &'a [f32],
    pub(in crate::ops) blocks: Blocks,
    pub(in crate::ops) part: Part<'a>,
    /// Which of the experts of the weight; 0 where there are none.
    pub(in crate::ops) expert: usize,
    pub(in crate::ops) target: Target<'a>,
}

/// What a thread computes at a time: some panels of one task.
pub(in crate::ops) struct Strip<'a> {
    pub(in crate::ops) task: Task<'a>,
    pub(in crate::ops) panels: Range<usize>,
    pub(in crate::ops) wide: &'a mut [f32],
    pub(in crate::ops) sums: &'a mut [f32],
}

impl Kernel for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let spec = self.task.part.weight.spec();
        match spec.dtype {
            WeightType::Q8_0 if spec.integer => integer::run::<S, Q8_0>(s, &self),
            WeightType::Q4_0 if spec.integer => integer::run::<S, Q4_0>(s, &self),
            WeightType::F32 => self.with::<S, F32>(s),
            WeightType::Bf16 => self.with::<S, Bf16>(s),
            WeightType::F16 => self.with::<S, F16>(s),
            WeightType::Q8_0 => self.with::<S, Q8_0>(s),
            WeightType::Q4_0 => self.with::<S, Q4_0>(s),
        }
    }
}

impl Strip<'_> {
    #[inline(always)]
    fn with<S: Simd, F: Format>(self, s: S) {
        if self.task.blocks.count == 1 { streamed::run::<S, F>(s, self) } else { blocked::run::<S, F>(s, self) }
    }
}

impl Task<'_> {
    /// Writes the sums of one row and panel to the result.
    ///
    /// # Safety
    /// This thread alone computes the panel.
    #[inline(always)]
    unsafe fn finish(&self, row: usize, panel: usize, sums: &[f32; LANES]) {
        let n = self.part.weight.spec().n as usize;
        let row = match self.target {
            Target::Rows => row,
            Target::Scattered(at) => at[row] as usize,
            // SAFETY: the caller's promise.
            Target::Added { at, by, of } => return unsafe { self.add((at[row] / of) as usize, panel, by[row], sums) },
        };
        let (from, count) = (row * n + panel * LANES, n - panel * LANES);
        // SAFETY: the panel's columns are this thread's alone, by the caller's promise.
        let y = unsafe { self.part.y.write(from, count.min(LANES)) };
        match y.first_chunk_mut() {
            Some(whole) => *whole = *sums,
            None => y.copy_from_slice(&sums[..count]),
        }
    }
}

impl<'a> Task<'a> {
    /// Lines of all panels of the weight, or of the expert's.
    #[inline(always)]
    fn lines<F: Format>(&self) -> &'a [F::Line] {
        self.part.weight.expert_lines::<F>(self.expert)
    }

    /// Adds the sums of one panel, multiplied by `by`, to a row of the result.
    ///
    /// # Safety
    /// This thread alone computes the panel.
    #[inline(always)]
    unsafe fn add(&self, row: usize, panel: usize, by: f32, sums: &[f32; LANES]) {
        let n = self.part.weight.spec().n as usize;
        let count = (n - panel * LANES).min(LANES);
        // SAFETY: the panel's columns are this thread's alone, by the caller's promise.
        let y = unsafe { self.part.y.write(row * n + panel * LANES, count) };
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y += by * sum);
    }
}

/// y = x · wᵀ of every part. `x` is `[rows, k]`.
///
/// # Safety
/// The parts' results are this call's alone until it returns, and overlap neither `x` nor each other.
pub(crate) unsafe fn run(workers: Workers<'_>, x: &[f32], rows: usize, parts: Parts<'_>, room: &mut Room) {
    if rows == 0 {
        return;
    }
    for first in 0..parts.count {
        let form = Form::of((parts.at)(first).weight);
        // Parts of one form share packed rows, so they are computed together, where the first of them stands.
        if (0..first).all(|before| Form::of((parts.at)(before).weight) != form) {
            // SAFETY: the caller's promise.
            unsafe { run_form(workers, x, rows, (form, parts), room) };
        }
    }
}

/// y = x · wᵀ of the parts whose rows are packed in one form.
///
/// # Safety
/// As [`run`].
unsafe fn run_form(workers: Workers<'_>, x: &[f32], rows: usize, (form, parts): (Form, Parts<'_>), room: &mut Room) {
    let (k, blocks) = (x.len() / rows, Blocks::new(rows));
    let packed = Slab::new(&mut room.packed.as_f32_mut()[..rows * form.row_len(k)]);
    let as_it_is = rows == 1 && form == Form::Plain;
    let x = if as_it_is { x } else { pack::rows(workers, x, (blocks, form), packed) };
    let panels_of = |part: &Part<'_>| if Form::of(part.weight) == form { part.weight.panels() } else { 0 };
    let panels: usize = (0..parts.count).map(|i| panels_of(&(parts.at)(i))).sum();
    let threads = workers.team.threads();
    // At least four strips a thread, so that a thread that is held up leaves its work to the others; whole pairs of panels.
    let strip = if threads == 1 { STRIP_MAX } else { (panels / (threads * 4)).clamp(1, STRIP_MAX).next_multiple_of(2) };
    let (next, own, own_len) = (AtomicUsize::new(0), Slab::new(room.threads.as_f32_mut()), room.thread_len);
    workers.team.run(&|thread| {
        // SAFETY: each thread has its own part of the memory.
        let (wide, sums) = unsafe { own.write(thread * own_len, own_len) }.split_at_mut(WIDE_LEN);
        loop {
            let from = next.fetch_add(strip, Ordering::Relaxed);
            if from >= panels {
                return;
            }
            let taken = from..(from + strip).min(panels);
            let mut first = 0;
            for part in (0..parts.count).map(parts.at) {
                let count = panels_of(&part);
                let range = taken.start.max(first)..taken.end.min(first + count);
                if !range.is_empty() {
                    assert_eq!(part.weight.spec().k as usize, k, "a weight has the terms of its operand");
                    let panels = range.start - first..range.end - first;
                    let task = Task { x, blocks, part, expert: 0, target: Target::Rows };
                    workers.isa.run(Strip { task, panels, wide: &mut *wide, sums: &mut *sums });
                }
                first += count;
            }
        }
    });
}
