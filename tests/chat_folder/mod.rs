//! Model folders of a tokenizer and chat templates, and the conversations of `tests/templates`.
#![allow(dead_code, reason = "each test file uses a part of it")]

use millstream::text::{Conversation, Tokenizer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).expect("a file of the fixture")).expect("JSON")
}

/// The table of conversations.
pub(crate) fn cases() -> Vec<Value> {
    json(&tests().join("templates/cases.json")).as_array().expect("a list").clone()
}

/// What transformers makes of them.
pub(crate) fn expected() -> Value {
    json(&tests().join("templates/expected.json"))
}

/// A folder of one test.
pub(crate) struct Folder {
    dir: PathBuf,
    config: Map<String, Value>,
}

impl Folder {
    /// An empty folder with one of the tokenizers.
    pub(crate) fn new(name: &str, kind: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chat-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir).expect("room for a folder");
        let from = tests().join("tokenizers").join(kind);
        std::fs::copy(from.join("tokenizer.json"), dir.join("tokenizer.json")).expect("a file of the fixture");
        let config = json(&from.join("tokenizer_config.json")).as_object().expect("an object").clone();
        let folder = Self { dir, config };
        folder.write_config();
        folder
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let file = self.dir.join(file);
        std::fs::create_dir_all(file.parent().expect("it is below the folder")).expect("room for a folder");
        std::fs::write(file, text).expect("room for a file");
    }

    /// Sets a field of `tokenizer_config.json`.
    pub(crate) fn config(&mut self, field: &str, value: Value) {
        self.config.insert(field.into(), value);
        self.write_config();
    }

    fn write_config(&self) {
        self.write("tokenizer_config.json", &Value::Object(self.config.clone()).to_string());
    }

    /// Its tokenizer.
    pub(crate) fn load(&self) -> Tokenizer {
        Tokenizer::from_folder(&self.dir).expect("a good folder").expect("it has a tokenizer")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn kind(template: &str) -> String {
    expected()[template]["tokenizer"].as_str().expect("a name").into()
}

/// The tokenizer of one of the templates, with it.
pub(crate) fn load(template: &str) -> Tokenizer {
    let folder = Folder::new(&format!("{template}-{:?}", std::thread::current().id()), &kind(template));
    let source = std::fs::read_to_string(tests().join(format!("templates/{template}.jinja"))).expect("a template");
    folder.write("chat_template.jinja", &source);
    folder.load()
}

/// Special tokens of the tokenizer of a template, but for that of unknown characters, which any text may come to.
pub(crate) fn special_ids(template: &str) -> BTreeMap<u32, String> {
    let file = json(&tests().join("tokenizers").join(kind(template)).join("tokenizer.json"));
    let added = file["added_tokens"].as_array().expect("a list").iter().filter(|token| token["special"] == true);
    let added = added.filter(|token| token["content"] != "<unk>");
    added
        .map(|token| (token["id"].as_u64().expect("an id") as u32, token["content"].as_str().expect("text").into()))
        .collect()
}

/// The conversation of a case.
pub(crate) fn conversation(case: &Value) -> Conversation {
    let list = |name: &str| case.get(name).and_then(Value::as_array).cloned();
    let messages = list("messages").expect("messages");
    let mut made =
        Conversation::new(messages.iter().map(|message| message.as_object().expect("an object").clone()).collect());
    made.tools = list("tools");
    made.documents = list("documents");
    made.arguments = case.get("chat_template_kwargs").and_then(Value::as_object).cloned().unwrap_or_default();
    made.add_generation_prompt = case.get("add_generation_prompt").and_then(Value::as_bool).unwrap_or(true);
    made.continue_final_message = match case.get("continue_final_message") {
        Some(Value::String(field)) => Some(field.clone()),
        Some(Value::Bool(true)) => Some("content".into()),
        Some(Value::Bool(false) | Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    // 2026-11-26, noon.
    made.now = UNIX_EPOCH + Duration::from_secs(1_795_694_400);
    made
}
