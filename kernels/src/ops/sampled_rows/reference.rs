//! Plain loops.

/// The sampled rows.
pub(super) fn sampled_rows(x: &[f32], sampled: &[u32], width: usize) -> Vec<f32> {
    sampled.iter().flat_map(|&row| x[row as usize * width..][..width].to_vec()).collect()
}
