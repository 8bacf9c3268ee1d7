//! Holds a checkpoint against the tensors that its model declares.

use super::{Checkpoint, CheckpointError, Names};
use crate::error::Error;
use serde_json::Value;
use std::collections::HashSet;

/// Tensors that the model has no use for and that are known to be harmless.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unclaimed {
    /// Their names, in order.
    pub names: Vec<String>,
}

impl Checkpoint {
    /// Compares names, shapes and element types with the model's parameters: their names and the lengths of their axes.
    ///
    /// A stored dimension may be several axes side by side (heads × head_dim). All faults are returned at once.
    pub fn check_against(&self, params: &[(String, Vec<u32>)]) -> Result<Unclaimed, Error> {
        let mut faults: Vec<Error> = Vec::new();
        let wanted: HashSet<&str> = params.iter().map(|(name, _)| name.as_str()).collect();
        let missing = params.iter().map(|(name, _)| name).filter(|name| !self.0.tensors.contains_key(*name));
        let (harmless, unexpected): (Vec<&str>, Vec<&str>) =
            self.names().filter(|name| !wanted.contains(name)).partition(|name| self.harmless(name));
        let missing = Names::of(missing.cloned());
        let unexpected = Names::of(unexpected.into_iter().map(String::from));
        if missing.count + unexpected.count > 0 {
            faults.push(CheckpointError::Tensors { dir: self.0.dir.clone(), missing, unexpected }.into());
        }
        for (name, want) in params {
            let Some(stored) = self.0.tensors.get(name) else { continue };
            let file = || self.0.shards[stored.shard].file.clone();
            let entry = &stored.entry;
            if entry.dtype().is_none() {
                let (tensor, got) = (name.clone(), entry.stored.clone());
                faults.push(CheckpointError::DType { file: file(), tensor, got }.into());
            }
            if !groups(want, &entry.shape) {
                let (tensor, want, got) = (name.clone(), want.clone(), entry.shape.clone());
                faults.push(CheckpointError::Shape { file: file(), tensor, want, got }.into());
            }
        }
        Error::all(faults)?;
        Ok(Unclaimed { names: harmless.into_iter().map(String::from).collect() })
    }

    /// Buffers that are computed from the configuration, and the stored copy of a tied head.
    fn harmless(&self, name: &str) -> bool {
        let tied = self.0.config.get("tie_word_embeddings") == Some(&Value::Bool(true));
        name.ends_with(".rotary_emb.inv_freq") || (tied && name == "lm_head.weight")
    }
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
