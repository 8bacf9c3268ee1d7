//! Reads the fields of a `config.json` that an architecture needs, and collects every fault.
//!
//! A field that cannot be read counts as its smallest legal value, so that reading goes on and all faults are reported at once.

use crate::error::ConfigFault;
use crate::op::Unary;
use serde_json::{Map, Value};
use std::cell::RefCell;

mod labels;
mod layers;
mod range;
mod rope;

pub use labels::{Activation, Labels};

/// A largest count that no model comes near: 16 Mi entries of a vocabulary are 32 times the largest known.
const COUNT_MAX: u64 = 1 << 24;
/// Counts that weights are multiplied by, and what no model comes near: a short text must not describe a million of them.
const FEW: [(&str, u64); 5] = [
    ("num_hidden_layers", 256),
    ("n_layer", 256),
    ("num_experts", 1024),
    ("num_local_experts", 1024),
    ("n_routed_experts", 1024),
];

/// Other names that fields have in older families: the first is what model files call it.
const ALIASES: [(&str, &str); 7] = [
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("intermediate_size", "n_inner"),
    ("max_position_embeddings", "n_positions"),
    ("partial_rotary_factor", "rotary_pct"),
    ("rope_theta", "rotary_emb_base"),
];

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
        let alias = || ALIASES.iter().find(|(name, _)| *name == field).and_then(|(_, alias)| self.map.get(*alias));
        self.map.get(field).or_else(alias).filter(|v| !v.is_null())
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
        let most = FEW.iter().find(|(few, _)| *few == field).map_or(COUNT_MAX, |(_, most)| *most);
        match whole.filter(|n| (1..=most).contains(n)) {
            Some(n) => n as u32,
            None => {
                self.value_fault(field, value, format!("a whole number from 1 to {most}"));
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

    /// A count with a default, which may be 0.
    pub fn count_from_zero(&self, field: &str, default: u32) -> u32 {
        match self.get(field).and_then(Value::as_u64) {
            Some(0) => 0,
            Some(_) | None => self.count_or(field, default),
        }
    }

    /// Notes a fault where a field is there and is another word than the one that is supported.
    pub fn must_be(&self, field: &str, word: &str) {
        if let Some(value) = self.get(field).filter(|value| value.as_str() != Some(word)) {
            self.value_fault(field, value, format!("{word:?}"));
        }
    }

    /// A number with a default.
    pub fn float_or(&self, field: &str, default: f32) -> f32 {
        number(self.get(field), default).unwrap_or_else(|value| {
            self.value_fault(field, value, "a finite number".into());
            default
        })
    }

    /// A number above zero with a default.
    pub fn positive_or(&self, field: &str, default: f32) -> f32 {
        let found = self.float_or(field, default);
        if found > 0.0 {
            return found;
        }
        let allowed = "a finite number above 0".into();
        self.fault(ConfigFault::Value { field: field.into(), value: found.to_string(), allowed });
        default
    }

    /// A soft cap: a number above zero; none where it is absent or null.
    pub fn cap(&self, field: &str) -> Option<f32> {
        self.get(field).is_some().then(|| self.positive_or(field, 1.0))
    }

    /// `value` rounded to the element type that the checkpoint says its activations have.
    pub fn rounded(&self, value: f32) -> f32 {
        let dtype = self.get("dtype").or_else(|| self.get("torch_dtype")).and_then(Value::as_str);
        let significant = match dtype {
            Some("bfloat16") => 8,
            Some("float16") => 11,
            Some(_) | None => 24,
        };
        // To nearest, ties to even: half of the last place kept, less one where that is even.
        let (bits, dropped) = (value.to_bits(), 24 - significant);
        let half = (1u32 << dropped) >> 1;
        let odd = (bits >> dropped) & 1;
        let up = if half == 0 { 0 } else { half - 1 + odd };
        f32::from_bits((bits + up) >> dropped << dropped)
    }

    /// A flag that changes the maths in a way that is not computed here.
    pub fn must_be_off(&self, field: &str) {
        if self.flag_or(field, false) {
            let allowed = "false: what it turns on is not computed here".into();
            self.fault(ConfigFault::Value { field: field.into(), value: "true".into(), allowed });
        }
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
            Some("relu2") => Unary::Relu2,
            Some(_) | None => {
                self.value_fault(field, value, "silu, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2".into());
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

    fn object(&self, field: &str) -> Option<&'a Map<String, Value>> {
        let value = self.get(field)?;
        value.as_object().or_else(|| {
            self.value_fault(field, value, "an object".into());
            None
        })
    }

    fn value_fault(&self, field: &str, value: &Value, allowed: String) {
        self.fault(ConfigFault::Value { field: field.into(), value: cut(&value.to_string()), allowed });
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
