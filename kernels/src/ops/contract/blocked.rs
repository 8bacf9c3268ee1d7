//! More than six rows: each chunk of a panel meets all row blocks of a group while it is near the core.
//!
//! Order: row groups, chunks of K, panels of the strip, row blocks. Sums that wait for their next chunk lie in the thread's own memory,
//! side by side; spilled and loaded again they keep their bits.

use super::{CHUNK_TERMS, GROUP_BLOCKS, GROUP_ROWS, STRIP_MAX, Strip, Task, tree};
use crate::isa::Simd;
use crate::panel::{Ahead, F32, Format, LANES, Sums, sweep, widen};
use std::ops::Range;

/// One chunk of one panel, for one group of row blocks.
struct Chunk<'a> {
    task: Task<'a>,
    panel: usize,
    /// Its terms, by number.
    terms: Range<usize>,
    /// Whether sums begin with it.
    begins: bool,
    /// Whether they are whole behind it.
    ends: bool,
    blocks: Range<usize>,
    /// Where the thread reads next, and how many bytes.
    next: *const u8,
    next_bytes: usize,
}

#[inline(always)]
pub(super) fn run<S: Simd, F: Format>(s: S, strip: Strip<'_>) {
    let Strip { task, panels, wide, sums } = strip;
    let (k, parts) = (task.part.weight.spec().k as usize, task.part.weight.spec().sum_parts as usize);
    let (count, line) = (k.div_ceil(F::TERMS), size_of::<F::Line>());
    // A chunk of f32 is its own widened form; it is half as long, to take no more of the first-level cache.
    let chunk_terms = if F::WIDE_FROM.is_none() { CHUNK_TERMS / 2 } else { CHUNK_TERMS };
    let chunk_lines = chunk_terms / F::TERMS;
    let widened = F::WIDE_FROM.is_some_and(|from| task.blocks.rows >= from);
    let all = task.lines::<F>();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let (sums, waiting) = sums.split_at_mut(STRIP_MAX * GROUP_ROWS);
    for group in (0..task.blocks.count).step_by(GROUP_BLOCKS) {
        let blocks = group..(group + GROUP_BLOCKS).min(task.blocks.count);
        for part in 0..parts {
            // Parts are of whole lines.
            let (start, end) = (part * (count / parts), (part + 1) * (count / parts));
            for from in (start..end).step_by(chunk_lines) {
                let to = (from + chunk_lines).min(end);
                for panel in panels.clone() {
                    let next =
                        if panel + 1 < panels.end { (panel + 1) * count + from } else { panels.start * count + to };
                    let chunk = Chunk {
                        task,
                        panel,
                        terms: F::TERMS * from..(F::TERMS * to).min(k),
                        begins: from == start,
                        ends: parts == 1 && to == end,
                        blocks: blocks.clone(),
                        next: all.as_ptr().wrapping_add(next).cast(),
                        next_bytes: (to - from) * line,
                    };
                    let lines = &all[panel * count..][from..to];
                    let at = (panel - panels.start) * GROUP_ROWS;
                    let sums = &mut sums[at..];
                    if widened {
                        let wide: &mut [[f32; LANES]] = &mut bytemuck::cast_slice_mut(wide)[..lines.len() * F::TERMS];
                        widen::<S, F>(s, lines, wide);
                        group_rows::<S, F32>(s, &chunk, bytemuck::cast_slice(wide), sums);
                    } else {
                        group_rows::<S, F>(s, &chunk, lines, sums);
                    }
                    if parts > 1 && to == end {
                        fold_rows(&chunk, (part, parts), sums, &mut waiting[at..]);
                    }
                }
            }
        }
    }
}

/// All row blocks of a group.
#[inline(always)]
fn group_rows<S: Simd, F: Format>(s: S, chunk: &Chunk<'_>, lines: &[F::Line], sums: &mut [[f32; LANES]]) {
    let (group_row, _) = chunk.task.blocks.at(chunk.blocks.start);
    for block in chunk.blocks.clone() {
        let (row, rows) = chunk.task.blocks.at(block);
        let sums = &mut sums[row - group_row..][..rows];
        match rows {
            3 => block_rows::<S, F, 3>(s, chunk, lines, block, sums),
            4 => block_rows::<S, F, 4>(s, chunk, lines, block, sums),
            5 => block_rows::<S, F, 5>(s, chunk, lines, block, sums),
            6 => block_rows::<S, F, 6>(s, chunk, lines, block, sums),
            other => unreachable!("seven rows and more make even blocks of three to six, not {other}"),
        }
    }
}

/// Adds a part that is complete to those before it; writes the sums behind the last one.
#[inline(always)]
fn fold_rows(
    chunk: &Chunk<'_>,
    (part, parts): (usize, usize),
    sums: &mut [[f32; LANES]],
    waiting: &mut [[f32; LANES]],
) {
    let (first, _) = chunk.task.blocks.at(chunk.blocks.start);
    let (last, rows) = chunk.task.blocks.at(chunk.blocks.end - 1);
    let sums = &mut sums[..last + rows - first];
    tree::fold(part, sums, waiting, STRIP_MAX * GROUP_ROWS);
    if part + 1 == parts {
        for (row, sums) in sums.iter().enumerate() {
            // SAFETY: the strip's panels are this thread's alone.
            unsafe { chunk.task.finish(first + row, chunk.panel, sums) };
        }
    }
}

/// One row block: R rows by one panel over the chunk.
#[inline(always)]
fn block_rows<S: Simd, F: Format, const R: usize>(
    s: S,
    chunk: &Chunk<'_>,
    lines: &[F::Line],
    block: usize,
    waiting: &mut [[f32; LANES]],
) {
    let (row, _) = chunk.task.blocks.at(block);
    let k = chunk.task.x.len() / chunk.task.blocks.rows;
    let x = &chunk.task.x[row * k..][chunk.terms.start * R..chunk.terms.end * R];
    let sums: &mut Sums<R, 1> = waiting.as_chunks_mut().0.first_chunk_mut().expect("there are sums for each row");
    if chunk.begins {
        *sums = [[[0.0; LANES]; 1]; R];
    }
    // Each block prefetches its share of what comes next.
    let share = chunk.next_bytes / chunk.blocks.len();
    let from = chunk.next.wrapping_add((block - chunk.blocks.start) * share);
    let ahead = Ahead { from: [from], step: share.div_ceil(lines.len()) };
    sweep::<S, F, R, 1, 1>(s, [lines], x, sums, ahead);
    if chunk.ends {
        for r in 0..R {
            // SAFETY: the strip's panels are this thread's alone.
            unsafe { chunk.task.finish(row + r, chunk.panel, &sums[r][0]) };
        }
    }
}
