//! x from `[row][term]` to row blocks of `[term][row of the block]`, so that the broadcasts of a block are neighbours.

use crate::ops::Workers;
use crate::panel::Blocks;
use crate::slab::Slab;

/// Packs all rows, the blocks cut among the threads.
pub(super) fn rows<'a>(workers: Workers<'_>, x: &[f32], blocks: Blocks, packed: Slab<'a>) -> &'a [f32] {
    let k = x.len() / blocks.rows;
    workers.cut(blocks.count, 1, x.len(), &|range| {
        for number in range {
            let (first, rows) = blocks.at(number);
            // SAFETY: this thread alone has this block of the packed memory.
            let to = unsafe { packed.write(first * k, rows * k) };
            block(rows, |row| &x[(first + row) * k..][..k], to);
        }
    });
    // SAFETY: the team is done with the packed memory, and it is only read until the contraction ends.
    unsafe { packed.read(0, blocks.rows * k) }
}

/// Packs a block of one to six rows.
#[inline]
pub(in crate::ops) fn block<'a>(rows: usize, row: impl Fn(usize) -> &'a [f32], to: &mut [f32]) {
    match rows {
        1 => transpose::<1>(row, to),
        2 => transpose::<2>(row, to),
        3 => transpose::<3>(row, to),
        4 => transpose::<4>(row, to),
        5 => transpose::<5>(row, to),
        6 => transpose::<6>(row, to),
        other => unreachable!("a block has at most six rows, not {other}"),
    }
}

fn transpose<'a, const R: usize>(row: impl Fn(usize) -> &'a [f32], to: &mut [f32]) {
    let rows: [&[f32]; R] = std::array::from_fn(row);
    for (term, to) in to.as_chunks_mut::<R>().0.iter_mut().enumerate() {
        for r in 0..R {
            to[r] = rows[r][term];
        }
    }
}
