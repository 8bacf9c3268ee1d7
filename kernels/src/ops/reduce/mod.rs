//! y = the sum of several parts, added in their order 0, 1, 2, … whoever computes it.
//!
//! Shapes: parts and y of equal length. Bytes: 4 a part read, 4 written an element. Error: one rounding a part.
//! Source: the fixed order of a reduction across ranks.

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

/// Elements added at a time: a block of the result stays in the first-level cache.
const BLOCK: usize = 2048;

/// y = parts[0] + parts[1] + …; zeros if there are none. All must have the length of `y`.
pub fn sum(parts: &[&[f32]], y: &mut [f32]) {
    assert!(parts.iter().all(|part| part.len() == y.len()), "parts have the length of their sum");
    let Some((first, others)) = parts.split_first() else { return y.fill(0.0) };
    for (block, y) in y.chunks_mut(BLOCK).enumerate() {
        let from = block * BLOCK;
        y.copy_from_slice(&first[from..from + y.len()]);
        for part in others {
            for (y, x) in y.iter_mut().zip(&part[from..]) {
                *y += *x;
            }
        }
    }
}
