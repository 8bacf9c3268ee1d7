//! Rotary embedding, in the style of transformers 4 (`rope_theta` and `rope_scaling` at the top) or 5 (`rope_parameters`, for all layers
//! or for each type of layer).

use super::{COUNT_MAX, ConfigReader, cut, number};
use crate::error::ConfigFault;
use crate::rope::{Pairing, Rope, RopeScaling};
use serde_json::{Map, Value};

impl<'a> ConfigReader<'a> {
    /// The rotation of heads of `head_dim` elements.
    pub fn rope(&self, head_dim: u32) -> Rope {
        let nested = self.object("rope_parameters");
        let (at, scaling) = match nested {
            Some(map) => ("rope_parameters", Some(map)),
            None => ("rope_scaling", self.object("rope_scaling")),
        };
        if let (Some(new), Some(old)) = (nested, self.get("rope_scaling").and_then(Value::as_object))
            && new.iter().any(|(key, value)| old.get(key).is_some_and(|other| other != value))
        {
            let [new, old] = [new, old].map(|map| Value::Object(map.clone()));
            self.disagree("rotary embedding", ("rope_parameters", &new), ("rope_scaling", &old));
        }
        let (within, top) = (scaling.and_then(|m| m.get("rope_theta")), self.get("rope_theta"));
        if let (Some(within), Some(top)) = (within, top)
            && within.as_f64() != top.as_f64()
        {
            self.disagree("rope_theta", (at, within), ("the top level", top));
        }
        self.rotation(at, scaling, within.or(top), head_dim)
    }

    /// What scores are multiplied by beside 1/√dim where positions are stretched: (0.1 · mscale_all_dim · ln factor + 1)², the amplitude
    /// that `mscale_all_dim` takes from the rotation (arXiv:2309.00071, §3.4).
    pub fn stretched_scores(&self) -> f32 {
        let map = self.object("rope_parameters").or_else(|| self.object("rope_scaling"));
        let field = |name| map.and_then(|map| map.get(name)).and_then(Value::as_f64).filter(|v| *v > 0.0);
        let (factor, all) = (field("factor").unwrap_or(1.0).max(1.0), field("mscale_all_dim").unwrap_or(0.0));
        (0.1 * all * factor.ln() + 1.0).powi(2) as f32
    }

    /// The rotation of layers of one type: its own object in `rope_parameters`; else, of `sliding_attention`, unscaled with the base
    /// `rope_local_base_freq`; else that of all layers.
    pub fn rope_of(&self, kind: &str, head_dim: u32) -> Rope {
        let own = self.object("rope_parameters").and_then(|map| map.get(kind)).and_then(Value::as_object);
        match own {
            Some(map) => {
                let local = self.get("rope_local_base_freq").filter(|_| kind == "sliding_attention");
                let theta = map.get("rope_theta").or(local).or_else(|| self.get("rope_theta"));
                self.rotation(&format!("rope_parameters.{kind}"), Some(map), theta, head_dim)
            }
            None if kind == "sliding_attention" && self.get("rope_local_base_freq").is_some() => {
                self.rotation("rope_local_base_freq", None, self.get("rope_local_base_freq"), head_dim)
            }
            None => self.rope(head_dim),
        }
    }

    fn rotation(&self, at: &str, scaling: Option<&Map<String, Value>>, theta: Option<&Value>, head_dim: u32) -> Rope {
        let theta = number(theta, 10000.0).unwrap_or(-1.0);
        if theta <= 0.0 {
            let allowed = "a finite number above 0".into();
            self.fault(ConfigFault::Value { field: "rope_theta".into(), value: theta.to_string(), allowed });
        }
        let share =
            scaling.and_then(|map| map.get("partial_rotary_factor")).or_else(|| self.get("partial_rotary_factor"));
        let share = number(share, 1.0).ok().filter(|share| *share > 0.0 && *share <= 1.0).unwrap_or_else(|| {
            let value = cut(&share.map(Value::to_string).unwrap_or_default());
            let allowed = "above 0, and at most 1".into();
            self.fault(ConfigFault::Value { field: "partial_rotary_factor".into(), value, allowed });
            1.0
        });
        let dims = ((f64::from(head_dim) * f64::from(share)) as u32).max(2);
        if !dims.is_multiple_of(2) && share < 1.0 {
            let allowed = "an even number: rotary embedding turns pairs".into();
            let field = "head_dim · partial_rotary_factor".into();
            self.fault(ConfigFault::Value { field, value: dims.to_string(), allowed });
        }
        let dims = dims & !1;
        let scaling = scaling.map_or(RopeScaling::Default, |map| {
            Scaling { reader: self, at, map, positions: self.count_or("max_position_embeddings", 2048) }.read(dims)
        });
        Rope { theta: if theta > 0.0 { theta } else { 1.0 }, dims, scaling, pairing: Pairing::Halves }
    }
}

