//! The conversation of a line: `messages` and what else a chat template may be told, in the form of OpenAI's API.
//!
//! What is checked here is the form; whether a template can render it is known when the line is begun.

use super::fields::Fields;
use super::line::LineError;
use crate::error::Shown;
use crate::json;
use crate::text::Conversation;
use crate::text::chat::ROLES;
use serde_json::{Map, Value};

/// Messages of a conversation.
const MESSAGES_MAX: usize = 4096;
/// Parts of a message, calls of a message, tools, documents.
const ITEMS_MAX: usize = 1024;
/// Fields that only a conversation has.
pub(super) const OF_MESSAGES: [&str; 8] = [
    "tools",
    "tool_choice",
    "documents",
    "chat_template",
    "chat_template_kwargs",
    "reasoning_effort",
    "add_generation_prompt",
    "continue_final_message",
];
/// Variables that a template has from elsewhere.
const OWN: [&str; 10] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "raise_exception",
    "strftime_now",
    "namespace",
    "dict",
];

/// Refuses what means nothing without `messages`.
pub(super) fn none_given(fields: &Fields<'_>) -> Result<(), LineError> {
    let says = |value: &Value| match value {
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(flag) => *flag,
        Value::String(_) | Value::Number(_) | Value::Null => true,
    };
    match OF_MESSAGES.into_iter().find(|name| fields.get(name).is_some_and(says)) {
        Some(field) => Err(LineError::Without { field, needs: "messages" }),
        None => Ok(()),
    }
}

/// The conversation of a line that has `messages`.
pub(super) fn conversation(fields: &Fields<'_>) -> Result<Conversation, LineError> {
    if fields.get("parse_special").is_some() {
        return Err(LineError::Without { field: "parse_special", needs: "prompt" });
    }
    let list = fields.get("messages").unwrap_or(&Value::Null);
    let good = list.as_array().filter(|list| (1..=MESSAGES_MAX).contains(&list.len()));
    let allowed = "a list of 1 to 4096 messages";
    let list = good.ok_or_else(|| LineError::Field { field: "messages", got: sized(list), allowed })?;
    let messages = list.iter().enumerate().map(|(at, value)| message(&Place(format!("messages[{at}]")), value));
    let mut conversation = Conversation::new(messages.collect::<Result<_, _>>()?);
    let shown = fields.read("tool_choice", "\"auto\" or \"none\"", |value| match value.as_str() {
        Some("auto") => Some(true),
        Some("none") => Some(false),
        Some(_) | None => None,
    })?;
    let tools = items(fields, "tools", "a list of at most 1024 functions", tool)?;
    conversation.tools = tools.filter(|tools| !tools.is_empty() && shown != Some(false));
    conversation.documents = items(fields, "documents", "a list of at most 1024 objects", |place, value| {
        place.object(value, "an object").map(|_| ())
    })?;
    conversation.template = fields.read("chat_template", "the name of one of the model's templates", |value| {
        value.as_str().filter(|name| name.len() <= 256).map(Into::into)
    })?;
    conversation.arguments = arguments(fields)?;
    let ends = fields
        .read("continue_final_message", "true, false, \"content\" or \"reasoning_content\"", continued)?
        .flatten();
    let answered = fields.flag("add_generation_prompt")?;
    if answered == Some(true) && ends.is_some() {
        return Err(LineError::Both { first: "add_generation_prompt", second: "continue_final_message" });
    }
    conversation.add_generation_prompt = answered.unwrap_or(ends.is_none());
    conversation.continue_final_message = ends;
    Ok(conversation)
}

/// The field that is to be continued.
#[expect(clippy::option_option, reason = "the inner one is a value: false continues nothing")]
fn continued(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Bool(false) => Some(None),
        Value::Bool(true) => Some(Some("content".into())),
        Value::String(field) if ["content", "reasoning_content", "reasoning", "thinking"].contains(&field.as_str()) => {
            Some(Some(field.clone()))
        }
        Value::String(_) | Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A place in a line, for messages.
struct Place(String);

impl Place {
    fn below(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    fn item(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }

    fn refuse(&self, value: &Value, allowed: &'static str) -> LineError {
        LineError::Inside { place: self.0.clone(), got: sized(value), allowed }
    }

    fn object<'v>(&self, value: &'v Value, allowed: &'static str) -> Result<&'v Map<String, Value>, LineError> {
        value.as_object().ok_or_else(|| self.refuse(value, allowed))
    }

    fn list<'v>(&self, value: &'v Value, allowed: &'static str) -> Result<&'v [Value], LineError> {
        let list = value.as_array().filter(|list| list.len() <= ITEMS_MAX);
        list.map(Vec::as_slice).ok_or_else(|| self.refuse(value, allowed))
    }

    /// A text below it; null counts as absent.
    fn text<'v>(
        &self,
        map: &'v Map<String, Value>,
        name: &str,
        allowed: &'static str,
    ) -> Result<Option<&'v str>, LineError> {
        match map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.below(name).refuse(other, allowed)),
        }
    }
}

