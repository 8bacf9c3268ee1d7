//! Holds a checkpoint against the tensors that its model declares.

use super::{Checkpoint, CheckpointError, Names};
use crate::error::Error;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Tensors that the model has no use for and that are known to be harmless.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unclaimed {
    /// Buffers that are computed from the configuration, and the stored copy of a tied head.
    pub names: Vec<String>,
    /// Those of parts that are not computed here.
    pub parts: Vec<UnclaimedPart>,
}

/// A part of a checkpoint beside its text model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnclaimedPart {
    /// What it is.
    pub what: &'static str,
    /// One of its tensors.
    pub example: String,
    /// How many it has.
    pub tensors: usize,
}

impl std::fmt::Display for UnclaimedPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, example, tensors } = self;
        write!(f, "{what} of this checkpoint is not loaded: {tensors} tensors, {example} and so on")
    }
}

/// Beginnings of names that belong to another part than the text model of a larger one.
const TOWERS: [&str; 12] = [
    "vision_tower.",
    "model.vision_tower.",
    "vision_model.",
    "model.vision_model.",
    "visual.",
    "model.visual.",
    "multi_modal_projector.",
    "model.multi_modal_projector.",
    "audio_tower.",
    "model.audio_tower.",
    "model.embed_vision.",
    "model.embed_audio.",
];

impl Checkpoint {
    /// Compares names, shapes and element types with the model's parameters: their names and the lengths of their axes.
    ///
    /// A stored dimension may be several axes side by side (heads × head_dim). All faults are returned at once.
    pub fn check_against(&self, params: &[(String, Vec<u32>)]) -> Result<Unclaimed, Error> {
        let mut faults: Vec<Error> = Vec::new();
        let wanted: HashSet<&str> = params.iter().map(|(name, _)| name.as_str()).collect();
        let missing = params.iter().map(|(name, _)| name).filter(|name| !self.0.tensors.contains_key(*name));
        let mut unclaimed = Unclaimed::default();
        let mut unexpected = vec![];
        for name in self.names().filter(|name| !wanted.contains(name)) {
            match (harmless(name) || self.is_zero_bias(name), self.beside(name, &wanted)) {
                (true, _) => unclaimed.names.push(name.into()),
                (false, Some(what)) => unclaimed.count(what, name),
                (false, None) => unexpected.push(name),
            }
        }
        let missing = Names::of(missing.cloned());
        let unexpected = Names::of(unexpected.into_iter().map(String::from));
        if missing.count + unexpected.count > 0 {
            faults.push(CheckpointError::Tensors { dir: self.0.dir.clone(), missing, unexpected }.into());
        }
        for (name, want) in params {
            let Some(stored) = self.0.tensors.get(name) else { continue };
            let file = || self.0.shards[stored.shard].file.clone();
            let entry = &stored.entry;
            if stored.dtype().is_none() {
                let (tensor, got) = (name.clone(), entry.stored.clone());
                faults.push(CheckpointError::DType { file: file(), tensor, got }.into());
            }
            if !groups(want, &entry.shape) {
                let (tensor, want, got) = (name.clone(), want.clone(), entry.shape.clone());
                faults.push(CheckpointError::Shape { file: file(), tensor, want, got }.into());
            }
        }
        Error::all(faults)?;
        Ok(unclaimed)
    }

    /// Whether a tensor is a bias of zeros, as AutoGPTQ adds to every layer that it quantises.
    fn is_zero_bias(&self, name: &str) -> bool {
        let quantized = self.0.method.is_some() && name.ends_with(".bias");
        quantized && self.tensor(name).is_some_and(|bias| bias.bytes.iter().all(|&byte| byte == 0))
    }

    /// The part beside the text model that a tensor belongs to, if the configuration speaks of one.
    fn beside(&self, name: &str, wanted: &HashSet<&str>) -> Option<&'static str> {
        let config = &self.0.config;
        let tower = || TOWERS.iter().any(|prefix| name.starts_with(prefix));
        if config.get("text_config").is_some_and(Value::is_object) && tower() {
            return Some("the part for images or sound");
        }
        let predicts = |map: &Map<String, Value>| {
            map.get("num_nextn_predict_layers").and_then(Value::as_u64).is_some_and(|layers| layers > 0)
        };
        let text = config.get("text_config").and_then(Value::as_object);
        // Its layers follow those of the model, under the same name.
        let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next());
        let beyond = layer.is_some_and(|layer| {
            let own = format!("model.layers.{layer}.");
            !wanted.iter().any(|wanted| wanted.starts_with(&own))
        });
        let predicting = predicts(config) || text.is_some_and(predicts);
        (name.starts_with("mtp.") || (predicting && beyond)).then_some("the head that predicts several tokens")
    }
}

impl Unclaimed {
    fn count(&mut self, what: &'static str, name: &str) {
        match self.parts.iter_mut().find(|part| part.what == what) {
            Some(part) => part.tensors += 1,
            None => self.parts.push(UnclaimedPart { what, example: name.into(), tensors: 1 }),
        }
    }
}

/// Whether a tensor that no weight claims changes nothing: buffers that are computed, and the stored copy of a tied head (a model that
/// is not tied claims its own).
fn harmless(name: &str) -> bool {
    let buffers =
        [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"];
    buffers.iter().any(|ending| name.ends_with(ending)) || name == "lm_head.weight"
}

/// Whether `stored` is `axes` with runs of neighbours multiplied together.
fn groups(axes: &[u32], stored: &[u64]) -> bool {
    let mut axes = axes.iter().map(|&len| u64::from(len)).filter(|&len| len != 1);
    let fits = stored.iter().filter(|&&len| len != 1).all(|&want| {
        let mut product = 1u64;
        while product < want {
            match axes.next().and_then(|len| product.checked_mul(len)) {
                Some(next) if next > 0 => product = next,
                Some(_) | None => return false,
            }
        }
        product == want
    });
    fits && axes.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn a_stored_dimension_is_a_run_of_axes() {
        let check = |axes: &[u32], stored: &[u64], expect: bool| {
            assert_eq!(groups(axes, stored), expect, "{axes:?} as {stored:?}");
        };
        check(&[2, 2, 16, 64], &[64, 64], true);
        check(&[2, 2, 16, 64], &[64, 32], false);
        check(&[2, 2, 16, 48], &[48, 64], false);
        check(&[64], &[64], true);
        check(&[64], &[1, 64], true);
        check(&[64, 1], &[64], true);
        check(&[64], &[64, 2], false);
        check(&[64, 2], &[64], false);
        check(&[], &[], true);
        check(&[3], &[0], false);
    }
}
