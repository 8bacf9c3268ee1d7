//! Weights as kernels read them: packed once, at load.
//!
//! Layouts. A table lies row by row. A vector is f32. Panels are as in [`crate::panel`]: outputs in groups of 16, each group one
//! contiguous run over all of K, the panels of each expert on their own; outputs past `n` and a last odd term are zeros, which no kernel multiplies with anything it keeps.

pub(crate) mod pack;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use crate::error::KernelError;
use crate::memory::Memory;
use crate::panel::{Bf16, F16, F32, Format, LANES, Q4_0, Q8_0};
use crate::team::Team;
use graph::plan::{SUM_PARTS_MAX, WeightSpec, WeightUse};
use graph::{BLOCK, DType, WeightType};
use half::{bf16, f16};

/// Rows of a checkpoint tensor, after the rank's cut. Read by several threads at once.
pub trait RowSource: Sync {
    /// Element type of the rows: f32, bf16 or f16.
    fn dtype(&self) -> DType;
    /// Copies one row, little-endian, into exactly `k` elements.
    fn copy_row(&self, row: usize, into: &mut [u8]);
}

/// A weight in memory, laid out for its use.
#[derive(Debug)]
pub struct Weight {
    spec: WeightSpec,
    memory: Memory,
}

impl Weight {
    /// Reads and packs a weight on all threads of the team, converting to the element type of the specification.
    pub fn load(spec: &WeightSpec, source: &dyn RowSource, team: &Team) -> Result<Self, KernelError> {
        check(spec, source.dtype())?;
        let (n, k) = (spec.n as usize, spec.k as usize);
        let bytes = match spec.used {
            WeightUse::Vector => n * 4,
            WeightUse::Table => n * spec.dtype.row_bytes(k as u64) as usize,
            WeightUse::Panels | WeightUse::Experts(_) => {
                let experts = (spec.rows() as usize).checked_div(n).unwrap_or(0);
                let row = spec.dtype.row_bytes(k.next_multiple_of(2) as u64) as usize;
                experts * n.div_ceil(LANES) * LANES * row
            }
        };
        let mut memory = Memory::zeroed(bytes);
        match spec.used {
            WeightUse::Vector | WeightUse::Table => pack::rows(spec, source, team, memory.as_bytes_mut()),
            WeightUse::Panels | WeightUse::Experts(_) => match spec.dtype {
                WeightType::F32 => pack::panels::<F32>(spec, source, team, memory.as_bytes_mut()),
                WeightType::Bf16 => pack::panels::<Bf16>(spec, source, team, memory.as_bytes_mut()),
                WeightType::F16 => pack::panels::<F16>(spec, source, team, memory.as_bytes_mut()),
                WeightType::Q8_0 => pack::panels::<Q8_0>(spec, source, team, memory.as_bytes_mut()),
                WeightType::Q4_0 => pack::panels::<Q4_0>(spec, source, team, memory.as_bytes_mut()),
            },
        }
        Ok(Self { spec: spec.clone(), memory })
    }

    /// What it is.
    pub fn spec(&self) -> &WeightSpec {
        &self.spec
    }

    /// Bytes in memory, padding counted.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// The elements of a vector.
    pub(crate) fn vector(&self) -> &[f32] {
        assert!(self.spec.used == WeightUse::Vector, "only vectors are read as f32");
        &self.memory.as_f32()[..self.spec.n as usize]
    }

    /// How many panels there are, of each expert.
    pub(crate) fn panels(&self) -> usize {
        (self.spec.n as usize).div_ceil(LANES)
    }

    /// Lines of all panels, one panel after the other.
    pub(crate) fn lines<F: Format>(&self) -> &[F::Line] {
        assert!(
            matches!(self.spec.used, WeightUse::Panels | WeightUse::Experts(_)) && self.spec.dtype == F::DTYPE,
            "lines are read as they were packed"
        );
        bytemuck::cast_slice(self.memory.as_bytes())
    }

    /// Lines of the panels of one expert, one panel after the other.
    #[inline(always)]
    pub(crate) fn expert_lines<F: Format>(&self, expert: usize) -> &[F::Line] {
        let each = self.panels() * (self.spec.k as usize).div_ceil(F::TERMS);
        &self.lines::<F>()[expert * each..][..each]
    }

