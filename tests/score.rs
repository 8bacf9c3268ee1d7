//! Scores are those that generation told, to the bit, whatever they ride with; boundaries and windows are the harness's.

use millstream::checkpoint::LoadFormat;
use millstream::job::{Interrupt, Job, Task, Unwatched};
use millstream::score::{Scoring, encode_pair, perplexity};
use millstream::{Bounds, Checkpoint, Engine, EngineBuilder, Generation, Sampling};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> EngineBuilder {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name);
    Engine::builder(Checkpoint::open(&dir, LoadFormat::Mmap).expect("a fixture")).threads(1)
}

fn embedded() -> EngineBuilder {
    Engine::builder(Checkpoint::embedded()).threads(1)
}

/// A prompt of `length` tokens, and how it is continued.
fn request(seed: u64, length: u64, tokens: u32) -> Generation {
    let sampling = Sampling { temperature: 0.9, top_k: 50, request: seed, ..Sampling::GREEDY };
    let prompt = (0..length).map(|at| ((at * 37 + seed * 101) % 500) as u32).collect();
    Generation { sampling, logprobs: Some(0), ignore_eos: true, ..Generation::greedy(prompt, tokens) }
}

/// The scoring of what a generation gave, and the bits of what it told.
fn told(engine: &Engine, generation: Generation) -> (Scoring, Vec<u32>) {
    let context = generation.prompt.clone();
    let completion = engine.generate_blocking(generation).expect("it is good");
    let bits = completion.tokens.iter().map(|token| token.logprob.as_ref().expect("asked for").logprob.to_bits());
    (Scoring { context, continuation: completion.token_ids(), as_generated: false }, bits.collect())
}

fn bits(engine: &Engine, scoring: &Scoring) -> Vec<u32> {
    let score = engine.score_blocking(scoring).expect("it is good");
    score.tokens.iter().map(|token| token.logprob.to_bits()).collect()
}

#[test]
fn scores_are_what_generation_told_in_any_company() {
    for build in [|| fixture("llama"), || fixture("qwen3"), embedded] {
        let told: Vec<_> = {
            let engine = build().build().expect("an engine builds");
            (0..12).map(|seed| told(&engine, request(seed, 3 + 11 * (seed % 5), 1 + 9 * (seed % 4) as u32))).collect()
        };
        for (chunk, caching, stages) in [(256, true, 1), (7, false, 2)] {
            let bounds = Bounds { max_num_batched_tokens: Some(chunk), ..Bounds::default() };
            let builder = build().bounds(bounds).pipeline_parallel_size(stages).threads(stages as usize);
            let builder = if caching { builder } else { builder.without_prefix_caching() };
            let engine = builder.build().expect("an engine builds");
            for (scoring, wanted) in &told {
                assert_eq!(&bits(&engine, scoring), wanted);
                let generated = Scoring { as_generated: true, ..scoring.clone() };
                assert_eq!(&bits(&engine, &generated), wanted, "as generated");
            }
            // All at once, beside generations, and each behind a context that others have left in the cache.
            let others: Vec<_> = (20..30).map(|seed| engine.submit(request(seed, 30, 8))).collect();
            let streams: Vec<_> = told.iter().map(|(scoring, _)| engine.submit(scoring.generation())).collect();
            for (stream, (_, wanted)) in streams.into_iter().zip(&told) {
                let score = millstream::score::Score::of(stream.wait().expect("it is good"));
                assert_eq!(score.tokens.iter().map(|token| token.logprob.to_bits()).collect::<Vec<_>>(), *wanted);
            }
            drop(others);
        }
    }
}

#[test]
fn greedy_continuations_are_said_to_be_greedy_and_others_not() {
    let engine = fixture("qwen3").build().expect("an engine builds");
    let greedy = Generation { sampling: Sampling::GREEDY, ..request(3, 20, 9) };
    let (mut scoring, _) = told(&engine, greedy);
    let score = engine.score_blocking(&scoring).expect("it is good");
    assert!(score.is_greedy());
    let sum: f64 = score.tokens.iter().map(|token| f64::from(token.logprob)).sum();
    assert_eq!(score.loglikelihood(), sum);
    scoring.continuation[4] = (scoring.continuation[4] + 1) % 500;
    assert!(!engine.score_blocking(&scoring).expect("it is good").is_greedy());
    // A sequence as long as the model has positions is scored whole: its last token is not fed.
    let context: Vec<u32> = vec![1; 250];
    let long = Scoring { context: context.clone(), continuation: vec![2; 7], as_generated: false };
    assert_eq!(engine.score_blocking(&long).expect("257 tokens, 256 rows").tokens.len(), 7);
    let longer = Scoring { context, continuation: vec![2; 8], as_generated: false };
    let error = engine.score_blocking(&longer).expect_err("258 tokens").to_string();
    assert_eq!(error, "258 prompt tokens and max_tokens 0 exceed max_model_len 256");
}

#[test]
fn the_boundary_is_where_the_harness_puts_it() {
    let engine = embedded().build().expect("an engine builds");
    let tokenizer = engine.tokenizer().expect("it has one");
    let encode = |text: &str| tokenizer.encode(text).expect("it encodes");
    for (context, continuation) in
        [("Ownership is", " a set"), ("Ownership is ", "a set"), ("a b  ", "c"), ("fn ma", "in()")]
    {
        let (before, behind) = encode_pair(tokenizer, context, continuation).expect("it encodes");
        assert_eq!(before, encode(context.trim_end()), "{context:?}");
        let whole = encode(&format!("{context}{continuation}"));
        assert_eq!(behind, whole[before.len()..], "{context:?} {continuation:?}");
    }
}

