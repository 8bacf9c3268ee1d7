//! Plain loops, sums in f64.

use graph::{Norm, NormKind};

/// Norm of each run, by the weights in turn.
pub(super) fn norm(x: &[f32], w: &[f32], norm: Norm) -> Vec<f32> {
    let one = |(run, w): (&[f32], &[f32])| {
        let average = |f: &dyn Fn(f64) -> f64| run.iter().map(|&x| f(x.into())).sum::<f64>() / run.len() as f64;
        let mean = match norm.kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => average(&|x| x),
        };
        let scale = 1.0 / (average(&|x| (x - mean) * (x - mean)) + f64::from(norm.eps)).sqrt();
        let weight = |w: f32| f64::from(w) + f64::from(norm.offset);
        run.iter().zip(w).map(|(&x, &w)| ((f64::from(x) - mean) * scale * weight(w)) as f32).collect::<Vec<_>>()
    };
    let n = norm.run.map_or(w.len(), |run| run as usize);
    x.chunks(n).zip(w.chunks(n).cycle()).flat_map(one).collect()
}
