//! Builds an engine: architecture, plan, weights, actors, lanes.

use super::captures::Captures;
use super::devices::DeviceKind;
use super::executors::Loader;
use super::replica::{self, TRACE_RECORDS};
use super::{Core, Engine, EngineError, RequestLimits, devices};
use crate::checkpoint::{Checkpoint, Integrity, Note, remote_code};
use crate::error::Error;
use crate::text::Tokenizer;
use actors::trace::Trace;
use actors::wiring::{Fittings, wire};
use graph::DType;
use graph::models::{self, Architecture, Family};
use graph::plan::{
    Bounds, Deployment, DeviceSpec, Numerics, Plan, PlanError, Quantization, compile_captured, device_faults,
    stage_ranks,
};
use kernels::{Isa, TeamSpec};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tracing::info_span;

/// How an engine is to be built; see [`Engine::builder`].
#[derive(Clone)]
pub struct EngineBuilder {
    pub(super) checkpoint: Checkpoint,
    families: Vec<Family>,
    pub(super) dummy_weights: bool,
    device: DeviceKind,
    devices: Option<Vec<String>>,
    pub(super) tensor: u32,
    pipeline: u32,
    data: u32,
    pub(super) expert: u32,
    pub(super) numerics: Numerics,
    layer_partition: Option<Vec<u32>>,
    bounds: Bounds,
    pub(super) dtype: Option<DType>,
    pub(super) quantization: Option<Quantization>,
    pub(super) cache_dtype: Option<DType>,
    pub(crate) threads: Option<usize>,
    memory_bytes: Option<u64>,
    capture: bool,
    pub(super) edges: Vec<String>,
    prefix_caching: bool,
    pub(super) scan: bool,
    pin: bool,
    pub(super) isa: Isa,
    trace: Option<Trace>,
}

impl EngineBuilder {
    pub(super) fn new(checkpoint: Checkpoint) -> Self {
        let builder = Self {
            checkpoint,
            families: vec![],
            dummy_weights: false,
            device: DeviceKind::Auto,
            devices: None,
            tensor: 1,
            pipeline: 1,
            data: 1,
            expert: 1,
            numerics: Numerics::Invariant,
            layer_partition: None,
            bounds: Bounds::default(),
            dtype: None,
            quantization: None,
            cache_dtype: None,
            threads: None,
            memory_bytes: None,
            capture: false,
            edges: vec![],
            prefix_caching: true,
            scan: true,
            pin: false,
            isa: Isa::detect(),
            trace: None,
        };
        builder.aligned()
    }

    /// Weights are called as the model calls them, wherever the checkpoint has its text model.
    fn aligned(mut self) -> Self {
        if let Ok(architecture) = self.architecture() {
            self.checkpoint = self.checkpoint.aligned(&architecture.model.tensors());
        }
        self
    }

    /// One more family that configurations are read by: an architecture described outside this crate, by the blocks of
    /// [`graph::models::blocks`] or op by op. It goes before a known one of the same `model_type`.
    pub fn family(mut self, family: Family) -> Self {
        self.families.push(family);
        self.aligned()
    }

    /// The model.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Makes weights up from the configuration: bf16, or the dtype given.
    pub fn dummy_weights(mut self) -> Self {
        self.dummy_weights = true;
        self
    }

    /// The kind of devices, where they are not named: GPUs where there are any, unless told otherwise.
    pub fn device(mut self, kind: DeviceKind) -> Self {
        self.device = kind;
        self
    }

    /// Devices by name, `cpu:0`, `cuda:0` and so on: one a rank, stage by stage.
    pub fn devices(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.devices = Some(names.into_iter().collect());
        self
    }

    /// Ranks that share each layer.
    pub fn tensor_parallel_size(mut self, degree: u32) -> Self {
        self.tensor = degree;
        self
    }

    /// Stages of the pipeline.
    pub fn pipeline_parallel_size(mut self, degree: u32) -> Self {
        self.pipeline = degree;
        self
    }

    /// Replicas of the whole plan, each with devices and pages of its own; requests are dealt to them one after the other. They share
    /// the weights in memory.
    pub fn data_parallel_size(mut self, degree: u32) -> Self {
        self.data = degree;
        self
    }

    /// Ranks that the experts of a layer are dealt out to: 1, or all that share the layer; without those, so many ranks that each compute all
    /// of the rest.
    pub fn expert_parallel_size(mut self, degree: u32) -> Self {
        self.expert = degree;
        self
    }

    /// How sums are made that ranks may share; [`Numerics::Invariant`] unless given.
    pub fn numerics(mut self, numerics: Numerics) -> Self {
        self.numerics = numerics;
        self
    }

    /// Layers a stage.
    pub fn layer_partition(mut self, layers: Vec<u32>) -> Self {
        self.layer_partition = Some(layers);
        self
    }

