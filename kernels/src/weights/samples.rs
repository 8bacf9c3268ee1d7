//! Seeded weights for tests.

use super::{RowSource, Weight};
use crate::ops::samples::{numbers, team};
use graph::DType;
use graph::plan::{WeightSpec, WeightUse};
use half::{bf16, f16};

/// Rows of f32.
pub(crate) struct Rows {
    /// Elements of a row.
    pub(crate) k: usize,
    /// All rows.
    pub(crate) values: Vec<f32>,
}

impl RowSource for Rows {
    fn dtype(&self) -> DType {
        DType::F32
    }

    fn copy_row(&self, row: usize, into: &mut [u8]) {
        for (bytes, value) in into.chunks_exact_mut(4).zip(&self.values[row * self.k..]) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// The specification of a sample.
pub(crate) fn spec(n: usize, k: usize, dtype: DType, used: WeightUse) -> WeightSpec {
    let (n, k) = (n as u32, k as u32);
    WeightSpec {
        name: format!("sample_{n}_{k}"),
        dims: vec![n, k],
        stored: None,
        cut: None,
        used,
        n,
        k,
        sum_parts: 1,
        dtype,
    }
}

/// A weight of seeded numbers.
pub(crate) fn weight(n: usize, k: usize, dtype: DType, used: WeightUse) -> Weight {
    let rows = Rows { k, values: numbers((n * 31 + k) as u64, n * k) };
    Weight::load(&spec(n, k, dtype, used), &rows, &team(2)).expect("a sample is a valid weight")
}

/// The same numbers, rounded to the element type.
pub(crate) fn rounded(n: usize, k: usize, dtype: DType) -> Vec<f32> {
    let round = |v: f32| match dtype {
        DType::F32 | DType::U32 => v,
        DType::Bf16 => bf16::from_f32(v).to_f32(),
        DType::F16 => f16::from_f32(v).to_f32(),
    };
    numbers((n * 31 + k) as u64, n * k).into_iter().map(round).collect()
}
