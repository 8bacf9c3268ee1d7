//! Builds an engine: architecture, plan, weights, actors, lanes.

use super::captures::Captures;
use super::conductor::{Conductor, Signal};
use super::detokenizer::{Bulletin, Detokenizer};
use super::supervision::{Lanes, Supervisor};
use super::{Core, Engine, EngineError, RequestLimits, devices};
use crate::checkpoint::{Checkpoint, DummyRows, Integrity, Note, Scanned, TensorRows, remote_code};
use crate::error::Error;
use crate::text::Tokenizer;
use actix::Actor as _;
use actors::dispatcher::Dispatcher;
use actors::lane::{Down, Lane, LaneHandle, LaneSpec};
use actors::port::{Bell, channel};
use actors::stage::{Input, Output as StageOutput};
use actors::trace::Trace;
use actors::wiring::{Fittings, Wiring, wire};
use crossbeam::channel::{Receiver, Sender, bounded};
use graph::DType;
use graph::models::{self, Architecture, Family};
use graph::plan::{Bounds, Deployment, Plan, Role, WeightSpec, compile_captured};
use kernels::{Executor, Isa, Limits, RowSource, Team, TeamSpec, Weight};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::info_span;

/// Records that each lane keeps: about a minute of a small model's steps.
pub(super) const TRACE_RECORDS: usize = 1 << 16;
/// How long a lane polls before it sleeps, where it has a core of its own.
const SPIN: Duration = Duration::from_micros(50);
/// Bulletins between the conductor and the detokeniser: one written, one read, two on their way.
pub(super) const BULLETINS: usize = 4;
/// Orders that wait for the conductor.
pub(super) const ORDERS: usize = 256;
/// Sequences whose text has ended that wait to be given up: the conductor takes them all in every turn.
pub(super) const CANCELS: usize = 4096;

/// How an engine is to be built; see [`Engine::builder`].
#[derive(Clone)]
pub struct EngineBuilder {
    pub(super) checkpoint: Checkpoint,
    families: Vec<Family>,
    pub(super) dummy_weights: bool,
    devices: Option<Vec<String>>,
    pub(super) tensor: u32,
    pipeline: u32,
    pub(super) expert: u32,
    layer_partition: Option<Vec<u32>>,
    bounds: Bounds,
    pub(super) dtype: Option<DType>,
    pub(super) cache_dtype: Option<DType>,
    pub(crate) threads: Option<usize>,
    memory_bytes: Option<u64>,
    capture: bool,
    pub(super) edges: Vec<String>,
    prefix_caching: bool,
    scan: bool,
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
            devices: None,
            tensor: 1,
            pipeline: 1,
            expert: 1,
            layer_partition: None,
            bounds: Bounds::default(),
            dtype: None,
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

    /// Devices by name, `cpu:0` and so on: one a rank, stage by stage.
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

