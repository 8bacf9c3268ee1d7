//! The fields of a job line that change which tokens are drawn, where a text stops, and what is told of its tokens.

use super::fields::Fields;
use super::line::LineError;
use super::request::{RuleFields, StopFields};
use crate::error::Shown;
use crate::text::{STOP_BYTES_MAX, STOP_TEXTS_MAX};
use actors::sampler::{LOGPROBS_MAX, RULES_MAX};
use serde_json::Value;

/// Penalties, biases and masks.
pub(super) fn rules(fields: &Fields<'_>, vocabulary: u32) -> Result<RuleFields, LineError> {
    let factor = |number| number > 0.0 && number <= 2.0;
    let penalty = |number| (-2.0..=2.0).contains(&number);
    let least = fields.whole("min_tokens", "a whole number from 0 to 2147483647", 0, i32::MAX as u64)?;
    Ok(RuleFields {
        repetition_penalty: fields.number("repetition_penalty", "a number over 0, up to 2", factor)?,
        presence_penalty: fields.number("presence_penalty", "a number from -2 to 2", penalty)?.unwrap_or(0.0),
        frequency_penalty: fields.number("frequency_penalty", "a number from -2 to 2", penalty)?.unwrap_or(0.0),
        logit_bias: logit_bias(fields, vocabulary)?,
        allowed_token_ids: allowed(fields, vocabulary)?,
        bad_words: texts(fields, "bad_words", "a list of at most 1024 texts", RULES_MAX)?,
        min_tokens: least.map_or(0, |least| least as u32),
    })
}

/// Where the text stops, beside stop tokens.
pub(super) fn stops(fields: &Fields<'_>) -> Result<StopFields, LineError> {
    let texts = match fields.get("stop") {
        // One text may stand alone; an empty one is nobody's stop.
        Some(Value::String(text)) => vec![good_text("stop", 0, &Value::from(text.as_str()))?],
        _ => texts(fields, "stop", "a text or a list of at most 64 texts", STOP_TEXTS_MAX)?,
    };
    Ok(StopFields { texts, include: fields.flag("include_stop_str_in_output")?.unwrap_or(false) })
}

/// How many likeliest tokens are told beside each token that is generated: a count, or `true` and `top_logprobs`.
pub(super) fn logprobs(fields: &Fields<'_>) -> Result<Option<u32>, LineError> {
    let top = count(fields, "top_logprobs", "a whole number from 0 to 20")?;
    let count = match fields.get("logprobs") {
        Some(Value::Bool(true)) => Some(top.unwrap_or(0)),
        Some(Value::Bool(false)) => None,
        _ => count(fields, "logprobs", "true, false or a whole number from 0 to 20")?,
    };
    match (count, top) {
        (None, Some(top)) if top > 0 => Err(LineError::Without { field: "top_logprobs", needs: "\"logprobs\": true" }),
        (count, _) => Ok(count),
    }
}

/// The same for the tokens of the prompt.
pub(super) fn prompt_logprobs(fields: &Fields<'_>) -> Result<Option<u32>, LineError> {
    count(fields, "prompt_logprobs", "a whole number from 0 to 20")
}

fn count(fields: &Fields<'_>, name: &'static str, allowed: &'static str) -> Result<Option<u32>, LineError> {
    Ok(fields.whole(name, allowed, 0, u64::from(LOGPROBS_MAX))?.map(|count| count as u32))
}

/// `{"id": bias}`.
fn logit_bias(fields: &Fields<'_>, vocabulary: u32) -> Result<Vec<(u32, f32)>, LineError> {
    const FIELD: &str = "logit_bias";
    let Some(value) = fields.get(FIELD) else { return Ok(vec![]) };
    let Some(map) = value.as_object().filter(|map| map.len() <= RULES_MAX) else {
        let (got, allowed) = (sized(value), "an object of at most 1024 token ids and their biases");
        return Err(LineError::Field { field: FIELD, got, allowed });
    };
    let bias = |(key, value): (&String, &Value)| {
        // A leading zero or sign would let two keys name one token.
        let id = key.parse().ok().filter(|id: &u32| *id < vocabulary && id.to_string() == *key);
        let id = id.ok_or_else(|| LineError::Key { field: FIELD, got: Shown::quoted(key), vocabulary })?;
        let bias = value.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let bias = bias.ok_or_else(|| LineError::Element {
            field: FIELD,
            index: id as usize,
            got: Shown::json(value),
            allowed: "a number from -100 to 100",
        })?;
        Ok((id, bias as f32))
    };
    map.iter().map(bias).collect()
}

fn allowed(fields: &Fields<'_>, vocabulary: u32) -> Result<Option<Vec<u32>>, LineError> {
    const FIELD: &str = "allowed_token_ids";
    let few = |value: &Value| value.as_array().is_none_or(|list| (1..=RULES_MAX).contains(&list.len()));
    match fields.get(FIELD).filter(|value| !few(value)) {
        Some(value) => {
            Err(LineError::Field { field: FIELD, got: sized(value), allowed: "a list of 1 to 1024 token ids" })
        }
        None => fields.tokens(FIELD, vocabulary),
    }
}

/// A list of texts; none where the field is absent.
fn texts(
    fields: &Fields<'_>,
    name: &'static str,
    allowed: &'static str,
    most: usize,
) -> Result<Vec<String>, LineError> {
    let Some(value) = fields.get(name) else { return Ok(vec![]) };
    let list = value.as_array().filter(|list| list.len() <= most);
    let list = list.ok_or_else(|| LineError::Field { field: name, got: sized(value), allowed })?;
    list.iter().enumerate().map(|(index, value)| good_text(name, index, value)).collect()
}

fn good_text(name: &'static str, index: usize, value: &Value) -> Result<String, LineError> {
    let text = value.as_str().filter(|text| (1..=STOP_BYTES_MAX).contains(&text.len()));
    let allowed = "a text of 1 to 1024 bytes";
    text.map(Into::into).ok_or_else(|| LineError::Element { field: name, index, got: Shown::json(value), allowed })
}

/// A value as a message shows it; of a list or object its length, which is what is wrong with it.
fn sized(value: &Value) -> Shown {
    match value {
        Value::Array(list) => Shown::json(&Value::from(list.len())),
        Value::Object(map) => Shown::json(&Value::from(map.len())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Shown::json(value),
    }
}
