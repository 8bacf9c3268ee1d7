//! What differs from layer to layer: which of them see a window only.

use super::{ConfigReader, cut};
use crate::error::ConfigFault;
use serde_json::Value;

impl ConfigReader<'_> {
    /// The window of each layer: `sliding_window` where `layer_types` says so, else where `sliding_window_pattern` does (all but every
    /// n-th layer), else where `default` does. Without a `sliding_window` no layer has one.
    pub fn windows(&self, layers: u32, default: impl Fn(u32) -> bool) -> Vec<Option<u32>> {
        let sliding: Vec<bool> = match self.layer_types(layers) {
            Some(types) => types.iter().map(|kind| kind == "sliding_attention").collect(),
            None => match self.get("sliding_window_pattern") {
                Some(_) => {
                    let pattern = self.count_or("sliding_window_pattern", 1);
                    (0..layers).map(|layer| !(layer + 1).is_multiple_of(pattern)).collect()
                }
                None => (0..layers).map(default).collect(),
            },
        };
        let window = self.get("sliding_window").map(|_| self.count_or("sliding_window", 1));
        if window.is_none() && self.get("layer_types").is_some() && sliding.contains(&true) {
            self.fault(ConfigFault::Missing { field: "sliding_window".into(), family: self.family });
        }
        sliding.into_iter().map(|sliding| window.filter(|_| sliding)).collect()
    }

    /// `layer_types`, one word a layer.
    pub fn layer_types(&self, layers: u32) -> Option<Vec<String>> {
        let value = self.get("layer_types")?;
        let words = value.as_array().map(|list| list.iter().filter_map(Value::as_str).map(String::from));
        let words: Vec<String> = words.map(Iterator::collect).unwrap_or_default();
        let known = ["full_attention", "sliding_attention", "linear_attention"];
        if words.len() != layers as usize || words.iter().any(|word| !known.contains(&word.as_str())) {
            let allowed = format!("a list of {layers}, one a layer, each of {}", known.join(", "));
            let value = cut(&value.to_string());
            self.fault(ConfigFault::Value { field: "layer_types".into(), value, allowed });
            return None;
        }
        Some(words)
    }
}
