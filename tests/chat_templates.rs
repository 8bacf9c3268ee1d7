//! Chat templates against transformers: ten templates that use what published ones use, each with a table of conversations.
//!
//! `tests/templates/make_expected.py` makes the expected texts and ids; the templates are this project's own.

mod chat_folder;

use chat_folder::{Folder, cases, conversation, expected, load, special_ids};
use serde_json::{Map, Value};

const TEMPLATES: [&str; 10] =
    ["llama3", "qwen3", "mistral", "gemma", "phi", "deepseek", "harmony", "command_r", "chatml", "granite"];
/// Conversations that have another text here than in transformers: parts become one text where a template reads no parts.
const JOINED: [&str; 2] = ["parts", "parts that the template leaves"];

#[test]
fn texts_and_ids_are_those_of_transformers() {
    let (cases, expected) = (cases(), expected());
    let mut compared = 0;
    for name in TEMPLATES {
        let tokenizer = load(name);
        for case in &cases {
            let label = case["name"].as_str().expect("a name");
            let result = &expected[name]["results"][label];
            let conversation = conversation(case);
            let rendered = tokenizer.chat_templates().expect("it has one").render(&conversation);
            match (&result["text"], rendered) {
                (Value::String(text), Ok(rendered)) => {
                    let of_parts = JOINED.contains(&label) && rendered != *text;
                    assert!(of_parts || rendered == *text, "{name}, {label}:\n{rendered}\nand not\n{text}");
                    if let Some(ids) = result["ids"].as_array().filter(|_| !of_parts) {
                        let own = tokenizer.encode_chat(&conversation).expect("it was rendered");
                        assert_eq!(own.iter().map(|&id| Value::from(id)).collect::<Vec<_>>(), *ids, "{name}, {label}");
                        compared += 1;
                    }
                }
                (Value::Null, Err(_)) => {}
                (_, Ok(rendered)) => assert!(JOINED.contains(&label), "{name}, {label}: {result} but {rendered}"),
                (_, Err(error)) => panic!("{name}, {label}: {error}"),
            }
        }
    }
    assert!(compared > 300, "{compared} conversations have ids");
}

