//! y = the sum of several parts, added in a binary tree over their order, whoever computes it: the sum of the first half, a power of two of
//! them, plus the sum of the others. So what fewer parts were added up from before, in the same tree, gives the same bits.
//!
//! Shapes: parts and y of equal length. Bytes: 4 a part read, 4 written an element. Error: one rounding a level of the tree.
//! Source: the fixed order of a reduction across ranks; pairwise summation, Higham 1993 (doi 10.1137/0914050).

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

/// Elements added at a time: a block of each level of the tree stays in the first-level cache.
const BLOCK: usize = 1024;

/// y = the tree of parts[0], parts[1], …; zeros if there are none. All must have the length of `y`.
pub fn sum(parts: &[&[f32]], y: &mut [f32]) {
    assert!(parts.iter().all(|part| part.len() == y.len()), "parts have the length of their sum");
    if parts.is_empty() {
        return y.fill(0.0);
    }
    for (block, y) in y.chunks_mut(BLOCK).enumerate() {
        tree(parts, block * BLOCK, y);
    }
}

/// The elements of one block, from `from` on, of a tree that is not empty.
fn tree(parts: &[&[f32]], from: usize, y: &mut [f32]) {
    let [first, .., last] = parts else {
        return y.copy_from_slice(&parts[0][from..from + y.len()]);
    };
    if parts.len() == 2 {
        let terms = first[from..].iter().zip(&last[from..]);
        return y.iter_mut().zip(terms).for_each(|(y, (a, b))| *y = a + b);
    }
    let (left, right) = parts.split_at(parts.len().next_power_of_two() / 2);
    let mut other = [0.0; BLOCK];
    let other = &mut other[..y.len()];
    tree(left, from, y);
    tree(right, from, other);
    y.iter_mut().zip(other).for_each(|(y, x)| *y += *x);
}
