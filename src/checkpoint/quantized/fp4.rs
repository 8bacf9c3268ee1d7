//! Floats of 4 bits, two a byte, the low half first; a scale a group of a row.

use super::numbers::{Numbers, fp4};
use crate::checkpoint::{Bytes, Shard};

/// A weight is its code times its group's scale, over the tensor's.
#[derive(Clone, Debug)]
pub(super) struct Fp4 {
    /// `[rows, columns / 2]`.
    pub(super) codes: Bytes,
    pub(super) columns: usize,
    /// `[rows, columns / group]`.
    pub(super) scales: Numbers,
    /// Columns of a group, an even number.
    pub(super) group: usize,
    /// What all scales were multiplied with.
    pub(super) divisor: f32,
}

impl Fp4 {
    /// Columns of a row from one on, as little-endian f32.
    pub(super) fn read(&self, files: &[Shard], row: usize, from: usize, into: &mut [[u8; 4]]) {
        let codes = &self.codes.of(files)[row * self.columns / 2..][..self.columns / 2];
        let first = row * (self.columns / self.group);
        let mut scale = (usize::MAX, 0.0);
        for (value, column) in into.iter_mut().zip(from..) {
            let group = column / self.group;
            if scale.0 != group {
                scale = (group, self.scales.at(files, first + group) / self.divisor);
            }
            *value = (fp4(codes[column / 2] >> (4 * (column % 2))) * scale.1).to_le_bytes();
        }
    }
}