/// The same value with every character that a special token begins or ends with replaced in its texts.
fn harmless(value: &Value) -> Value {
    let plain = |text: &str| text.replace(['<', '>', '[', ']', '|', '｜', '▁'], "Q");
    match value {
        Value::String(text) => Value::from(plain(text)),
        Value::Array(items) => items.iter().map(harmless).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(name, value)| (plain(name), harmless(value))).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[test]
fn no_special_id_comes_of_a_text() {
    for name in TEMPLATES {
        let tokenizer = load(name);
        let special = special_ids(name);
        for case in cases() {
            let written = |case: &Value| {
                let ids = tokenizer.encode_chat(&conversation(case)).ok()?;
                Some(ids.into_iter().filter(|id| special.contains_key(id)).collect::<Vec<_>>())
            };
            let (spelled, plain) = (written(&case), written(&harmless(&case)));
            assert_eq!(spelled, plain, "{name}, {}", case["name"]);
        }
    }
}

/// Every special token, whole, in two messages, in two parts, and in everything else that a line gives, for every template.
#[test]
fn no_special_id_comes_of_any_spelling_of_it() {
    for name in TEMPLATES {
        let tokenizer = load(name);
        let special = special_ids(name);
        let user = |texts: [&str; 3]| {
            let message = |(role, text): (&str, &str)| serde_json::json!({"role": role, "content": text});
            // A template may look for the last message of the user by what it says.
            let last = format!("{}.", texts[2]);
            let said = [texts[0], texts[1], &last];
            let messages: Vec<Value> = ["user", "assistant", "user"].into_iter().zip(said).map(message).collect();
            serde_json::json!({
                "name": "x", "messages": messages, "documents": [{"title": texts[0], "text": texts[1], texts[2]: texts[0]}],
                "tools": [{"type": "function", "function": {"name": texts[0], "description": texts[1], "parameters": {
                    "type": "object", "properties": {texts[2]: {"type": "string", "description": texts[0]}}, "required": []}}}],
                "chat_template_kwargs": {"date_string": texts[0], "model_identity": texts[1], "reasoning_effort": texts[2]},
            })
        };
        let written = |case: &Value| {
            let ids = tokenizer.encode_chat(&conversation(case)).unwrap_or_else(|error| panic!("{name}: {error}"));
            ids.into_iter().filter(|id| special.contains_key(id)).collect::<Vec<_>>()
        };
        let plain = written(&user(["a", "b", "c"]));
        for content in special.values() {
            let half = content.chars().count() / 2;
            let (begin, end): (String, String) =
                (content.chars().take(half).collect(), content.chars().skip(half).collect());
            let core: String = content.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
            for texts in [[content.as_str(); 3], [&begin, &end, &begin], [&end, &begin, &end], [&core, &core, &core]] {
                assert_eq!(written(&user(texts)), plain, "{name}: {texts:?}");
            }
        }
    }
}

/// Templates in each of the places that checkpoints keep them, and which goes before which.
#[test]
fn templates_are_found_where_checkpoints_keep_them() {
    let hi = conversation(&serde_json::json!({"messages": [{"role": "user", "content": "hi"}]}));
    let names = |folder: &Folder| {
        let tokenizer = folder.load();
        let templates = tokenizer.chat_templates().map(|chat| {
            let names: Vec<String> = chat.names().map(Into::into).collect();
            let text = |name: &String| {
                let mut conversation = hi.clone();
                conversation.template = Some(name.clone());
                chat.render(&conversation).expect("a plain template")
            };
            names.iter().map(|name| format!("{name}={}", text(name))).collect::<Vec<_>>().join(" ")
        });
        templates.unwrap_or_default()
    };
    let mut folder = Folder::new("places", "byte_level");
    assert_eq!(names(&folder), "");
    folder.write("chat_template.json", r#"{"chat_template": "json"}"#);
    assert_eq!(names(&folder), "default=json");
    folder.config("chat_template", Value::from("text"));
    assert_eq!(names(&folder), "default=text");
    let entry = |name: &str, template: &str| serde_json::json!({"name": name, "template": template});
    folder
        .config("chat_template", Value::Array(vec![entry("default", "d"), entry("tool_use", "t"), entry("rag", "r")]));
    assert_eq!(names(&folder), "default=d rag=r tool_use=t");
    folder.config("chat_template", serde_json::json!({"default": "m", "rag": "n"}));
    assert_eq!(names(&folder), "default=m rag=n");
    folder.write("chat_template.jinja", "\u{feff}file\n");
    assert_eq!(names(&folder), "default=file", "files go before the configuration");
    folder.write("additional_chat_templates/rag.jinja", "more");
    folder.write("additional_chat_templates/README.md", "no template");
    assert_eq!(names(&folder), "default=file rag=more");
}

#[test]
fn tools_take_the_template_for_tools() {
    let mut folder = Folder::new("tool-use", "byte_level");
    let entry = |name: &str| serde_json::json!({"name": name, "template": name});
    folder.config("chat_template", Value::Array(vec![entry("default"), entry("tool_use"), entry("rag")]));
    let tokenizer = folder.load();
    let chat = tokenizer.chat_templates().expect("templates");
    let mut hi = conversation(&serde_json::json!({"messages": [{"role": "user", "content": "hi"}]}));
    assert_eq!(chat.render(&hi).unwrap(), "default");
    hi.tools = Some(vec![Value::Object(Map::new())]);
    assert_eq!(chat.render(&hi).unwrap(), "tool_use");
    hi.template = Some("rag".into());
    assert_eq!(chat.render(&hi).unwrap(), "rag");
    hi.template = Some("no\nsuch".into());
    let expect =
        r#"chat_template is "no\nsuch", must be the name of one of the model's templates: default, rag, tool_use"#;
    assert_eq!(chat.render(&hi).unwrap_err().to_string(), expect);
    folder.config("chat_template", Value::Array(vec![entry("rag")]));
    let tokenizer = folder.load();
    hi.template = None;
    let expect = "the model has no default chat template; name one of them in chat_template: rag";
    assert_eq!(tokenizer.encode_chat(&hi).unwrap_err().to_string(), expect);
}
