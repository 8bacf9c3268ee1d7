//! The functions in f64.

use graph::Unary;

/// The error function: its series up to 3, the continued fraction of its complement beyond.
fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size > 3.0 {
        let fraction = (1..80).rev().fold(size, |below, n| size + f64::from(n) / 2.0 / below);
        return x.signum() * (1.0 - (-size * size).exp() / std::f64::consts::PI.sqrt() / fraction);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

/// f(x).
pub(crate) fn unary(f: Unary, x: f32) -> f32 {
    let x = f64::from(x);
    let y = match f {
        Unary::Silu => x / (1.0 + (-x).exp()),
        Unary::Gelu => x / 2.0 * (1.0 + erf(x / 2f64.sqrt())),
        Unary::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x / 2.0 * (1.0 + inner.tanh())
        }
        Unary::Relu => x.max(0.0),
        Unary::Relu2 => x.max(0.0) * x.max(0.0),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Scale(by) => x * f64::from(by),
        Unary::Softcap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
        Unary::ClampedSwish { alpha, limit } => {
            let x = x.min(f64::from(limit));
            x / (1.0 + (-f64::from(alpha) * x).exp())
        }
        Unary::ClampedPlusOne(limit) => x.clamp(-f64::from(limit), limit.into()) + 1.0,
    };
    y as f32
}
