//! A conversation as a template sees it.

use super::marks::{CUT, escaped};
use minijinja::Value as TemplateValue;
use serde_json::{Map, Value};
use std::time::SystemTime;

/// Roles that a message may have.
pub const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Names under which a message may hold its reasoning; templates read the first.
pub(super) const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// What a model is to answer. Its texts are never special: only the template writes special tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversation {
    /// Messages in the form of OpenAI's API: `role`, `content`, `tool_calls` and so on. Fields that are null count as absent.
    pub messages: Vec<Map<String, Value>>,
    /// Tools that may be called, as JSON schemas.
    pub tools: Option<Vec<Value>>,
    /// Documents to answer from.
    pub documents: Option<Vec<Value>>,
    /// Which of the model's templates; where nothing is said `tool_use` for tools if there is one, else the default.
    pub template: Option<String>,
    /// Further variables of the template.
    pub arguments: Map<String, Value>,
    /// Whether the beginning of an answer is written.
    pub add_generation_prompt: bool,
    /// The field of the final message that is to be continued, `content` as a rule.
    pub continue_final_message: Option<String>,
    /// What `strftime_now` says, in UTC.
    pub now: SystemTime,
}

impl Conversation {
    /// A conversation of these messages that is to be answered.
    pub fn new(messages: Vec<Map<String, Value>>) -> Self {
        Self {
            messages,
            tools: None,
            documents: None,
            template: None,
            arguments: Map::new(),
            add_generation_prompt: true,
            continue_final_message: None,
            now: SystemTime::now(),
        }
    }

    /// One message of a user.
    pub fn of_user(text: &str) -> Self {
        let message = [("role".to_owned(), Value::from("user")), ("content".to_owned(), Value::from(text))];
        Self::new(vec![message.into_iter().collect()])
    }
}

/// A message as templates expect it: nothing is null, reasoning under every name, text parts as one text where the template does not
/// go through parts (joined by line ends).
pub(super) fn normal(message: &Map<String, Value>, keep_parts: bool) -> Map<String, Value> {
    let mut normal = Map::new();
    let reasoning = REASONING.iter().find_map(|name| message.get(*name).filter(|value| !value.is_null()));
    if let Some(reasoning) = reasoning {
        normal.insert("thinking".into(), reasoning.clone());
    }
    for (name, value) in message.iter().filter(|(_, value)| !value.is_null()) {
        let value = match value {
            Value::Array(parts) if name == "content" && !keep_parts => Value::from(joined(parts)),
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                value.clone()
            }
        };
        normal.insert(name.clone(), value);
    }
    if let Some(reasoning) = reasoning {
        normal.insert(REASONING[0].into(), reasoning.clone());
    }
    normal
}

fn joined(parts: &[Value]) -> String {
    let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
    texts.join("\n")
}

/// The same value with no mark in any of its texts.
pub(super) fn unmarked(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => Value::from(escaped(text)),
        Value::Array(items) => items.iter().map(unmarked).collect(),
        Value::Object(map) => Value::Object(unmarked_map(map)),
    }
}

/// The same of an object.
pub(super) fn unmarked_map(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter().map(|(name, value)| (escaped(name).into_owned(), unmarked(value))).collect()
}

/// Marks where the final message ends, in a field and in copies of it; what it is, or why there is nothing to continue. The message must
/// be without marks already: [`unmarked`].
pub(super) fn mark_end(message: &mut Map<String, Value>, field: &str, source: &str) -> Result<String, &'static str> {
    let Some(text) = message.get(field).cloned() else { return Err("the final message has no such field to continue") };
    let copies: Vec<&str> = match REASONING.contains(&field) {
        true => REASONING.into_iter().filter(|name| message.get(*name) == Some(&text)).collect(),
        false => vec![field],
    };
    if !copies.iter().any(|name| source.contains(name)) {
        return Err("the chat template does not read that field");
    }
    match text {
        Value::String(text) => {
            for name in copies {
                message.insert(name.into(), Value::from(format!("{text}{CUT} ")));
            }
            Ok(text)
        }
        Value::Array(mut parts) => {
            let last = parts.iter_mut().rev().find_map(|part| part.get_mut("text"));
            let Some(Value::String(last)) = last else { return Err("the final message has no text to continue") };
            let text = last.clone();
            last.extend([CUT, ' ']);
            message.insert(field.into(), Value::Array(parts));
            Ok(text)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            Err("the final message has no text to continue")
        }
    }
}

/// A value as a template reads it.
pub(super) fn template_value(value: &Value) -> TemplateValue {
    match value {
        Value::Null => TemplateValue::from(()),
        Value::Bool(flag) => TemplateValue::from(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => TemplateValue::from(number),
            (None, Some(number)) => TemplateValue::from(number),
            (None, None) => TemplateValue::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => TemplateValue::from(text.as_str()),
        Value::Array(items) => items.iter().map(template_value).collect(),
        Value::Object(map) => template_map(map),
    }
}

/// The same of an object, in its order.
pub(super) fn template_map(map: &Map<String, Value>) -> TemplateValue {
    let pair = |(name, value): (&String, &Value)| (TemplateValue::from(name.as_str()), template_value(value));
    TemplateValue::from_pairs(map.iter().map(pair))
}
