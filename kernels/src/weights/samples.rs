//! Seeded weights for tests.

use super::{RowSource, Weight};
use crate::ops::samples::{numbers, team};
use graph::plan::{WeightSpec, WeightUse};
use graph::{DType, WeightType};
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
pub(crate) fn spec(n: usize, k: usize, dtype: WeightType, used: WeightUse) -> WeightSpec {
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
        integer: false,
    }
}

/// All types that panels have.
pub(crate) const TYPES: [WeightType; 5] =
    [WeightType::F32, WeightType::Bf16, WeightType::F16, WeightType::Q8_0, WeightType::Q4_0];

/// Types of weights, and whether products with them are those of integers.
pub(crate) fn kinds() -> impl Iterator<Item = (WeightType, bool)> {
    let integer = TYPES.into_iter().filter(|dtype| dtype.plain().is_none()).map(|dtype| (dtype, true));
    TYPES.into_iter().map(|dtype| (dtype, false)).chain(integer)
}

/// Rows as products of integers have them: 8 bits by block.
pub(crate) fn quantised(x: &[f32], integer: bool) -> Vec<f32> {
    let block = |block: &[f32]| {
        let largest = block.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        block.iter().map(|v| (v * inverse).round_ties_even() * (largest / 127.0)).collect::<Vec<_>>()
    };
    if integer { x.chunks(32).flat_map(block).collect() } else { x.to_vec() }
}

/// At least `k` terms, in `parts` of whole blocks where there are blocks.
pub(crate) fn terms(dtype: WeightType, k: usize, parts: usize) -> usize {
    if dtype.plain().is_some() { k } else { k.next_multiple_of(graph::BLOCK as usize * parts) }
}

/// A weight of seeded numbers.
pub(crate) fn weight(n: usize, k: usize, dtype: WeightType, used: WeightUse) -> Weight {
    let rows = Rows { k, values: numbers((n * 31 + k) as u64, n * k) };
    Weight::load(&spec(n, k, dtype, used), &rows, &team(2)).expect("a sample is a valid weight")
}

/// The same numbers, rounded to the element type, or block by block.
pub(crate) fn rounded(n: usize, k: usize, dtype: WeightType) -> Vec<f32> {
    let mut values = numbers((n * 31 + k) as u64, n * k);
    let each = |values: &mut [f32], round: fn(f32) -> f32| values.iter_mut().for_each(|value| *value = round(*value));
    match dtype {
        WeightType::F32 => {}
        WeightType::Bf16 => each(&mut values, |v| bf16::from_f32(v).to_f32()),
        WeightType::F16 => each(&mut values, |v| f16::from_f32(v).to_f32()),
        WeightType::Q8_0 => values.chunks_mut(32).for_each(|block| {
            let scale = block.iter().fold(0.0f32, |most, v| most.max(v.abs())) / 127.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let stored = f16::from_f32(scale).to_f32();
            block.iter_mut().for_each(|v| *v = f32::from((*v * inverse).round() as i8) * stored);
        }),
        WeightType::Q4_0 => values.chunks_mut(32).for_each(|block| {
            let most = block.iter().copied().fold(0.0f32, |most, v| if v.abs() > most.abs() { v } else { most });
            let scale = most / -8.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let stored = f16::from_f32(scale).to_f32();
            block.iter_mut().for_each(|v| *v = ((*v * inverse + 8.5).floor().min(15.0) - 8.0) * stored);
        }),
    }
    values
}
