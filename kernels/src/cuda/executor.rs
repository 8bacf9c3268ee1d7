//! Runs a program on a GPU: launches that were made beforehand, over memory that was planned and allocated beforehand.
//!
//! A step copies its shape and its inputs to fixed buffers, enqueues the launches, or replays the graph that was captured of them for a
//! bucket of counts, and copies its outputs back. Steps that only generate are captured: their shapes repeat.

use super::driver::{Device, DeviceMemory, DriverFault, Graph, Pinned, Stream};
use super::kernels::Loaded;
use super::launch::{At, Counts, Launch, Launches};
use super::meta::{Bounds, Meta};
use super::prepare;
use super::site::{Bases, Pages, Site, Splits};
use super::weights::DeviceWeight;
use crate::error::KernelError;
use crate::executor::{Execute, Limits, admit, check, most_ports};
use crate::memory::Memory;
use crate::ops;
use crate::step::Step;
use graph::plan::{Call, PAGE_ROWS, Place, Program, RowSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that the sums of split rows may take.
const SPLIT_BYTES: u64 = 64 << 20;
/// Buckets that are captured.
const GRAPHS_MAX: usize = 256;
/// Rows up to which a step that only generates is captured.
const CAPTURED_ROWS_MAX: u32 = 512;

/// A program with its weights, pages and scratch memory on a GPU.
pub struct CudaExecutor {
    // Fields are dropped in order: the stream is waited for before what it uses is freed.
    stream: Stream,
    /// By bucket: none yet where it was met once.
    graphs: BTreeMap<[u32; 4], Option<Graph>>,
    launches: Vec<Launch>,
    #[expect(dead_code, reason = "modules live as long as the functions of launches")]
    loaded: Loaded,
    meta: Meta,
    bases: Bases,
    staging: Staging,
    program: Program,
    weights: Vec<Arc<DeviceWeight>>,
    #[expect(dead_code, reason = "launches name this memory")]
    pages: Vec<Pages>,
    splits: Splits,
    #[expect(dead_code, reason = "launches name this memory")]
    kept: Vec<DeviceMemory>,
    limits: Limits,
    window: Option<u32>,
    positions_max: u32,
}

/// Pinned memory of the host for inputs and outputs.
struct Staging {
    inputs: Vec<Pinned>,
    outputs: Vec<Pinned>,
}

impl CudaExecutor {
    /// Checks the program, loads its kernels and takes the memory of its largest step.
    ///
    /// # Errors
    /// Every call that does not fit the weights, the scratch memory or the kernels there are; memory that there is not.
    pub fn new(
        device: &Arc<Device>,
        program: Program,
        weights: Vec<Arc<DeviceWeight>>,
        limits: Limits,
    ) -> Result<Self, Vec<KernelError>> {
        let specs: Vec<_> = weights.iter().map(|weight| weight.spec()).collect();
        let faults = check::program(&program, &specs, limits);
        if !faults.is_empty() {
            return Err(faults);
        }
        let one = |fault: DriverFault| vec![fault.into()];
        let windows = program.windows();
        let window = windows.iter().flatten().copied().max().filter(|_| limits.window_pages > 0);
        let is_windowed: Vec<bool> = windows.iter().map(|own| own.is_some() && window.is_some()).collect();
        let pages = take_pages(device, &program, limits, &is_windowed).map_err(one)?;
        let states = program.states.iter().map(|spec| {
            let bytes = spec.elements * u64::from(limits.slots) * 4;
            Ok((DeviceMemory::zeroed(device, bytes, "recurrent states")?, spec.elements))
        });
        let states = states.collect::<Result<Vec<_>, _>>().map_err(one)?;
        let splits = take_splits(device, &program, limits).map_err(one)?;
        let bounds = Bounds { limits, tile_rows: prepare::tile_rows(&program), portion: splits.portion };
        let meta = Meta::new(device, bounds).map_err(one)?;
        let (bases, staging) = take_buffers(device, &program, limits).map_err(one)?;
        let [parts, rounded] = ops::contract::cuda::room(&program, &specs, limits.rows_max.max(limits.sampled_max));
        let take = |bytes, what| DeviceMemory::zeroed(device, bytes, what).map_err(one);
        let shared = [take(parts, "sums of runs")?, take(rounded, "rounded activations")?];
        let mut kept = vec![];
        let rows_max = limits.rows_max.max(limits.sampled_max);
        let lists = ops::experts::cuda::take(&program, &specs, rows_max, |bytes| {
            let memory = DeviceMemory::zeroed(device, bytes, "lists of choices")?;
            let at = memory.address();
            kept.push(memory);
            Ok(at)
        });
        let lists = lists.map_err(|fault| vec![fault])?;
        let mut loaded = Loaded::new(device);
        let mut site = Site {
            device,
            launches: Launches::new(&mut loaded),
            weights: &weights,
            bases: &bases,
            meta: &meta,
            pages: &pages,
            states: &states,
            splits: &splits,
            parts: shared[0].address(),
            rounded: shared[1].address(),
            limits,
            kept,
            turned: vec![],
            lists,
            chosen: None,
        };
        let mut faults = vec![];
        for (number, call) in program.calls.iter().enumerate() {
            site.launches.turn_to(At { call: number as u32, op: call.name() });
            faults.extend(prepare::call(&mut site, call).err());
        }
        let (launches, mut kept) = (site.launches.made, site.kept);
        kept.extend(shared);
        kept.extend(states.into_iter().map(|(memory, _)| memory));
        if !faults.is_empty() {
            return Err(faults);
        }
        let positions = |call: &Call| {
            let Call::Positions { table, .. } = call else { return u32::MAX };
            weights.get(table.0 as usize).map_or(0, |weight| weight.spec().n)
        };
        let positions_max = program.calls.iter().map(positions).min().unwrap_or(u32::MAX);
        let stream = Stream::new(device, true).map_err(one)?;
        Ok(Self {
            stream,
            graphs: BTreeMap::new(),
            launches,
            loaded,
            meta,
            bases,
            staging,
            program,
            weights,
            pages,
            splits,
            kept,
            limits,
            window,
            positions_max,
        })
    }

    fn admit(&self, step: &Step, inputs: &[&Memory], outputs: &[&mut Memory]) -> Result<(), KernelError> {
        admit::step(step, self.limits, (PAGE_ROWS, self.positions_max))?;
        admit::tables(step, self.limits)?;
        if let Some(window) = self.window {
            admit::windows(step, window, self.limits, PAGE_ROWS)?;
        }
        if !self.program.states.is_empty() {
            admit::states(step, self.limits)?;
        }
        admit::buffers(&self.program, step, inputs, outputs)
    }

    /// Enqueues all of a step that has `counts`.
    fn enqueue(&mut self, counts: Counts) -> Result<(), KernelError> {
        let portion = self.splits.portion;
        let Some(bucket) = bucket(counts, self.splits.most) else {
            return enqueue(&mut self.launches, &self.stream, &counts, portion);
        };
        let key = [bucket.rows, bucket.sampled, bucket.splits, bucket.spans];
        let (launches, stream) = (&mut self.launches, &self.stream);
        let is_full = self.graphs.len() >= GRAPHS_MAX;
        match self.graphs.get_mut(&key) {
            Some(Some(graph)) => Ok(stream.replay(graph)?),
            // A driver may load a kernel when it is first launched, which it may not while a stream is captured.
            Some(met) => {
                let graph = stream.capture(|| enqueue(launches, stream, &bucket, portion))?;
                Ok(stream.replay(met.insert(graph))?)
            }
            None => {
                if !is_full {
                    self.graphs.insert(key, None);
                }
                enqueue(launches, stream, &counts, portion)
            }
        }
    }
}

fn enqueue(launches: &mut [Launch], stream: &Stream, counts: &Counts, portion: u32) -> Result<(), KernelError> {
    for launch in launches {
        // SAFETY: launches name memory of this executor, which waits for its stream before it is dropped.
        unsafe { launch.enqueue(stream, counts, portion)? };
    }
    Ok(())
}

/// The counts that a graph is captured for, of which the step's are no more; `None` for steps that are not captured.
fn bucket(counts: Counts, splits_max: u32) -> Option<Counts> {
    let generates = counts.tiles == 0 && counts.generated == counts.rows && counts.rows <= CAPTURED_ROWS_MAX;
    let rows = if counts.rows <= 8 { counts.rows.next_power_of_two() } else { counts.rows.next_multiple_of(8) };
    let sampled = if counts.sampled == counts.rows { rows } else { counts.sampled };
    let splits = counts.splits.next_power_of_two().min(splits_max);
    let spans = if counts.spans == counts.rows { rows } else { counts.spans };
    let plain = generates && counts.snapshots == 0;
    plain.then_some(Counts { rows, sampled, generated: rows, splits, spans, ..counts })
}

/// The pages of all layers.
fn take_pages(
    device: &Arc<Device>,
    program: &Program,
    limits: Limits,
    is_windowed: &[bool],
) -> Result<Vec<Pages>, DriverFault> {
    let each = program.caches.iter().zip(is_windowed).map(|(spec, &is_windowed)| {
        let count = u64::from(if is_windowed { limits.window_pages } else { limits.pages });
        let bytes = count * u64::from(spec.kv_heads * PAGE_ROWS) * u64::from(spec.head_dim) * spec.dtype.bytes() as u64;
        let take = |what| DeviceMemory::zeroed(device, bytes, what);
        Ok(Pages { spec: *spec, keys: take("keys")?, values: take("values")?, is_windowed })
    });
    each.collect()
}

fn take_splits(device: &Arc<Device>, program: &Program, limits: Limits) -> Result<Splits, DriverFault> {
    let (mut heads_max, mut elements_max) = (0u64, 0u64);
    for call in &program.calls {
        if let Call::Attend { q, kv_heads, group, .. } = call {
            heads_max = heads_max.max(u64::from(kv_heads * group));
            elements_max = elements_max.max(q.width.into());
        }
    }
    let most = Meta::splits_max(&limits);
    let each = u64::from(most) * elements_max.max(1) * 4;
    let portion = (SPLIT_BYTES / each).clamp(1, limits.rows_max.into());
    let take = |bytes, what| DeviceMemory::zeroed(device, bytes, what);
    let scalars = portion * u64::from(most) * heads_max * 4;
    Ok(Splits {
        largest: take(scalars, "the largest scores of splits")?,
        sums: take(scalars, "the sums of splits")?,
        values: take(portion * each, "the values of splits")?,
        portion: portion as u32,
        most,
    })
}

/// Buffers for the ports of the largest step, on the device and on the host, and scratch memory.
fn take_buffers(device: &Arc<Device>, program: &Program, limits: Limits) -> Result<(Bases, Staging), DriverFault> {
    let (inputs, outputs) = most_ports(program, |operand| {
        let rows = match operand.rows {
            RowSet::All => limits.rows_max,
            RowSet::Sampled => limits.sampled_max,
        };
        u64::from(rows) * u64::from(operand.width) * 4
    });
    let on_device = |bytes: &[u64]| -> Result<Vec<_>, DriverFault> {
        bytes.iter().map(|&bytes| DeviceMemory::zeroed(device, bytes, "a port")).collect()
    };
    let on_host = |bytes: &[u64]| -> Result<Vec<_>, DriverFault> {
        bytes.iter().map(|&bytes| Pinned::zeroed(device, bytes as usize)).collect()
    };
    let scratch = DeviceMemory::zeroed(device, program.scratch_bytes, "scratch memory")?;
    let staging = Staging { inputs: on_host(&inputs)?, outputs: on_host(&outputs)? };
    Ok((Bases { inputs: on_device(&inputs)?, outputs: on_device(&outputs)?, scratch }, staging))
}

impl Execute for CudaExecutor {
    fn program(&self) -> &Program {
        &self.program
    }

    fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(|weight| weight.bytes()).sum()
    }

    fn run(&mut self, step: &Step, inputs: &[&Memory], outputs: &mut [&mut Memory]) -> Result<(), KernelError> {
        self.admit(step, inputs, outputs)?;
        self.stream.device().bind()?;
        let counts = self.meta.fill(step, &self.stream)?;
        for (port, input) in inputs.iter().enumerate() {
            let bytes = self.port_bytes(Place::Input(port as u16), &counts).min(input.len());
            let staged = &mut self.staging.inputs[port].as_bytes_mut()[..bytes];
            staged.copy_from_slice(&input.as_bytes()[..bytes]);
            // SAFETY: device and host buffer have the same length; nothing runs that uses them.
            unsafe { self.stream.upload(staged, self.bases.inputs[port].address()) }?;
        }
        self.enqueue(counts)?;
        for (port, output) in outputs.iter().enumerate() {
            let bytes = self.port_bytes(Place::Output(port as u16), &counts).min(output.len());
            // SAFETY: device and host buffer have the same length.
            unsafe {
                self.stream.download(self.bases.outputs[port].address(), &mut self.staging.outputs[port], bytes)
            }?;
        }
        self.stream.wait()?;
        for (port, output) in outputs.iter_mut().enumerate() {
            let bytes = self.port_bytes(Place::Output(port as u16), &counts).min(output.len());
            output.as_bytes_mut()[..bytes].copy_from_slice(&self.staging.outputs[port].as_bytes()[..bytes]);
        }
        Ok(())
    }
}

impl CudaExecutor {
    /// Bytes of a port in a step.
    fn port_bytes(&self, place: Place, counts: &Counts) -> usize {
        let mut bytes = 0;
        for call in &self.program.calls {
            call.visit(&mut |_, operand| {
                if operand.place == place {
                    let rows = if operand.rows == RowSet::All { counts.rows } else { counts.sampled };
                    bytes = bytes.max(rows as usize * operand.width as usize * 4);
                }
            });
        }
        bytes
    }
}
