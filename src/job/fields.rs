//! The names that a job line may use, and the values that each may have.

use super::line::LineError;
use super::messages::OF_MESSAGES;
use crate::error::Shown;
use serde_json::{Map, Value};

/// Fields that are read, beside those of a conversation.
const READ: [&str; 26] = [
    "prompt",
    "messages",
    "token_ids",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "n",
    "stop_token_ids",
    "ignore_eos",
    "stop",
    "include_stop_str_in_output",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "bad_words",
    "allowed_token_ids",
    "min_tokens",
    "parse_special",
];

/// Fields around the body of a batch line.
const ENVELOPE: [&str; 4] = ["custom_id", "method", "url", "body"];

/// Known fields that change nothing here.
const IGNORED: [&str; 7] = ["model", "user", "stream", "stream_options", "metadata", "priority", "return_token_ids"];

/// Known fields that would change the result and are not there yet. Their neutral values are accepted.
const ABSENT: [&str; 8] = [
    "echo",
    "best_of",
    "suffix",
    "response_format",
    "structured_outputs",
    "truncate_prompt_tokens",
    "skip_special_tokens",
    "add_special_tokens",
];

/// Token ids and continuations that one line may list.
const STOPS_MAX: usize = 64;

/// What a name is.
pub(super) enum Name {
    /// Known.
    Known,
    /// Nearly a known one.
    Typo(&'static str),
    /// Neither.
    Unknown,
}

/// All names that a line to be continued may have.
pub(super) const NAMES: [&[&str]; 5] = [&READ, &OF_MESSAGES, &ENVELOPE, &IGNORED, &ABSENT];

/// All names that a line to be scored may have.
pub(super) const SCORE_NAMES: [&[&str]; 2] = [&["custom_id", "prompt", "token_ids", "continuations"], &IGNORED];

/// All names that a line to be classified may have.
pub(super) const CLASSIFY_NAMES: [&[&str]; 3] =
    [&["custom_id", "prompt", "token_ids", "messages", "parse_special"], &OF_MESSAGES, &IGNORED];

/// Looks a name up among these.
pub(super) fn look_up(name: &str, names: &[&[&'static str]]) -> Name {
    let mut nearest: Option<(usize, &'static str)> = None;
    for known in names.iter().copied().flatten() {
        if *known == name {
            return Name::Known;
        }
        // Two edits make any short word of any other; a short name must be nearer.
        let edits_max = (known.len() / 4).min(2);
        let edits = edits(name, known);
        if edits <= edits_max && nearest.is_none_or(|(least, _)| edits < least) {
            nearest = Some((edits, known));
        }
    }
    nearest.map_or(Name::Unknown, |(_, known)| Name::Typo(known))
}

/// Bytes to insert, drop or change to make `a` of `b`; names over 64 bytes are far from all.
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() > 64 || a.len().abs_diff(b.len()) > 2 { usize::MAX } else { graph::names::distance(a, b) }
}

/// The fields of a request's body; each getter says which field it refuses and what it may be.
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The value of a field; null counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A number in `low..=high`.
    pub(super) fn number(&self, name: &'static str, allowed: &'static str, ok: fn(f64) -> bool) -> Read<f32> {
        self.read(name, allowed, |value| value.as_f64().filter(|&number| ok(number)).map(|number| number as f32))
    }

    /// A whole number from `least` to `most`.
    pub(super) fn whole(&self, name: &'static str, allowed: &'static str, least: u64, most: u64) -> Read<u64> {
        self.read(name, allowed, |value| value.as_u64().filter(|number| (least..=most).contains(number)))
    }

    /// True or false.
    pub(super) fn flag(&self, name: &'static str) -> Read<bool> {
        self.read(name, "true or false", Value::as_bool)
    }

    /// Any field, by what makes its value of it.
    pub(super) fn read<T>(
        &self,
        name: &'static str,
        allowed: &'static str,
        of: impl Fn(&Value) -> Option<T>,
    ) -> Read<T> {
        let Some(value) = self.get(name) else { return Ok(None) };
        of(value).map(Some).ok_or_else(|| LineError::Field { field: name, got: Shown::json(value), allowed })
    }

    /// A list of token ids below the width of the logits; the first bad one is named by its place.
    pub(super) fn tokens(&self, name: &'static str, vocabulary: u32) -> Read<Vec<u32>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(list) = value.as_array() else {
            return Err(LineError::Field { field: name, got: Shown::json(value), allowed: "a list of token ids" });
        };
        let id = |(index, value): (usize, &Value)| match value.as_u64() {
            Some(id) if id < u64::from(vocabulary) => Ok(id as u32),
            _ => Err(LineError::Token { field: name, index, got: Shown::json(value), vocabulary }),
        };
        list.iter().enumerate().map(id).collect::<Result<_, _>>().map(Some)
    }

    /// Stop tokens: few, each a token.
    pub(super) fn stop_tokens(&self, vocabulary: u32) -> Result<Vec<u32>, LineError> {
        let list = self.tokens("stop_token_ids", vocabulary)?.unwrap_or_default();
        if list.len() > STOPS_MAX {
            let got = Shown::json(&Value::from(list.len()));
            return Err(LineError::Field { field: "stop_token_ids", got, allowed: "at most 64 token ids" });
        }
        Ok(list)
    }

    /// Refuses what would change the result and is not there yet.
    pub(super) fn nothing_absent(&self) -> Result<(), LineError> {
        let wanted = |name: &&str| self.get(name).is_some_and(|value| !neutral(name, value));
        match ABSENT.into_iter().find(wanted) {
            Some(field) => Err(LineError::Unsupported { field }),
            None => Ok(()),
        }
    }
}

/// A field that may be absent.
pub(super) type Read<T> = Result<Option<T>, LineError>;

/// Whether a value asks for what happens anyway.
fn neutral(name: &str, value: &Value) -> bool {
    let one = name == "best_of";
    let yes = ["skip_special_tokens", "add_special_tokens"].contains(&name);
    match value {
        Value::Null => true,
        Value::Bool(flag) => *flag == yes,
        Value::Number(number) => number.as_f64() == Some(f64::from(u8::from(one))),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
