//! What can be wrong with a plan.

use thiserror::Error;

/// One fault of a deployment or a plan. A check returns all of them.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PlanError {
    /// An axis that a degree does not divide.
    #[error("{setting} {asked} does not divide axis {axis} of length {length}; legal degrees: {}", list(legal))]
    Degree {
        /// Name of the degree's setting.
        setting: &'static str,
        /// The degree asked for.
        asked: u32,
        /// The axis.
        axis: String,
        /// Its length.
        length: u32,
        /// Degrees that divide every cut axis.
        legal: Vec<u32>,
    },
    /// A tensor degree that is no branch of the tree in which the sums along an axis are made.
    #[error(
        "tensor-parallel-size {asked}: numerics tree sums along axis {axis} in a tree of {parts}; legal degrees: {}, or numerics invariant",
        list(legal)
    )]
    Branch {
        /// The degree asked for.
        asked: u32,
        /// The axis.
        axis: String,
        /// Leaves of the tree.
        parts: u32,
        /// Degrees that are branches of every tree.
        legal: Vec<u32>,
    },
    /// Experts over other ranks than there are.
    #[error(
        "expert-parallel-size {asked} of tensor {tensor}; legal degrees: {}: experts are dealt out to all tensor ranks of a stage, or to none",
        list(legal)
    )]
    ExpertDegree {
        /// The degree asked for.
        asked: u32,
        /// Tensor degree.
        tensor: u32,
        /// What it may be.
        legal: Vec<u32>,
    },
    /// Experts to be cut in a model that has none.
    #[error("expert-parallel-size {asked}: {family} has no experts; leave it out")]
    NoExperts {
        /// The degree asked for.
        asked: u32,
        /// The family.
        family: String,
    },
    /// More stages than layers.
    #[error("pipeline-parallel-size {asked} is more than the {layers} layers of the model; use 1 to {layers}")]
    Stages {
        /// Stages asked for.
        asked: u32,
        /// Layers there are.
        layers: u32,
    },
    /// A layer partition that does not add up.
    #[error("layer-partition [{}] has {} stages and {} layers; wanted: {stages} stages, each of at least 1 layer, {layers} in all", list(given), given.len(), given.iter().sum::<u32>())]
    Partition {
        /// Layers a stage, as given.
        given: Vec<u32>,
        /// Stages of the pipeline.
        stages: u32,
        /// Layers of the model.
        layers: u32,
    },
    /// Another number of devices than ranks.
    #[error(
        "{found} devices for tensor {tensor} × pipeline {pipeline}{} = {} ranks; give one device a rank",
        if *data > 1 { format!(" × data {data}") } else { String::new() },
        u64::from(*tensor) * u64::from(*pipeline) * u64::from(*data)
    )]
    DeviceCount {
        /// Devices given.
        found: usize,
        /// Tensor degree.
        tensor: u32,
        /// Pipeline degree.
        pipeline: u32,
        /// Replicas.
        data: u32,
    },
    /// One device for two ranks.
    #[error("device {device} is given to rank {first} and to rank {second}; a device belongs to one rank")]
    DeviceTwice {
        /// The device.
        device: String,
        /// First rank.
        first: usize,
        /// Second rank.
        second: usize,
    },
    /// A setting outside its range.
    #[error("{setting} is {value}; allowed: {allowed}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        allowed: String,
    },
    /// Two settings that contradict each other.
    #[error("{left} is {left_value} and {right} is {right_value}; {rule}")]
    Settings {
        /// First setting.
        left: &'static str,
        /// Its value.
        left_value: u64,
        /// Second setting.
        right: &'static str,
        /// Its value.
        right_value: u64,
        /// What must hold.
        rule: &'static str,
    },
    /// A sequence of the largest length does not fit the cache.
    #[error("max-model-len {length} needs {} of key/value cache on {device}, which has {}; the largest that fits is {fits}", gib(*needs), gib(*has))]
    CacheTooSmall {
        /// The device.
        device: String,
        /// The longest sequence asked for.
        length: u32,
        /// Bytes it needs.
        needs: u64,
        /// Bytes there are.
        has: u64,
        /// The longest that fits.
        fits: u64,
    },
    /// The states of the sequences that are to run do not fit.
    #[error("{sequences} running sequences need two slots of recurrent state each, {} a slot, on {device}, which has {} for them: \
             max-num-seqs can be {fits}; lower it, or raise kv-cache-memory-bytes", gib(*slot), gib(*has))]
    StatesTooLarge {
        /// The device.
        device: String,
        /// Sequences asked for.
        sequences: u32,
        /// Bytes of a slot.
        slot: u64,
        /// Bytes there are.
        has: u64,
        /// Sequences that fit.
        fits: u64,
    },
    /// The windows of the sequences that are to run do not fit.
    #[error("{sequences} running sequences with windows of {window} positions need {} on {device}, which has {} for them: \
             lower max-num-seqs or max-num-batched-tokens, or raise kv-cache-memory-bytes", gib(*needs), gib(*has))]
    WindowsTooLarge {
        /// The device.
        device: String,
        /// Sequences asked for.
        sequences: u32,
        /// Positions of the largest window.
        window: u32,
        /// Bytes needed.
        needs: u64,
        /// Bytes there are.
        has: u64,
    },
    /// A device with more on it than it holds.
    #[error("{device} needs {} and has {}: weights {}, key/value cache {}, buffers {}", gib(*needs), gib(*has), gib(*weights), gib(*cache), gib(*buffers))]
    OverBudget {
        /// The device.
        device: String,
        /// Bytes needed.
        needs: u64,
        /// Bytes there are.
        has: u64,
        /// Bytes of weights.
        weights: u64,
        /// Bytes of key/value cache.
        cache: u64,
        /// Bytes of channels and scratch.
        buffers: u64,
    },
    /// An op for which there is no kernel in this place.
    #[error("{edge}: no kernel for {what}")]
    NoKernel {
        /// The value.
        edge: String,
        /// What was asked for.
        what: &'static str,
    },
    /// Layers that no stage, or more than one, computes.
    #[error("layers {}: computed by {times} stages; each layer belongs to one", list(layers))]
    Layers {
        /// The layers.
        layers: Vec<u32>,
        /// How many stages compute them.
        times: usize,
    },
    /// A stage without layers.
    #[error("stage {stage} has no layers")]
    EmptyStage {
        /// The stage.
        stage: u32,
    },
    /// An actor or device that the tables do not have, or a name used twice.
    #[error("{actor}: {what}")]
    Actor {
        /// The actor.
        actor: String,
        /// What is wrong.
        what: String,
    },
    /// A port that no channel, or more than one, feeds.
    #[error("{actor} input {port} is fed {times} times; a port is fed once")]
    Fed {
        /// The actor.
        actor: String,
        /// The port.
        port: u16,
        /// How many channels end in it.
        times: usize,
    },
    /// A channel end that its actor does not have.
    #[error("channel {channel}: {actor} has no {side} {port}")]
    Dangling {
        /// The channel.
        channel: String,
        /// The actor.
        actor: String,
        /// `input` or `output`.
        side: &'static str,
        /// The port.
        port: u16,
    },
    /// A reader that expects another shape than the channel carries.
    #[error("channel {channel} to {actor}: carries {carries}, the reader wants {wants}")]
    Mismatch {
        /// The channel.
        channel: String,
        /// The reader.
        actor: String,
        /// What it carries.
        carries: String,
        /// What the reader wants.
        wants: String,
    },
    /// Actors that wait for each other for ever.
    #[error("actors wait for each other: {}", cycle.join(" → "))]
    Deadlock {
        /// The actors of the cycle, the first named again at the end.
        cycle: Vec<String>,
    },
    /// Fewer credits than micro-batches in flight.
    #[error("channel {channel} has {credits} credits; {in_flight} micro-batches in flight need at least {in_flight}")]
    Credits {
        /// The channel.
        channel: String,
        /// Its credits.
        credits: u32,
        /// The smallest safe value.
        in_flight: u32,
    },
    /// Members of a group that disagree on the order of its collectives.
    #[error("group {group}: {first} and {second} post different collectives at place {place}")]
    Collectives {
        /// The group.
        group: String,
        /// One member.
        first: String,
        /// Another.
        second: String,
        /// Where they part.
        place: usize,
    },
    /// A plan written by another version.
    #[error("the plan has version {found}; this engine reads version {known}")]
    Version {
        /// Version of the file.
        found: u32,
        /// Version known.
        known: u32,
    },
    /// More of something than any plan needs.
    #[error("the plan has {found} {what}; at most {most}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// Text that is not a plan.
    #[error("the plan cannot be read: {0}")]
    Text(String),
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Bytes as people read them.
pub fn gib(bytes: u64) -> String {
    let b = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", b / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", b / 1_048_576.0),
        _ => format!("{:.2} GiB", b / 1_073_741_824.0),
    }
}
