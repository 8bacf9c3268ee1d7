//! Reads the fields of a `config.json` that an architecture needs, and collects every fault.
//!
//! A field that cannot be read counts as its smallest legal value, so that reading goes on and all faults are reported at once.

use crate::error::ConfigFault;
use crate::op::Unary;
use crate::rope::{Rope, RopeScaling};
use serde_json::{Map, Value};
use std::cell::RefCell;

/// A largest count that no model comes near: 16 Mi entries of a vocabulary are 32 times the largest known.
const COUNT_MAX: u64 = 1 << 24;

/// The configuration of a checkpoint, as one family reads it.
#[derive(Debug)]
pub struct ConfigReader<'a> {
    map: &'a Map<String, Value>,
    family: &'static str,
    faults: RefCell<Vec<ConfigFault>>,
    notes: RefCell<Vec<String>>,
}

impl<'a> ConfigReader<'a> {
    /// Reads `map` for `family`, which messages name.
    pub fn new(map: &'a Map<String, Value>, family: &'static str) -> Self {
        Self { map, family, faults: RefCell::default(), notes: RefCell::default() }
    }

    /// Every fault so far, and what a person should hear.
    pub fn into_faults(self) -> (Vec<ConfigFault>, Vec<String>) {
        (self.faults.into_inner(), self.notes.into_inner())
    }

    /// Notes once that two places disagree, and which one wins.
    fn disagree(&self, field: &str, winner: (&str, &Value), loser: (&str, &Value)) {
        let said = format!(
            "config.json: {field}: {} has {}, {} has {}; {} wins",
            winner.0,
            cut(&winner.1.to_string()),
            loser.0,
            cut(&loser.1.to_string()),
            winner.0
        );
        let mut notes = self.notes.borrow_mut();
        if !notes.contains(&said) {
            notes.push(said);
        }
    }

    /// Notes a fault.
    pub fn fault(&self, fault: ConfigFault) {
        self.faults.borrow_mut().push(fault);
    }

