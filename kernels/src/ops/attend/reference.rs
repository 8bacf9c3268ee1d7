//! Plain loops over one sequence, sums in f64.

use super::Heads;

/// Attention of a whole sequence, given its (rounded) keys and values.
pub(super) fn attend(q: &[f32], k: &[f32], v: &[f32], heads: Heads) -> Vec<f32> {
    let (dim, kv_width) = (heads.head_dim, heads.kv_heads * heads.head_dim);
    let q_width = kv_width * heads.group;
    let mut y = vec![0.0; q.len()];
    for row in 0..q.len() / q_width {
        for head in 0..heads.kv_heads * heads.group {
            let own = |x: &[f32], position: usize| x[position * kv_width + head / heads.group * dim..][..dim].to_vec();
            let q = &q[row * q_width + head * dim..][..dim];
            let score = |k: Vec<f32>| q.iter().zip(&k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
            let scores: Vec<f64> = (0..=row).map(|p| score(own(k, p)) * f64::from(heads.scale)).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            for d in 0..dim {
                let sum: f64 =
                    scores.iter().enumerate().map(|(p, s)| (s - top).exp() / total * f64::from(own(v, p)[d])).sum();
                y[row * q_width + head * dim + d] = sum as f32;
            }
        }
    }
    y
}
