//! Names of tensors in a checkpoint that has its text model under another name than the model's own: inside a larger model, or as the
//! body of a model saved without its head.

use super::{Checkpoint, Inner};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What stands before the names of a text model inside a larger one, and what stands there in the text model alone.
const NESTED: [(&str, &str); 2] = [("language_model.", ""), ("model.language_model.", "model.")];

impl Checkpoint {
    /// The same checkpoint, its tensors called as `wanted` calls them, where that finds more of them than their own names do.
    pub fn aligned(&self, wanted: &[(String, Vec<u32>)]) -> Self {
        let wanted: HashSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        // The body's name: that of most weights.
        let mut bodies: BTreeMap<&str, usize> = BTreeMap::new();
        for (body, _) in wanted.iter().filter_map(|name| name.split_once('.')) {
            *bodies.entry(body).or_insert(0) += 1;
        }
        let body = bodies.into_iter().max_by_key(|(_, count)| *count).map(|(body, _)| format!("{body}."));
        let nested = NESTED.map(|(from, to)| (from.to_string(), to.to_string()));
        let headless = body.into_iter().map(|body| (String::new(), body));
        let found = |(from, to): &(String, String)| {
            self.names().filter(|name| wanted.contains(renamed(name, from, to).as_str())).count()
        };
        let own = self.names().filter(|name| wanted.contains(name)).count();
        let best = nested.into_iter().chain(headless).max_by_key(found).filter(|rule| found(rule) > own);
        let Some((from, to)) = best else { return self.clone() };
        let mut tensors = BTreeMap::new();
        for (name, stored) in &self.0.tensors {
            if tensors.insert(renamed(name, &from, &to), stored.clone()).is_some() {
                return self.clone();
            }
        }
        let (dir, config, shards) = (self.0.dir.clone(), self.0.config.clone(), self.0.shards.clone());
        let (generation, tokenizer, method) = (self.0.generation.clone(), self.0.tokenizer, self.0.method.clone());
        Self(Arc::new(Inner { dir, config, generation, tokenizer, shards, tensors, method }))
    }
}

fn renamed(name: &str, from: &str, to: &str) -> String {
    name.strip_prefix(from).map_or_else(|| name.to_string(), |rest| format!("{to}{rest}"))
}
