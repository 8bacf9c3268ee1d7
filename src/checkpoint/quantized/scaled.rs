//! One byte a weight, a scale a block of rows and columns.

use super::numbers::{E4M3, Numbers};
use crate::checkpoint::{Bytes, Shard};

/// A weight is its code, less its zero, times its scale.
#[derive(Clone, Debug)]
pub(super) struct Scaled {
    /// `[rows, columns]`.
    pub(super) codes: Bytes,
    pub(super) columns: usize,
    /// Whether codes are E4M3 floats; otherwise integers.
    pub(super) float: bool,
    /// `[blocks of rows, across]`.
    pub(super) scales: Numbers,
    /// As `scales`; none are all zero.
    pub(super) zeros: Option<Numbers>,
    /// Rows and columns of a block.
    pub(super) block: [usize; 2],
    /// Blocks of a row.
    pub(super) across: usize,
}

impl Scaled {
    /// Columns of a row from one on, as little-endian f32.
    pub(super) fn read(&self, files: &[Shard], row: usize, from: usize, into: &mut [[u8; 4]]) {
        let codes = &self.codes.of(files)[row * self.columns + from..][..into.len()];
        let (mut at, mut rest) = (from, into.iter_mut().zip(codes));
        while rest.len() > 0 {
            let block = at / self.block[1];
            let number = row / self.block[0] * self.across + block;
            let scale = self.scales.at(files, number);
            let zero = self.zeros.map_or(0.0, |zeros| zeros.at(files, number));
            let count = (block + 1) * self.block[1] - at;
            for (value, code) in rest.by_ref().take(count) {
                let code = if self.float { E4M3[usize::from(*code)] } else { f32::from(code.cast_signed()) };
                *value = ((code - zero) * scale).to_le_bytes();
            }
            at += count;
        }
    }
}
