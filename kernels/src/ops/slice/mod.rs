//! y = of every block of a row of x, one run.
//!
//! Shapes: x `[rows, blocks · block]`, y `[rows, blocks · run]`; of each block the elements `from..from + run`. Bytes: 4 read, 4 written an
//! element of y. Error: none. Source: a copy.

pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use crate::slab::Slab;

/// Which elements of a block are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Elements of a block.
    pub(crate) block: usize,
    /// The first one kept.
    pub(crate) from: usize,
    /// How many are kept.
    pub(crate) run: usize,
}

/// y[i · run ..] = x[i · block + from ..], for every block of every row.
///
/// # Safety
/// The slabs are this call's alone until it returns and do not overlap.
pub(crate) unsafe fn run(workers: Workers<'_>, x: Slab<'_>, kept: Run, y: Slab<'_>) {
    let Run { block, from, run } = kept;
    workers.cut(y.len() / run, 1, y.len(), &|blocks| {
        for number in blocks {
            // SAFETY: x is only read; this thread alone has these blocks of y.
            let (part, to) = unsafe { (x.read(number * block + from, run), y.write(number * run, run)) };
            to.copy_from_slice(part);
        }
    });
}
