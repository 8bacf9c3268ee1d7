//! Sums of equal runs of the terms, added in a binary tree.
//!
//! A part's sum is that of its own terms in order; two neighbours are added when the second is there, then two pairs, and so on. So the
//! sums of half of the parts, made anywhere in this way, are a half of the tree.

use crate::panel::LANES;
use graph::plan::SUM_PARTS_MAX;

/// Sums that wait for their neighbour, at most: one a level below the root.
pub(in crate::ops) const LEVELS: usize = SUM_PARTS_MAX.ilog2() as usize;

/// Adds to the sums of part number `part` all that wait for them; what then waits itself is kept. Sums that wait lie level by level,
/// `apart` from each other. Behind the last part, `sums` are the whole.
#[inline(always)]
pub(super) fn fold(part: usize, sums: &mut [[f32; LANES]], waiting: &mut [[f32; LANES]], apart: usize) {
    let level = part.trailing_ones() as usize;
    for below in 0..level {
        for (sums, left) in sums.iter_mut().zip(&waiting[below * apart..]) {
            sums.iter_mut().zip(left).for_each(|(sum, left)| *sum += *left);
        }
    }
    // The root waits for nobody.
    if let Some(kept) = waiting.get_mut(level * apart..level * apart + sums.len()) {
        kept.copy_from_slice(sums);
    }
}
