//! Configurations that are damaged, hostile or unknown: refused with a place, before a weight is read.

mod common;

use common::{millstream, refuses};
use millstream::Checkpoint;
use millstream::checkpoint::{GenerationDefaults, parse_config, remote_code};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn parse(text: &str) -> Map<String, Value> {
    parse_config(Path::new("config.json"), text.as_bytes()).expect("a good configuration")
}

/// A folder of this name whose configuration is this text.
fn folder(name: &str, text: &[u8]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad_config").join(name);
    std::fs::create_dir_all(&dir).expect("room for a small folder");
    std::fs::write(dir.join("config.json"), text).expect("room for a small file");
    dir
}

/// This text gives this message, and exit code 78; by the binary too.
#[track_caller]
fn check(text: &[u8], expect: &str) {
    let error = parse_config(Path::new("config.json"), text).expect_err("must be refused");
    assert_eq!((error.exit_code().code(), error.to_string()), (78, expect.to_string()));
    let dir = folder("check", text);
    let path = dir.to_str().expect("ASCII");
    refuses(&["plan", "--dummy-weights", "--model", path], 78, &format!("{path}/{expect}"));
}

/// The configuration of a small model with these fields changed, or left out where they are null.
fn changed(fields: &Value) -> Vec<u8> {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "vocab_size": 32, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "max_position_embeddings": 64
    });
    let map = config.as_object_mut().expect("an object");
    for (key, value) in fields.as_object().expect("an object") {
        if value.is_null() { drop(map.remove(key)) } else { drop(map.insert(key.clone(), value.clone())) }
    }
    config.to_string().into_bytes()
}

/// The binary refuses such a configuration in these words, with exit code 78.
#[track_caller]
fn refused(fields: Value, expect: &str) {
    let dir = folder("refused", &changed(&fields));
    refuses(&["plan", "--dummy-weights", "--model", dir.to_str().expect("ASCII")], 78, expect);
}

#[test]
fn c21_text_that_is_not_one_json_object() {
    let gone = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-such-folder/config.json");
    let error = Checkpoint::dummy(&gone).unwrap_err();
    let expect = format!("{}: no such file; a model folder in Hugging Face layout has one", gone.display());
    assert_eq!((error.exit_code().code(), error.to_string()), (66, expect.clone()));
    let path = gone.parent().expect("a folder").to_str().expect("ASCII");
    refuses(
        &["plan", "--model", path],
        66,
        &format!("{path}: no such folder; name a model folder in Hugging Face layout"),
    );
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
    let wide = format!("{{\"a\": [{}0]}}", "0,".repeat(1 << 16));
    check(wide.as_bytes(), "config.json: line 1, column 131075: more than 65536 values");
    check(
        b"{\r\n  \"hidden_size\": 64,\r\n  \"hidden_size\": 128\r\n}",
        "config.json: line 3, column 15: duplicate key \"hidden_size\"",
    );
    assert_eq!(parse("\u{feff}{\r\n  \"hidden_size\": 64\r\n}\r\n")["hidden_size"], 64);
}

#[test]
fn c22_an_architecture_that_is_not_known() {
    for (found, shown) in [(json!("xlnet"), "\"xlnet\""), (json!(3), "missing"), (Value::Null, "missing")] {
        let dir = folder("c22", &changed(&json!({"model_type": found})));
        let said = millstream(&["plan", "--dummy-weights", "--model", dir.to_str().expect("ASCII")]);
        let (code, said) = (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned());
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(&format!("config.json: model_type is {shown}; known: ")), "{said}");
        assert!(said.contains("llama") && said.contains("qwen3"), "{said}");
    }
}

#[test]
fn c24_c25_sizes_and_rotations_that_cannot_be() {
    refused(json!({"hidden_size": null}), "config.json: hidden_size is missing; llama needs it");
    refused(
        json!({"vocab_size": -5, "num_hidden_layers": 0, "intermediate_size": 1e18}),
        "config.json: intermediate_size is 1e+18; allowed: a whole number from 1 to 16777216\n\
         config.json: vocab_size is -5; allowed: a whole number from 1 to 16777216\n\
         config.json: num_hidden_layers is 0; allowed: a whole number from 1 to 256",
    );
    refused(
        json!({"hidden_size": 18}),
        "config.json: hidden_size is 18 and num_attention_heads is 4; heads must divide the hidden size where head_dim is absent",
    );
    refused(
        json!({"num_key_value_heads": 3}),
        "config.json: num_attention_heads is 4 and num_key_value_heads is 3; key/value heads must divide the heads",
    );
    refused(
        json!({"head_dim": 7}),
        "config.json: head_dim is 7; allowed: an even number: rotary embedding turns pairs",
    );
    for bad in [json!(0), json!(-1), json!("8")] {
        let fields = json!({"rope_scaling": {"rope_type": "linear", "factor": bad}});
        refused(fields, &format!("config.json: rope_scaling.factor is {bad}; allowed: a finite number above 0"));
    }
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
