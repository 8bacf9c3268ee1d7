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
use crate::draws::{Drawn, TokenDraw};
use crate::error::KernelError;
use crate::executor::admit::{self, Gate};
use crate::executor::{Execute, Limits, Port, check, ports};
use crate::memory::Memory;
use crate::ops;
use crate::ops::draw::cuda::{Logits, TokenDrawer};
use crate::step::Step;
use graph::plan::{Call, PAGE_ROWS, Program};
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
    drawer: Option<TokenDrawer>,
    limits: Limits,
    gate: Gate,
}

/// The inputs and outputs, each with pinned memory of the host.
struct Staging {
    inputs: Vec<(Port, Pinned)>,
    outputs: Vec<(Port, Pinned)>,
}

impl CudaExecutor {
    /// Checks the program, loads its kernels and takes the memory of its largest step. Tokens are drawn from `logits`, if there are any.
    ///
    /// # Errors
    /// Every call that does not fit the weights, the scratch memory or the kernels there are; memory that there is not.
    pub fn new(
        device: &Arc<Device>,
        program: Program,
        weights: Vec<Arc<DeviceWeight>>,
        limits: Limits,
        logits: Option<Logits>,
    ) -> Result<Self, Vec<KernelError>> {
        let specs: Vec<_> = weights.iter().map(|weight| weight.spec()).collect();
        let faults = check::program(&program, &specs, limits);
        if !faults.is_empty() {
            return Err(faults);
        }
        let one = |fault: DriverFault| vec![fault.into()];
        let gate = Gate::new(&program, &specs, limits);
        let pages = take_pages(device, &program, limits, &gate.windowed(&program)).map_err(one)?;
        let states = program.states.iter().map(|spec| {
            let bytes = spec.elements * u64::from(limits.slots) * 4;
            Ok((DeviceMemory::zeroed(device, bytes, "recurrent states")?, spec.elements))
        });
        let states = states.collect::<Result<Vec<_>, _>>().map_err(one)?;
        let splits = take_splits(device, &program, limits).map_err(one)?;
        let bounds = Bounds { limits, tile_rows: prepare::tile_rows(&program), portion: splits.portion };
        let meta = Meta::new(device, bounds).map_err(one)?;
        let (bases, staging) = take_buffers(device, &program, limits).map_err(one)?;
        let rows_max = limits.rows_max.max(limits.sampled_max);
        let room = ops::contract::cuda::Room::of(&program, &specs, rows_max);
        let take = |bytes, what| DeviceMemory::zeroed(device, bytes, what).map_err(one);
        let shared = [
            take(room.parts, "sums of runs")?,
            take(room.arrived, "counts of runs")?,
            take(room.rounded, "rounded activations")?,
        ];
        let mut kept = vec![];
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
            arrived: shared[1].address(),
            rounded: shared[2].address(),
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
        let stream = Stream::new(device, true).map_err(one)?;
        let drawer = logits.map(|logits| TokenDrawer::new(device, logits, limits.sampled_max)).transpose();
        let drawer = drawer.map_err(|fault| vec![fault])?;
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
            drawer,
            limits,
            gate,
        })
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
    let (inputs, outputs) = ports(program);
    let most = |port: &Port| port.bytes(limits.rows_max, limits.sampled_max);
    let on_device = |ports: &[Port]| -> Result<Vec<_>, DriverFault> {
        ports.iter().map(|port| DeviceMemory::zeroed(device, most(port), "a port")).collect()
    };
    let on_host = |ports: &[Port]| -> Result<Vec<_>, DriverFault> {
        ports.iter().map(|port| Ok((*port, Pinned::zeroed(device, most(port) as usize)?))).collect()
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
        self.compute(step, (inputs, outputs), None)
    }

    fn draws_from(&self) -> Option<usize> {
        self.drawer.as_ref().map(TokenDrawer::port)
    }

    fn run_and_draw(
        &mut self,
        step: &Step,
        (inputs, outputs): (&[&Memory], &mut [&mut Memory]),
        (draws, needs_logits): (&[TokenDraw], bool),
        drawn: &mut Drawn,
    ) -> Result<(), KernelError> {
        drawn.clear();
        self.compute(step, (inputs, outputs), Some((draws, needs_logits)))?;
        if let Some(drawer) = &self.drawer {
            drawer.read(draws, drawn);
        }
        Ok(())
    }
}

impl CudaExecutor {
    /// One step; `draws` are the draws of its sampled rows, and whether their logits are wanted as well.
    fn compute(
        &mut self,
        step: &Step,
        (inputs, outputs): (&[&Memory], &mut [&mut Memory]),
        draws: Option<(&[TokenDraw], bool)>,
    ) -> Result<(), KernelError> {
        self.gate.admit(&self.program, step, inputs, outputs)?;
        admit::tables(step, self.limits)?;
        self.stream.device().bind()?;
        let counts = self.meta.fill(step, &self.stream)?;
        let bytes_of = |port: &Port| port.bytes(counts.rows, counts.sampled) as usize;
        for (((port, staged), at), input) in self.staging.inputs.iter_mut().zip(&self.bases.inputs).zip(inputs) {
            let bytes = bytes_of(port);
            let staged = &mut staged.as_bytes_mut()[..bytes];
            staged.copy_from_slice(&input.as_bytes()[..bytes]);
            // SAFETY: device and host buffer have the same length; nothing runs that uses them.
            unsafe { self.stream.upload(staged, at.address()) }?;
        }
        self.enqueue(counts)?;
        let mut stays = None;
        if let (Some(drawer), Some((draws, needs_logits))) = (&mut self.drawer, draws) {
            drawer.enqueue(draws, self.bases.outputs[drawer.port()].address(), &self.stream)?;
            stays = (!needs_logits).then(|| drawer.port());
        }
        let staged = self.staging.outputs.iter_mut().zip(&self.bases.outputs).enumerate();
        for (_, ((port, staged), from)) in staged.filter(|(at, _)| stays != Some(*at)) {
            // SAFETY: device and host buffer have the same length.
            unsafe { self.stream.download(from.address(), staged, bytes_of(port)) }?;
        }
        self.stream.wait()?;
        let staged = self.staging.outputs.iter().zip(outputs).enumerate();
        for (_, ((port, staged), output)) in staged.filter(|(at, _)| stays != Some(*at)) {
            let bytes = bytes_of(port);
            output.as_bytes_mut()[..bytes].copy_from_slice(&staged.as_bytes()[..bytes]);
        }
        Ok(())
    }
}