    /// Sequences, rows, positions and bytes.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Element type of the weights in memory; as stored unless given.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// What is quantised when weights are loaded; nothing unless given.
    pub fn quantization(mut self, quantization: Quantization) -> Self {
        self.quantization = Some(quantization);
        self
    }

    /// Element type of keys and values; f32 for f32 checkpoints, else bf16, unless given.
    pub fn kv_cache_dtype(mut self, dtype: DType) -> Self {
        self.cache_dtype = Some(dtype);
        self
    }

    /// Threads of all devices together; one a core unless given.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Ranks of a stage, stages and replicas.
    fn degrees(&self) -> [u32; 3] {
        [stage_ranks(self.tensor, self.expert), self.pipeline, self.data]
    }

    /// Devices of all replicas together.
    fn device_count(&self) -> usize {
        let ranks = self.degrees().into_iter().fold(1, u32::saturating_mul);
        self.devices.as_ref().map_or(ranks as usize, Vec::len)
    }

    /// These threads, or one a device where that is more.
    pub(crate) fn at_least_a_thread_each(self, threads: usize) -> Self {
        let devices = self.device_count();
        self.threads(threads.max(devices).max(1))
    }

    /// Bytes of memory that all of its devices may take together; what the system has available unless given.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Makes room for logits: those of every prompt row, up to a whole step.
    pub fn capture_logits(mut self) -> Self {
        self.capture = true;
        self
    }

    /// Every prompt computes its own pages.
    pub fn without_prefix_caching(mut self) -> Self {
        self.prefix_caching = false;
        self
    }

    /// Takes weights as they are, even those that are not finite or over [`crate::checkpoint::WEIGHT_MAX`].
    pub fn without_weight_scan(mut self) -> Self {
        self.scan = false;
        self
    }

    /// Pins every thread to a core of its own, where there are enough.
    pub fn pin_threads(mut self) -> Self {
        self.pin = true;
        self
    }

    /// Runs the kernels of this instruction set instead of the fastest one.
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    /// Records into this trace instead of one of its own: what was recorded in it before lies on the same line of time.
    pub fn trace(mut self, trace: &Trace) -> Self {
        self.trace = Some(trace.clone());
        self
    }

    /// The model that the checkpoint's configuration describes.
    ///
    /// # Errors
    /// All faults of the configuration.
    pub fn architecture(&self) -> Result<Architecture, Error> {
        Ok(models::describe_among(&self.families, self.checkpoint.config()).map_err(EngineError::Architecture)?)
    }

    fn stored(&self, name: &str) -> DType {
        self.checkpoint.weight_dtype(name).unwrap_or(DType::Bf16)
    }

    /// The threads and cores of all devices together: what the limits of the machine are measured with.
    pub fn all_threads(&self) -> TeamSpec {
        let devices = self.device_count();
        devices::all_threads(devices.max(1), self.threads, self.pin)
    }

    /// The instruction set of the kernels.
    pub fn instruction_set(&self) -> Isa {
        self.isa
    }

    /// The plan, without loading a weight; of several replicas that of the first.
    ///
    /// # Errors
    /// All faults of the configuration, the checkpoint's tensors, the settings or the plan.
    pub fn plan(&self) -> Result<(Architecture, Plan), Error> {
        let (architecture, _, mut plans) = self.plans()?;
        Ok((architecture, plans.swap_remove(0)))
    }

