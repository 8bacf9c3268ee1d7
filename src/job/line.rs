//! One line of a job: parsed and checked, so that what follows need not ask again.
//!
//! Two forms are read: `{"custom_id", "prompt" | "token_ids", max_tokens, temperature, …}` and OpenAI's batch line
//! `{"custom_id", "method", "url", "body": {…}}`. A bad line is an error of its own; the others run.

use super::fields::{Fields, NAMES, Name, look_up};
use super::messages;
use super::request::{Prompt, Request, SamplingFields};
use super::rules;
use crate::error::Shown;
use crate::json::{self, JsonFault};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Bytes of a `custom_id`.
const ID_BYTES_MAX: usize = 256;

/// Unknown names that are remembered for the warning; a hostile job has more.
const UNKNOWN_MAX: usize = 32;

/// Why a line is no request.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON.
    #[error("not JSON: column {}: {}", .0.column, .0.what)]
    Json(JsonFault),
    /// JSON, but not an object.
    #[error("is {got}, must be an object")]
    NotObject {
        /// What it is.
        got: &'static str,
    },
    /// Too long to be read.
    #[error("{bytes} bytes from byte {offset} of the file on, over the limit of {limit}; skipped")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// Where it begins.
        offset: u64,
        /// What is read.
        limit: u64,
    },
    /// No name for its result.
    #[error("custom_id is {got}, must be a string of 1 to 256 bytes without control characters")]
    CustomId {
        /// What stands there.
        got: Shown,
    },
    /// A name that is nearly a known one.
    #[error("{got} is not a field; did you mean \"{meant}\"")]
    Typo {
        /// What stands there.
        got: Shown,
        /// The known one.
        meant: &'static str,
    },
    /// A field of the wrong type or out of its range.
    #[error("{field} is {got}, must be {allowed}")]
    Field {
        /// Which.
        field: &'static str,
        /// What stands there.
        got: Shown,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A token id that no logit stands for.
    #[error("{field}[{index}] is {got}, must be a token id from 0 to {}", .vocabulary.saturating_sub(1))]
    Token {
        /// Which field.
        field: &'static str,
        /// Its place in the list.
        index: usize,
        /// What stands there.
        got: Shown,
        /// Logits of the model.
        vocabulary: u32,
    },
    /// An entry of a field that is of the wrong type or out of its range.
    #[error("{field}[{index}] is {got}, must be {allowed}")]
    Element {
        /// Which field.
        field: &'static str,
        /// Its place in the list, or its key.
        index: usize,
        /// What stands there.
        got: Shown,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A key that names no token.
    #[error("{field}: key {got} must be a token id from 0 to {}", .vocabulary.saturating_sub(1))]
    Key {
        /// Which field.
        field: &'static str,
        /// What stands there.
        got: Shown,
        /// Logits of the model.
        vocabulary: u32,
    },
    /// Something inside a field that is of the wrong type or out of its range.
    #[error("{place} is {got}, must be {allowed}")]
    Inside {
        /// Where, from the field on.
        place: String,
        /// What stands there.
        got: Shown,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A field that means nothing without another.
    #[error("{field} needs {needs} beside it")]
    Without {
        /// One.
        field: &'static str,
        /// The other.
        needs: &'static str,
    },
    /// Two fields that exclude each other.
    #[error("both {first} and {second}; give one")]
    Both {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// Nothing to continue.
    #[error("no prompt; give prompt (text), messages or token_ids")]
    NoPrompt,
    /// A prompt of no tokens.
    #[error("the prompt has no tokens; at least one is needed")]
    EmptyPrompt,
    /// A conversation, for a model that has no form for one.
    #[error("messages: the model has no chat template; give prompt (text) or token_ids")]
    NoChatTemplate,
    /// Text, for a model that reads token ids only.
    #[error("prompt: the model has no tokenizer; give token_ids")]
    NoTokenizer,
    /// A known field that would change the result and is not there yet.
    #[error("{field}: not supported; leave it out")]
    Unsupported {
        /// Which.
        field: &'static str,
    },
    /// A prompt that leaves no room for a token.
    #[error("the prompt has {tokens} tokens, the limit is {limit}: max_model_len {} less one to generate", .limit + 1)]
    PromptTooLong {
        /// Its tokens.
        tokens: usize,
        /// The most a prompt may have.
        limit: usize,
    },
}

impl LineError {
    /// The short name that an error record has.
    pub fn code(&self) -> &'static str {
        match self {
            LineError::Json(_) | LineError::NotObject { .. } => "invalid_json",
            LineError::TooLong { .. } => "line_too_long",
            LineError::CustomId { .. } => "invalid_custom_id",
            LineError::Typo { .. } => "unknown_field",
            LineError::Field { .. }
            | LineError::Token { .. }
            | LineError::Element { .. }
            | LineError::Key { .. }
            | LineError::Inside { .. }
            | LineError::Without { .. }
            | LineError::Both { .. } => "invalid_value",
            LineError::NoPrompt | LineError::EmptyPrompt => "no_prompt",
            LineError::NoChatTemplate => "no_chat_template",
            LineError::NoTokenizer => "no_tokenizer",
            LineError::Unsupported { .. } => "unsupported_field",
            LineError::PromptTooLong { .. } => "prompt_too_long",
        }
    }
}

/// A line that is no request, under its name if it has a good one.
#[derive(Clone, PartialEq, Debug)]
pub struct Refused {
    /// Its `custom_id`.
    pub custom_id: Option<String>,
    /// Why.
    pub error: LineError,
}

/// Parses the lines of one job.
#[derive(Clone, Debug)]
pub struct LineParser {
    vocabulary: u32,
    chat: bool,
    labels: bool,
    unknown: BTreeSet<String>,
}

impl LineParser {
    /// For a model of this many tokens.
    pub fn new(vocabulary: u32) -> Self {
        Self { vocabulary, chat: false, labels: false, unknown: BTreeSet::new() }
    }

    /// For one that has chat templates.
    pub fn chat(mut self) -> Self {
        self.chat = true;
        self
    }

    /// For one whose logits are scores of labels.
    pub fn labels(mut self) -> Self {
        self.labels = true;
        self
    }

    /// Whether its logits are scores of labels.
    pub(super) fn has_labels(&self) -> bool {
        self.labels
    }

    /// The request of a line.
    pub fn parse(&mut self, line: &[u8]) -> Result<Request, Refused> {
        let (map, custom_id) = self.object(line)?;
        self.request(&map, &custom_id).map_err(|error| Refused { custom_id: Some(custom_id), error })
    }

    /// A line as an object, with its name.
    pub(crate) fn object(&self, line: &[u8]) -> Result<(Map<String, Value>, String), Refused> {
        let nameless = |error| Refused { custom_id: None, error };
        let map = match json::parse_bytes(line) {
            Ok(Value::Object(map)) => map,
            Ok(other) => return Err(nameless(LineError::NotObject { got: json::kind(&other) })),
            Err(fault) => return Err(nameless(LineError::Json(fault))),
        };
        let custom_id = custom_id(&map).map_err(nameless)?;
        Ok((map, custom_id))
    }

    /// Tokens of the model.
    pub(super) fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// Names that were ignored in the lines so far, for one warning a job.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(String::as_str)
    }

    /// The request of an object.
    fn request(&mut self, map: &Map<String, Value>, custom_id: &str) -> Result<Request, LineError> {
        self.names(map)?;
        let body = match map.get("body") {
            None => map,
            Some(Value::Object(body)) => {
                self.names(body)?;
                envelope(map)?;
                body
            }
            Some(other) => {
                return Err(LineError::Field { field: "body", got: Shown::json(other), allowed: "an object" });
            }
        };
        let fields = Fields(body);
        fields.nothing_absent()?;
        Ok(Request {
            custom_id: custom_id.to_string(),
            prompt: self.prompt(&fields)?,
            max_tokens: max_tokens(&fields)?,
            sampling: sampling(&fields)?,
            n: fields.whole("n", "a whole number from 1 to 128", 1, 128)?.map_or(1, |n| n as u32),
            stop_token_ids: fields.stop_tokens(self.vocabulary)?,
            ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
            stops: rules::stops(&fields)?,
            rules: rules::rules(&fields, self.vocabulary)?,
            logprobs: rules::logprobs(&fields)?,
            prompt_logprobs: rules::prompt_logprobs(&fields)?,
        })
    }

    /// Refuses names that are nearly known, and remembers the others.
    fn names(&mut self, map: &Map<String, Value>) -> Result<(), LineError> {
        self.known_names(map, &NAMES)
    }

    /// The same for a line that may have these.
    pub(super) fn known_names(&mut self, map: &Map<String, Value>, known: &[&[&'static str]]) -> Result<(), LineError> {
        for name in map.keys() {
            match look_up(name, known) {
                Name::Known => {}
                Name::Typo(meant) => return Err(LineError::Typo { got: Shown::quoted(name), meant }),
                Name::Unknown => {
                    if self.unknown.len() < UNKNOWN_MAX {
                        self.unknown.insert(name.chars().take(80).collect());
                    }
                }
            }
        }
        Ok(())
    }

    /// The one of `prompt`, `token_ids` and `messages` that is there.
    pub(super) fn prompt(&self, fields: &Fields<'_>) -> Result<Prompt, LineError> {
        let there = |name: &&'static str| fields.get(name).is_some();
        let mut given = ["prompt", "token_ids", "messages"].into_iter().filter(there);
        let first = given.next().ok_or(LineError::NoPrompt)?;
        if let Some(second) = given.next() {
            return Err(LineError::Both { first, second });
        }
        if first == "messages" {
            if !self.chat {
                return Err(LineError::NoChatTemplate);
            }
            return Ok(Prompt::Chat(Box::new(messages::conversation(fields)?)));
        }
        messages::none_given(fields)?;
        let parsed = fields.flag("parse_special")?;
        if let Some(Value::String(text)) = fields.get("prompt") {
            let text = text.clone();
            return Ok(if parsed == Some(false) { Prompt::PlainText(text) } else { Prompt::Text(text) });
        }
        if let Some(other) = fields.get("prompt").filter(|value| !tokens_or_empty(value)) {
            let allowed = "a text or a list of token ids; one prompt a line";
            return Err(LineError::Field { field: "prompt", got: Shown::json(other), allowed });
        }
        match fields.tokens(first, self.vocabulary)? {
            Some(ids) if !ids.is_empty() => Ok(Prompt::TokenIds(ids)),
            Some(_) | None => Err(LineError::EmptyPrompt),
        }
    }
}

/// Whether a list is one of token ids rather than one of prompts.
fn tokens_or_empty(value: &Value) -> bool {
    value.as_array().is_some_and(|list| !list.iter().any(|item| item.is_array() || item.is_string()))
}

/// `custom_id`, if it can name a result.
fn custom_id(map: &Map<String, Value>) -> Result<String, LineError> {
    let value = map.get("custom_id").unwrap_or(&Value::Null);
    match value {
        Value::String(id) if good_id(id) => Ok(id.clone()),
        Value::String(id) => Err(LineError::CustomId { got: Shown::quoted(id) }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(LineError::CustomId { got: Shown::json(value) })
        }
    }
}

/// Whether a string can name a result.
pub(super) fn good_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && !id.chars().any(char::is_control)
}

/// `method` and `url` around a body.
fn envelope(map: &Map<String, Value>) -> Result<(), LineError> {
    let fields = Fields(map);
    let is = |names: &'static [&'static str]| {
        move |value: &Value| value.as_str().filter(|text| names.contains(text)).map(|_| ())
    };
    fields.read("method", "\"POST\"", is(&["POST"]))?;
    let urls = &["/v1/completions", "/v1/chat/completions"];
    fields.read("url", "\"/v1/completions\" or \"/v1/chat/completions\"", is(urls))?;
    Ok(())
}

/// `max_tokens`, under either of its names.
fn max_tokens(fields: &Fields<'_>) -> Result<Option<u32>, LineError> {
    const ALLOWED: &str = "a whole number from 1 to 2147483647";
    let read = |name| fields.whole(name, ALLOWED, 1, i32::MAX as u64);
    match (read("max_tokens")?, read("max_completion_tokens")?) {
        (Some(_), Some(_)) => Err(LineError::Both { first: "max_tokens", second: "max_completion_tokens" }),
        (Some(tokens), None) | (None, Some(tokens)) => Ok(Some(tokens as u32)),
        (None, None) => Ok(None),
    }
}

/// How tokens are drawn.
fn sampling(fields: &Fields<'_>) -> Result<SamplingFields, LineError> {
    let warm = |number| number == 0.0 || (1e-5..=100.0).contains(&number);
    // Minus one is how vLLM writes "all".
    let all_or_some = |value: &Value| match value.as_i64() {
        Some(-1) => Some(0),
        Some(_) | None => value.as_u64().and_then(|count| u32::try_from(count).ok()),
    };
    let seeds = "a whole number from 0 to 18446744073709551615";
    Ok(SamplingFields {
        temperature: fields.number("temperature", "0, or a number from 0.00001 to 100", warm)?,
        top_k: fields.read("top_k", "a whole number from 0 to 4294967295 (0 keeps all)", all_or_some)?,
        top_p: fields.number("top_p", "a number over 0, up to 1", |p| p > 0.0 && p <= 1.0)?,
        min_p: fields.number("min_p", "a number from 0 to 1", |p| (0.0..=1.0).contains(&p))?,
        seed: fields.whole("seed", seeds, 0, u64::MAX)?,
    })
}
