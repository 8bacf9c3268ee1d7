//! How `generation_config.json` asks for tokens to be drawn, where a request does not say.

use super::config::ConfigError;
use crate::error::Shown;
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;

/// What a model's folder says of draws; `None` where it says nothing.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct SamplingDefaults {
    /// Whether tokens are drawn at all; `false` takes the likeliest.
    pub do_sample: Option<bool>,
    /// Divides the logits; see [`SamplingDefaults::temperature`].
    pub temperature: Option<f32>,
    /// Keeps this many of the likeliest; 0 keeps all.
    pub top_k: Option<u32>,
    /// Keeps the smallest set whose probability reaches this.
    pub top_p: Option<f32>,
    /// Drops tokens less likely than this share of the likeliest.
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of tokens seen before.
    pub repetition_penalty: Option<f32>,
    /// Tokens at most.
    pub max_new_tokens: Option<u32>,
}

impl SamplingDefaults {
    /// The temperature, if anything is said: 0 where nothing is to be drawn.
    pub fn temperature(&self) -> Option<f32> {
        if self.do_sample == Some(false) { Some(0.0) } else { self.temperature }
    }

    /// Reads what `map` says; `file` is what messages call it.
    pub(super) fn read(file: &Path, map: &Map<String, Value>) -> Result<Self, ConfigError> {
        let fields = Fields { file, map };
        let whole = |value: &Value| value.as_u64().and_then(|count| u32::try_from(count).ok());
        // Minus one is how some write "all".
        let top_k = |value: &Value| if value.as_i64() == Some(-1) { Some(0) } else { whole(value) };
        let in_range = |low: f64, high: f64| {
            move |value: &Value| value.as_f64().filter(|number| (low..=high).contains(number)).map(|n| n as f32)
        };
        let over_zero = |high: f64| {
            move |value: &Value| value.as_f64().filter(|&n| n > 0.0 && n <= high).map(|number| number as f32)
        };
        Ok(Self {
            do_sample: fields.get("do_sample", "true or false", Value::as_bool)?,
            temperature: fields.get("temperature", "a number from 0 to 100", in_range(0.0, 100.0))?,
            top_k: fields.get("top_k", "a whole number from 0 to 4294967295 (0 keeps all)", top_k)?,
            top_p: fields.get("top_p", "a number over 0, up to 1", over_zero(1.0))?,
            min_p: fields.get("min_p", "a number from 0 to 1", in_range(0.0, 1.0))?,
            repetition_penalty: fields.get("repetition_penalty", "a number over 0, up to 2", over_zero(2.0))?,
            max_new_tokens: fields.get("max_new_tokens", "a whole number from 1 to 4294967295", |value| {
                whole(value).filter(|&count| count > 0)
            })?,
        })
    }
}

/// The settings as a note lists them; nothing where nothing is said.
impl fmt::Display for SamplingDefaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { top_k, top_p, min_p, repetition_penalty, max_new_tokens, .. } = *self;
        let number = |name: &str, value: Option<f32>| value.map(|value| format!("{name} {value}"));
        let count = |name: &str, value: Option<u32>| value.map(|value| format!("{name} {value}"));
        let said = [
            self.do_sample.filter(|draws| !draws).map(|_| "do_sample false".to_string()),
            number("temperature", self.temperature().filter(|_| self.do_sample != Some(false))),
            count("top_k", top_k),
            number("top_p", top_p),
            number("min_p", min_p),
            number("repetition_penalty", repetition_penalty),
            count("max_new_tokens", max_new_tokens),
        ];
        f.write_str(&said.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

struct Fields<'a> {
    file: &'a Path,
    map: &'a Map<String, Value>,
}

impl Fields<'_> {
    /// A field; null counts as absent.
    fn get<T>(
        &self,
        field: &'static str,
        allowed: &'static str,
        of: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.map.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
        let wrong = || ConfigError::Field { file: self.file.into(), field, got: Shown::json(value), allowed };
        of(value).map(Some).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<SamplingDefaults, String> {
        let map = value.as_object().expect("an object");
        SamplingDefaults::read(Path::new("g.json"), map).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_is_read_and_listed() {
        let read = |value| read(&value).expect("in range");
        let whole = read(json!({
            "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0, "repetition_penalty": 1.05,
            "max_new_tokens": 2048, "pad_token_id": 3
        }));
        let said = "temperature 0.6, top_k 20, top_p 0.95, min_p 0, repetition_penalty 1.05, max_new_tokens 2048";
        assert_eq!((whole.to_string().as_str(), whole.temperature()), (said, Some(0.6)));
        assert_eq!(read(json!({"temperature": null})), SamplingDefaults::default());
        let greedy = read(json!({"do_sample": false, "temperature": 0.6}));
        assert_eq!((greedy.to_string().as_str(), greedy.temperature()), ("do_sample false", Some(0.0)));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let check = |value: Value, message: &str| assert_eq!(read(&value), Err(format!("g.json: {message}")));
        check(json!({"temperature": -1}), "temperature is -1, must be a number from 0 to 100");
        check(json!({"top_p": 0}), "top_p is 0, must be a number over 0, up to 1");
        check(json!({"top_k": 1.5}), "top_k is 1.5, must be a whole number from 0 to 4294967295 (0 keeps all)");
        check(json!({"repetition_penalty": "1"}), "repetition_penalty is \"1\", must be a number over 0, up to 2");
        check(json!({"max_new_tokens": 0}), "max_new_tokens is 0, must be a whole number from 1 to 4294967295");
        check(json!({"do_sample": 1}), "do_sample is 1, must be true or false");
    }
}