    /// Ranks that the experts of a layer are dealt out to: 1, or all that share the layer.
    pub fn expert_parallel_size(mut self, degree: u32) -> Self {
        self.expert = degree;
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

    /// These threads, or one a device where that is more.
    pub(crate) fn at_least_a_thread_each(self, threads: usize) -> Self {
        let devices = self.devices.as_ref().map_or((self.tensor * self.pipeline) as usize, Vec::len);
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
        let entry = graph::entry_name(name, 0);
        self.checkpoint.tensor(entry.as_deref().unwrap_or(name)).map_or(DType::Bf16, |tensor| tensor.dtype)
    }

    /// The threads and cores of all devices together: what the limits of the machine are measured with.
    pub fn all_threads(&self) -> TeamSpec {
        let devices = self.devices.as_ref().map_or((self.tensor * self.pipeline) as usize, Vec::len);
        devices::all_threads(devices.max(1), self.threads, self.pin)
    }

    /// The instruction set of the kernels.
    pub fn instruction_set(&self) -> Isa {
        self.isa
    }

    /// The plan, without loading a weight.
    ///
    /// # Errors
    /// All faults of the configuration, the checkpoint's tensors, the settings or the plan.
    pub fn plan(&self) -> Result<(Architecture, Plan), Error> {
        let _span = info_span!("plan").entered();
        let mut architecture = self.architecture()?;
        if !self.dummy_weights {
            let unclaimed = self.checkpoint.check_against(&architecture.model.tensors())?;
            architecture.notes.extend(unclaimed.parts.iter().map(ToString::to_string));
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
            devices: devices::specs(self.devices.as_deref(), self.tensor * self.pipeline, self.memory_bytes)?,
            layer_partition: self.layer_partition.clone(),
            bounds,
            max_positions: architecture.max_positions,
            weight_dtype: &weight_dtype,
            cache_dtype: self.cache_dtype.unwrap_or(auto),
        };
        let plan = compile_captured(model, &deployment, captures.values()).map_err(EngineError::Plan)?;
        devices::threads_each(plan.data().devices.len(), self.threads)?;
        Ok((architecture, plan))
    }

    /// Loads the weights and starts the lanes.
    ///
    /// # Errors
    /// As [`EngineBuilder::plan`], and whatever reading the weights or starting threads fails with.
    pub fn build(self) -> Result<Engine, Error> {
        let _span = info_span!("engine build").entered();
        let (architecture, plan) = self.plan()?;
        let (teams, spin) = devices::teams(plan.data().devices.len(), self.threads, self.pin)?;
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
        let notes = notes.chain(plan.data().settings.notes.iter().cloned()).collect();
        let executors = self.executors(&plan, &teams)?;
        let trace = self.trace.clone().unwrap_or_default();
        let drawn = tokenizer.as_ref().map_or(vocabulary, Tokenizer::vocabulary_len);
        let captures = self.capture || labels.is_some();
        let fittings = Fittings {
            executors,
            allowed: labels.as_ref().map_or(drawn, |labels| labels.names.len() as u32),
            capture: captures,
            prefix_caching: self.prefix_caching,
            max_waiting: 2 * plan.data().settings.max_num_seqs,
            trace: &trace,
            trace_records: TRACE_RECORDS,
        };
        let Wiring { lanes, mut dispatcher } = wire(&plan, fittings);
        let limits = RequestLimits { batcher: *dispatcher.batcher().spec(), vocabulary, captures, labels };
        let (outbox, mut inboxes) = channel((0..BULLETINS).map(|_| Bulletin::default()).collect(), 1);
        let track = trace.track("text", "detokenizer");
        let edge = trace.edge("tokens", dispatcher.track(), track);
        // Room for all: nobody faults again before he has been restarted.
        let (report, downs) = bounded(plan.data().actors.len() + 1);
        let running = Lanes::default();
        let supervisor = Supervisor::new(running.clone());
        let bulletins_out = StageOutput { outbox, edges: vec![edge] };
        let control = Control::start(dispatcher, bulletins_out, (downs, supervisor))?;
        let bulletins = Input { inbox: inboxes.remove(0), edge };
        let back = (control.cancels.clone(), control.bell.clone());
        let captures = Captures::select(&architecture.model, &self.edges)?;
        let detokenizer = Detokenizer::new(track, (tokenizer.clone(), captures.clone()), bulletins, back);
        let text = lane("text".into(), Duration::ZERO, &trace, (&report, &control.bell));
        let mut handles = vec![Lane::spawn(text, vec![Box::new(detokenizer)]).map_err(EngineError::Thread)?];
        for ((actors, device), team) in lanes.into_iter().zip(&plan.data().devices).zip(&teams) {
            let team = team.clone();
            let spin = if spin { SPIN } else { Duration::ZERO };
            let spec = LaneSpec {
                // A core that is not ours to use is no reason to stop: the lane runs where it may.
                prepare: Some(Box::new(move || drop(team.pin_caller()))),
                ..lane(device.name.clone(), spin, &trace, (&report, &control.bell))
            };
            handles.push(Lane::spawn(spec, actors).map_err(EngineError::Thread)?);
        }
        let names = std::iter::once("text").chain(plan.data().devices.iter().map(|device| device.name.as_str()));
        let orders = names.zip(&handles).map(|(name, lane)| (name.to_owned(), lane.orders().clone()));
        running.set(orders.collect()).expect("set once, here");
        Ok(Engine(Arc::new(Core {
            builder: self.clone(),
            name: self.checkpoint.dir().display().to_string(),
            plan,
            tokenizer,
            defaults,
            notes,
            limits,
            captures,
            running: (control, handles),
            trace,
            next_id: AtomicU64::new(0),
        })))
    }

    fn executors(&self, plan: &Plan, teams: &[Arc<Team>]) -> Result<BTreeMap<usize, Executor>, Error> {
        let settings = &plan.data().settings;
        let limits = Limits {
            rows_max: settings.max_num_batched_tokens,
            sampled_max: settings.sampled_rows_max,
            pages: plan.pages(),
            window_pages: plan.windows().pages,
            slots: plan.slots(),
        };
        let mut executors = BTreeMap::new();
        // Stages of one device that use the same weight have it once.
        let mut loaded: Vec<(usize, WeightSpec, Arc<Weight>)> = vec![];
        for (number, actor) in plan.data().actors.iter().enumerate() {
            let (Role::Stage { program, .. }, Some(device)) = (&actor.role, actor.device) else { continue };
            let _span = info_span!("weights", of = actor.name.as_str()).entered();
            let team = &teams[device.index()];
            let mut weights = vec![];
            for spec in &program.weights {
                let same = |(at, known, _): &&(usize, WeightSpec, _)| *at == device.index() && known == spec;
                let weight = match loaded.iter().find(same) {
                    Some((_, _, weight)) => weight.clone(),
                    None => Arc::new(self.load(spec, team)?),
                };
                loaded.push((device.index(), spec.clone(), weight.clone()));
                weights.push(weight);
            }
            let executor = Executor::new(program.clone(), weights, limits, team.clone(), self.isa);
            executors.insert(number, executor.map_err(EngineError::Kernels)?);
        }
        Ok(executors)
    }

    fn load(&self, spec: &WeightSpec, team: &Team) -> Result<Weight, Error> {
        let load = |source: &dyn RowSource| {
            Weight::load(spec, source, team).map_err(|fault| EngineError::Kernels(vec![fault]))
        };
        if self.dummy_weights {
            return Ok(load(&DummyRows::new(spec, self.dtype.unwrap_or(DType::Bf16), 0)?)?);
        }
        let rows = TensorRows::new(&self.checkpoint, spec)?;
        if !self.scan {
            return Ok(load(&rows)?);
        }
        let scanned = Scanned::new(&rows);
        let weight = load(&scanned)?;
        scanned.finish(&self.checkpoint, &spec.name)?;
        Ok(weight)
    }
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

/// A lane whose faults the conductor hears of.
fn lane(name: String, spin: Duration, trace: &Trace, (report, bell): (&Sender<Down>, &Bell)) -> LaneSpec {
    let (report, bell) = (report.clone(), bell.clone());
    let on_down = move |down| {
        // There is room, and where the conductor is gone so is everybody who waits.
        drop(report.try_send(down));
        bell.ring();
    };
    let recorder = trace.recorder(TRACE_RECORDS);
    LaneSpec { name, prepare: None, spin, recorder, on_down: Box::new(on_down) }
}

/// The control thread of an engine.
pub(super) struct Control {
    pub(super) orders: async_channel::Sender<super::conductor::Order>,
    pub(super) cancels: Sender<u64>,
    pub(super) bell: Bell,
    pub(super) thread: Option<std::thread::JoinHandle<()>>,
    /// Set once: the conductor ends at the next ring.
    pub(super) stop: Arc<AtomicBool>,
    /// Why the engine failed, once it has.
    pub(super) fault: Arc<OnceLock<String>>,
}

impl Control {
    fn start(
        dispatcher: Dispatcher,
        bulletins: StageOutput<Bulletin>,
        supervision: (Receiver<Down>, Supervisor),
    ) -> Result<Self, EngineError> {
        let (orders, receiver) = async_channel::bounded(ORDERS);
        let (cancels, cancelled) = bounded(CANCELS);
        let (hand, taken) = bounded::<()>(1);
        let stop: Arc<AtomicBool> = Arc::default();
        let stopped = stop.clone();
        let target: Arc<OnceLock<actix::Addr<Conductor>>> = Arc::default();
        let wake = target.clone();
        let bell = Bell::callback(Box::new(move || {
            if let Some(addr) = wake.get() {
                // Full of other signals, each of which makes the conductor look at everything.
                drop(addr.try_send(Signal::Turn));
            }
        }));
        let own = bell.clone();
        let fault: Arc<OnceLock<String>> = Arc::default();
        let failed = fault.clone();
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            let system = actix::System::new();
            system.block_on(async {
                let addr =
                    Conductor::new(dispatcher, (receiver, cancelled), (own, stopped), bulletins, (supervision, failed))
                        .start();
                let _ = target.set(addr);
                let _ = hand.send(());
            });
            if let Err(fault) = system.run() {
                eprintln!("control thread: {fault}");
            }
        })?;
        taken.recv().map_err(|_| EngineError::Ended(None))?;
        Ok(Self { orders, cancels, bell, thread: Some(thread), stop, fault })
    }
}

/// Lanes and their control, to be ended together.
pub(super) type Running = (Control, Vec<LaneHandle>);
