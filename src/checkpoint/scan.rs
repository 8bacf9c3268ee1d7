//! Weights that cannot be: not a number, infinite, or larger than any that was ever trained. Looked at while they are packed, where
//! their bytes are in the cache of the core anyway.

use super::{Checkpoint, CheckpointError};
use graph::DType;
use half::{bf16, f16};
use kernels::RowSource;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The largest size of a weight. The largest in published checkpoints are some thousands; a flipped bit of the exponent of an ordinary
/// weight gives 1e30 and more.
pub const WEIGHT_MAX: f32 = 1e6;

/// No row.
const NONE: usize = usize::MAX;

/// Rows that are looked at as they are copied.
pub(crate) struct Scanned<'a> {
    rows: &'a dyn RowSource,
    /// The first row in which something is wrong, or [`NONE`].
    bad: AtomicUsize,
}

impl<'a> Scanned<'a> {
    pub(crate) fn new(rows: &'a dyn RowSource) -> Self {
        Self { rows, bad: AtomicUsize::new(NONE) }
    }

    /// Says what was found in the weight `name` of `checkpoint`, whose rows these were.
    pub(crate) fn finish(self, checkpoint: &Checkpoint, name: &str) -> Result<(), CheckpointError> {
        let row = self.bad.into_inner();
        if row == NONE {
            return Ok(());
        }
        // The place in the whole tensor, which is what other tools show; where the weight is no one tensor, the row.
        let (file, stored) = match checkpoint.0.tensors.get(name) {
            Some(stored) => (checkpoint.0.shards[stored.shard].file.clone(), checkpoint.tensor(name)),
            None => (checkpoint.dir().into(), None),
        };
        let found = stored.and_then(|stored| {
            let at = first(stored.dtype, stored.bytes)?;
            Some((place(at, stored.shape), value(stored.dtype, stored.bytes, at)))
        });
        let (index, value) = found.unwrap_or((vec![row as u64], f32::NAN));
        Err(CheckpointError::Element { file, tensor: name.into(), index, value, limit: WEIGHT_MAX })
    }
}

impl RowSource for Scanned<'_> {
    fn dtype(&self) -> DType {
        self.rows.dtype()
    }

    fn copy_row(&self, row: usize, into: &mut [u8]) {
        self.rows.copy_row(row, into);
        if !sound(self.dtype(), into) {
            self.bad.fetch_min(row, Ordering::Relaxed);
        }
    }
}

/// Bits of the largest size that is allowed, without the sign: floats of one sign are ordered as their bits are, and infinities and what
/// is not a number lie above all others.
fn limit_bits(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => WEIGHT_MAX.to_bits(),
        DType::Bf16 => u32::from(bf16::from_f32(WEIGHT_MAX).to_bits()),
        DType::F16 => u32::from(f16::MAX.to_bits()),
        DType::U32 => u32::MAX,
    }
}

/// Whether all elements are finite and within the limit. Without a branch an element, so that it is compiled to wide instructions.
fn sound(dtype: DType, bytes: &[u8]) -> bool {
    let largest = match dtype {
        DType::F32 | DType::U32 => {
            let sizes = bytes.as_chunks::<4>().0.iter().map(|element| u32::from_le_bytes(*element) & 0x7fff_ffff);
            sizes.fold(0, u32::max)
        }
        DType::Bf16 | DType::F16 => {
            let sizes = bytes.as_chunks::<2>().0.iter().map(|element| u16::from_le_bytes(*element) & 0x7fff);
            u32::from(sizes.fold(0, u16::max))
        }
    };
    largest <= limit_bits(dtype)
}

/// The first element that is not sound.
fn first(dtype: DType, bytes: &[u8]) -> Option<usize> {
    bytes.chunks_exact(dtype.bytes()).position(|element| !sound(dtype, element))
}

fn value(dtype: DType, bytes: &[u8], at: usize) -> f32 {
    let size = dtype.bytes();
    match (dtype, &bytes[at * size..(at + 1) * size]) {
        (DType::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (DType::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
        (DType::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
        (DType::F32 | DType::Bf16 | DType::F16 | DType::U32, _) => f32::NAN,
    }
}

/// The index of an element of a row-major tensor.
fn place(mut at: usize, shape: &[u64]) -> Vec<u64> {
    let mut index: Vec<u64> = shape
        .iter()
        .rev()
        .map(|&len| {
            let here = at as u64 % len.max(1);
            at /= len.max(1) as usize;
            here
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_or_too_large_is_found_at_its_place() {
        let check = |dtype: DType, bytes: Vec<u8>, expect: Option<usize>| {
            assert_eq!(first(dtype, &bytes), expect);
            assert_eq!(sound(dtype, &bytes), expect.is_none());
        };
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        check(DType::F32, bytes(&[0.0, -0.0, 1e-40, 1e6, -1e6]), None);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.1e6, -f32::MAX] {
            check(DType::F32, bytes(&[1.0, 2.0, bad, bad]), Some(2));
            let shorts: Vec<u8> = [1.0, bad].iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
            check(DType::Bf16, shorts, Some(1));
        }
        let half = |values: &[f16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        check(DType::F16, half(&[f16::MAX, f16::MIN]), None);
        check(DType::F16, half(&[f16::MAX, f16::NAN]), Some(1));
        assert_eq!(place(23, &[2, 3, 4]), [1, 2, 3]);
        assert_eq!(place(5, &[6]), [5]);
    }
}
