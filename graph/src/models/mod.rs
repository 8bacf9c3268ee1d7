//! The architectures known: one file and one row of [`FAMILIES`] each.

mod blocks;
mod experts;
mod llama;
mod mixtral;
mod qwen3;
mod qwen3_moe;

use crate::config::ConfigReader;
use crate::error::{ConfigFault, GraphError};
use crate::model::Model;
use serde_json::{Map, Value};

/// A family of checkpoints that one file describes.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name people use.
    pub name: &'static str,
    /// Values of `model_type` in a configuration.
    pub model_types: &'static [&'static str],
    /// Where the architecture is published.
    pub source: &'static str,
    /// Describes the model of one configuration. Faults go to the reader.
    pub build: fn(&ConfigReader<'_>) -> Result<Model, Vec<GraphError>>,
}

/// Every family.
pub const FAMILIES: &[Family] = &[llama::FAMILY, mixtral::FAMILY, qwen3::FAMILY, qwen3_moe::FAMILY];

/// A model with what its configuration says about its use.
#[derive(Clone, Debug)]
pub struct Architecture {
    /// The family that read the configuration.
    pub family: &'static str,
    /// The model.
    pub model: Model,
    /// Positions seen in training: the largest `max_model_len`.
    pub max_positions: u32,
    /// What a person should hear: two places of the configuration that disagree, and which one wins.
    pub notes: Vec<String>,
}

/// The architecture that a `config.json` describes.
///
/// # Errors
/// All faults of the configuration at once; an unknown `model_type` with the known ones and the nearest.
pub fn describe(config: &Map<String, Value>) -> Result<Architecture, Vec<ConfigFault>> {
    let found = config.get("model_type").and_then(Value::as_str);
    let Some(family) = FAMILIES.iter().find(|f| found.is_some_and(|m| f.model_types.contains(&m))) else {
        return Err(vec![unknown(found)]);
    };
    let reader = ConfigReader::new(config, family.name);
    let max_positions = reader.count_or("max_position_embeddings", 2048);
    let model = (family.build)(&reader);
    let mut faults: Vec<ConfigFault> = vec![];
    let (found, notes) = reader.into_faults();
    for fault in found {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    match model {
        _ if !faults.is_empty() => Err(faults),
        Ok(model) => Ok(Architecture { family: family.name, model, max_positions, notes }),
        Err(faults) => Err(faults.into_iter().map(ConfigFault::Graph).collect()),
    }
}

fn unknown(found: Option<&str>) -> ConfigFault {
    let known: Vec<&str> = FAMILIES.iter().flat_map(|f| f.model_types).copied().collect();
    let prefix = |m: &str| m.chars().zip(found.unwrap_or("").chars()).take_while(|(a, b)| a == b).count();
    let nearest = known.iter().copied().max_by_key(|m| prefix(m)).filter(|m| prefix(m) >= 3);
    ConfigFault::Architecture {
        found: found.map_or("missing".into(), |m| format!("{:?}", m.chars().take(80).collect::<String>())),
        known: known.join(", "),
        nearest: nearest.map(|m| format!("; the nearest is {m}")).unwrap_or_default(),
    }
}
