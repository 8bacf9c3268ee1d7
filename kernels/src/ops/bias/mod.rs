//! y = x + w over every row; w repeats along the row.
//!
//! Shapes: x, y `[rows, width]`, w `[n]` with n dividing the width; y may be x. Bytes: 4 read, 4 written an element. Error: one rounding.
//! Source: IEEE 754.

pub(crate) mod cuda;
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
    y: Slab<'a>,
    runs: Range<usize>,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.w.len();
        for run in self.runs {
            let from = run * n;
            for (at, w) in (0..n).step_by(8).zip(self.w.chunks(8)) {
                let w = match w.first_chunk() {
                    Some(eight) => s.load(eight),
                    None => {
                        let mut part = [0.0; 8];
                        part[..w.len()].copy_from_slice(w);
                        s.load(&part)
                    }
                };
                // SAFETY: this thread alone has these runs (run() below cuts them); y overlaps x only where it is x, read before it is
                // written.
                unsafe { self.y.store(s, s.add(self.x.load(s, from + at, n - at), w), from + at, n - at) };
            }
        }
    }
}

/// y = x + w.
///
/// # Safety
/// The slabs are this call's alone until it returns; `y` is `x` or does not overlap it.
pub(crate) unsafe fn run(workers: Workers<'_>, x: Slab<'_>, w: &[f32], y: Slab<'_>) {
    assert_eq!(x.len(), y.len(), "operand and result have equal lengths");
    let runs = x.len().checked_div(w.len()).unwrap_or(0);
    workers.cut(runs, 1, x.len(), &|runs| workers.isa.run(Rows { x, w, y, runs }));
}
