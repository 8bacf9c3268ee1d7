//! y = the rows of x that will be sampled.
//!
//! Shapes: x `[rows, width]`, y `[sampled, width]`. Bytes: 4 read, 4 written an element of y. Error: none. Source: a copy.

pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use crate::slab::Slab;

/// y[i] = x[sampled[i]].
///
/// # Safety
/// The slabs are this call's alone until it returns and do not overlap.
pub(crate) unsafe fn run(workers: Workers<'_>, x: Slab<'_>, sampled: &[u32], width: usize, y: Slab<'_>) {
    workers.cut(sampled.len(), 1, y.len(), &|rows| {
        for row in rows {
            // SAFETY: x is only read; this thread alone has these rows of y.
            let (from, to) = unsafe { (x.read(sampled[row] as usize * width, width), y.write(row * width, width)) };
            to.copy_from_slice(from);
        }
    });
}
