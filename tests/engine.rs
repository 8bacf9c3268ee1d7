//! The engine against references, and against itself on bits: whatever a request rides with, its tokens and logits are the same.

use graph::plan::Bounds;
use millstream::checkpoint::{Checkpoint, LoadFormat};
use millstream::{Capture, Ended, Engine, EngineBuilder, Generation, Output, RequestError, Sampling, Token};
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

fn builder(name: &str) -> EngineBuilder {
    Engine::builder(Checkpoint::open(&fixture(name), LoadFormat::Mmap).expect("a fixture opens")).capture_logits()
}

fn engine(name: &str) -> Engine {
    builder(name).threads(1).build().expect("an engine builds")
}

fn rows(max_num_batched_tokens: u32) -> Bounds {
    Bounds { max_num_batched_tokens: Some(max_num_batched_tokens), ..Bounds::default() }
}

/// Tokens and the bits of every captured row, by position.
#[derive(PartialEq, Eq, Debug, Default)]
struct Bits {
    tokens: Vec<u32>,
    prompt: Vec<Vec<u32>>,
    generated: Vec<Vec<u32>>,
}

fn bits(stream: millstream::Stream) -> Bits {
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

fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| 1 + (seed.wrapping_mul(7919) + i.wrapping_mul(2_654_435_761)) % 500).collect()
}

/// A sampled request whose generated rows are captured, or all of them.
fn request(seed: u32, length: u32, capture: Capture) -> Generation {
    let sampling = Sampling {
        temperature: 0.9,
        top_k: 40,
        top_p: 0.95,
        min_p: 0.01,
        seed: 3,
        request: u64::from(seed),
        sample: 0,
    };
    Generation { sampling, capture, ignore_eos: true, ..Generation::greedy(prompt(seed, length), 20) }
}

/// The request alone, whole, on one thread, with a cold cache.
fn alone(name: &str, capture: Capture) -> Bits {
    bits(engine(name).submit(request(1, 75, capture)))
}

fn run_parity(name: &str, arguments: &[&str]) {
    let model = fixture(name);
    let model = model.to_str().expect("a path of ASCII");
    let words = [&["millstream", "parity", "--model", model], arguments].concat();
    assert_eq!(millstream::cli::main(words.iter().map(Into::into)), 0, "{name} {arguments:?}");
}

#[test]
fn every_layout_is_within_tolerance_of_the_reference() {
    for name in ["llama", "qwen3", "mixtral", "qwen3_moe"] {
        for arguments in [
            &[][..],
            &["-tp", "2"],
            &["-pp", "2"],
            &["-tp", "2", "-pp", "2"],
            &["--max-num-batched-tokens", "7"],
            &["-tp", "2", "-pp", "2", "--max-num-batched-tokens", "7"],
        ] {
            run_parity(name, arguments);
        }
    }
}

#[test]
fn company_does_not_change_a_bit() {
    for name in ["qwen3", "qwen3_moe"] {
        let gold = alone(name, Capture::Generated);
        let engine = builder(name).bounds(rows(256)).threads(2).build().expect("an engine builds");
        let submit = |seed| engine.submit(request(seed, 3 + seed % 60, Capture::Generated));
        let others: Vec<_> = (2..33).map(submit).collect();
        let mine = engine.submit(request(1, 75, Capture::Generated));
        assert_eq!(bits(mine), gold);
        for (stream, seed) in others.into_iter().zip(2..) {
            let lonely = bits(self::engine(name).submit(request(seed, 3 + seed % 60, Capture::Generated)));
            assert_eq!(bits(stream), lonely, "{name} request {seed}");
        }
    }
}

#[test]
fn chunks_and_threads_do_not_change_a_bit() {
    for (name, capture) in ["llama", "mixtral", "qwen3_moe"]
        .into_iter()
        .flat_map(|name| [(name, Capture::Generated), (name, Capture::All)])
    {
        let gold = alone(name, capture);
        for (chunk, threads) in [(1, 1), (7, 2), (64, 1), (64, 2)] {
            let bounds = Bounds { max_num_seqs: Some(1), ..rows(chunk) };
            let engine = builder(name).bounds(bounds).threads(threads).build().expect("an engine builds");
            let found = bits(engine.submit(request(1, 75, capture)));
            assert_eq!(found, gold, "{name} in chunks of {chunk} on {threads} threads");
        }
    }
}

