//! Tokenizers of the kinds in use against what Python's give: ids, decoded texts, texts that come a token at a time, and plain texts.
//!
//! The files are made by `tests/tokenizers/make_tokenizers.py`.

use millstream::text::{TextStream, Tokenizer};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

const KINDS: [&str; 6] = ["byte_level", "sentencepiece", "sentencepiece_plain", "metaspace", "unigram", "word_piece"];
/// Random lists of ids for each kind; over all kinds a million are `P22_SEQUENCES=166667`.
const SEQUENCES: u64 = 400;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers").join(kind)
}

fn tokenizer(kind: &str) -> Tokenizer {
    Tokenizer::from_folder(&folder(kind)).expect("a good folder").expect("it has a tokenizer")
}

fn json(kind: &str, file: &str) -> Value {
    let text = std::fs::read_to_string(folder(kind).join(file)).expect("a file of the fixture");
    serde_json::from_str(&text).expect("JSON")
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// Spellings of special tokens, and their ids.
fn special(kind: &str) -> Vec<(String, u32)> {
    let file = json(kind, "tokenizer.json");
    let added = file["added_tokens"].as_array().expect("a list").iter().filter(|token| token["special"] == true);
    added
        .map(|token| (token["content"].as_str().expect("text").into(), ids(&Value::from(vec![token["id"].clone()]))[0]))
        .collect()
}

/// The text of a stream, and its parts.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> (String, Vec<String>) {
    let mut stream = TextStream::new(tokenizer);
    let mut parts: Vec<String> = ids.iter().map(|&id| stream.push(id).expect("a stream")).collect();
    parts.push(stream.finish().expect("a stream"));
    (parts.concat(), parts)
}

#[test]
fn ids_and_texts_are_those_of_python() {
    for kind in KINDS {
        let (tokenizer, expected) = (tokenizer(kind), json(kind, "expected.json"));
        for case in expected["texts"].as_array().expect("a list") {
            let text = case["text"].as_str().expect("a text");
            assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{kind}: {text:?}");
            assert_eq!(tokenizer.encode_bare(text).unwrap(), ids(&case["bare"]), "{kind}: {text:?}");
            assert_eq!(tokenizer.decode(&ids(&case["ids"])).unwrap(), case["decoded"], "{kind}: {text:?}");
        }
        for case in expected["ids"].as_array().expect("a list") {
            let ids = ids(&case["ids"]);
            assert_eq!(tokenizer.decode(&ids).unwrap(), case["decoded"], "{kind}: {ids:?}");
        }
    }
}

#[test]
fn a_text_that_comes_by_tokens_is_the_full_decode() {
    for kind in KINDS {
        let tokenizer = tokenizer(kind);
        let expected = json(kind, "expected.json");
        for case in
            expected["texts"].as_array().expect("a list").iter().chain(expected["ids"].as_array().expect("a list"))
        {
            let ids = ids(&case["ids"]);
            assert_eq!(streamed(&tokenizer, &ids).0, case["decoded"], "{kind}: {ids:?}");
        }
    }
}

/// P22: lists of random ids, with ids that stand for nothing among them; no part shows a character that the whole text lacks.
#[test]
fn p22_random_ids() {
    let sequences = std::env::var("P22_SEQUENCES").ok().and_then(|count| count.parse().ok()).unwrap_or(SEQUENCES);
    for kind in KINDS {
        let tokenizer = tokenizer(kind);
        let ids = tokenizer.vocabulary_len() + 8;
        // Bytes of byte fallback, and whatever else there is.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut draw = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for sequence in 0..sequences {
            let bytes_only = sequence % 3 == 0;
            let len = 1 + draw(if sequence % 10 == 0 { 64 } else { 12 });
            let list: Vec<u32> = (0..len)
                .map(|_| if bytes_only { 15 + draw(256) as u32 } else { draw(u64::from(ids)) as u32 })
                .collect();
            let (text, parts) = streamed(&tokenizer, &list);
            let whole = tokenizer.decode(&list).expect("ids decode");
            assert_eq!(text, whole, "{kind}: {list:?} in {parts:?}");
        }
    }
}

#[test]
fn t41_ids_that_end_in_the_middle_of_a_character_give_no_half_of_it() {
    for kind in KINDS {
        let tokenizer = tokenizer(kind);
        let ids = tokenizer.encode_bare("a🦀風é").unwrap();
        for end in 0..=ids.len() {
            let (text, parts) = streamed(&tokenizer, &ids[..end]);
            assert_eq!(text, tokenizer.decode(&ids[..end]).unwrap(), "{kind}");
            let last = parts.len() - 1;
            assert!(parts[..last].iter().all(|part| !part.contains('\u{fffd}')), "{kind}: {parts:?}");
        }
    }
}

#[test]
fn t42_ids_that_stand_for_nothing_are_nothing() {
    for kind in KINDS {
        let tokenizer = tokenizer(kind);
        let beyond = [tokenizer.vocabulary_len(), tokenizer.vocabulary_len() + 1000, u32::MAX];
        assert_eq!(tokenizer.decode(&beyond).unwrap(), "", "{kind}");
        let mut ids = tokenizer.encode_bare("the wheel").unwrap();
        let whole = tokenizer.decode(&ids).unwrap();
        for (at, id) in beyond.into_iter().enumerate() {
            ids.insert(at.min(ids.len()), id);
        }
        assert_eq!((tokenizer.decode(&ids).unwrap(), streamed(&tokenizer, &ids).0), (whole.clone(), whole), "{kind}");
    }
    let holes = tokenizer("word_piece");
    assert_eq!(holes.holes(), 1);
}

#[test]
fn t38_a_plain_text_spells_no_special_token() {
    for kind in KINDS {
        let (tokenizer, special) = (tokenizer(kind), special(kind));
        let ids_of: HashSet<u32> = special.iter().map(|(_, id)| *id).collect();
        // What the tokenizer puts around every text, and what stands for what it does not know.
        let around: HashSet<u32> = tokenizer.encode("").unwrap().into_iter().collect();
        let unknown = tokenizer.encode_bare("ꙮ").unwrap();
        for (content, _) in &special {
            for text in [content.clone(), format!("a{content}b"), format!(" {content} {content}"), content.repeat(3)] {
                let plain = tokenizer.encode_plain(&text).unwrap();
                let arisen =
                    plain.iter().filter(|id| ids_of.contains(id) && !around.contains(id) && !unknown.contains(id));
                assert_eq!(arisen.count(), 0, "{kind}: {text} is {plain:?}");
                assert_ne!(tokenizer.encode(&text).unwrap(), plain, "{kind}: {text}");
            }
        }
        let expected = json(kind, "expected.json");
        for case in expected["texts"].as_array().expect("a list") {
            let text = case["text"].as_str().expect("a text");
            if !special.iter().any(|(content, _)| text.contains(content)) {
                assert_eq!(tokenizer.encode_plain(text).unwrap(), ids(&case["ids"]), "{kind}: {text:?}");
            }
        }
    }
}
