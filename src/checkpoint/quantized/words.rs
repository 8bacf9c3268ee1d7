//! Integers of few bits, several to a word of 32 bits: GPTQ, AWQ and the packed form of compressed-tensors differ in where a weight's
//! bits are and in nothing else.

use super::numbers::Numbers;
use crate::checkpoint::{Bytes, Shard};
use std::sync::Arc;

/// Codes of a matrix in words.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    pub(super) words: Bytes,
    /// Bits of a code, a divisor of 32.
    pub(super) bits: u32,
    /// Whether neighbours in a word are rows; otherwise columns.
    pub(super) rows_packed: bool,
    /// Words from one row, or word of rows, to the next, and from one column, or word of columns.
    pub(super) strides: [usize; 2],
    /// Place in a word of each of its codes; one after the other where it is none.
    pub(super) order: Option<[u32; 8]>,
}

impl Codes {
    fn at(&self, words: &[[u8; 4]], row: usize, column: usize) -> u32 {
        let each = 32 / self.bits as usize;
        let packed = if self.rows_packed { row } else { column };
        let (row, column) = if self.rows_packed { (row / each, column) } else { (row, column / each) };
        let word = u32::from_le_bytes(words[row * self.strides[0] + column * self.strides[1]]);
        let place = self.order.map_or((packed % each) as u32, |order| order[packed % each]);
        word >> (place * self.bits) & (u32::MAX >> (32 - self.bits))
    }

    fn words<'a>(&self, files: &'a [Shard]) -> &'a [[u8; 4]] {
        self.words.of(files).as_chunks().0
    }
}

/// The code that stands for zero.
#[derive(Clone, Debug)]
pub(super) enum Zero {
    /// One for all.
    Fixed(u32),
    /// One a row and group, and what is added to it.
    Stored(Codes, u32),
}

/// The group of a column.
#[derive(Clone, Debug)]
pub(super) enum Groups {
    /// So many neighbours.
    Even(usize),
    /// As listed, each below the count of groups.
    Listed(Arc<[u32]>),
}

/// A weight is its code, less the code of zero, times its group's scale.
#[derive(Clone, Debug)]
pub(super) struct Words {
    pub(super) codes: Codes,
    pub(super) zero: Zero,
    pub(super) scales: Numbers,
    /// Numbers from one row's scale to the next, and from one group's.
    pub(super) scale_strides: [usize; 2],
    pub(super) groups: Groups,
}

impl Words {
    /// Columns of a row from one on, as little-endian f32.
    pub(super) fn read(&self, files: &[Shard], row: usize, from: usize, into: &mut [[u8; 4]]) {
        let codes = self.codes.words(files);
        let mut known = (usize::MAX, 0, 0.0);
        for (value, column) in into.iter_mut().zip(from..) {
            let group = match &self.groups {
                Groups::Even(columns) => column / columns,
                Groups::Listed(groups) => groups[column] as usize,
            };
            if known.0 != group {
                let zero = match &self.zero {
                    Zero::Fixed(zero) => *zero,
                    Zero::Stored(codes, more) => codes.at(codes.words(files), row, group) + more,
                };
                let scale = self.scales.at(files, row * self.scale_strides[0] + group * self.scale_strides[1]);
                known = (group, zero, scale);
            }
            let (_, zero, scale) = known;
            let code = self.codes.at(codes, row, column).cast_signed() - zero.cast_signed();
            *value = (code as f32 * scale).to_le_bytes();
        }
    }
}
