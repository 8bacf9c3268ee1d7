//! Texts, ids and templates that are refused, each with its message (37, 39, 40, 43 to 45 of the list of bad inputs; 34 to 36 are in
//! `bad_tokenizer.rs`, 38 in `chat_templates.rs` and `tokenizers.rs`, 41 and 42 in `tokenizers.rs`).

mod chat_folder;

use chat_folder::{Folder, conversation};
use millstream::job::{LineParser, Prompt};
use millstream::text::{StopTexts, TEXT_BYTES_MAX, Tokenizer};
use serde_json::json;
use std::path::Path;

/// A byte-level tokenizer whose normaliser replaces what this expression matches.
fn with_normalizer(regex: &str) -> Tokenizer {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers/byte_level/tokenizer.json");
    let mut tokenizer: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file).expect("a fixture")).expect("JSON");
    tokenizer["normalizer"] = json!({"type": "Replace", "pattern": {"Regex": regex}, "content": "z"});
    Tokenizer::from_bytes(Path::new("tokenizer.json"), tokenizer.to_string().as_bytes()).expect("a good tokenizer")
}

#[test]
fn t37_expressions_that_do_not_come_to_an_end() {
    let bomb = "a".repeat(200) + "!";
    let linear = with_normalizer("(a+)+$");
    assert_eq!(
        linear.encode(&bomb).unwrap(),
        with_normalizer("never").encode(&bomb).unwrap(),
        "nothing matches, at once"
    );
    let ends = linear.encode("!aaaa").unwrap();
    assert_eq!(ends, with_normalizer("never").encode("!z").unwrap());
    let backtracks = with_normalizer("(?=a)(a+)+(?<=b)$");
    assert_eq!(backtracks.encode("hi!").unwrap(), with_normalizer("never").encode("hi!").unwrap());
    let expect = "tokenizer.json: cannot encode the text: the tokenizer's regular expression \"(?=a)(a+)+(?<=b)$\" takes more than \
                  1000000 steps";
    assert_eq!(backtracks.encode(&bomb).unwrap_err().to_string(), expect);
}

#[test]
fn t39_texts_without_spaces() {
    for kind in ["byte_level", "sentencepiece", "metaspace", "unigram", "word_piece"] {
        let tokenizer = Folder::new(&format!("long-{kind}"), kind).load();
        let text = "mill".repeat(1 << 14);
        assert!(!tokenizer.encode(&text).unwrap().is_empty(), "{kind}");
        assert!(!tokenizer.encode_plain(&text).unwrap().is_empty(), "{kind}");
    }
    let tokenizer = Folder::new("too-long", "byte_level").load();
    let error = tokenizer.encode(&"x".repeat(TEXT_BYTES_MAX + 1)).unwrap_err();
    let expect = "the text has 16777217 bytes, over the limit of 16777216; give it in parts, or as token_ids";
    assert_eq!(error.to_string(), expect);
}

/// The text of a prompt, or why there is none.
fn prompt(line: &[u8]) -> Result<String, String> {
    let request = LineParser::new(512).parse(line).map_err(|refused| refused.error.to_string())?;
    match request.prompt {
        Prompt::Text(text) => Ok(text),
        other @ (Prompt::PlainText(_) | Prompt::TokenIds(_) | Prompt::Chat(_)) => Err(format!("{other:?}")),
    }
}