#[test]
fn perplexity_is_the_sum_over_windows_that_score_each_token_once() {
    let bounds = Bounds { max_model_len: Some(64), ..Bounds::default() };
    let engine = embedded().bounds(bounds).build().expect("an engine builds");
    let tokenizer = engine.tokenizer().expect("it has one");
    let text = "Ownership is a set of rules that govern how a Rust program manages memory.\n".repeat(9);
    let tokens = tokenizer.encode_bare(&text).expect("it encodes");
    assert!(tokens.len() > 150, "{} tokens", tokens.len());
    let prefix = engine.prefix_token().expect("the embedded model names one");
    for stride in [None, Some(64), Some(17), Some(1)] {
        let found = perplexity(&engine, &text, stride, false).expect("it has one");
        let (mut sum, mut at) = (0.0, 0);
        while at < tokens.len() {
            let end = if at == 0 { 64 } else { tokens.len().min(at + stride.unwrap_or(64)) };
            let context = if at == 0 { vec![prefix] } else { tokens[end - 65..at].to_vec() };
            let continuation = tokens[at..end].to_vec();
            sum += engine
                .score_blocking(&Scoring { context, continuation, as_generated: false })
                .expect("good")
                .loglikelihood();
            at = end;
        }
        assert_eq!(found.loglikelihood.to_bits(), sum.to_bits(), "{stride:?}");
        assert_eq!((found.tokens, found.bytes), (tokens.len() as u64, text.len() as u64));
        assert_eq!(found.words, 14 * 9 + 1, "as re.split counts them, with what is behind the last line");
        assert_eq!(found.word_perplexity(), (-sum / found.words as f64).exp());
    }
    assert!(perplexity(&engine, &text, Some(65), false).is_err());
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("score-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        Self(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_job_of_continuations_is_scored_line_by_line_and_resumes() {
    let folder = Folder::new("job");
    let (input, output) = (folder.0.join("in.jsonl"), folder.0.join("out.jsonl"));
    let lines = [
        r#"{"custom_id": "four", "prompt": "Ownership is a set of rules that govern how a Rust program manages", "continuations": [" memory", " a vector", " the", " memory safely"]}"#,
        r#"{"custom_id": "ids", "token_ids": [5, 6, 7], "continuations": [[8], [9, 10]]}"#,
        r#"{"custom_id": "empty", "prompt": "", "continuations": ["fn main"]}"#,
        r#"{"custom_id": "mixed", "token_ids": [5], "continuations": ["x"]}"#,
        r#"{"custom_id": "none", "prompt": "x"}"#,
        r#"{"custom_id": "typo", "prompt": "x", "continuation": ["y"]}"#,
        r#"{"custom_id": "beyond", "token_ids": [5], "continuations": [[1], [4096]]}"#,
    ];
    std::fs::write(&input, lines.join("\n")).expect("it is written");
    let job = Job::new(&input, &output).task(Task::Score { as_generated: false });
    let builder = embedded();
    let engine = builder.clone().build().expect("an engine builds");
    let run = |job: &Job| {
        let open = job.open(&builder).expect("it opens");
        open.run(&engine, &Interrupt::default(), &mut Unwatched).expect("it runs")
    };
    assert_eq!(run(&job).tally.errors, 4);
    let text = std::fs::read_to_string(&output).expect("it is there");
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let four = &results[0]["response"]["body"]["results"];
    assert_eq!(four.as_array().map(Vec::len), Some(4));
    let tokenizer = engine.tokenizer().expect("it has one");
    for (index, continuation) in [" memory", " a vector", " the", " memory safely"].into_iter().enumerate() {
        let context = "Ownership is a set of rules that govern how a Rust program manages";
        let (context, continuation) = encode_pair(tokenizer, context, continuation).expect("it encodes");
        let score = engine.score_blocking(&Scoring { context, continuation, as_generated: false }).expect("good");
        assert_eq!(four[index]["loglikelihood"], score.loglikelihood());
        assert_eq!(four[index]["is_greedy"], score.is_greedy());
        let told = four[index]["token_logprobs"].as_array().expect("a list");
        let bits = told.iter().map(|logprob| (logprob.as_f64().expect("a number") as f32).to_bits());
        let wanted = score.tokens.iter().map(|token| token.logprob.to_bits());
        assert!(bits.eq(wanted), "{told:?}");
    }
    assert_eq!(results[1]["response"]["body"]["results"][1]["num_tokens"], 2);
    assert!(results[2]["error"].is_null());
    let errors = [
        "continuations[0] is a text and the prompt is token_ids; give both as texts or both as token ids",
        "continuations is null, must be a list of 1 to 1024 texts or lists of token ids",
        "\"continuation\" is not a field; did you mean \"continuations\"",
        "continuations[1] is [4096], must be a text or a list of token ids, of at least one character or token",
    ];
    for (result, message) in results[3..].iter().zip(errors) {
        assert_eq!(result["error"]["message"], message);
    }
    // Again from the journal: nothing is left to do, and an output that is gone comes back as it was.
    std::fs::remove_file(&output).expect("it goes");
    assert_eq!(run(&job.clone().resume()).tokens, 0);
    assert_eq!(std::fs::read_to_string(&output).expect("it is back"), text);
    // The journal is one of scores: a job that continues the same lines is another.
    assert!(Job::new(&input, &output).resume().open(&builder).is_err());
}
