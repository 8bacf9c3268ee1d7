//! y = f(a, b), pointwise.
//!
//! Shapes: a, b, y `[rows, width]`; y may be a or b. Maths: a + b or a · b. Bytes: 8 read, 4 written an element.
//! Error: one rounding. Source: IEEE 754.

pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use super::pointwise::{self, Function};
use crate::isa::Simd;
use crate::slab::Slab;
use graph::Binary;

#[derive(Clone, Copy)]
struct Add;
#[derive(Clone, Copy)]
struct Mul;

impl Function for Add {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
}

impl Function for Mul {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
        s.mul(a, b)
    }
}

/// y = f(a, b).
///
/// # Safety
/// As [`pointwise::apply`].
pub(crate) unsafe fn run(workers: Workers<'_>, f: Binary, a: Slab<'_>, b: Slab<'_>, y: Slab<'_>) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match f {
            Binary::Add => pointwise::apply(workers, Add, a, b, y),
            Binary::Mul => pointwise::apply(workers, Mul, a, b, y),
        }
    }
}
