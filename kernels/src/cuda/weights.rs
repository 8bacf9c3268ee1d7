//! Weights on a device: row by row, as in the checkpoint.

use super::driver::{Address, Device, DeviceMemory, DriverFault, Event, Pinned, Stream};
use super::kernels::missing;
use crate::error::KernelError;
use crate::team::Team;
use crate::weights::{RowSource, check, pack};
use graph::DType;
use graph::plan::{WeightSpec, WeightUse};
use std::sync::Arc;

/// Bytes of a staging buffer; two take turns.
const STAGING: usize = 32 << 20;

/// A weight in a device's memory: `[n, k]`, or `[experts, n, k]`, in the type of its specification; vectors in f32.
#[derive(Debug)]
pub struct DeviceWeight {
    spec: WeightSpec,
    dtype: DType,
    memory: DeviceMemory,
}

impl DeviceWeight {
    /// What it is.
    pub fn spec(&self) -> &WeightSpec {
        &self.spec
    }

    /// The element type.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes in the device's memory.
    pub fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    pub(crate) fn address(&self) -> Address {
        self.memory.address()
    }
}

/// Copies weights to a device: rows are converted by a team into pinned memory while the one before is on its way.
#[derive(Debug)]
pub struct Uploader {
    device: Arc<Device>,
    stream: Stream,
    staging: [(Pinned, Event); 2],
}

impl Uploader {
    /// Buffers and a stream of their own.
    pub fn new(device: &Arc<Device>) -> Result<Self, DriverFault> {
        let buffer = || Ok((Pinned::zeroed(device, STAGING)?, Event::new(device)?));
        let stream = Stream::new(device, false)?;
        Ok(Self { device: device.clone(), stream, staging: [buffer()?, buffer()?] })
    }

    /// Reads a weight and copies it to the device, converting to the type of its specification.
    ///
    /// # Errors
    /// A specification that contradicts itself, memory that there is not, or what the driver says.
    pub fn load(
        &mut self,
        spec: &WeightSpec,
        source: &dyn RowSource,
        team: &Team,
    ) -> Result<DeviceWeight, KernelError> {
        check(spec, source.dtype())?;
        let dtype = spec.dtype.plain().ok_or_else(|| missing("weight", spec.dtype.name()))?;
        let row_bytes = match spec.used {
            WeightUse::Vector => 4,
            WeightUse::Table | WeightUse::Panels | WeightUse::Experts(_) => spec.k as usize * dtype.bytes(),
        };
        let rows = spec.rows() as usize;
        let bytes = (rows * row_bytes) as u64;
        let memory = DeviceMemory::zeroed(&self.device, bytes, &format!("weight {}", spec.name))?;
        let at_once = (STAGING / row_bytes.max(1)).max(1);
        if row_bytes > STAGING {
            let (what, wanted, got) = ("bytes of a row, at most", STAGING as u64, row_bytes as u64);
            return Err(KernelError::Weight { name: spec.name.clone(), what, wanted, got });
        }
        for (turn, first) in (0..rows).step_by(at_once).enumerate() {
            let count = at_once.min(rows - first);
            let (buffer, free) = &mut self.staging[turn % 2];
            free.wait()?;
            pack::rows(spec, &Behind(source, first), team, &mut buffer.as_bytes_mut()[..count * row_bytes]);
            let to = memory.address().offset((first * row_bytes) as u64);
            // SAFETY: the weight has room for all rows; the buffer is not touched again before its event.
            unsafe { self.stream.upload(&buffer.as_bytes()[..count * row_bytes], to) }?;
            free.record(&self.stream)?;
        }
        self.stream.wait()?;
        Ok(DeviceWeight { spec: spec.clone(), dtype, memory })
    }
}

/// The rows of a source from one on.
struct Behind<'a>(&'a dyn RowSource, usize);

impl RowSource for Behind<'_> {
    fn dtype(&self) -> DType {
        self.0.dtype()
    }

    fn copy_row(&self, row: usize, into: &mut [u8]) {
        self.0.copy_row(self.1 + row, into);
    }
}
