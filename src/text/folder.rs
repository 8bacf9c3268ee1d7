//! The files beside `tokenizer.json`: settings of the tokenizer, and chat templates in all the places that checkpoints keep them.
//!
//! As in transformers, template files go before `chat_template` in `tokenizer_config.json`; `chat_template.json`, which older
//! processors wrote, is read where neither is.

use super::chat::TemplateSource;
use super::error::TokenizerError;
use crate::json;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Bytes of a `tokenizer_config.json`; it may list thousands of added tokens.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a template file. Published ones have less than 20 KiB.
pub(super) const TEMPLATE_BYTES_MAX: u64 = 1 << 20;
/// Files in `additional_chat_templates`.
const TEMPLATES_MAX: usize = 64;

/// What a folder says beside `tokenizer.json`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Settings {
    /// Its templates; each name once.
    pub(super) templates: Vec<TemplateSource>,
    /// `bos_token` and the like, with their spelling.
    pub(super) named: BTreeMap<String, String>,
    /// `chat_control_tokens`.
    pub(super) control: Option<Vec<String>>,
    /// `clean_up_tokenization_spaces`.
    pub(super) clean_up_spaces: bool,
}

/// Reads the folder.
pub(super) fn read(dir: &Path) -> Result<Settings, TokenizerError> {
    let config = object(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    let mut settings = Settings {
        templates: files(dir)?,
        named: named(&config),
        control: config.get("chat_control_tokens").and_then(texts),
        clean_up_spaces: config.get("clean_up_tokenization_spaces") == Some(&Value::Bool(true)),
    };
    if let Some(map) = object(&dir.join("special_tokens_map.json"))? {
        for (name, token) in named(&map) {
            settings.named.entry(name).or_insert(token);
        }
    }
    if settings.templates.is_empty() {
        settings.templates = listed(dir, "tokenizer_config.json", &config)?;
    }
    if settings.templates.is_empty()
        && let Some(legacy) = object(&dir.join("chat_template.json"))?
    {
        settings.templates = listed(dir, "chat_template.json", &legacy)?;
    }
    Ok(settings)
}

/// A text file; `None` where there is none.
fn text(file: &Path, limit: u64) -> Result<Option<String>, TokenizerError> {
    let failed = |source| TokenizerError::Io { file: file.into(), source };
    let open = match File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    open.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(TokenizerError::SettingsTooLarge { file: file.into(), limit });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        TokenizerError::Settings { file: file.into(), why: format!("byte {at} is not UTF-8") }
    })?;
    Ok(Some(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }))
}

/// A JSON object; `None` where there is no such file.
fn object(file: &Path) -> Result<Option<Map<String, Value>>, TokenizerError> {
    let Some(text) = text(file, CONFIG_BYTES_MAX)? else { return Ok(None) };
    let wrong = |why: String| TokenizerError::Settings { file: file.into(), why };
    match json::parse(&text).map_err(|fault| wrong(fault.to_string()))? {
        Value::Object(map) => Ok(Some(map)),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(wrong(format!("is {}, must be an object", json::kind(&other))))
        }
    }
}

/// Template files.
fn files(dir: &Path) -> Result<Vec<TemplateSource>, TokenizerError> {
    let mut found = Vec::new();
    if let Some(source) = text(&dir.join("chat_template.jinja"), TEMPLATE_BYTES_MAX)? {
        found.push(TemplateSource { name: "default".into(), file: "chat_template.jinja".into(), source });
    }
    let more = dir.join("additional_chat_templates");
    let failed = |source| TokenizerError::Io { file: more.clone(), source };
    let entries = match std::fs::read_dir(&more) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".jinja").filter(|name| !name.is_empty()) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    if names.len() > TEMPLATES_MAX {
        let why = format!("{} templates, at most {TEMPLATES_MAX} are read", names.len());
        return Err(TokenizerError::Settings { file: more.clone(), why });
    }
    for name in names {
        let file = format!("{name}.jinja");
        let Some(source) = text(&more.join(&file), TEMPLATE_BYTES_MAX)? else { continue };
        found.retain(|template: &TemplateSource| template.name != name);
        found.push(TemplateSource { name, file: format!("additional_chat_templates/{file}"), source });
    }
    Ok(found)
}

/// `chat_template` of a configuration: a text, a list of `{name, template}`, or an object of names and texts.
fn listed(dir: &Path, file: &str, config: &Map<String, Value>) -> Result<Vec<TemplateSource>, TokenizerError> {
    let wrong = |allowed: &str| {
        let why = format!("chat_template: must be {allowed}");
        Err(TokenizerError::Settings { file: dir.join(file), why })
    };
    let of = |name: &str, source: &str| {
        let file =
            if name == "default" { format!("{file}: chat_template") } else { format!("{file}: chat_template {name}") };
        TemplateSource { name: name.into(), file, source: source.into() }
    };
    let pairs: Vec<(Option<&str>, Option<&str>)> = match config.get("chat_template") {
        None | Some(Value::Null) => return Ok(vec![]),
        Some(Value::String(source)) => vec![(Some("default"), Some(source))],
        Some(Value::Array(list)) => list
            .iter()
            .map(|entry| (entry.get("name").and_then(Value::as_str), entry.get("template").and_then(Value::as_str)))
            .collect(),
        Some(Value::Object(map)) => map.iter().map(|(name, source)| (Some(name.as_str()), source.as_str())).collect(),
        Some(Value::Bool(_) | Value::Number(_)) => return wrong("a text, or a list of {\"name\", \"template\"}"),
    };
    let mut found: Vec<TemplateSource> = Vec::new();
    for pair in pairs {
        let (Some(name), Some(source)) = pair else { return wrong("a text, or a list of {\"name\", \"template\"}") };
        // Of two of one name the last counts, as in a Python dictionary.
        found.retain(|template| template.name != name);
        found.push(of(name, source));
    }
    Ok(found)
}

/// Tokens that a configuration names: `bos_token` and so on, as texts or as objects with a `content`.
fn named(config: &Map<String, Value>) -> BTreeMap<String, String> {
    let spelling = |token: &Value| match token {
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => map.get("content").and_then(Value::as_str).map(Into::into),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    };
    let extra = config.get("extra_special_tokens").and_then(Value::as_object);
    let own = config.iter().filter(|(name, _)| name.ends_with("_token"));
    let all = extra.into_iter().flatten().chain(own);
    all.filter_map(|(name, token)| Some((name.clone(), spelling(token)?))).collect()
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(Into::into)).collect()
}
