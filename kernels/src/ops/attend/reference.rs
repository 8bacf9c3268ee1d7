//! Plain loops over one sequence, sums in f64.

use super::Heads;

/// Attention of a whole sequence, given its (rounded) keys and values.
pub(super) fn attend([q, k, v]: [&[f32]; 3], sinks: Option<&[f32]>, heads: Heads) -> Vec<f32> {
    let (dim, kv_width) = (heads.head_dim, heads.kv_heads * heads.head_dim);
    let q_width = kv_width * heads.group;
    let mut y = vec![0.0; q.len()];
    for row in 0..q.len() / q_width {
        for head in 0..heads.kv_heads * heads.group {
            let own = |x: &[f32], position: usize| x[position * kv_width + head / heads.group * dim..][..dim].to_vec();
            let q = &q[row * q_width + head * dim..][..dim];
            let score = |k: Vec<f32>| q.iter().zip(&k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
            let cap = |s: f64| heads.how.softcap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh());
            let first = heads.how.window.map_or(0, |window| (row + 1).saturating_sub(window as usize));
            let scores: Vec<f64> = (first..=row).map(|p| cap(score(own(k, p)) * f64::from(heads.how.scale))).collect();
            let sink = sinks.map_or(f64::NEG_INFINITY, |sinks| sinks[head].into());
            let top = scores.iter().copied().fold(sink, f64::max);
            let total: f64 = scores.iter().map(|s| (s - top).exp()).sum::<f64>() + (sink - top).exp();
            for d in 0..dim {
                let term = |(i, s): (usize, &f64)| (s - top).exp() / total * f64::from(own(v, first + i)[d]);
                let sum: f64 = scores.iter().enumerate().map(term).sum();
                y[row * q_width + head * dim + d] = sum as f32;
            }
        }
    }
    y
}
