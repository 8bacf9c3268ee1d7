//! What pointwise ops share: a function of two operands' lanes, applied to every element. The result may be either operand.

use super::Workers;
use crate::isa::{Kernel, Simd};
use crate::slab::Slab;
use std::ops::Range;

/// A function of lanes. `apply` must be `#[inline(always)]`.
pub(crate) trait Function: Copy + Sync {
    /// f(a, b) in each lane.
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V;
}

struct Map<'a, F> {
    function: F,
    a: Slab<'a>,
    b: Slab<'a>,
    y: Slab<'a>,
    range: Range<usize>,
}

impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in self.range.clone().step_by(8) {
            let count = self.range.end - at;
            // SAFETY: this thread alone has `range` of y (apply cuts it), and what overlaps y is read at the same place, before.
            let (a, b) = unsafe { (self.a.load(s, at, count), self.b.load(s, at, count)) };
            let y = self.function.apply(s, a, b);
            // SAFETY: as above.
            unsafe { self.y.store(s, y, at, count) };
        }
    }
}

/// y[i] = f(a[i], b[i]) for all i.
///
/// # Safety
/// The slabs are this call's alone until it returns; `y` is `a` or `b` or overlaps neither.
pub(crate) unsafe fn apply<F: Function>(workers: Workers<'_>, function: F, a: Slab<'_>, b: Slab<'_>, y: Slab<'_>) {
    let total = y.len();
    assert!(a.len() == total && b.len() == total, "pointwise operands have equal lengths");
    workers.cut(total, 64, total, &|range| workers.isa.run(Map { function, a, b, y, range }));
}
