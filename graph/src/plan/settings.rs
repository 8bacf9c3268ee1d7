//! What a user asks for, and the settings that come of it.

use super::PlanError;
use super::credits::in_flight;
use super::raw::Settings;
use crate::dtype::{DType, WeightType};
use serde::{Deserialize, Serialize};

/// Bounds that a user may give; what is not given has a default, which is lowered to fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    /// Sequences that run at the same time; 128 unless given.
    pub max_num_seqs: Option<u32>,
    /// Rows of the largest step; 2048 unless given.
    pub max_num_batched_tokens: Option<u32>,
    /// Positions of the longest sequence; the model's unless given.
    pub max_model_len: Option<u32>,
    /// Bytes of key/value cache a device.
    pub kv_cache_memory_bytes: Option<u64>,
    /// Sampled rows of the largest step; `max_num_seqs` unless given. More are needed where logits of prompts are wanted.
    pub sampled_rows_max: Option<u32>,
}

/// What the bits of a row may depend on, beside its own inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numerics {
    /// The tensor and expert degrees: each rank sums what it has, in order.
    #[default]
    Invariant,
    /// Nothing: sums over what ranks may share are made in a binary tree, whoever makes them.
    Tree,
}

impl Numerics {
    /// The name in settings and files.
    pub fn name(self) -> &'static str {
        match self {
            Numerics::Invariant => "invariant",
            Numerics::Tree => "tree",
        }
    }
}

/// What is quantised when weights are loaded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Quantization {
    /// Weights of contractions to [`WeightType::Q8_0`], and the rows they are multiplied by to 8 bits by block: integer arithmetic.
    Q8_0,
    /// Weights of contractions to [`WeightType::Q4_0`], and the rows they are multiplied by to 8 bits by block: integer arithmetic.
    Q4_0,
    /// Weights of contractions to [`WeightType::Q8_0`]; activations stay f32.
    Q8_0WeightOnly,
    /// Weights of contractions to [`WeightType::Q4_0`]; activations stay f32.
    Q4_0WeightOnly,
}

impl Quantization {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Q8_0, Self::Q4_0, Self::Q8_0WeightOnly, Self::Q4_0WeightOnly];

    /// The name in settings and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q8_0WeightOnly => "q8_0-weight-only",
            Self::Q4_0WeightOnly => "q4_0-weight-only",
        }
    }

    /// What weights are quantised to.
    pub fn weights(self) -> WeightType {
        match self {
            Self::Q8_0 | Self::Q8_0WeightOnly => WeightType::Q8_0,
            Self::Q4_0 | Self::Q4_0WeightOnly => WeightType::Q4_0,
        }
    }

    /// Whether rows are quantised as well.
    pub fn is_integer(self) -> bool {
        match self {
            Self::Q8_0 | Self::Q4_0 => true,
            Self::Q8_0WeightOnly | Self::Q4_0WeightOnly => false,
        }
    }
}

/// A device that a rank may have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceSpec {
    /// Its name: `cpu:0`.
    pub name: String,
    /// Bytes it has.
    pub memory_bytes: u64,
}

/// How a model is to be run.
#[derive(Clone)]
pub struct Deployment<'a> {
    /// The family of the model, for people.
    pub family: &'a str,
    /// Tensor degree.
    pub tensor: u32,
    /// Pipeline degree.
    pub pipeline: u32,
    /// Expert degree: 1 cuts the inside of every expert over the tensor ranks, the tensor degree cuts the experts instead.
    pub expert: u32,
    /// How sums are made.
    pub numerics: Numerics,
    /// One device a rank: stage by stage, and in a stage by tensor rank.
    pub devices: Vec<DeviceSpec>,
    /// Layers a stage; as even as they come unless given.
    pub layer_partition: Option<Vec<u32>>,
    /// Bounds given by the user.
    pub bounds: Bounds,
    /// Positions seen in training: the largest `max_model_len`.
    pub max_positions: u32,
    /// Element type in memory of a weight that is not quantised, by its name.
    pub weight_dtype: &'a dyn Fn(&str) -> DType,
    /// What is quantised.
    pub quantization: Option<Quantization>,
    /// Element type of keys and values.
    pub cache_dtype: DType,
}

impl Deployment<'_> {
    /// Ranks of a stage: those that share its layers, or where only experts are dealt out, those that have them.
    pub fn ranks(&self) -> u32 {
        stage_ranks(self.tensor, self.expert)
    }
}

/// Ranks of a stage of these tensor and expert degrees.
pub fn stage_ranks(tensor: u32, expert: u32) -> u32 {
    if tensor == 1 { expert.max(1) } else { tensor }
}

/// The settings of a run.
pub(super) fn resolve(deployment: &Deployment<'_>, faults: &mut Vec<PlanError>) -> Settings {
    let Bounds { max_num_seqs, max_num_batched_tokens, max_model_len, kv_cache_memory_bytes, sampled_rows_max } =
        deployment.bounds;
    let mut notes = vec![];
    for (setting, value) in [
        ("max-num-seqs", max_num_seqs.map(u64::from)),
        ("max-num-batched-tokens", max_num_batched_tokens.map(u64::from)),
        ("max-model-len", max_model_len.map(u64::from)),
        ("kv-cache-memory-bytes", kv_cache_memory_bytes),
        ("sampled-rows-max", sampled_rows_max.map(u64::from)),
        ("tensor-parallel-size", Some(deployment.tensor.into())),
        ("pipeline-parallel-size", Some(deployment.pipeline.into())),
        ("expert-parallel-size", Some(deployment.expert.into())),
    ] {
        if value == Some(0) {
            faults.push(PlanError::Setting { setting, value: 0, allowed: "1 or more".into() });
        }
    }
    let positions = deployment.max_positions;
    if let Some(length) = max_model_len.filter(|&l| l > positions) {
        let allowed = format!("1 to {positions}, the positions of the model (max_position_embeddings)");
        faults.push(PlanError::Setting { setting: "max-model-len", value: length.into(), allowed });
    }
    let tokens = max_num_batched_tokens.unwrap_or(2048).max(1);
    let mut sequences = max_num_seqs.unwrap_or(128).max(1);
    if sequences > tokens {
        match (max_num_seqs, max_num_batched_tokens) {
            (Some(_), Some(_)) => faults.push(PlanError::Settings {
                left: "max-num-batched-tokens",
                left_value: tokens.into(),
                right: "max-num-seqs",
                right_value: sequences.into(),
                rule: "every running sequence needs a row of the step: raise the first or lower the second",
            }),
            (None, _) => {
                notes.push(format!("max-num-seqs lowered from {sequences} to {tokens}: max-num-batched-tokens"));
                sequences = tokens;
            }
            (Some(_), None) => {}
        }
    }
    let tokens = tokens.max(sequences);
    Settings {
        max_num_seqs: sequences,
        max_num_batched_tokens: tokens,
        max_model_len: max_model_len.unwrap_or(positions).clamp(1, positions.max(1)),
        max_model_len_given: max_model_len.is_some(),
        sampled_rows_max: sampled_rows_max.unwrap_or(sequences).clamp(sequences, tokens),
        kv_cache_memory_bytes,
        in_flight: in_flight(deployment.pipeline),
        notes,
    }
}
