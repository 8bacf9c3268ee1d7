//! Tokenizers that are missing, damaged, or of another model.

mod common;

use common::refuses;
use millstream::text::{TOKENIZER_BYTES_MAX, Tokenizer};
use std::path::{Path, PathBuf};

/// A byte-level tokenizer of these added tokens over a vocabulary `a` 0, `b` 1, `c` 2.
fn with_added(tokens: &[(u32, &str)]) -> String {
    let flags = r#""single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true"#;
    let list: Vec<String> =
        tokens.iter().map(|(id, content)| format!(r#"{{"id":{id},"content":"{content}",{flags}}}"#)).collect();
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{}],"normalizer":null,
        "pre_tokenizer":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}},
        "post_processor":null,
        "decoder":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}},
        "model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
        "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"vocab":{{"a":0,"b":1,"c":2}},"merges":[]}}}}"#,
        list.join(",")
    )
}

fn load(text: &str) -> Result<Tokenizer, millstream::text::TokenizerError> {
    Tokenizer::from_bytes(Path::new("tokenizer.json"), text.as_bytes())
}

/// A fixture's model with this tokenizer, in a folder of this name.
fn model(name: &str, tokenizer: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llama");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad_tokenizer").join(name);
    std::fs::create_dir_all(&dir).expect("room for a folder");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(name), dir.join(name)).expect("room for a small file");
    }
    std::fs::write(dir.join("tokenizer.json"), tokenizer).expect("room for a small file");
    dir
}

/// This text gives this message, and exit code 65; by the binary too, before a weight is read.
#[track_caller]
fn check(text: &str, expect: &str) {
    let error = load(text).expect_err("must be refused");
    assert_eq!((error.exit_code().code(), error.to_string()), (65, expect.to_string()));
    // Tests run side by side, each in a thread of its name.
    let dir = model(std::thread::current().name().expect("a test has a name"), text);
    let path = dir.to_str().expect("ASCII");
    refuses(&["generate", "x", "--model", path], 65, &format!("{path}/{expect}"));
}

#[test]
fn t34_missing_corrupt_or_endless() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    assert!(Tokenizer::from_file(&dir.join("no-such-tokenizer.json")).unwrap().is_none(), "token ids only");
    check("", "tokenizer.json: not a tokenizer: EOF while parsing a value at line 1 column 0; fetch the file again");
    check("{}", "tokenizer.json: not a tokenizer: Model missing. at line 1 column 2; fetch the file again");
    // Found by the fuzzer: a decoder of no known form, and text that is no text.
    let good = with_added(&[]);
    let said = load(&good.replace(r#""decoder":{"type":"ByteLevel""#, r#""decoder":{"type":"Bytes""#));
    let said = said.unwrap_err().to_string();
    let known = "tokenizer.json: not a tokenizer: data did not match any variant of untagged enum DecoderUntagged";
    assert!(said.starts_with(known), "{said}");
    let template = r#""post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}},
        {"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],
        "special_tokens":{}}"#;
    check(
        &good.replace(r#""post_processor":null"#, template),
        "tokenizer.json: not a tokenizer: its post_processor adds a token that is not among its special_tokens; fetch the file again",
    );
    let bert = r#""post_processor":{"type":"BertProcessing","sep":["a",5],"cls":["b",1]}"#;
    check(
        &good.replace(r#""post_processor":null"#, bert),
        "tokenizer.json: not a tokenizer: its post_processor adds id 5, and ids end before 3; fetch the file again",
    );
    let lone = good.replace(r#""decoder":{"type""#, r#""decoder":{"x":"\udc00","type""#);
    let said = load(&lone).unwrap_err().to_string();
    assert!(said.contains("lone leading surrogate in hex escape"), "{said}");
    let huge = dir.join("huge-tokenizer.json");
    // Sparse: a length without its bytes.
    std::fs::File::create(&huge).unwrap().set_len(TOKENIZER_BYTES_MAX + 1).unwrap();
    let error = Tokenizer::from_file(&huge).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: 268435457 bytes, over the limit of 268435456", huge.display()));
    let error = Tokenizer::from_file(dir).unwrap_err();
    assert_eq!(error.exit_code().code(), 74);
    assert_eq!(error.to_string(), format!("{}: cannot be read: Is a directory (os error 21)", dir.display()));
}

#[test]
fn t35_added_tokens_that_collide() {
    check(&with_added(&[(3, "<x>"), (3, "<y>")]), r#"tokenizer.json: added_tokens: id 3 is both "<x>" and "<y>""#);
    check(&with_added(&[(3, "<x>"), (4, "<x>")]), r#"tokenizer.json: added_tokens: "<x>" has id 3 and id 4"#);
    check(&with_added(&[(1, "<x>")]), r#"tokenizer.json: added_tokens: id 1 is both "b" and "<x>""#);
    check(&with_added(&[(5, "a")]), r#"tokenizer.json: added_tokens: "a" has id 0 and id 5"#);
}

#[test]
fn t35_holes() {
    check(
        &with_added(&[(9, "<x>")]),
        r#"tokenizer.json: added_tokens: "<x>" has id 9, which leaves a hole: it would be read as id 3; number them on"#,
    );
    let tokenizer = load(&with_added(&[]).replace(r#""c":2"#, r#""c":7"#)).unwrap();
    assert_eq!((tokenizer.vocabulary_len(), tokenizer.holes()), (8, 5));
    assert_eq!(tokenizer.decode(&[0, 5, 1, 7, 9]).unwrap(), "abc");
}

#[test]
fn t36_more_ids_than_rows() {
    let tokenizer = load(&with_added(&[(3, "<x>")])).unwrap();
    tokenizer.check_rows(4).unwrap();
    tokenizer.check_rows(100).unwrap();
    let error = tokenizer.check_rows(3).unwrap_err();
    let expect =
        "tokenizer.json: largest token id is 3, the embedding has 3 rows; this tokenizer belongs to another model";
    assert_eq!((error.exit_code().code(), error.to_string()), (65, expect.to_string()));
    // Through the binary: the fixture's embedding has 512 rows.
    let added: Vec<(u32, String)> = (3..513).map(|id| (id, format!("<{id}>"))).collect();
    let added: Vec<(u32, &str)> = added.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let dir = model("rows", &with_added(&added));
    let path = dir.to_str().expect("ASCII");
    let expect = "largest token id is 512, the embedding has 512 rows; this tokenizer belongs to another model";
    refuses(&["generate", "x", "--model", path], 65, &format!("{path}/tokenizer.json: {expect}"));
}
