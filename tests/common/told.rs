//! What tests of the law on bits share: engines of the fixtures, prompts, and what an engine told of a request.

use graph::plan::Bounds;
use millstream::checkpoint::{Checkpoint, LoadFormat};
use millstream::{Ended, Engine, EngineBuilder, Output, Stream, Token};
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

pub(crate) fn builder(name: &str) -> EngineBuilder {
    Engine::builder(Checkpoint::open(&fixture(name), LoadFormat::Mmap).expect("a fixture opens")).capture_logits()
}

pub(crate) fn engine(name: &str) -> Engine {
    builder(name).threads(1).build().expect("an engine builds")
}

pub(crate) fn rows(max_num_batched_tokens: u32) -> Bounds {
    Bounds { max_num_batched_tokens: Some(max_num_batched_tokens), ..Bounds::default() }
}

/// Tokens and the bits of every captured row, by position.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Bits {
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt: Vec<Vec<u32>>,
    pub(crate) generated: Vec<Vec<u32>>,
}

pub(crate) fn bits(stream: Stream) -> Bits {
    let mut found = Bits::default();
    let words = |logits: Vec<f32>| logits.into_iter().map(f32::to_bits).collect();
    for output in stream {
        match output {
            Output::Prompt(row) => found.prompt.extend(row.logits.map(words)),
            Output::Token(Token { token, logits, .. }) => {
                found.tokens.push(token);
                found.generated.extend(logits.map(words));
            }
            Output::Ended(ended) => assert_eq!(ended, Ended::Length),
        }
    }
    found
}

/// Prompts of equal seeds begin alike, whatever their lengths.
pub(crate) fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| 1 + (seed.wrapping_mul(7919) + i.wrapping_mul(2_654_435_761)) % 500).collect()
}

/// `parity` of a fixture passes with these flags.
#[track_caller]
pub(crate) fn run_parity(name: &str, arguments: &[&str]) {
    let model = fixture(name);
    let model = model.to_str().expect("a path of ASCII");
    let words = [&["millstream", "parity", "--model", model], arguments].concat();
    assert_eq!(millstream::cli::main(words.iter().map(Into::into)), 0, "{name} {arguments:?}");
}
