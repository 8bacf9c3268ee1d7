//! The exponential and what is made of it, over lanes: one polynomial for every op, so that equal inputs give equal bits wherever
//! they stand.

use super::Simd;

/// Below this e^x counts as zero; above `HIGHEST` it stops growing. Both keep 2ⁿ a normal number.
const LOWEST: f32 = -87.0;
const HIGHEST: f32 = 88.3;

/// eˣ within 2 ulp for -87 ≤ x ≤ 88.3; zero below, e^88.3 above; not a number stays so.
///
/// x = n ln 2 + r with ln 2 in two parts, then a polynomial of degree 6 in r (Moshier, Cephes `expf`).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let lowest = s.splat(LOWEST);
    let held = s.min(s.splat(HIGHEST), s.max(lowest, x));
    let n = s.round(s.mul(held, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-0.693_359_4), held);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    let p = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    s.zero_below(x, lowest, s.mul(p, s.power_of_two(n)))
}

/// x · σ(c), the logistic function of c.
#[inline(always)]
pub(crate) fn times_logistic<S: Simd>(s: S, x: S::V, c: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(x, s.add(one, exp(s, s.sub(s.zero(), c))))
}

/// tanh within 4 ulp: a rational approximation of degree 13 over 6 up to 7.9, where it is 1 in f32 (Eigen, `generic_fast_tanh_float`).
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let limit = s.splat(7.905_311);
    // Not a number comes through: `max` and `min` give their second operand then.
    let x = s.min(limit, s.max(s.sub(s.zero(), limit), x));
    let square = s.mul(x, x);
    let polynomial = |coefficients: &[f32]| {
        let mut p = s.splat(coefficients[0]);
        for coefficient in &coefficients[1..] {
            p = s.fma(p, square, s.splat(*coefficient));
        }
        p
    };
    let above = polynomial(&[
        -2.760_768_5e-16,
        2.000_187_9e-13,
        -8.604_671_5e-11,
        5.122_297_1e-8,
        1.485_722_4e-5,
        6.372_619_3e-4,
        4.893_524_6e-3,
    ]);
    let below = polynomial(&[1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525_2e-3]);
    s.div(s.mul(x, above), below)
}

/// cap · tanh(x / cap).
#[inline(always)]
pub(crate) fn softcap<S: Simd>(s: S, x: S::V, cap: S::V) -> S::V {
    s.mul(cap, tanh(s, s.div(x, cap)))
}

/// The error function within 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26), plus the rounding of f32.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let size = s.with_sign(x, s.zero());
    let one = s.splat(1.0);
    let t = s.div(one, s.fma(s.splat(0.327_591_1), size, one));
    let mut p = s.splat(1.061_405_4);
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        p = s.fma(p, t, s.splat(coefficient));
    }
    let tail = s.mul(s.mul(p, t), exp(s, s.sub(s.zero(), s.mul(size, size))));
    s.with_sign(s.sub(one, tail), x)
}