/// The object that holds a rope scaling.
struct Scaling<'r, 'a> {
    reader: &'r ConfigReader<'a>,
    at: &'r str,
    map: &'r Map<String, Value>,
    positions: u32,
}

impl Scaling<'_, '_> {
    fn read(&self, dims: u32) -> RopeScaling {
        let kind = self.map.get("rope_type").or_else(|| self.map.get("type")).and_then(Value::as_str);
        // Early Phi-3 checkpoints call lists of divisors by the names of other methods.
        let listed = self.map.get("long_factor").is_some_and(Value::is_array);
        let original = self.original();
        match kind.unwrap_or("default") {
            "longrope" | "su" => self.longrope(dims, original),
            _ if listed => self.longrope(dims, original),
            "default" => RopeScaling::Default,
            // Positions stay below `max_position_embeddings`, where the dynamic form is the plain one.
            "dynamic" => RopeScaling::Default,
            "linear" => RopeScaling::Linear { factor: self.positive("factor", None) },
            "llama3" => RopeScaling::Llama3 {
                factor: self.positive("factor", None),
                low_freq_factor: self.positive("low_freq_factor", None),
                high_freq_factor: self.positive("high_freq_factor", None),
                original,
            },
            "yarn" => {
                let factor = self.positive("factor", Some(self.positions as f32 / original as f32));
                RopeScaling::Yarn {
                    factor,
                    beta_fast: self.positive("beta_fast", Some(32.0)),
                    beta_slow: self.positive("beta_slow", Some(1.0)),
                    original,
                    attention_factor: self.yarn_amplitude(factor),
                    truncate: self.map.get("truncate").and_then(Value::as_bool).unwrap_or(true),
                }
            }
            other => {
                let allowed = "default, linear, dynamic, llama3, yarn, longrope".into();
                let field = format!("{}.rope_type", self.at);
                self.reader.fault(ConfigFault::Value { field, value: cut(other), allowed });
                RopeScaling::Default
            }
        }
    }

    fn positive(&self, field: &str, default: Option<f32>) -> f32 {
        let path = || format!("{}.{field}", self.at);
        let value = self.map.get(field).filter(|v| !v.is_null());
        match (value, default) {
            (None, Some(default)) => default,
            (None, None) => {
                self.reader.fault(ConfigFault::Missing { field: path(), family: self.reader.family });
                1.0
            }
            (Some(value), _) => number(Some(value), 0.0).ok().filter(|&f| f > 0.0).unwrap_or_else(|| {
                let allowed = "a finite number above 0".into();
                self.reader.fault(ConfigFault::Value { field: path(), value: cut(&value.to_string()), allowed });
                1.0
            }),
        }
    }

    /// Positions seen in training before the stretch: here, at the top, or all there are.
    fn original(&self) -> u32 {
        let name = "original_max_position_embeddings";
        let found = self.map.get(name).or_else(|| self.reader.get(name)).and_then(Value::as_u64);
        found.filter(|&n| n > 0 && n <= COUNT_MAX).map_or(self.positions, |n| n as u32)
    }

    /// What the rotated vectors are multiplied by: given, or from `mscale` and `mscale_all_dim`, or 0.1 ln(factor) + 1.
    fn yarn_amplitude(&self, factor: f32) -> f32 {
        if self.map.get("attention_factor").is_some_and(|v| !v.is_null()) {
            return self.positive("attention_factor", None);
        }
        let scale = |m: f32| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        let field = |name| self.map.get(name).and_then(Value::as_f64).map(|f| f as f32).filter(|&f| f != 0.0);
        match (field("mscale"), field("mscale_all_dim")) {
            (Some(m), Some(all)) => scale(m) / scale(all),
            (None | Some(_), None | Some(_)) => scale(1.0),
        }
    }

    /// A divisor for each of `dims / 2` pairs, short and long.
    fn longrope(&self, dims: u32, original: u32) -> RopeScaling {
        let list = |field: &str| -> Vec<f32> {
            let value = self.map.get(field).unwrap_or(&Value::Null);
            let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let read = |v: &Value| v.as_f64().map(|f| f as f32).filter(|f| f.is_finite() && *f > 0.0);
            let found: Option<Vec<f32>> = list.iter().map(read).collect();
            found.filter(|list| list.len() as u32 == dims / 2).unwrap_or_else(|| {
                let allowed = format!("a list of {} numbers above 0, one for each pair that turns", dims / 2);
                let field = format!("{}.{field}", self.at);
                self.reader.fault(ConfigFault::Value { field, value: cut(&value.to_string()), allowed });
                vec![1.0; dims as usize / 2]
            })
        };
        let factor = self.positive("factor", Some(self.positions as f32 / original as f32));
        let amplitude = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f32).ln()).sqrt() };
        let attention_factor = self.positive("attention_factor", Some(amplitude));
        RopeScaling::LongRope { short: list("short_factor"), long: list("long_factor"), original, attention_factor }
    }
}