    fn asked(&self) -> devices::Asked<'_> {
        devices::Asked { kind: self.device, names: self.devices.as_deref(), memory: self.memory_bytes }
    }

    /// The devices of each replica.
    fn replica_devices(&self) -> Result<Vec<Vec<DeviceSpec>>, Error> {
        let ranks = self.degrees().into_iter().fold(1, u32::saturating_mul);
        let all = devices::specs(self.asked(), ranks)?;
        let mut faults = vec![];
        if self.data == 0 {
            faults.push(PlanError::Setting { setting: "data-parallel-size", value: 0, allowed: "1 or more".into() });
        }
        if self.data > 1 {
            faults.extend(device_faults(&all, self.degrees()));
        }
        if !faults.is_empty() {
            return Err(EngineError::Plan(faults).into());
        }
        // The plan of one replica looks at its devices itself.
        let each = (all.len() / self.data as usize).max(1);
        Ok(if self.data == 1 { vec![all] } else { all.chunks(each).map(<[DeviceSpec]>::to_vec).collect() })
    }

    /// The model, what is captured of it, and a plan for each replica.
    fn plans(&self) -> Result<(Architecture, Captures, Vec<Plan>), Error> {
        let _span = info_span!("plan").entered();
        let mut architecture = self.architecture()?;
        if !self.dummy_weights {
            let unclaimed = self.checkpoint.check_against(&architecture.model.tensors())?;
            architecture.notes.extend(unclaimed.parts.iter().map(ToString::to_string));
            architecture.notes.extend(self.checkpoint.quantized());
        }
        let model = &architecture.model;
        let weight_dtype = |name: &str| self.dtype.unwrap_or_else(|| self.stored(name));
        let first = model.params().first().map_or(DType::F32, |p| weight_dtype(&p.name));
        let auto = if first == DType::F32 { DType::F32 } else { DType::Bf16 };
        let mut bounds = self.bounds;
        let captures = Captures::select(model, &self.edges)?;
        if !self.edges.is_empty() && bounds.max_num_batched_tokens.is_none() {
            bounds.max_num_batched_tokens = Some(captures.step_rows());
        }
        if self.capture && bounds.sampled_rows_max.is_none() {
            bounds.sampled_rows_max = Some(bounds.max_num_batched_tokens.unwrap_or(256));
        }
        let deployment = Deployment {
            family: architecture.family,
            tensor: self.tensor,
            pipeline: self.pipeline,
            expert: self.expert,
            numerics: self.numerics,
            devices: vec![],
            layer_partition: self.layer_partition.clone(),
            bounds,
            max_positions: architecture.max_positions,
            weight_dtype: &weight_dtype,
            quantization: self.quantization,
            cache_dtype: self.cache_dtype.unwrap_or(auto),
        };
        architecture.notes.extend(devices::fallback(self.asked()));
        if self.data > 1 {
            architecture.notes.push(format!(
                "{} replicas, to which requests are dealt one after the other: what a plan says is of each",
                self.data
            ));
        }
        let model = &architecture.model;
        let of = |devices| {
            let deployment = Deployment { devices, ..deployment.clone() };
            compile_captured(model, &deployment, captures.values()).map_err(EngineError::Plan)
        };
        let plans = self.replica_devices()?.into_iter().map(of).collect::<Result<Vec<_>, _>>()?;
        devices::threads_each(self.device_count(), self.threads)?;
        Ok((architecture, captures, plans))
    }

    /// Loads the weights and starts the lanes.
    ///
    /// # Errors
    /// As [`EngineBuilder::plan`], and whatever reading the weights or starting threads fails with.
    pub fn build(self) -> Result<Engine, Error> {
        let _span = info_span!("engine build").entered();
        let (architecture, captures, mut plans) = self.plans()?;
        let (teams, spin) = devices::teams(self.device_count(), self.threads, self.pin)?;
        let (vocabulary, labels) = (architecture.model.vocabulary(), architecture.labels.map(Arc::new));
        let tokenizer = self.checkpoint.tokenizer()?;
        if let Some(tokenizer) = &tokenizer {
            tokenizer.check_rows(vocabulary)?;
        }
        let defaults = self.checkpoint.generation_defaults(vocabulary)?;
        let unguarded = match self.checkpoint.verify()? {
            Integrity::Unknown => Some(Note::ManifestAbsent { dir: self.checkpoint.dir().into() }),
            Integrity::Held { .. } | Integrity::Inherent => None,
        };
        let said = defaults.notes.iter().map(ToString::to_string);
        let code = remote_code(self.checkpoint.config()).into_iter().chain(unguarded).map(|note| note.to_string());
        let notes = code.chain(architecture.notes).chain(said);
        let notes = notes.chain(plans[0].data().settings.notes.iter().cloned()).collect();
        let trace = self.trace.clone().unwrap_or_default();
        let drawn = tokenizer.as_ref().map_or(vocabulary, Tokenizer::vocabulary_len);
        let allowed = labels.as_ref().map_or(drawn, |labels| labels.names.len() as u32);
        let captures_rows = self.capture || labels.is_some();
        let (mut loader, mut replicas, mut batcher) = (Loader::new(&self), vec![], None);
        for (plan, teams) in plans.iter().zip(teams.chunks(teams.len() / plans.len())) {
            let fittings = Fittings {
                executors: loader.executors(plan, teams, allowed)?,
                allowed,
                capture: captures_rows,
                prefix_caching: self.prefix_caching,
                max_waiting: 2 * plan.data().settings.max_num_seqs,
                trace: &trace,
                trace_records: TRACE_RECORDS,
            };
            let mut wiring = wire(plan, fittings);
            batcher = Some(*wiring.dispatcher.batcher().spec());
            replicas.push(replica::start(plan, wiring, (teams, spin), (tokenizer.clone(), captures.clone()), &trace)?);
        }
        let batcher = batcher.expect("there is a replica");
        let limits = RequestLimits { batcher, vocabulary, captures: captures_rows, labels };
        let plan = plans.swap_remove(0);
        Ok(Engine(Arc::new(Core {
            builder: self.clone(),
            name: self.checkpoint.dir().display().to_string(),
            plan,
            tokenizer,
            defaults,
            notes,
            limits,
            captures,
            replicas,
            trace,
            next_id: AtomicU64::new(0),
        })))
    }
}