    /// Copies one row, widened: an entry of a table, or the terms of one output.
    pub(crate) fn copy_row(&self, row: usize, into: &mut [f32]) {
        match (self.spec.used, self.spec.dtype) {
            (WeightUse::Vector, _) => into[0] = self.vector()[row],
            (WeightUse::Table, dtype) => {
                let dtype = dtype.plain().expect("check refuses tables of blocks");
                let bytes = into.len() * dtype.bytes();
                widen(dtype, &self.memory.as_bytes()[row * bytes..][..bytes], into);
            }
            (WeightUse::Panels, WeightType::F32) => self.copy_output::<F32>(row, into),
            (WeightUse::Panels, WeightType::Bf16) => self.copy_output::<Bf16>(row, into),
            (WeightUse::Panels, WeightType::F16) => self.copy_output::<F16>(row, into),
            (WeightUse::Panels, WeightType::Q8_0) => self.copy_output::<Q8_0>(row, into),
            (WeightUse::Panels, WeightType::Q4_0) => self.copy_output::<Q4_0>(row, into),
            (WeightUse::Experts(_), _) => unreachable!("nobody looks up a row of an expert"),
        }
    }

    fn copy_output<F: Format>(&self, row: usize, into: &mut [f32]) {
        let count = into.len().div_ceil(F::TERMS);
        let lines = &self.lines::<F>()[row / LANES * count..][..count];
        for (line, terms) in lines.iter().zip(into.chunks_mut(F::TERMS)) {
            for (which, value) in terms.iter_mut().enumerate() {
                *value = F::get(line, which, row % LANES);
            }
        }
    }
}

/// Whether a weight can be loaded as its specification says.
pub(crate) fn check(spec: &WeightSpec, source: DType) -> Result<(), KernelError> {
    let refuse = |what, wanted: u64, got: u64| Err(KernelError::Weight { name: spec.name.clone(), what, wanted, got });
    let missing = |op, dtype| Err(KernelError::Missing { op, dtype, device: "cpu" });
    if source == DType::U32 {
        return missing("weight source", source.name());
    }
    match spec.used {
        WeightUse::Vector if spec.dtype != WeightType::F32 => return missing("vector", spec.dtype.name()),
        WeightUse::Table if spec.dtype.plain().is_none() => return missing("table", spec.dtype.name()),
        WeightUse::Vector | WeightUse::Table | WeightUse::Panels | WeightUse::Experts(_) => {}
    }
    if spec.used == WeightUse::Vector && spec.k != 1 {
        return refuse("columns of a vector", 1, u64::from(spec.k));
    }
    if spec.k == 0 {
        return refuse("columns, at least", 1, 0);
    }
    let parts = spec.sum_parts;
    if !parts.is_power_of_two() || parts > SUM_PARTS_MAX {
        return refuse("parts of a sum, a power of two of at most", SUM_PARTS_MAX.into(), parts.into());
    }
    if spec.integer && spec.dtype.plain().is_some() {
        return missing("integer arithmetic", spec.dtype.name());
    }
    if spec.dtype.plain().is_none() && !spec.k.is_multiple_of(BLOCK * parts) {
        return refuse("terms beyond whole blocks of each part", 0, u64::from(spec.k % (BLOCK * parts)));
    }
    // A line of a panel has two terms.
    if parts > 1 && !spec.k.is_multiple_of(2 * parts) {
        return refuse("terms beyond parts of even length", 0, u64::from(spec.k % (2 * parts)));
    }
    Ok(())
}

/// Widens little-endian elements to f32.
fn widen(dtype: DType, from: &[u8], into: &mut [f32]) {
    let shorts = from.as_chunks::<2>().0;
    match dtype {
        DType::F32 => {
            for (value, bytes) in into.iter_mut().zip(from.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        DType::Bf16 => {
            for (value, bytes) in into.iter_mut().zip(shorts) {
                *value = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        DType::F16 => {
            for (value, bytes) in into.iter_mut().zip(shorts) {
                *value = f16::from_le_bytes(*bytes).to_f32();
            }
        }
        DType::U32 => unreachable!("check refuses u32 weights"),
    }
}
