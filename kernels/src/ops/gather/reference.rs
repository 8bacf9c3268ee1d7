//! Plain loops.

/// Entries by id.
pub(super) fn gather(table: &[f32], width: usize, first: u32, ids: &[u32]) -> Vec<f32> {
    let entry = |id: u32| id.checked_sub(first).and_then(|id| table.chunks(width).nth(id as usize));
    ids.iter().flat_map(|&id| entry(id).map_or(vec![0.0; width], <[f32]>::to_vec)).collect()
}
