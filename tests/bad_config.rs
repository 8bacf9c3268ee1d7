//! Configurations that are damaged, hostile or unknown: refused with a place, before a weight is read.

use millstream::Checkpoint;
use millstream::checkpoint::{GenerationDefaults, model_type, parse_config, remote_code};
use serde_json::{Map, Value};
use std::path::Path;

fn parse(text: &str) -> Map<String, Value> {
    parse_config(Path::new("config.json"), text.as_bytes()).expect("a good configuration")
}

/// This text gives this message, and exit code 78.
fn check(text: &[u8], expect: &str) {
    let error = parse_config(Path::new("config.json"), text).expect_err("must be refused");
    assert_eq!((error.exit_code().code(), error.to_string()), (78, expect.to_string()));
}

#[test]
fn c21_text_that_is_not_one_json_object() {
    let gone = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-such-folder/config.json");
    let error = Checkpoint::dummy(&gone).unwrap_err();
    let expect = format!("{}: no such file; a model folder in Hugging Face layout has one", gone.display());
    assert_eq!((error.exit_code().code(), error.to_string()), (66, expect));
    check(b"", "config.json: line 1, column 0: EOF while parsing a value");
    check(b"{\n  \"a\": trie\n}", "config.json: line 2, column 10: expected ident");
    check(b"{\"a\": 1,}", "config.json: line 1, column 9: trailing comma");
    check(b"\x80", "config.json: line 1, column 1: byte 0x80 is not UTF-8");
    check(b"[1]", "config.json: is a list, must be an object");
    check(
        &vec![b' '; (1 << 20) + 1],
        "config.json: 1048577 bytes, over the limit of 1048576; a configuration is a few KiB",
    );
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(128), "]".repeat(128));
    check(deep.as_bytes(), "config.json: line 1, column 135: nested deeper than 128 levels");
    check(
        b"{\r\n  \"hidden_size\": 64,\r\n  \"hidden_size\": 128\r\n}",
        "config.json: line 3, column 15: duplicate key \"hidden_size\"",
    );
    assert_eq!(parse("\u{feff}{\r\n  \"hidden_size\": 64\r\n}\r\n")["hidden_size"], 64);
}

#[test]
fn c22_an_architecture_that_is_not_known() {
    let check = |text: &str, expect: &str| {
        let error = model_type(Path::new("config.json"), &parse(text), &["llama", "qwen3"]).unwrap_err();
        assert_eq!((error.exit_code().code(), error.to_string()), (78, expect.to_string()));
    };
    check(r#"{"model_type": "xlnet"}"#, "config.json: model_type \"xlnet\" is not known; supported: llama, qwen3");
    check("{}", "config.json: model_type is absent, must be one of: llama, qwen3");
    check(r#"{"model_type": 3}"#, "config.json: model_type is a number, must be one of: llama, qwen3");
    let config = parse(r#"{"model_type": "qwen3"}"#);
    assert_eq!(model_type(Path::new("config.json"), &config, &["llama", "qwen3"]).unwrap(), "qwen3");
}

#[test]
fn c23_code_in_the_folder_is_named_and_never_run() {
    let config = parse(r#"{"model_type": "llama", "auto_map": {"AutoModel": "modeling_x.X"}}"#);
    assert_eq!(
        remote_code(&config).unwrap().to_string(),
        "config.json: auto_map names {\"AutoModel\":\"modeling_x.X\"}; code in a model folder is never run, the built-in \
         architecture of this model_type is used"
    );
    assert_eq!(remote_code(&parse("{}")), None);
}

#[test]
fn c26_which_end_token_wins_is_said() {
    let check = |config: &str, generation: Option<&str>, eos: &[u32], notes: &[&str]| {
        let generation = generation.map(parse);
        let found = GenerationDefaults::resolve(Path::new("m"), &parse(config), generation.as_ref(), 512).unwrap();
        let said: Vec<String> = found.notes.iter().map(ToString::to_string).collect();
        assert_eq!((found.eos.as_slice(), said), (eos, notes.iter().map(ToString::to_string).collect()));
    };
    check(r#"{"eos_token_id": 1}"#, None, &[1], &[]);
    check(r#"{"eos_token_id": null}"#, Some(r#"{"eos_token_id": [2, 1]}"#), &[2, 1], &[]);
    check(r#"{"eos_token_id": 1}"#, Some(r#"{"eos_token_id": [1]}"#), &[1], &[]);
    check(
        r#"{"eos_token_id": 1}"#,
        Some(r#"{"eos_token_id": [2, 1]}"#),
        &[2, 1],
        &["eos_token_id: generation_config.json has [2, 1], config.json has [1]; generation_config.json wins"],
    );
    check(
        "{}",
        Some("{}"),
        &[],
        &[
            "eos_token_id: in neither generation_config.json nor config.json; a text ends only at max_tokens or at a stop \
           token of its request",
        ],
    );
    check(
        r#"{"eos_token_id": [3, 512]}"#,
        None,
        &[3],
        &["eos_token_id: 512 is beyond the vocabulary of 512; it is never drawn and is ignored"],
    );
    let refuse = |config: &str, expect: &str| {
        let error = GenerationDefaults::resolve(Path::new("m"), &parse(config), None, 512).unwrap_err();
        assert_eq!((error.exit_code().code(), error.to_string()), (78, expect.to_string()));
    };
    refuse(r#"{"eos_token_id": -1}"#, "m/config.json: eos_token_id is -1, must be a token id or a list of token ids");
    refuse(
        r#"{"eos_token_id": [1, "</s>"]}"#,
        "m/config.json: eos_token_id is [1,\"</s>\"], must be a token id or a list of token ids",
    );
}
