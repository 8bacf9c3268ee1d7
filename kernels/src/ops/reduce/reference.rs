//! Plain loops.

/// The sum of each element over the parts, in order.
pub(super) fn sum(parts: &[&[f32]], len: usize) -> Vec<f32> {
    (0..len).map(|i| parts.iter().map(|part| part[i]).reduce(|a, b| a + b).unwrap_or(0.0)).collect()
}
