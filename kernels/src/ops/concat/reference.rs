//! Plain loops.

/// Rows beside each other.
pub(super) fn columns(parts: &[&[f32]], rows: usize) -> Vec<f32> {
    let row = |r: usize| parts.iter().flat_map(move |p| p[r * (p.len() / rows)..(r + 1) * (p.len() / rows)].to_vec());
    (0..rows).flat_map(row).collect()
}
