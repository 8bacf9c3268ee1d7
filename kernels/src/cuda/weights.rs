//! Weights on a device: row by row, as in the checkpoint.

use super::driver::{Address, Device, DeviceMemory, DriverFault, Event, Pinned, Stream};
use super::kernels::missing;
use crate::error::KernelError;
use crate::team::Team;
use crate::weights::{RowSource, check, pack};
use graph::plan::{WeightSpec, WeightUse};
use graph::{BLOCK, DType};
use std::sync::Arc;

/// Bytes of a staging buffer; two take turns.
const STAGING: usize = 32 << 20;

#[derive(Debug)]
enum Stored {
    Plain(DType),
    /// Codes, and the scales of their blocks beside them: `[k / 32, n]` f32.
    Blocks(DeviceMemory),
}

/// A weight in a device's memory: `[n, k]`, or `[experts, n, k]`, in the type of its specification; vectors in f32.
#[derive(Debug)]
pub struct DeviceWeight {
    spec: WeightSpec,
    stored: Stored,
    memory: DeviceMemory,
}

impl DeviceWeight {
    /// What it is.
    pub fn spec(&self) -> &WeightSpec {
        &self.spec
    }

    /// The element type, where elements are plain.
    pub(crate) fn plain(&self) -> Option<DType> {
        match self.stored {
            Stored::Plain(dtype) => Some(dtype),
            Stored::Blocks(_) => None,
        }
    }

    /// The scales of its blocks, where it is quantised: `[k / 32, n]` f32.
    pub(crate) fn scales(&self) -> Option<&DeviceMemory> {
        match &self.stored {
            Stored::Plain(_) => None,
            Stored::Blocks(scales) => Some(scales),
        }
    }

    /// Bytes in the device's memory.
    pub fn bytes(&self) -> u64 {
        self.memory.bytes() + self.scales().map_or(0, DeviceMemory::bytes)
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
        let (rows, k) = (spec.rows() as usize, spec.k as usize);
        let (row_bytes, stored) = match (spec.used, spec.dtype.plain()) {
            (WeightUse::Vector, _) => (4, Stored::Plain(DType::F32)),
            (WeightUse::Table | WeightUse::Panels | WeightUse::Experts(_), Some(dtype)) => {
                (k * dtype.bytes(), Stored::Plain(dtype))
            }
            (WeightUse::Table | WeightUse::Panels | WeightUse::Experts(_), None) => {
                (pack::code_bytes(spec.dtype, k), Stored::Blocks(self.scales(spec)?))
            }
        };
        let refuse = |what, wanted, got| Err(KernelError::Weight { name: spec.name.clone(), what, wanted, got });
        if row_bytes > STAGING {
            return refuse("bytes of a row, at most", STAGING as u64, row_bytes as u64);
        }
        let memory = DeviceMemory::zeroed(&self.device, (rows * row_bytes) as u64, &format!("weight {}", spec.name))?;
        let at_once = (STAGING / row_bytes.max(1)).max(1);
        let mut scales = Scales::new(spec, rows);
        for (turn, first) in (0..rows).step_by(at_once).enumerate() {
            let count = at_once.min(rows - first);
            let (buffer, free) = &mut self.staging[turn % 2];
            free.wait()?;
            let (part, into) = (Behind(source, first), &mut buffer.as_bytes_mut()[..count * row_bytes]);
            match stored {
                Stored::Plain(_) => pack::rows(spec, &part, team, into),
                Stored::Blocks(_) => scales.split(spec, &part, team, first, into),
            }
            let to = memory.address().offset((first * row_bytes) as u64);
            // SAFETY: the weight has room for all rows; the buffer is not touched again before its event.
            unsafe { self.stream.upload(&buffer.as_bytes()[..count * row_bytes], to) }?;
            free.record(&self.stream)?;
        }
        self.stream.wait()?;
        if let Stored::Blocks(memory) = &stored {
            memory.write(bytemuck::cast_slice(&scales.all))?;
        }
        Ok(DeviceWeight { spec: spec.clone(), stored, memory })
    }

    /// Memory for the scales of a weight's blocks.
    fn scales(&self, spec: &WeightSpec) -> Result<DeviceMemory, KernelError> {
        // A kernel takes as many terms at once.
        if !spec.k.is_multiple_of(spec.dtype.run()) || matches!(spec.used, WeightUse::Experts(_)) {
            return Err(missing("weight", spec.dtype.name()));
        }
        let bytes = spec.rows() * u64::from(spec.k / BLOCK) * 4;
        Ok(DeviceMemory::zeroed(&self.device, bytes, &format!("scales of {}", spec.name))?)
    }
}

/// Scales of the blocks of a weight: `[block of a row, row]`, as kernels read them.
struct Scales {
    rows: usize,
    all: Vec<f32>,
    records: Vec<u8>,
}

impl Scales {
    /// Room for those of a weight of blocks, and for none of another.
    fn new(spec: &WeightSpec, rows: usize) -> Self {
        let count = if spec.dtype.plain().is_none() { rows * (spec.k / BLOCK) as usize } else { 0 };
        Self { rows, all: vec![0.0; count], records: vec![] }
    }

    /// Quantises rows from `first` on: codes to `into`, scales to their places.
    fn split(&mut self, spec: &WeightSpec, source: &dyn RowSource, team: &Team, first: usize, into: &mut [u8]) {
        let (codes_len, scales_len) = (pack::code_bytes(spec.dtype, spec.k as usize), (spec.k / BLOCK) as usize * 4);
        self.records.resize(into.len() / codes_len * (codes_len + scales_len), 0);
        pack::quantized(spec, source, team, &mut self.records);
        let records = self.records.chunks_exact(codes_len + scales_len);
        for (row, (record, codes)) in records.zip(into.chunks_exact_mut(codes_len)).enumerate() {
            codes.copy_from_slice(&record[..codes_len]);
            for (block, scale) in record[codes_len..].as_chunks().0.iter().enumerate() {
                self.all[block * self.rows + first + row] = f32::from_le_bytes(*scale);
            }
        }
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
