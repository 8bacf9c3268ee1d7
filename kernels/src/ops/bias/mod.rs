//! x += w over every row, in place; w repeats along the row.
//!
//! Shapes: x `[rows, width]`, w `[n]` with n dividing the width. Bytes: 4 read, 4 written an element. Error: one rounding.
//! Source: IEEE 754.

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use crate::isa::{Kernel, Simd};
use crate::slab::Slab;
use std::ops::Range;

struct Rows<'a> {
    x: Slab<'a>,
    w: &'a [f32],
    runs: Range<usize>,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for run in self.runs {
            // SAFETY: this thread alone has these runs (run() below cuts them).
            let x = unsafe { self.x.write(run * self.w.len(), self.w.len()) };
            for (x, w) in x.iter_mut().zip(self.w) {
                *x += *w;
            }
        }
    }
}

/// x += w.
///
/// # Safety
/// `x` is this call's alone until it returns.
pub(crate) unsafe fn run(workers: Workers<'_>, x: Slab<'_>, w: &[f32]) {
    let runs = x.len().checked_div(w.len()).unwrap_or(0);
    workers.cut(runs, 1, x.len(), &|runs| workers.isa.run(Rows { x, w, runs }));
}
