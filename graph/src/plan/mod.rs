//! What runs where, as data: the passes from a model to a plan, and the check that is the only way to a [`Plan`].
//!
//! `Model → Sharded → Bridged → Fused → Partitioned → RawPlan → Plan`: shard, bridge, fuse, partition, memory, credits, lower, one
//! file each; every pass takes the type that the one before it made.

mod access;
pub mod bridge;
pub mod call;
mod check;
pub mod cost;
mod credits;
mod error;
pub mod explain;
pub mod fuse;
mod live;
mod lower;
mod memory;
pub mod partition;
pub mod raw;
pub mod settings;
pub mod shard;
mod tree;
mod weights;

pub use access::Access;
pub use bridge::Move;
pub use call::{CacheSpec, Call, Cut, Operand, Place, Program, RowSet, StateSpec, WeightId, WeightSpec, WeightUse};
pub use error::PlanError;
pub use raw::{
    ActorId, ActorPlan, CapturePlan, Carries, Channel, CollectivePlan, DeviceId, DevicePlan, End, RawPlan, Role,
    Settings, StateSlots, VERSION, WindowPages, gpu_number,
};
pub use settings::{Bounds, Deployment, DeviceSpec, Numerics, Quantization, stage_ranks};
pub use shard::{Dist, Layout, Rule, Rules};

use crate::axis::ValueId;
use crate::model::Model;
use crate::op::Op;
use crate::rope::{Rope, RopeScaling};

/// Positions of one page of key/value memory.
pub const PAGE_ROWS: u32 = 16;

/// Parts of a sum, at most: the most ranks that may share it under [`Numerics::Tree`].
pub const SUM_PARTS_MAX: u32 = 8;

/// Bytes of a plan's text: that of a model of a hundred layers on a hundred devices has a fifth of it.
pub const TEXT_BYTES_MAX: usize = 256 << 20;

/// A plan that holds every law of [`Plan::check`]. Only a `Plan` can be started.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan(RawPlan);

impl Plan {
    /// Checks that every port is fed once and by what it wants, that layers and devices are used once, that each device holds
    /// what is placed on it, that no actors wait for each other for ever, and that the members of a group agree.
    ///
    /// # Errors
    /// All faults at once.
    pub fn check(raw: RawPlan) -> Result<Self, Vec<PlanError>> {
        let faults = check::check(&raw);
        if faults.is_empty() { Ok(Self(raw)) } else { Err(faults) }
    }

    /// Reads a plan from JSON of at most [`TEXT_BYTES_MAX`] and checks it.
    ///
    /// # Errors
    /// All faults at once.
    pub fn from_json(text: &str) -> Result<Self, Vec<PlanError>> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(vec![PlanError::TooLarge { what: "bytes of text", found: text.len(), most: TEXT_BYTES_MAX }]);
        }
        let raw = serde_json::from_str(text).map_err(|e| vec![PlanError::Text(e.to_string())])?;
        Self::check(raw)
    }

    /// The plan as JSON, to be read by people and by [`Plan::from_json`].
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.0).expect("a plan is names and numbers")
    }

    /// What the plan says.
    pub fn data(&self) -> &RawPlan {
        &self.0
    }

    /// Whether a row's bits depend on whether it is a prompt row or a generated one.
    pub fn has_two_forms(&self) -> bool {
        let calls = |a: &ActorPlan| match &a.role {
            Role::Stage { program, .. } => {
                let on_gpu = a.device.is_some_and(|device| self.0.devices[device.index()].gpu().is_some());
                program.calls.iter().any(|call| call.has_two_forms(on_gpu))
            }
            Role::Batcher | Role::Pool { .. } | Role::Feed | Role::Communicator { .. } | Role::Sampler { .. } => false,
        };
        self.0.actors.iter().any(calls)
    }

    /// Pages of layers with a window; none where no layer has pages of its own for it.
    pub fn windows(&self) -> WindowPages {
        let windows = |a: &ActorPlan| match a.role {
            Role::Pool { windows, .. } => Some(windows),
            Role::Batcher | Role::Feed | Role::Stage { .. } | Role::Communicator { .. } | Role::Sampler { .. } => None,
        };
        self.0.actors.iter().find_map(windows).unwrap_or_default()
    }

    /// What the samples bring beside the logits of a captured row, in order.
    pub fn captures(&self) -> &[CapturePlan] {
        let found = self.0.actors.iter().find_map(|actor| match &actor.role {
            Role::Sampler { captures, .. } => Some(captures.as_slice()),
            Role::Batcher | Role::Pool { .. } | Role::Feed | Role::Stage { .. } | Role::Communicator { .. } => None,
        });
        found.unwrap_or_default()
    }

    /// Slots of recurrent state: those of running sequences and those of snapshots.
    pub fn slots(&self) -> u32 {
        let states = self.states();
        states.running + states.snapshots
    }

    /// How the slots of recurrent state are shared out; none where no op recurs.
    pub fn states(&self) -> StateSlots {
        let states = |a: &ActorPlan| match a.role {
            Role::Pool { states, .. } => Some(states),
            Role::Batcher | Role::Feed | Role::Stage { .. } | Role::Communicator { .. } | Role::Sampler { .. } => None,
        };
        self.0.actors.iter().find_map(states).unwrap_or_default()
    }

    /// Pages of the pool.
    pub fn pages(&self) -> u32 {
        let pages = |a: &ActorPlan| match a.role {
            Role::Pool { pages, .. } => Some(pages),
            Role::Batcher | Role::Feed | Role::Stage { .. } | Role::Communicator { .. } | Role::Sampler { .. } => None,
        };
        self.0.actors.iter().find_map(pages).unwrap_or(0)
    }
}