/// A value as a message shows it: no text of a conversation.
fn sized(value: &Value) -> Shown {
    match value {
        Value::Array(list) => Shown::json(&Value::from(format!("a list of {}", list.len()))),
        Value::Object(_) => Shown::json(&Value::from("an object")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Shown::json(value),
    }
}

/// A message in the form that templates read: `arguments` of calls as objects.
fn message(place: &Place, value: &Value) -> Result<Map<String, Value>, LineError> {
    let mut message = place.object(value, "an object with role and content")?.clone();
    let role = message.get("role").unwrap_or(&Value::Null);
    if !role.as_str().is_some_and(|role| ROLES.contains(&role)) {
        return Err(place.below("role").refuse(role, "system, developer, user, assistant or tool"));
    }
    let assistant = role == "assistant";
    for name in ["reasoning_content", "reasoning", "thinking", "tool_call_id", "name"] {
        place.text(&message, name, "a text")?;
    }
    if let Some(calls) = message.get("tool_calls").filter(|calls| !calls.is_null()) {
        let place = place.below("tool_calls");
        if !assistant {
            return Err(place.refuse(calls, "in a message of the assistant"));
        }
        let calls = place.list(calls, "a list of at most 1024 calls")?.iter().enumerate();
        let calls = calls.map(|(at, value)| call(&place.item(at), value)).collect::<Result<Vec<Value>, _>>()?;
        // No calls are as good as none.
        if calls.is_empty() {
            message.remove("tool_calls");
        } else {
            message.insert("tool_calls".into(), Value::Array(calls));
        }
    }
    let says_more =
        ["tool_calls", "reasoning_content", "reasoning", "thinking"].iter().any(|name| message.contains_key(*name));
    match message.get("content") {
        Some(Value::String(_)) => {}
        None | Some(Value::Null) if assistant && says_more => {}
        Some(parts @ Value::Array(_)) => {
            let place = place.below("content");
            for (at, value) in place.list(parts, "a list of at most 1024 parts")?.iter().enumerate() {
                part(&place.item(at), value)?;
            }
        }
        other => {
            let got = other.unwrap_or(&Value::Null);
            return Err(place.below("content").refuse(got, "a text or a list of text parts"));
        }
    }
    Ok(message)
}

/// A part of a content, which must be text.
fn part(place: &Place, value: &Value) -> Result<(), LineError> {
    let map = place.object(value, "an object with type and text")?;
    let kind = map.get("type").unwrap_or(&Value::Null);
    if kind != "text" {
        return Err(place.below("type").refuse(kind, "\"text\"; nothing but texts is read"));
    }
    let text = place.text(map, "text", "a text")?;
    text.map(|_| ()).ok_or_else(|| place.below("text").refuse(&Value::Null, "a text"))
}

/// A call of a tool.
fn call(place: &Place, value: &Value) -> Result<Value, LineError> {
    let mut call = place.object(value, "an object with a function")?.clone();
    place.text(&call, "id", "a text")?;
    let function = call.get("function").unwrap_or(&Value::Null);
    let place = place.below("function");
    let mut function = place.object(function, "an object with name and arguments")?.clone();
    if place.text(&function, "name", "a text")?.is_none() {
        return Err(place.below("name").refuse(&Value::Null, "a text"));
    }
    let place = place.below("arguments");
    let allowed = "an object, or one written as JSON";
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Map::new()),
        Some(Value::String(text)) => {
            let parsed = json::parse(text).ok().filter(Value::is_object);
            parsed.ok_or_else(|| place.refuse(&Value::from(format!("a text of {} bytes", text.len())), allowed))?
        }
        Some(object @ Value::Object(_)) => object.clone(),
        Some(other) => return Err(place.refuse(other, allowed)),
    };
    function.insert("arguments".into(), arguments);
    call.insert("function".into(), Value::Object(function));
    Ok(Value::Object(call))
}

/// A tool that may be called.
fn tool(place: &Place, value: &Value) -> Result<(), LineError> {
    let tool = place.object(value, "an object with type and function")?;
    let kind = tool.get("type").unwrap_or(&Value::Null);
    if kind != "function" {
        return Err(place.below("type").refuse(kind, "\"function\""));
    }
    let place = place.below("function");
    let function = place.object(tool.get("function").unwrap_or(&Value::Null), "an object with a name")?;
    let name = function.get("name").unwrap_or(&Value::Null);
    let good = name.as_str().is_some_and(|name| (1..=256).contains(&name.len()));
    if good { Ok(()) } else { Err(place.below("name").refuse(name, "a text of 1 to 256 bytes")) }
}

/// A list of objects that `check` passes.
fn items(
    fields: &Fields<'_>,
    name: &'static str,
    allowed: &'static str,
    check: fn(&Place, &Value) -> Result<(), LineError>,
) -> Result<Option<Vec<Value>>, LineError> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let place = Place(name.into());
    let list = place.list(value, allowed)?;
    list.iter().enumerate().try_for_each(|(at, value)| check(&place.item(at), value))?;
    Ok(Some(list.to_vec()))
}

/// Further variables of the template.
fn arguments(fields: &Fields<'_>) -> Result<Map<String, Value>, LineError> {
    let place = Place("chat_template_kwargs".into());
    let mut arguments = match fields.get("chat_template_kwargs") {
        None => Map::new(),
        Some(value) => place.object(value, "an object")?.clone(),
    };
    if let Some(own) = OWN.into_iter().find(|own| arguments.contains_key(*own)) {
        let got = Value::from("there");
        return Err(place.below(own).refuse(&got, "left out: templates have it from elsewhere"));
    }
    if let Some(effort) = fields.read("reasoning_effort", "a text", |value| value.as_str().map(Value::from))? {
        arguments.entry("reasoning_effort").or_insert(effort);
    }
    Ok(arguments)
}
