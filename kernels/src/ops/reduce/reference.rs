//! Plain loops.

/// The sum of each element over the parts: neighbours in pairs, then pairs of pairs; one that has no neighbour waits for the next level.
pub(super) fn sum(parts: &[&[f32]], len: usize) -> Vec<f32> {
    let mut level: Vec<Vec<f32>> = parts.iter().map(|part| part.to_vec()).collect();
    while level.len() > 1 {
        let add = |pair: &[Vec<f32>]| match pair {
            [a, b] => a.iter().zip(b).map(|(a, b)| a + b).collect(),
            alone => alone[0].clone(),
        };
        level = level.chunks(2).map(add).collect();
    }
    level.pop().unwrap_or_else(|| vec![0.0; len])
}