/// Runs all passes.
///
/// # Errors
/// All faults that can be found together: of the settings, of the degrees, of the devices, then of the plan.
pub fn compile(model: &Model, deployment: &Deployment<'_>) -> Result<Plan, Vec<PlanError>> {
    compile_captured(model, deployment, &[])
}

/// As [`compile`], with values of the model that the sampler reads beside the logits, each once, whole and in this order.
///
/// # Errors
/// As [`compile`].
pub fn compile_captured(
    model: &Model,
    deployment: &Deployment<'_>,
    captured: &[ValueId],
) -> Result<Plan, Vec<PlanError>> {
    let apart;
    let (model, captured) = match deployment.numerics {
        Numerics::Invariant => (model, captured),
        Numerics::Tree => {
            let (model, at) = tree::by_choice(model);
            apart = (model, captured.iter().map(|v| at[v.index()]).collect::<Vec<_>>());
            (&apart.0, apart.1.as_slice())
        }
    };
    let mut faults = vec![];
    let mut settings = settings::resolve(deployment, &mut faults);
    faults.extend(device_faults(&deployment.devices, [deployment.ranks(), deployment.pipeline, 1]));
    let layers = partition::layers(model, deployment.pipeline.max(1), deployment.layer_partition.as_deref())
        .map_err(|fault| faults.push(fault));
    let rules = rules(model, deployment, &mut faults);
    let sharded = shard::shard(model, deployment.ranks().max(1), &rules).map_err(|more| faults.extend(more));
    let (Ok(layers), Ok(sharded), true) = (layers, sharded, faults.is_empty()) else { return Err(faults) };
    settings.notes.extend(sharded.notes.iter().cloned());
    if deployment.tensor == 1 && deployment.expert > 1 {
        settings.notes.push(format!(
            "expert-parallel-size {}: experts are dealt out to the ranks of a stage, and every rank computes all of the rest",
            deployment.expert
        ));
    }
    settings.notes.extend(stretched(model, settings.max_model_len));
    let whole = partition::partition(fuse::fuse(bridge::bridges(sharded, captured)), layers);
    let mut plan = RawPlan {
        version: VERSION,
        family: deployment.family.into(),
        layers: model.layers(),
        vocabulary: model.logits(),
        tensor: deployment.tensor,
        pipeline: deployment.pipeline,
        expert: deployment.expert,
        numerics: deployment.numerics,
        settings,
        devices: deployment.devices.iter().map(device).collect(),
        actors: vec![],
        channels: vec![],
    };
    faults.extend(lower::lower(&whole, deployment, &mut plan));
    weights::share(&mut plan);
    credits::grant(&mut plan);
    budget(&mut plan, deployment.bounds.max_num_seqs.is_some(), &mut faults);
    match Plan::check(plan) {
        Ok(plan) if faults.is_empty() => Ok(plan),
        Ok(_) => Err(faults),
        Err(more) => Err(faults.into_iter().chain(more).collect()),
    }
}

/// Which form a rotation has that has several, and why.
fn stretched(model: &Model, length: u32) -> Option<String> {
    let original = model.nodes().iter().find_map(|node| {
        let Op::Rope { rope: Rope { scaling: RopeScaling::LongRope { original, .. }, .. }, .. } = &node.op else {
            return None;
        };
        Some(*original)
    })?;
    let (side, form) = if length > original { ("over", "long") } else { ("within", "short") };
    Some(format!("rotary embedding: the {form} factors of longrope, since max-model-len {length} is {side} {original}"))
}