    /// A value that is neither missing nor null.
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|v| !v.is_null())
    }

    /// A positive count that must be there.
    pub fn count(&self, field: &str) -> u32 {
        match self.get(field) {
            Some(_) => self.count_or(field, 1),
            None => {
                self.fault(ConfigFault::Missing { field: field.into(), family: self.family });
                1
            }
        }
    }

    /// A positive count with a default.
    pub fn count_or(&self, field: &str, default: u32) -> u32 {
        let Some(value) = self.get(field) else { return default };
        let whole =
            value.as_u64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && *f >= 0.0).map(|f| f as u64));
        match whole.filter(|n| (1..=COUNT_MAX).contains(n)) {
            Some(n) => n as u32,
            None => {
                self.value_fault(field, value, format!("a whole number from 1 to {COUNT_MAX}"));
                1
            }
        }
    }

    /// A positive count that must be there, under the first of these names that is.
    pub fn count_of(&self, fields: [&str; 2]) -> u32 {
        let there = fields.into_iter().find(|field| self.get(field).is_some());
        self.count(there.unwrap_or(fields[0]))
    }

    /// Numbers of layers, each below `layers`; none where the field is absent.
    pub fn layers(&self, field: &str, layers: u32) -> Vec<u32> {
        let Some(value) = self.get(field) else { return vec![] };
        let number = |v: &Value| v.as_u64().filter(|&n| n < layers.into()).map(|n| n as u32);
        let numbers = value.as_array().and_then(|list| list.iter().map(number).collect());
        numbers.unwrap_or_else(|| {
            self.value_fault(field, value, format!("a list of layers from 0 to {}", layers.saturating_sub(1)));
            vec![]
        })
    }

    /// A number with a default.
    pub fn float_or(&self, field: &str, default: f32) -> f32 {
        number(self.get(field), default).unwrap_or_else(|value| {
            self.value_fault(field, value, "a finite number".into());
            default
        })
    }

    /// The epsilon of a norm: finite, and from 0 to 1.
    pub fn eps(&self, field: &str) -> f32 {
        let eps = self.float_or(field, 1e-6);
        if !(0.0..1.0).contains(&eps) {
            self.fault(ConfigFault::Value {
                field: field.into(),
                value: eps.to_string(),
                allowed: "from 0 to 1".into(),
            });
            return 1e-6;
        }
        eps
    }

    /// A flag with a default.
    pub fn flag_or(&self, field: &str, default: bool) -> bool {
        let Some(value) = self.get(field) else { return default };
        value.as_bool().unwrap_or_else(|| {
            self.value_fault(field, value, "true or false".into());
            default
        })
    }

    /// The activation of a gated MLP, by the name Hugging Face has for it.
    pub fn activation(&self, field: &str) -> Unary {
        let Some(value) = self.get(field) else { return Unary::Silu };
        match value.as_str() {
            Some("silu" | "swish") => Unary::Silu,
            Some("gelu") => Unary::Gelu,
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Unary::GeluTanh,
            Some("relu") => Unary::Relu,
            Some(_) | None => {
                self.value_fault(field, value, "silu, gelu, gelu_new, gelu_pytorch_tanh, relu".into());
                Unary::Silu
            }
        }
    }

    /// Query heads, key/value heads and the size of a head, held against each other.
    pub fn heads(&self) -> (u32, u32, u32) {
        let before = self.faults.borrow().len();
        let (hidden, heads) = (self.count("hidden_size"), self.count("num_attention_heads"));
        let kv_heads = self.count_or("num_key_value_heads", heads);
        if self.faults.borrow().len() > before {
            return (1, 1, 2);
        }
        let relation = |left, left_value: u32, right, right_value: u32, rule| {
            self.fault(ConfigFault::Relation {
                left,
                left_value: left_value.into(),
                right,
                right_value: right_value.into(),
                rule,
            });
        };
        if !heads.is_multiple_of(kv_heads) {
            let rule = "key/value heads must divide the heads";
            relation("num_attention_heads", heads, "num_key_value_heads", kv_heads, rule);
        }
        let given = self.get("head_dim").is_some();
        if !given && !hidden.is_multiple_of(heads) {
            let rule = "heads must divide the hidden size where head_dim is absent";
            relation("hidden_size", hidden, "num_attention_heads", heads, rule);
        }
        let head_dim = self.count_or("head_dim", (hidden / heads).max(1));
        if !head_dim.is_multiple_of(2) {
            let allowed = "an even number: rotary embedding turns pairs".into();
            self.fault(ConfigFault::Value { field: "head_dim".into(), value: head_dim.to_string(), allowed });
        }
        (heads, kv_heads, head_dim)
    }

    /// Rotary embedding, in the style of transformers 4 (`rope_theta` and `rope_scaling` at the top) or 5 (`rope_parameters`).
    pub fn rope(&self, head_dim: u32) -> Rope {
        let positions = self.count_or("max_position_embeddings", 2048);
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
        let theta = within.or(top);
        let theta = number(theta, 10000.0).unwrap_or(-1.0);
        if theta <= 0.0 {
            let allowed = "a finite number above 0".into();
            self.fault(ConfigFault::Value { field: "rope_theta".into(), value: theta.to_string(), allowed });
        }
        let scaling = scaling.map_or(RopeScaling::Default, |map| self.scaling(at, map, positions));
        Rope { theta: if theta > 0.0 { theta } else { 1.0 }, dims: head_dim & !1, scaling }
    }

    fn object(&self, field: &str) -> Option<&'a Map<String, Value>> {
        let value = self.get(field)?;
        value.as_object().or_else(|| {
            self.value_fault(field, value, "an object".into());
            None
        })
    }

    fn scaling(&self, at: &str, map: &Map<String, Value>, positions: u32) -> RopeScaling {
        let kind = map.get("rope_type").or_else(|| map.get("type")).and_then(Value::as_str).unwrap_or("default");
        let read = Scaling { reader: self, at, map };
        let original = read.count("original_max_position_embeddings", positions);
        match kind {
            "default" => RopeScaling::Default,
            // Positions stay below `max_position_embeddings`, where the dynamic form is the plain one.
            "dynamic" => RopeScaling::Default,
            "linear" => RopeScaling::Linear { factor: read.positive("factor", None) },
            "llama3" => RopeScaling::Llama3 {
                factor: read.positive("factor", None),
                low_freq_factor: read.positive("low_freq_factor", None),
                high_freq_factor: read.positive("high_freq_factor", None),
                original,
            },
            "yarn" => {
                let factor = read.positive("factor", None);
                RopeScaling::Yarn {
                    factor,
                    beta_fast: read.positive("beta_fast", Some(32.0)),
                    beta_slow: read.positive("beta_slow", Some(1.0)),
                    original,
                    attention_factor: read.yarn_amplitude(factor),
                }
            }
            other => {
                let allowed = "default, linear, dynamic, llama3, yarn".into();
                self.fault(ConfigFault::Value { field: format!("{at}.rope_type"), value: cut(other), allowed });
                RopeScaling::Default
            }
        }
    }

    fn value_fault(&self, field: &str, value: &Value, allowed: String) {
        self.fault(ConfigFault::Value { field: field.into(), value: cut(&value.to_string()), allowed });
    }
}

/// The object that holds a rope scaling.
struct Scaling<'r, 'a> {
    reader: &'r ConfigReader<'a>,
    at: &'r str,
    map: &'r Map<String, Value>,
}

impl Scaling<'_, '_> {
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

    fn count(&self, field: &str, default: u32) -> u32 {
        self.map.get(field).and_then(Value::as_u64).filter(|&n| n > 0 && n <= COUNT_MAX).map_or(default, |n| n as u32)
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
}

/// A finite f32, or the value that is none.
fn number(value: Option<&Value>, default: f32) -> Result<f32, &Value> {
    let Some(value) = value else { return Ok(default) };
    value.as_f64().map(|f| f as f32).filter(|f| f.is_finite()).ok_or(value)
}

/// Text for a message: at most 80 characters.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
