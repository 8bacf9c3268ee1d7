//! Where the launches of a program are made: what is at hand of weights, memory and the shape of a step.

use super::driver::{Address, Device, DeviceMemory, DriverFault};
use super::kernels::{Variant, Wanted, missing};
use super::launch::{Count, CountAt, Extent, Launches};
use super::meta::Meta;
use super::weights::DeviceWeight;
use crate::error::KernelError;
use crate::executor::Limits;
use crate::ops::experts::cuda::{Chosen, Lists};
use graph::plan::{CacheSpec, Operand, Place, RowSet, WeightId};
use graph::{DType, Rope};
use std::sync::Arc;

/// Keys and values of one layer: `[page][kv_head][16][head_dim]` each.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) spec: CacheSpec,
    pub(crate) keys: DeviceMemory,
    pub(crate) values: DeviceMemory,
    pub(crate) is_windowed: bool,
}

/// Sums of the splits of generated rows, shared by all layers: one is done before the next begins.
#[derive(Debug)]
pub(crate) struct Splits {
    pub(crate) largest: DeviceMemory,
    pub(crate) sums: DeviceMemory,
    pub(crate) values: DeviceMemory,
    /// Generated rows that are taken at once.
    pub(crate) portion: u32,
    /// Splits a row has room for.
    pub(crate) most: u32,
}

/// Cosines and sines of a step's rows for one rotation.
#[derive(Clone, Debug)]
pub(crate) struct Turned {
    pub(crate) rope: Rope,
    pub(crate) table: Address,
    pub(crate) pairs: u32,
}

/// Where the buffers of a stage begin.
#[derive(Debug)]
pub(crate) struct Bases {
    pub(crate) inputs: Vec<DeviceMemory>,
    pub(crate) outputs: Vec<DeviceMemory>,
    pub(crate) scratch: DeviceMemory,
}

/// All that launches are made of.
pub(crate) struct Site<'a> {
    pub(crate) device: &'a Arc<Device>,
    pub(crate) launches: Launches<'a>,
    pub(crate) weights: &'a [Arc<DeviceWeight>],
    pub(crate) bases: &'a Bases,
    pub(crate) meta: &'a Meta,
    pub(crate) pages: &'a [Pages],
    /// Slots of recurrent state, and the elements of one.
    pub(crate) states: &'a [(DeviceMemory, u64)],
    pub(crate) splits: &'a Splits,
    /// Room for the sums of runs of terms, for how many are made, and for rounded activations; used by one call after the other.
    pub(crate) parts: Address,
    pub(crate) arrived: Address,
    pub(crate) rounded: Address,
    pub(crate) limits: Limits,
    /// Memory that launches name, beside all that is here.
    pub(crate) kept: Vec<DeviceMemory>,
    pub(crate) turned: Vec<Turned>,
    /// Lists of choices, and whose they are.
    pub(crate) lists: Lists,
    pub(crate) chosen: Option<Chosen>,
}

impl Site<'_> {
    /// Where an operand begins.
    pub(crate) fn address(&self, operand: &Operand) -> Address {
        match operand.place {
            Place::Input(port) => self.bases.inputs[port as usize].address(),
            Place::Output(port) => self.bases.outputs[port as usize].address(),
            Place::Scratch(at) => self.bases.scratch.address().offset(at),
        }
    }

    /// The rows that an operand has.
    pub(crate) fn counted(&self, operand: &Operand) -> CountAt {
        match operand.rows {
            RowSet::All => CountAt { count: Count::Rows, at: self.meta.rows() },
            RowSet::Sampled => CountAt { count: Count::Sampled, at: self.meta.sampled_count() },
        }
    }

    /// The slots of a recurrent state, and the elements of one.
    pub(crate) fn state(&self, number: u32) -> (Address, i64) {
        let (memory, elements) = &self.states[number as usize];
        (memory.address(), *elements as i64)
    }

    /// A weight of the program.
    pub(crate) fn weight(&self, id: WeightId) -> &DeviceWeight {
        &self.weights[id.0 as usize]
    }

    /// Memory for launches, kept with them.
    pub(crate) fn keep(&mut self, bytes: u64, what: &str) -> Result<Address, KernelError> {
        let memory = DeviceMemory::zeroed(self.device, bytes, what).map_err(|fault| self.failed(fault))?;
        self.kept.push(memory);
        Ok(self.kept[self.kept.len() - 1].address())
    }

    /// Numbers for launches, kept with them.
    pub(crate) fn keep_values(&mut self, values: &[f32], what: &str) -> Result<Address, KernelError> {
        let at = self.keep(values.len() as u64 * 4, what)?;
        let memory = &self.kept[self.kept.len() - 1];
        memory.write(bytemuck::cast_slice(values)).map_err(|fault| self.failed(fault))?;
        Ok(at)
    }

    /// That the driver failed at the call in hand.
    pub(crate) fn failed(&self, fault: DriverFault) -> KernelError {
        let at = self.launches.at();
        KernelError::Device { call: Some((at.call, at.op)), fault }
    }

    /// That no kernel of this type is compiled for the call in hand.
    pub(crate) fn missing(&self, dtype: &'static str) -> KernelError {
        missing(self.launches.at().op, dtype)
    }

    /// A variant of a kernel without types that goes over a row in blocks of columns, and the grid of one program a row and block.
    pub(crate) fn columns(
        &self,
        kernel: &'static str,
        (name, width): (&'static str, u32),
        others: &[(&'static str, u32)],
    ) -> Result<(&'static Variant, [Extent; 3]), KernelError> {
        self.typed_columns(kernel, None, (name, width), others)
    }

    /// The same of a kernel with a pointer of some type.
    pub(crate) fn typed_columns(
        &self,
        kernel: &'static str,
        typed: Option<(&'static str, DType)>,
        (name, width): (&'static str, u32),
        others: &[(&'static str, u32)],
    ) -> Result<(&'static Variant, [Extent; 3]), KernelError> {
        let numbers: Vec<_> = others.iter().copied().chain([(name, width)]).collect();
        let wanted = Wanted { kernel, typed, fixed: &[], numbers: &numbers };
        let dtype = typed.map_or(DType::F32, |(_, dtype)| dtype);
        let variant = wanted.blocks("BLOCK", width).ok_or_else(|| self.missing(dtype.name()))?;
        let block = variant.constant("BLOCK") as u32;
        Ok((variant, [Extent::ONE_EACH, Extent::columns(width, block), Extent::Fixed(1)]))
    }
}