#[test]
fn t40_bytes_that_are_no_text() {
    let check = |line: &[u8], expect: Result<&str, &str>| {
        let expect = expect.map(String::from).map_err(String::from);
        assert_eq!(prompt(line), expect, "{}", String::from_utf8_lossy(line));
    };
    check(b"{\"custom_id\": \"a\", \"prompt\": \"nul \\u0000\"}", Ok("nul \0"));
    check(b"\xef\xbb\xbf{\"custom_id\": \"a\", \"prompt\": \"\xef\xbb\xbfmark\"}", Ok("\u{feff}mark"));
    check(br#"{"custom_id": "a", "prompt": "\ud83e\udd80"}"#, Ok("🦀"));
    let control = "not JSON: column 32: control character (\\u0000-\\u001F) found while parsing a string";
    check(b"{\"custom_id\": \"a\", \"prompt\": \"a\0\"}", Err(control));
    check(br#"{"custom_id": "a", "prompt": "\ud83e"}"#, Err("not JSON: column 37: unexpected end of hex escape"));
    check(
        br#"{"custom_id": "a", "prompt": "\udd80"}"#,
        Err("not JSON: column 36: lone leading surrogate in hex escape"),
    );
    check(b"{\"custom_id\": \"a\", \"prompt\": \"\xf0\x9f\"}", Err("not JSON: column 31: byte 0xf0 is not UTF-8"));
    let tokenizer = Folder::new("nul", "byte_level").load();
    let text = "a\0\u{feff}b";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
}

#[test]
fn t43_stops_across_tokens_and_inside_characters() {
    let parse = |stop: &str| {
        let line = format!(r#"{{"custom_id": "a", "prompt": "x", "stop": {stop}}}"#);
        LineParser::new(512).parse(line.as_bytes()).map(|_| ()).map_err(|refused| refused.error.to_string())
    };
    let refused = |stop: &str, expect: &str| assert_eq!(parse(stop), Err(expect.to_string()));
    refused(r#""""#, r#"stop[0] is "", must be a text of 1 to 1024 bytes"#);
    let many = serde_json::Value::from(vec!["x"; 1000]).to_string();
    refused(&many, "stop is 1000, must be a text or a list of at most 64 texts");
    refused("[7]", "stop[0] is 7, must be a text of 1 to 1024 bytes");
    assert!(
        parse(&serde_json::Value::from("x".repeat(4097)).to_string())
            .unwrap_err()
            .ends_with("must be a text of 1 to 1024 bytes")
    );
    assert!(StopTexts::new(&["🦀".into(), "é\n".into()]).is_ok());
}

#[test]
fn t44_ids_that_are_no_tokens() {
    let check = |id: &str, expect: &str| {
        let line = format!(r#"{{"custom_id": "a", "token_ids": [3, {id}]}}"#);
        let refused = LineParser::new(512).parse(line.as_bytes()).unwrap_err();
        assert_eq!(refused.error.to_string(), format!("token_ids[1] is {expect}, must be a token id from 0 to 511"));
    };
    check("-1", "-1");
    check("512", "512");
    check("1.5", "1.5");
    check("\"7\"", "\"7\"");
    check("9223372036854775808", "9223372036854775808");
    check("true", "true");
}

/// What is said of a template's rendering, with its error code.
fn said(source: &str) -> String {
    let folder = Folder::new(&format!("bad-{:?}", std::thread::current().id()), "byte_level");
    folder.write("chat_template.jinja", source);
    let hi = conversation(&json!({"messages": [{"role": "user", "content": "hi"}]}));
    match folder.load().encode_chat(&hi) {
        Ok(ids) => format!("{} ids", ids.len()),
        Err(error) => format!("{}: {error}", error.code()),
    }
}

#[test]
fn t45_templates_that_cannot_be_compiled() {
    let check = |source: &str, what: &str| {
        let (said, rest) = (said(source), "; the model's chat template cannot be used, give prompt or token_ids");
        let place = format!("chat_template: chat_template.jinja:{what}");
        assert!(said.starts_with(&place) && said.ends_with(rest), "{said} and not {place}");
    };
    check("a\nb{% if %}", "2: syntax error: unexpected end of block");
    check("a\n{% for x in y %}", "2: syntax error: unexpected end of input");
    check("{% include 'other' %}", "1: syntax error: unknown statement include");
    check("{% import 'other' as x %}", "1: syntax error: unknown statement import");
    check("{% extends 'other' %}", "1: syntax error: unknown statement extends");
    check("{{ 'x", "1: syntax error: unexpected end of string");
}

#[test]
fn t45_templates_that_fail() {
    let check = |source: &str, what: &str| {
        let rest = "; the chat template cannot render these messages";
        assert_eq!(said(source), format!("chat_template: chat_template.jinja:{what}{rest}"), "{source}");
    };
    check("a\n{{ open('/etc/passwd') }}", "2: unknown function: open is unknown");
    check("{{ messages.__class__.__mro__ }}", "1: undefined value: `messages.__class__` is undefined");
    check("{{ x.y }}", "1: undefined value: `x` is undefined");
    check("{{ messages[0].content.nosuch() }}", "1: unknown method: string has no method named nosuch");
    check("{{ 'a' | nosuch }}", "1: unknown filter: filter nosuch is unknown");
    check("{{ x | tojson }}", "1: invalid operation: tojson: an undefined value is not JSON");
    check("{{ strftime_now('%Q') }}", "1: invalid operation: strftime_now: \"%Q\" is not a format");
    assert_eq!(
        said("\n{{ raise_exception('No\\nsystem ' ~ messages[0].role) }}"),
        "refused_by_template: the chat template refuses the messages: No\\nsystem user (chat_template.jinja:2)"
    );
}

#[test]
fn t45_bombs_and_loops_are_bounded() {
    let endless = |source: &str| {
        let said = said(source);
        assert!(said.contains("the chat template takes more than 1048576 steps"), "{source}: {said}");
    };
    endless("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}");
    endless("{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}");
    endless(
        "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('x', 'xx') %}{% endfor %}",
    );
    endless(
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    );
    endless("{% set x = messages * 90000000 %}{% for a in x %}{% endfor %}");
    let long = "chat_template: chat_template.jinja: the rendering has more than 4194304 bytes";
    let shared =
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}";
    let said_of_it = said(shared);
    assert!(said_of_it == long || said_of_it.contains("more than 1048576 steps"), "{said_of_it}");
    assert_eq!(said("{% for a in range(9000) %}{{ 'x' * 1024 }}{% endfor %}"), long);
    let deep = said("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}");
    assert!(deep.contains("chat_template.jinja:1: ") && deep.contains("recursion"), "{deep}");
    let nested = said(&format!("{}1{}", "{{ ".to_owned() + &"(".repeat(500), ")".repeat(500) + " }}"));
    assert!(nested.contains("recursion"), "{nested}");
}

#[test]
fn t45_settings_that_are_none() {
    let refused = |write: &dyn Fn(&mut Folder), expect: &str| {
        let mut folder = Folder::new(&format!("settings-{:?}", std::thread::current().id()), "byte_level");
        write(&mut folder);
        let error = Tokenizer::from_folder(folder.dir()).unwrap_err();
        let message = error.to_string().replace(&format!("{}/", folder.dir().display()), "");
        assert_eq!((message.as_str(), error.exit_code().code()), (expect, 65));
    };
    refused(
        &|folder| folder.write("tokenizer_config.json", "{\"a\": }"),
        "tokenizer_config.json: line 1, column 7: expected value",
    );
    refused(
        &|folder| folder.write("tokenizer_config.json", "[]"),
        "tokenizer_config.json: is a list, must be an object",
    );
    let form = "tokenizer_config.json: chat_template: must be a text, or a list of {\"name\", \"template\"}";
    refused(&|folder| folder.config("chat_template", json!(7)), form);
    refused(&|folder| folder.config("chat_template", json!([{"name": "default"}])), form);
    refused(&|folder| folder.config("chat_template", json!(["x"])), form);
    let long = "x".repeat((1 << 20) + 1);
    refused(
        &|folder| folder.write("chat_template.jinja", &long),
        "chat_template.jinja: over the limit of 1048576 bytes",
    );
    let more = |folder: &mut Folder| {
        (0..65).for_each(|at| folder.write(&format!("additional_chat_templates/{at}.jinja"), "x"));
    };
    refused(&more, "additional_chat_templates: 65 templates, at most 64 are read");
}
