//! A plan as data: what a file holds, before anybody has checked it.

use super::bridge::Move;
use super::call::{Program, RowSet};
use super::settings::Numerics;
use crate::axis::ids;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Version of the plan's form; another one is refused.
pub const VERSION: u32 = 1;

ids!(
    /// An actor of a plan.
    ActorId,
    /// A device of a plan.
    DeviceId,
);

/// The numbers that bound a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Sequences that run at the same time.
    pub max_num_seqs: u32,
    /// Rows of the largest step.
    pub max_num_batched_tokens: u32,
    /// Positions of the longest sequence.
    pub max_model_len: u32,
    /// Whether the user gave it; a default is lowered to fit, and said so.
    pub max_model_len_given: bool,
    /// Sampled rows of the largest step.
    pub sampled_rows_max: u32,
    /// Bytes of key/value cache a device; `None` takes what the largest batch needs, up to half of what is free.
    pub kv_cache_memory_bytes: Option<u64>,
    /// Steps on their way at the same time.
    pub in_flight: u32,
    /// What was lowered to fit, in words.
    pub notes: Vec<String>,
}

/// A device and what it holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Its name: `cpu:0`.
    pub name: String,
    /// Bytes it has.
    pub memory_bytes: u64,
    /// Bytes of weights on it.
    pub weight_bytes: u64,
    /// Bytes of key/value cache on it.
    pub cache_bytes: u64,
    /// Bytes of recurrent state on it.
    #[serde(default)]
    pub state_bytes: u64,
    /// Bytes of channels and scratch on it.
    pub buffer_bytes: u64,
}

impl DevicePlan {
    /// The number of a GPU; `None` for the cores.
    pub fn gpu(&self) -> Option<u32> {
        gpu_number(&self.name)
    }
}

/// The number of a GPU, by the name of a device: `cuda:0`.
pub fn gpu_number(name: &str) -> Option<u32> {
    name.strip_prefix("cuda:").and_then(|number| number.parse().ok())
}

/// Pages of layers whose queries read a window of their past: what lies behind it is given up while a sequence runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WindowPages {
    /// How many. None where no layer has a window, or where windows are as long as sequences: those layers use the other pages.
    pub pages: u32,
    /// Positions that a query reads: the largest window of all layers.
    pub window: u32,
}

/// Slots of recurrent state: what a sequence leaves behind in ops whose state has one size however long the sequence is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StateSlots {
    /// For running sequences: two each, since a step reads one and writes another.
    pub running: u32,
    /// For snapshots at page borders, which prompts with the same beginning go on from.
    pub snapshots: u32,
}

/// One collective of a communicator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CollectivePlan {
    /// What is done.
    pub how: Move,
    /// The edge it carries, as people name it.
    pub edge: String,
    /// Input ports, one a rank, in the order of ranks: the order of the reduction.
    pub inputs: Vec<u16>,
    /// Output port; `None` where this rank only contributes.
    pub output: Option<u16>,
    /// Elements of a row that each rank brings.
    pub width: u32,
    /// Runs of a row that are gathered one by one: 1 unless the axis gathered lies inside others.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub blocks: u32,
    /// Which rows.
    pub rows: RowSet,
}

fn one() -> u32 {
    1
}

fn is_one(blocks: &u32) -> bool {
    *blocks == 1
}

/// A value that people read while the model runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CapturePlan {
    /// The edge that it is of, as people name it.
    pub edge: String,
    /// Elements of a row.
    pub width: u32,
    /// Which rows.
    pub rows: RowSet,
}

/// What an actor is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Role {
    /// Forms steps. Input 0: samples. Output 0: tickets.
    Batcher,
    /// Owns the pages. It answers in the batcher's own turn, so it has no ports.
    Pool {
        /// How many.
        pages: u32,
        /// Positions of one.
        page_rows: u32,
        /// Slots of recurrent state.
        #[serde(default)]
        states: StateSlots,
        /// Pages of layers with a window.
        #[serde(default)]
        windows: WindowPages,
    },
    /// Resolves token ids. Input 0: tickets; input 1: samples. Output 0: ids.
    Feed,
    /// Computes a segment. Input 0: tickets; the program's inputs follow. Outputs: the program's.
    Stage {
        /// Which pipeline stage.
        stage: u32,
        /// Which tensor rank.
        rank: u32,
        /// The layers of the stage.
        layers: Range<u32>,
        /// What it does.
        program: Program,
        /// Elements of a row of each input of the program.
        input_widths: Vec<u32>,
        /// Elements of a row of each output of the program.
        output_widths: Vec<u32>,
    },
    /// Moves values between the ranks of one group.
    Communicator {
        /// The group: all communicators of one name.
        group: String,
        /// The place in it.
        rank: u32,
        /// What it does, in the one order of the group.
        collectives: Vec<CollectivePlan>,
    },
    /// Draws tokens. Input 0: tickets; input 1: logits; an input for each capture. Output 0: samples.
    Sampler {
        /// Elements of a row of logits.
        vocabulary: u32,
        /// What is sent back with the rows of requests that ask for it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        captures: Vec<CapturePlan>,
    },
}

/// An actor and where it runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ActorPlan {
    /// A name of its own.
    pub name: String,
    /// Its device; `None` is the control plane.
    pub device: Option<DeviceId>,
    /// What it is.
    #[serde(flatten)]
    pub role: Role,
}

/// What the buffers of a channel hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "carries", rename_all = "snake_case")]
pub enum Carries {
    /// Tickets.
    Ticket,
    /// Sampled tokens.
    Samples,
    /// Token ids, one a row.
    Ids,
    /// Rows of f32.
    Tensor {
        /// Elements of a row.
        width: u32,
        /// Which rows.
        rows: RowSet,
    },
}

/// One end of a channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct End {
    /// The actor.
    pub actor: ActorId,
    /// Its port.
    pub port: u16,
}

/// A channel: as many buffers as there are credits, seen by every reader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Channel {
    /// The edge it carries, as people name it.
    pub name: String,
    /// The writer.
    pub from: End,
    /// The readers.
    pub to: Vec<End>,
    /// What a buffer holds.
    #[serde(flatten)]
    pub carries: Carries,
    /// Buffers.
    pub credits: u32,
    /// Bytes of one buffer.
    pub bytes: u64,
}

/// A plan that nobody has checked yet: what a file holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RawPlan {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The family of the model.
    pub family: String,
    /// Layers of the model.
    pub layers: u32,
    /// Entries of a row of logits.
    pub vocabulary: u32,
    /// Tensor degree.
    pub tensor: u32,
    /// Pipeline degree.
    pub pipeline: u32,
    /// Expert degree.
    pub expert: u32,
    /// How sums are made.
    #[serde(default)]
    pub numerics: Numerics,
    /// The numbers that bound a run.
    pub settings: Settings,
    /// Devices.
    pub devices: Vec<DevicePlan>,
    /// Actors.
    pub actors: Vec<ActorPlan>,
    /// Channels.
    pub channels: Vec<Channel>,
}

impl RawPlan {
    /// The programs of all stages.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.actors.iter().filter_map(|actor| match &actor.role {
            Role::Stage { program, .. } => Some(program),
            Role::Batcher | Role::Pool { .. } | Role::Feed | Role::Communicator { .. } | Role::Sampler { .. } => None,
        })
    }
}
