//! y = f(gate) · up, pointwise: the middle of a gated feed-forward block.
//!
//! Shapes: gate, up, y `[rows, width]`; y may be gate or up. Maths: f as in [`super::unary`]. Bytes: 8 read, 4 written an element.
//! Error: that of f, times |up|. Source: Shazeer 2020, arXiv:2002.05202.

pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use super::pointwise::{self, Function};
use super::unary::{ClampedPlusOne, ClampedSwish, Gelu, GeluTanh, Relu, Relu2, Scale, Sigmoid, Silu, Softcap};
use crate::isa::Simd;
use crate::slab::Slab;
use graph::Unary;

#[derive(Clone, Copy)]
struct Gated<F>(F);

impl<F: Function> Function for Gated<F> {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, gate: S::V, up: S::V) -> S::V {
        s.mul(self.0.apply(s, gate, gate), up)
    }
}

/// y = f(gate) · up.
///
/// # Safety
/// As [`pointwise::apply`].
pub(crate) unsafe fn run(workers: Workers<'_>, f: Unary, gate: Slab<'_>, up: Slab<'_>, y: Slab<'_>) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match f {
            Unary::Silu => pointwise::apply(workers, Gated(Silu), gate, up, y),
            Unary::Gelu => pointwise::apply(workers, Gated(Gelu), gate, up, y),
            Unary::GeluTanh => pointwise::apply(workers, Gated(GeluTanh), gate, up, y),
            Unary::Relu => pointwise::apply(workers, Gated(Relu), gate, up, y),
            Unary::Relu2 => pointwise::apply(workers, Gated(Relu2), gate, up, y),
            Unary::Sigmoid => pointwise::apply(workers, Gated(Sigmoid), gate, up, y),
            Unary::Scale(by) => pointwise::apply(workers, Gated(Scale(by)), gate, up, y),
            Unary::Softcap(cap) => pointwise::apply(workers, Gated(Softcap(cap)), gate, up, y),
            Unary::ClampedSwish { alpha, limit } => {
                pointwise::apply(workers, Gated(ClampedSwish(alpha, limit)), gate, up, y);
            }
            Unary::ClampedPlusOne(limit) => pointwise::apply(workers, Gated(ClampedPlusOne(limit)), gate, up, y),
        }
    }
}
