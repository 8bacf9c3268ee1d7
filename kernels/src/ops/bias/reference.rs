//! Plain loops.

/// x + w, repeated.
pub(super) fn bias(x: &[f32], w: &[f32]) -> Vec<f32> {
    x.iter().enumerate().map(|(i, x)| x + w[i % w.len()]).collect()
}
