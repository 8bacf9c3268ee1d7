//! The architectures known: one file and one row of [`FAMILIES`] each.

pub mod blocks;
mod cohere2;
mod deepseek_v3;
mod experts;
mod gemma;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod llama;
mod mamba2;
mod minicpm3;
mod mixtral;
mod nemotron;
mod olmo2;
mod qwen3_moe;
mod qwen3_next;

use crate::config::{ConfigReader, Labels};
use crate::error::{ConfigFault, GraphError};
use crate::model::Model;
use crate::names::distance;
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
    /// What a field counts as where a configuration does not have it, as a JSON object: the defaults of the reference, where they
    /// differ from Llama's.
    pub defaults: &'static str,
    /// Describes the model of one configuration. Faults go to the reader.
    pub build: fn(&ConfigReader<'_>) -> Result<Model, Vec<GraphError>>,
}

/// Every family.
pub const FAMILIES: &[Family] = &[
    llama::LLAMA,
    llama::MISTRAL,
    llama::QWEN2,
    llama::QWEN3,
    llama::GRANITE,
    llama::PHI3,
    gemma::GEMMA2,
    gemma::GEMMA3,
    olmo2::FAMILY,
    cohere2::FAMILY,
    gpt_neox::FAMILY,
    gpt2::FAMILY,
    nemotron::NEMOTRON,
    nemotron::ARCEE,
    minicpm3::FAMILY,
    mixtral::FAMILY,
    deepseek_v3::FAMILY,
    gpt_oss::FAMILY,
    qwen3_moe::FAMILY,
    mamba2::FAMILY,
    qwen3_next::FAMILY,
];

/// A model with what its configuration says about its use.
#[derive(Clone, Debug)]
pub struct Architecture {
    /// The family that read the configuration.
    pub family: &'static str,
    /// The model.
    pub model: Model,
    /// Positions seen in training: the largest `max_model_len`.
    pub max_positions: u32,
    /// What its logits are scores of, where they are not the next token's.
    pub labels: Option<Labels>,
    /// What a person should hear: two places of the configuration that disagree, and which one wins.
    pub notes: Vec<String>,
}

/// The architecture that a `config.json` describes. Of a model with several parts it is the text model, `text_config`.
///
/// # Errors
/// All faults of the configuration at once; an unknown `model_type` with the known ones and the nearest.
pub fn describe(config: &Map<String, Value>) -> Result<Architecture, Vec<ConfigFault>> {
    describe_among(&[], config)
}

/// The same, with families of the caller's own, which go before the known ones.
///
/// # Errors
/// As [`describe`].
pub fn describe_among(own: &[Family], config: &Map<String, Value>) -> Result<Architecture, Vec<ConfigFault>> {
    let kind = |map: &Map<String, Value>| map.get("model_type").and_then(Value::as_str).map(String::from);
    let family = |map: &Map<String, Value>| {
        let kind = kind(map)?;
        own.iter().chain(FAMILIES).find(|f| f.model_types.contains(&kind.as_str()))
    };
    let inner = config.get("text_config").and_then(Value::as_object);
    let (family, fields) = match (family(config), inner.and_then(family), inner) {
        (Some(family), ..) => (family, config.clone()),
        (None, Some(family), Some(inner)) => {
            // What the text model does not say, the whole may: its element type, whether the head is the embedding.
            let outer = config.iter().filter(|(key, value)| !value.is_object() && *key != "model_type");
            let mut fields: Map<String, Value> = outer.map(|(key, value)| (key.clone(), value.clone())).collect();
            fields.extend(inner.clone());
            (family, fields)
        }
        (None, ..) => return Err(vec![unknown(own, kind(config).as_deref())]),
    };
    let defaults: Map<String, Value> =
        serde_json::from_str(family.defaults).expect("a family's defaults are an object");
    let mut all = defaults;
    all.extend(fields);
    let reader = ConfigReader::new(&all, family.name);
    let max_positions = reader.count_or("max_position_embeddings", 2048);
    let model = (family.build)(&reader);
    let labels = reader.labels();
    if let (Ok(model), Some(labels)) = (&model, &labels) {
        reader.labels_fit(labels, model.logits());
    }
    let mut faults: Vec<ConfigFault> = vec![];
    let (found, notes) = reader.into_faults();
    for fault in found {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    match model {
        _ if !faults.is_empty() => Err(faults),
        Ok(model) => Ok(Architecture { family: family.name, model, max_positions, labels, notes }),
        Err(faults) => Err(faults.into_iter().map(ConfigFault::Graph).collect()),
    }
}

fn unknown(own: &[Family], found: Option<&str>) -> ConfigFault {
    let known: Vec<&str> = own.iter().chain(FAMILIES).flat_map(|f| f.model_types).copied().collect();
    let letters = |name: &str| name.chars().take(80).collect::<Vec<char>>();
    let asked = letters(found.unwrap_or(""));
    let mut near: Vec<(usize, &str)> = known.iter().map(|m| (distance(&letters(m), &asked), *m)).collect();
    near.sort();
    let far = found.map_or(0, str::len).div_ceil(2);
    let near: Vec<&str> = near.into_iter().filter(|(steps, _)| *steps <= far).take(3).map(|(_, m)| m).collect();
    let nearest =
        if near.is_empty() || found.is_none() { String::new() } else { format!("; the nearest: {}", near.join(", ")) };
    ConfigFault::Architecture {
        found: found.map_or("missing".into(), |m| format!("{:?}", m.chars().take(80).collect::<String>())),
        known: known.join(", "),
        nearest: nearest + "; docs/adding-a-model.md says how to describe another one",
    }
}