/// Which axes are cut: by the expert degree either experts or their insides.
fn rules(model: &Model, deployment: &Deployment<'_>, faults: &mut Vec<PlanError>) -> Rules {
    let Deployment { expert: asked, tensor, family, numerics, .. } = *deployment;
    let tree = numerics == Numerics::Tree;
    if asked <= 1 {
        return Rules { tree, ..Rules::default() };
    }
    if !model.nodes().iter().any(|node| matches!(node.op, Op::Route { .. })) {
        faults.push(PlanError::NoExperts { asked, family: family.into() });
    } else if tensor == 1 {
        // Only experts are dealt out: everything else is whole on every rank.
        return Rules { tree, tensor: vec![], ..Rules::by_expert() };
    } else if asked != tensor {
        let mut legal = vec![1, tensor.max(1)];
        legal.dedup();
        faults.push(PlanError::ExpertDegree { asked, tensor, legal });
    }
    Rules { tree, ..Rules::by_expert() }
}

fn device(spec: &DeviceSpec) -> DevicePlan {
    let (name, memory_bytes) = (spec.name.clone(), spec.memory_bytes);
    DevicePlan { name, memory_bytes, weight_bytes: 0, cache_bytes: 0, state_bytes: 0, buffer_bytes: 0 }
}

/// Whether there is one device for each rank of `data` replicas of `tensor` × `pipeline` ranks, and each once.
pub fn device_faults(devices: &[DeviceSpec], [tensor, pipeline, data]: [u32; 3]) -> Vec<PlanError> {
    let (found, mut faults) = (devices.len(), vec![]);
    if found as u64 != u64::from(tensor) * u64::from(pipeline) * u64::from(data) {
        faults.push(PlanError::DeviceCount { found, tensor, pipeline, data });
    }
    for (second, device) in devices.iter().enumerate() {
        if let Some(first) = devices[..second].iter().position(|d| d.name == device.name) {
            faults.push(PlanError::DeviceTwice { device: device.name.clone(), first, second });
        }
    }
    faults
}

/// Adds up what lies on each device, and gives the pool the pages that fit.
fn budget(plan: &mut RawPlan, sequences_given: bool, faults: &mut Vec<PlanError>) {
    let mut caches: Vec<Vec<CacheSpec>> = vec![vec![]; plan.devices.len()];
    let mut windowed: Vec<Vec<CacheSpec>> = caches.clone();
    let mut slot_bytes = vec![0; plan.devices.len()];
    let window = memory::window(plan);
    for (bytes, device) in weights::device_bytes(plan).into_iter().zip(&mut plan.devices) {
        device.weight_bytes = bytes;
    }
    for actor in &plan.actors {
        let (Some(device), Role::Stage { program, .. }) = (actor.device, &actor.role) else { continue };
        let Some(held) = plan.devices.get_mut(device.index()) else { continue };
        held.buffer_bytes += program.scratch_bytes;
        for (cache, own) in program.caches.iter().zip(program.windows()) {
            let kind = if own.is_some() && window > 0 { &mut windowed } else { &mut caches };
            kind[device.index()].push(*cache);
        }
        slot_bytes[device.index()] += program.states.iter().map(|s| s.slot_bytes()).sum::<u64>();
    }
    for channel in &plan.channels {
        let device = plan.actors[channel.from.actor.index()].device;
        if let Some(held) = device.and_then(|d| plan.devices.get_mut(d.index())) {
            held.buffer_bytes += channel.bytes * u64::from(channel.credits);
        }
    }
    let mut needs: Vec<memory::CacheNeed> = vec![];
    for (((device, caches), windowed), slot_bytes) in plan.devices.iter().zip(caches).zip(windowed).zip(slot_bytes) {
        let free = device.memory_bytes.saturating_sub(device.weight_bytes + device.buffer_bytes);
        let budget = plan.settings.kv_cache_memory_bytes.unwrap_or(free / 2);
        needs.push(memory::CacheNeed { device: device.name.clone(), caches, windowed, slot_bytes, budget });
    }
    let slots = memory::slots(&mut needs, &mut plan.settings, sequences_given, faults);
    let windows = memory::windows(&mut needs, window, &mut plan.settings, sequences_given, faults);
    let found = memory::pages(&needs, &mut plan.settings, faults);
    for actor in &mut plan.actors {
        if let Role::Pool { pages, states, windows: own, .. } = &mut actor.role {
            (*pages, *states, *own) = (found, slots, windows);
        }
    }
    for (device, need) in plan.devices.iter_mut().zip(&needs) {
        device.cache_bytes = need.page_bytes() * u64::from(found) + need.window_bytes() * u64::from(windows.pages);
        device.state_bytes = need.slot_bytes * u64::from(slots.running + slots.snapshots);
    }
}
