//! What one thread works with: the rows of a chunk, and the state of one head of values.

use super::CHUNK;
use crate::cache::padded;
use std::ops::Range;

/// Eight elements of a row of values.
pub(super) type Line = [f32; 8];

/// Memory of one thread. Rows of values are padded to whole pairs of lines; what pads them is never used.
pub(super) struct Desk<'a> {
    /// Queries `[16, key_dim]`.
    pub(super) q: &'a mut [f32],
    /// Keys `[16, key_dim]`.
    pub(super) k: &'a mut [f32],
    /// Keys, transposed: `[key_dim, 16]`.
    pub(super) keys: &'a mut [Line],
    /// What each row adds to the state: `[16, value_dim]`.
    pub(super) u: &'a mut [Line],
    /// Rows through the state, then results: `[16, value_dim]`.
    pub(super) out: &'a mut [Line],
    /// `[key_dim, value_dim]`.
    pub(super) state: &'a mut [Line],
    /// log α of each row.
    pub(super) decay: [f32; CHUNK],
    /// δ of each row, or σ(beta).
    pub(super) step: [f32; CHUNK],
    /// Terms of a key.
    pub(super) key_dim: usize,
    /// Lines of a row of values.
    pub(super) lines: usize,
}

impl<'a> Desk<'a> {
    /// f32 of the memory it needs.
    pub(super) fn len(key_dim: usize, value_dim: usize) -> usize {
        let width = padded(value_dim);
        3 * CHUNK * key_dim.next_multiple_of(8) + (2 * CHUNK + key_dim) * width
    }

    /// A desk over memory of [`Desk::len`] f32 or more.
    pub(super) fn new(memory: &'a mut [f32], key_dim: usize, value_dim: usize) -> Self {
        let (width, keys_len) = (padded(value_dim), CHUNK * key_dim.next_multiple_of(8));
        let (q, rest) = memory.split_at_mut(keys_len);
        let (k, rest) = rest.split_at_mut(keys_len);
        let (keys, rest) = rest.as_chunks_mut::<8>().0.split_at_mut(keys_len / 8);
        let (u, rest) = rest.split_at_mut(CHUNK * width / 8);
        let (out, rest) = rest.split_at_mut(CHUNK * width / 8);
        let (state, _) = rest.split_at_mut(key_dim * width / 8);
        let (decay, step, lines) = ([0.0; CHUNK], [0.0; CHUNK], width / 8);
        Self { q, k, keys, u, out, state, decay, step, key_dim, lines }
    }

    /// The key of a row.
    pub(super) fn key(&mut self, row: usize) -> &mut [f32] {
        &mut self.k[row * self.key_dim..][..self.key_dim]
    }

    /// The query of a row.
    pub(super) fn query(&mut self, row: usize) -> &mut [f32] {
        &mut self.q[row * self.key_dim..][..self.key_dim]
    }

    /// What a row adds to the state.
    pub(super) fn update(&mut self, row: usize) -> &mut [Line] {
        &mut self.u[row * self.lines..][..self.lines]
    }

    /// Transposes the keys of some rows.
    pub(super) fn transpose(&mut self, rows: Range<usize>) {
        let keys = self.keys.as_flattened_mut();
        for row in rows {
            for (term, key) in self.k[row * self.key_dim..][..self.key_dim].iter().enumerate() {
                keys[term * CHUNK + row] = *key;
            }
        }
    }
}
