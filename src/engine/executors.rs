//! What runs the stages of a plan: weights, read once for all stages of a device, and an executor for each stage.

use super::{EngineBuilder, EngineError};
use crate::checkpoint::{DummyRows, Scanned, TensorRows};
use crate::error::Error;
use graph::DType;
use graph::plan::{End, Plan, Program, Role, WeightSpec};
use kernels::cuda::{self, CudaExecutor, DeviceWeight, Logits, Uploader};
use kernels::{Execute, Executor, KernelError, Limits, RowSource, Team, Weight};
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::info_span;

/// Loads weights, and keeps those that another stage or replica may share.
pub(super) struct Loader<'a> {
    builder: &'a EngineBuilder,
    /// Weights of the cores, by the number of their device in its replica.
    cores: Vec<(usize, WeightSpec, Arc<Weight>)>,
    /// GPUs, by number.
    gpus: BTreeMap<u32, Gpu>,
}

/// A GPU with what was copied to it.
struct Gpu {
    device: Arc<cuda::Device>,
    uploader: Uploader,
    weights: Vec<(WeightSpec, Arc<DeviceWeight>)>,
}

impl Gpu {
    fn open(number: u32) -> Result<Self, KernelError> {
        let device = cuda::Device::open(number)?;
        let uploader = Uploader::new(&device)?;
        Ok(Self { device, uploader, weights: vec![] })
    }
}

fn kernels(fault: KernelError) -> Error {
    EngineError::Kernels(vec![fault]).into()
}

impl<'a> Loader<'a> {
    pub(super) fn new(builder: &'a EngineBuilder) -> Self {
        Self { builder, cores: vec![], gpus: BTreeMap::new() }
    }

    /// The executors of a plan, of whose logits tokens below `allowed` are drawn. Stages of one device that use the same weight have it once,
    /// and so have replicas.
    pub(super) fn executors(
        &mut self,
        plan: &Plan,
        teams: &[Arc<Team>],
        allowed: u32,
    ) -> Result<BTreeMap<usize, Box<dyn Execute>>, Error> {
        let limits = Limits::of(plan);
        let mut executors = BTreeMap::new();
        for (number, actor) in plan.data().actors.iter().enumerate() {
            let (Role::Stage { program, .. }, Some(device)) = (&actor.role, actor.device) else { continue };
            let _span = info_span!("weights", of = actor.name.as_str()).entered();
            let gpu = plan.data().devices[device.index()].gpu();
            let team = &teams[device.index()];
            let executor = match gpu {
                Some(gpu) => self.on_gpu(gpu, program, (limits, logits(plan, number, allowed)), team)?,
                None => self.on_cores(device.index(), program, limits, team)?,
            };
            executors.insert(number, executor);
        }
        Ok(executors)
    }

    fn on_cores(
        &mut self,
        device: usize,
        program: &Program,
        limits: Limits,
        team: &Arc<Team>,
    ) -> Result<Box<dyn Execute>, Error> {
        let mut weights = vec![];
        for spec in &program.weights {
            let same = |(at, known, _): &&(usize, WeightSpec, _)| *at == device && known == spec;
            let weight = match self.cores.iter().find(same) {
                Some((_, _, weight)) => weight.clone(),
                None => Arc::new(load(self.builder, spec, |source| Weight::load(spec, source, team))?),
            };
            self.cores.push((device, spec.clone(), weight.clone()));
            weights.push(weight);
        }
        let executor = Executor::new(program.clone(), weights, limits, team.clone(), self.builder.isa);
        Ok(Box::new(executor.map_err(EngineError::Kernels)?))
    }

    fn on_gpu(
        &mut self,
        number: u32,
        program: &Program,
        (limits, logits): (Limits, Option<Logits>),
        team: &Arc<Team>,
    ) -> Result<Box<dyn Execute>, Error> {
        let builder = self.builder;
        let gpu = match self.gpus.entry(number) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Gpu::open(number).map_err(kernels)?),
        };
        let mut weights = vec![];
        for spec in &program.weights {
            let weight = match gpu.weights.iter().find(|(known, _)| known == spec) {
                Some((_, weight)) => weight.clone(),
                None => Arc::new(load(builder, spec, |source| gpu.uploader.load(spec, source, team))?),
            };
            gpu.weights.push((spec.clone(), weight.clone()));
            weights.push(weight);
        }
        let executor = CudaExecutor::new(&gpu.device, program.clone(), weights, limits, logits);
        Ok(Box::new(executor.map_err(EngineError::Kernels)?))
    }
}

/// The output of an actor whose rows are all that the sampler reads of it.
fn logits(plan: &Plan, number: usize, allowed: u32) -> Option<Logits> {
    let (data, vocab) = (plan.data(), plan.data().vocabulary);
    let is_read = |end: &End| end.port == 1 && matches!(data.actors[end.actor.index()].role, Role::Sampler { .. });
    let mut own = data.channels.iter().filter(|channel| channel.from.actor.index() == number);
    let port = own.find(|channel| channel.to.len() == 1 && is_read(&channel.to[0]))?.from.port.into();
    (vocab <= Logits::VOCAB_MAX).then_some(Logits { port, vocab, allowed: allowed.min(vocab) })
}

/// Reads a weight with `read`: made up, or from the checkpoint, looked through on the way unless the builder says otherwise.
fn load<W>(
    builder: &EngineBuilder,
    spec: &WeightSpec,
    read: impl FnOnce(&dyn RowSource) -> Result<W, KernelError>,
) -> Result<W, Error> {
    if builder.dummy_weights {
        return read(&DummyRows::new(spec, builder.dtype.unwrap_or(DType::Bf16), 0)?).map_err(kernels);
    }
    let rows = TensorRows::new(&builder.checkpoint, spec)?;
    if !builder.scan {
        return read(&rows).map_err(kernels);
    }
    let scanned = Scanned::new(&rows);
    let weight = read(&scanned).map_err(kernels)?;
    scanned.finish(&builder.checkpoint, &spec.name)?;
    Ok(weight)
}

impl RowSource for TensorRows {
    fn dtype(&self) -> DType {
        self.dtype()
    }

    fn copy_row(&self, row: usize, into: &mut [u8]) {
        self.copy_row(row, into);
    }
}

impl RowSource for DummyRows {
    fn dtype(&self) -> DType {
        self.dtype()
    }

    fn copy_row(&self, row: usize, into: &mut [u8]) {
        self.copy_row(row, into);
    }
}