#[test]
fn a_warm_prefix_does_not_change_a_bit() {
    let gold = alone("qwen3", Capture::Generated);
    let engine = engine("qwen3");
    let cold = bits(engine.submit(request(1, 75, Capture::Generated)));
    let warm = bits(engine.submit(request(1, 75, Capture::Generated)));
    assert_eq!(cold, gold);
    assert_eq!(warm, gold);
}

#[test]
fn pipelines_do_not_change_a_bit() {
    for name in ["llama", "qwen3", "mixtral"] {
        let gold = alone(name, Capture::All);
        for stages in [2, 3] {
            let engine = builder(name).pipeline_parallel_size(stages).build().expect("an engine builds");
            assert_eq!(bits(engine.submit(request(1, 75, Capture::All))), gold, "{name} in {stages} stages");
        }
    }
}

#[test]
fn preemption_does_not_change_a_bit() {
    let gold = alone("qwen3", Capture::Generated);
    // 11 pages of 16 positions: two of these requests begin with five each and both want a sixth.
    let page = 16 * 2 * 2 * 32 * 4 * 3;
    let bounds = Bounds { kv_cache_memory_bytes: Some(11 * page), max_num_seqs: Some(8), ..rows(128) };
    let engine = builder("qwen3").bounds(bounds).without_prefix_caching().build().expect("an engine builds");
    assert_eq!(engine.plan().pages(), 11);
    let streams: Vec<_> = (0..8).map(|_| engine.submit(request(1, 75, Capture::Generated))).collect();
    for stream in streams {
        assert_eq!(bits(stream), gold);
    }
}

#[test]
fn tensor_ranks_stay_within_tolerance() {
    let gold = alone("llama", Capture::All);
    let engine = builder("llama").tensor_parallel_size(2).build().expect("an engine builds");
    let found = bits(engine.submit(request(1, 75, Capture::All)));
    for (found, gold) in found.prompt.iter().flatten().zip(gold.prompt.iter().flatten()) {
        assert!((f32::from_bits(*found) - f32::from_bits(*gold)).abs() < 2e-4);
    }
}

#[test]
fn a_request_that_can_never_fit_is_refused_with_numbers() {
    let engine = engine("llama");
    let outputs: Vec<_> = engine.submit(Generation::greedy(prompt(1, 250), 20)).collect();
    let why = RequestError::TooLong { prompt: 250, max_tokens: 20, max_model_len: 256 };
    assert_eq!(why.to_string(), "250 prompt tokens and max_tokens 20 exceed max_model_len 256");
    assert_eq!(outputs, [Output::Ended(Ended::Failed(why.into()))]);
}

#[test]
fn streamed_texts_joined_are_the_decode_of_what_was_spoken() {
    let engine = Engine::builder(Checkpoint::embedded()).threads(1).build().expect("an engine builds");
    let tokenizer = engine.tokenizer().expect("the embedded model has a tokenizer");
    let prompt = tokenizer.encode("The `Vec` type").expect("text encodes");
    let whole: Vec<u32> = engine.submit(Generation::greedy(prompt.clone(), 24)).filter_map(token).collect();
    // Once to the full length, once up to a token that then counts as a stop.
    let stop = whole[15];
    for (stops, spoken) in
        [(vec![], &whole[..]), (vec![stop], &whole[..whole.iter().position(|&t| t == stop).unwrap()])]
    {
        let generation = Generation { stop_token_ids: stops, ..Generation::greedy(prompt.clone(), 24) };
        let text: String = engine
            .submit(generation)
            .filter_map(|output| match output {
                Output::Token(token) => Some(token.text),
                Output::Prompt(_) | Output::Ended(_) => None,
            })
            .collect();
        assert_eq!(text, tokenizer.decode(spoken).expect("ids decode"));
    }
}

fn token(output: Output) -> Option<u32> {
    match output {
        Output::Token(token) => Some(token.token),
        Output::Prompt(_) | Output::Ended(_) => None,
    }
}
