//! y = f(x), pointwise.
//!
//! Shapes: x, y `[rows, width]`; y may be x.
//! Maths: silu x·σ(x); gelu x·Φ(x) = x/2·(1 + erf(x/√2)); gelu_tanh x/2·(1 + tanh(√(2/π)(x + 0.044715x³))), computed as
//! x·σ(2√(2/π)(x + 0.044715x³)), which is the same function; relu max(x, 0); scale c·x; softcap c·tanh(x/c); clamped_swish
//! x'·σ(alpha·x') with x' = min(x, limit); clamped_plus_one x within ± limit, plus 1.
//! Bytes: 4 read, 4 written an element. Error: within 4e-7·(1 + |x|) of the exact function.
//! Source: Hendrycks & Gimpel 2016, arXiv:1606.08415; Elfwing et al. 2017, arXiv:1702.03118.

pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use super::pointwise::{self, Function};
use crate::isa::{Simd, math};
use crate::slab::Slab;
use graph::Unary;

/// x · σ(x).
#[derive(Clone, Copy)]
pub(crate) struct Silu;
/// x · Φ(x).
#[derive(Clone, Copy)]
pub(crate) struct Gelu;
/// x · Φ(x), approximately.
#[derive(Clone, Copy)]
pub(crate) struct GeluTanh;
/// max(x, 0).
#[derive(Clone, Copy)]
pub(crate) struct Relu;
/// max(x, 0)².
#[derive(Clone, Copy)]
pub(crate) struct Relu2;
/// c · x.
#[derive(Clone, Copy)]
pub(crate) struct Scale(pub(crate) f32);
/// c · tanh(x / c).
#[derive(Clone, Copy)]
pub(crate) struct Softcap(pub(crate) f32);
/// x' · σ(alpha · x'), x' at most a limit: alpha and limit.
#[derive(Clone, Copy)]
pub(crate) struct ClampedSwish(pub(crate) f32, pub(crate) f32);
/// x within ± a limit, plus 1.
#[derive(Clone, Copy)]
pub(crate) struct ClampedPlusOne(pub(crate) f32);

/// σ(x).
#[derive(Clone, Copy)]
pub(crate) struct Sigmoid;

impl Function for Sigmoid {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        math::times_logistic(s, s.splat(1.0), x)
    }
}

impl Function for Silu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        math::times_logistic(s, x, x)
    }
}

impl Function for Gelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        let erf = math::erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
        s.mul(s.mul(x, s.splat(0.5)), s.add(s.splat(1.0), erf))
    }
}

impl Function for GeluTanh {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        let cube = s.mul(s.mul(x, x), x);
        // 2√(2/π), and the same times 0.044715.
        let c = s.fma(cube, s.splat(0.071_354_814), s.mul(x, s.splat(1.595_769)));
        math::times_logistic(s, x, c)
    }
}

impl Function for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        s.max(s.zero(), x)
    }
}

impl Function for Relu2 {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        let x = s.max(s.zero(), x);
        s.mul(x, x)
    }
}

impl Function for Scale {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        s.mul(x, s.splat(self.0))
    }
}

impl Function for Softcap {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        math::softcap(s, x, s.splat(self.0))
    }
}

/// The smaller of each lane and a limit.
#[inline(always)]
fn at_most<S: Simd>(s: S, x: S::V, limit: f32) -> S::V {
    s.sub(s.zero(), s.max(s.sub(s.zero(), x), s.splat(-limit)))
}

impl Function for ClampedSwish {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        let x = at_most(s, x, self.1);
        math::times_logistic(s, x, s.mul(x, s.splat(self.0)))
    }
}

impl Function for ClampedPlusOne {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V, _: S::V) -> S::V {
        s.add(s.max(at_most(s, x, self.0), s.splat(-self.0)), s.splat(1.0))
    }
}

/// y = f(x).
///
/// # Safety
/// As [`pointwise::apply`].
pub(crate) unsafe fn run(workers: Workers<'_>, f: Unary, x: Slab<'_>, y: Slab<'_>) {
    // SAFETY: the caller's promise, passed on.
    unsafe {
        match f {
            Unary::Silu => pointwise::apply(workers, Silu, x, x, y),
            Unary::Gelu => pointwise::apply(workers, Gelu, x, x, y),
            Unary::GeluTanh => pointwise::apply(workers, GeluTanh, x, x, y),
            Unary::Relu => pointwise::apply(workers, Relu, x, x, y),
            Unary::Relu2 => pointwise::apply(workers, Relu2, x, x, y),
            Unary::Sigmoid => pointwise::apply(workers, Sigmoid, x, x, y),
            Unary::Scale(by) => pointwise::apply(workers, Scale(by), x, x, y),
            Unary::Softcap(cap) => pointwise::apply(workers, Softcap(cap), x, x, y),
            Unary::ClampedSwish { alpha, limit } => pointwise::apply(workers, ClampedSwish(alpha, limit), x, x, y),
            Unary::ClampedPlusOne(limit) => pointwise::apply(workers, ClampedPlusOne(limit), x, x, y),
        }
    }
}
