//! The whole sampler through the engine: penalties, masks, log-probabilities and stop texts, held on bits whatever a request rides with.

use graph::plan::Bounds;
use millstream::checkpoint::{Checkpoint, LoadFormat};
use millstream::job::{Form, LineParser, ResultLine, Telling, Usage, generations};
use millstream::{Capture, Ended, Engine, EngineBuilder, Failure, Generation, LogitRules, Output, Sampling};
use millstream::{StopReason, Stream, TokenLogprob};
use std::path::PathBuf;

fn builder(name: &str) -> EngineBuilder {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name);
    Engine::builder(Checkpoint::open(&dir, LoadFormat::Mmap).expect("a fixture opens"))
}

fn engine(name: &str) -> Engine {
    builder(name).threads(1).build().expect("an engine builds")
}

fn embedded() -> Engine {
    Engine::builder(Checkpoint::embedded()).threads(1).build().expect("an engine builds")
}

fn rows(max_num_batched_tokens: u32) -> Bounds {
    Bounds { max_num_batched_tokens: Some(max_num_batched_tokens), ..Bounds::default() }
}

/// A log-probability as bits: the token's, its rank, the likeliest ones.
type Told = (u32, u32, u32, Vec<(u32, u32)>);

fn told(logprob: TokenLogprob) -> Told {
    let top = logprob.top.iter().map(|&(id, logprob)| (id, logprob.to_bits())).collect();
    (logprob.token, logprob.logprob.to_bits(), logprob.rank, top)
}

/// All that a stream tells.
#[derive(Clone, PartialEq, Debug, Default)]
struct Heard {
    tokens: Vec<u32>,
    text: String,
    generated: Vec<Told>,
    prompt: Vec<Told>,
    end: Option<Ended>,
}

fn hear(stream: Stream) -> Heard {
    let mut heard = Heard::default();
    for output in stream {
        match output {
            Output::Prompt(row) => heard.prompt.extend(row.logprob.map(told)),
            Output::Token(token) => {
                heard.tokens.push(token.token);
                heard.text.push_str(&token.text);
                heard.generated.extend(token.logprob.map(told));
            }
            Output::Ended(ended) => heard.end = Some(ended),
        }
    }
    heard
}

fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| 1 + (seed.wrapping_mul(7919) + i.wrapping_mul(2_654_435_761)) % 500).collect()
}

fn warm(request: u64) -> Sampling {
    Sampling { temperature: 0.9, top_k: 40, top_p: 0.95, min_p: 0.01, seed: 3, request, sample: 0 }
}

/// A request that is penalised for what it says, biased and masked, and tells how likely its tokens were.
fn request(seed: u32, length: u32) -> Generation {
    let rules = LogitRules {
        repetition_penalty: 1.4,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        bias: vec![(seed, 2.0), (7, -100.0)],
        bad_words: vec![vec![11], vec![12, 13]],
        min_tokens: 5,
        ..LogitRules::default()
    };
    Generation {
        sampling: warm(u64::from(seed)),
        rules,
        logprobs: Some(5),
        ignore_eos: true,
        ..Generation::greedy(prompt(seed, length), 20)
    }
}

/// As [`request`], and it tells how likely its prompt was.
fn whole(seed: u32, length: u32) -> Generation {
    Generation { prompt_logprobs: Some(2), ..request(seed, length) }
}

#[test]
fn company_does_not_change_a_bit() {
    let lonely = engine("qwen3");
    let engine = builder("qwen3").bounds(rows(256)).threads(2).build().expect("an engine builds");
    let ask = |seed: u32| if seed.is_multiple_of(3) { request(seed, 3 + seed * 5) } else { whole(seed, 3 + seed * 5) };
    let streams: Vec<_> = (1..17).map(|seed| engine.submit(ask(seed))).collect();
    for (stream, seed) in streams.into_iter().zip(1..) {
        let heard = hear(stream);
        assert_eq!((heard.tokens.len(), heard.generated.len(), &heard.end), (20, 20, &Some(Ended::Length)));
        assert_eq!(heard, hear(lonely.submit(ask(seed))), "request {seed}");
    }
}

#[test]
fn chunks_threads_and_stages_do_not_change_a_bit() {
    for name in ["llama", "qwen3"] {
        let gold = hear(engine(name).submit(whole(1, 75)));
        assert_eq!((gold.prompt.len(), gold.tokens.len()), (74, 20));
        for (chunk, threads) in [(1, 1), (7, 2), (64, 2)] {
            let bounds = Bounds { max_num_seqs: Some(1), ..rows(chunk) };
            let engine = builder(name).bounds(bounds).threads(threads).build().expect("an engine builds");
            assert_eq!(hear(engine.submit(whole(1, 75))), gold, "{name}: chunks of {chunk}, {threads} threads");
        }
        let engine = builder(name).pipeline_parallel_size(2).build().expect("an engine builds");
        let streams: Vec<_> = (0..3).map(|_| engine.submit(whole(1, 75))).collect();
        streams.into_iter().for_each(|stream| assert_eq!(hear(stream), gold, "{name} in two stages"));
    }
}

#[test]
fn preemption_does_not_change_a_bit() {
    let lonely = engine("qwen3");
    let gold = [hear(lonely.submit(request(1, 75))), hear(lonely.submit(whole(1, 75)))];
    // 11 pages of 16 positions: two of these requests begin with five each and both want a sixth.
    let page = 16 * 2 * 2 * 32 * 4 * 3;
    let bounds = Bounds { kv_cache_memory_bytes: Some(11 * page), max_num_seqs: Some(8), ..rows(128) };
    let engine = builder("qwen3").bounds(bounds).without_prefix_caching().build().expect("an engine builds");
    let ask = |which| if which % 2 == 0 { request(1, 75) } else { whole(1, 75) };
    let streams: Vec<_> = (0..8).map(|which| engine.submit(ask(which))).collect();
    for (which, stream) in streams.into_iter().enumerate() {
        assert_eq!(hear(stream), gold[which % 2]);
    }
}

#[test]
fn a_warm_prefix_does_not_change_a_bit() {
    let [cold, cold_whole] = [request, whole].map(|ask| hear(engine("qwen3").submit(ask(1, 75))));
    let engine = engine("qwen3");
    assert_eq!(hear(engine.submit(request(1, 75))), cold);
    assert_eq!(hear(engine.submit(whole(1, 75))), cold_whole, "its rows are computed though they are cached");
    assert_eq!(hear(engine.submit(request(1, 75))), cold);
    assert_eq!(cold.tokens, cold_whole.tokens);
    assert_eq!(cold.generated, cold_whole.generated);
}

#[test]
fn log_probabilities_are_those_of_the_captured_logits() {
    let engine = builder("llama").capture_logits().threads(1).build().expect("an engine builds");
    let check = |logprob: TokenLogprob, logits: &[f32], count: usize| {
        let max = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
        let plain = |id: u32| f64::from(logits[id as usize]) - max - sum.ln();
        assert!((f64::from(logprob.logprob) - plain(logprob.token)).abs() < 1e-6);
        let larger = logits.iter().filter(|&&logit| logit > logits[logprob.token as usize]).count();
        assert_eq!(logprob.rank as usize, larger + 1, "no two are equal here");
        assert_eq!(logprob.top.len(), count);
        assert!(logprob.top.is_sorted_by(|one, other| one.1 >= other.1));
        assert!(logprob.top.iter().all(|&(id, told)| (f64::from(told) - plain(id)).abs() < 1e-6));
    };
    let generation = Generation { capture: Capture::All, ..whole(1, 30) };
    let tokens = generation.prompt.clone();
    let mut seen = (0, 0);
    for output in engine.submit(generation) {
        match output {
            Output::Prompt(row) => {
                let logprob = row.logprob.expect("every row of the prompt is told of");
                assert_eq!(logprob.token, tokens[row.position as usize + 1]);
                check(logprob, &row.logits.expect("it was captured"), 2);
                seen.0 += 1;
            }
            Output::Token(token) => {
                let logprob = token.logprob.expect("every token is told of");
                assert_eq!(logprob.token, token.token);
                check(logprob, &token.logits.expect("it was captured"), 5);
                seen.1 += 1;
            }
            Output::Ended(ended) => assert_eq!(ended, Ended::Length),
        }
    }
    assert_eq!(seen, (29, 20));
}

#[test]
fn a_prompt_alone_can_be_told_of() {
    let engine = engine("qwen3");
    let alone = hear(engine.submit(Generation { max_tokens: 0, ..whole(1, 75) }));
    assert_eq!((alone.prompt, alone.tokens.len()), (hear(engine.submit(whole(1, 75))).prompt, 0));
    assert_eq!(alone.end, Some(Ended::Length));
}

#[test]
fn rules_that_leave_nothing_end_their_request_alone() {
    let engine = engine("qwen3");
    let rules = LogitRules { allowed: Some(vec![5]), bad_words: vec![vec![5, 5]], ..LogitRules::default() };
    let stuck = engine.submit(Generation { rules, ..Generation::greedy(vec![1, 2], 9) });
    let other = engine.submit(request(1, 20));
    let heard = hear(stuck);
    let why = Failure::NothingAllowed { position: 2 };
    let said = "no token may follow position 2: allowed_token_ids, bad_words, logit_bias and min_tokens leave none";
    assert_eq!((why.to_string().as_str(), heard.tokens, heard.end), (said, vec![5], Some(Ended::Failed(why))));
    assert_eq!(hear(other).end, Some(Ended::Length));
    let stop = Generation { stop: vec!["x".into()], ..Generation::greedy(vec![1], 1) };
    let Some(Ended::Failed(why)) = hear(engine.submit(stop)).end else { panic!("it has no tokenizer") };
    assert_eq!(why.to_string(), "stop: the model has no tokenizer; give stop_token_ids");
}

/// Random pieces of characters of one to four bytes.
fn babble(engine: &Engine, seed: u64) -> Generation {
    let tokenizer = engine.tokenizer().expect("the embedded model has a tokenizer");
    let mut allowed = tokenizer.encode("ab\u{e9}\u{e8}€🦀🦊").expect("text encodes");
    allowed.sort_unstable();
    allowed.dedup();
    // Whole characters come now and then: the bytes that follow a first byte are as likely as others.
    let rules = LogitRules { allowed: Some(allowed), ..LogitRules::default() };
    let sampling = Sampling { temperature: 30.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..warm(seed) };
    let prompt = tokenizer.encode("x").expect("text encodes");
    Generation { sampling, rules, ignore_eos: true, ..Generation::greedy(prompt, 60) }
}

/// What a stop makes of a whole text: cut before it, ended with the token that completed it.
fn check_stop(engine: &Engine, generation: &Generation, whole: &Heard, stop: &str) {
    let tokenizer = engine.tokenizer().expect("the embedded model has a tokenizer");
    let heard = hear(engine.submit(Generation { stop: vec![stop.into()], ..generation.clone() }));
    let cut = whole.text.find(stop).expect("the stop is a part of the text");
    assert_eq!(heard.text, whole.text[..cut], "{stop:?} in {:?}", whole.text);
    assert_eq!(heard.end, Some(Ended::Stop { reason: StopReason::Text(stop.into()) }));
    assert_eq!(heard.tokens, whole.tokens[..heard.tokens.len()]);
    let (all, before) = (&heard.tokens[..], &heard.tokens[..heard.tokens.len() - 1]);
    let has = |tokens: &[u32]| tokenizer.decode(tokens).expect("ids decode").contains(stop);
    assert!(has(all) && (stop.contains('\u{fffd}') || !has(before)), "{stop:?}: the last token completes it");
}

#[test]
fn a_stop_cuts_the_text_wherever_tokens_part_it() {
    let engine = embedded();
    let tokenizer = engine.tokenizer().expect("the embedded model has a tokenizer");
    let words = Generation::greedy(tokenizer.encode("A trait defines").expect("text encodes"), 24);
    let mut stops_of_several_bytes = 0;
    for generation in [words].into_iter().chain((0..8).map(|seed| babble(&engine, seed))) {
        let whole = hear(engine.submit(generation.clone()));
        assert_eq!(whole.text, tokenizer.decode(&whole.tokens).expect("ids decode"));
        let characters: Vec<char> = whole.text.chars().collect();
        for from in (0..characters.len()).step_by(3) {
            let stop: String = characters[from..characters.len().min(from + 1 + from % 5)].iter().collect();
            // What stands for half a character is whole only at the end of it.
            if !stop.contains('\u{fffd}') {
                stops_of_several_bytes += u32::from(!stop.is_ascii());
                check_stop(&engine, &generation, &whole, &stop);
            }
        }
    }
    assert!(stops_of_several_bytes > 0, "characters of several bytes come");
}

#[test]
fn a_stop_in_company_changes_nobody_else() {
    let engine = embedded();
    let words = Generation { ignore_eos: true, ..Generation::greedy(vec![300, 301, 302], 64) };
    let whole = hear(engine.submit(words.clone()));
    let stop: String = whole.text.chars().skip(20).take(3).collect();
    let ask = |stops: bool| Generation { stop: Vec::from_iter(stops.then(|| stop.clone())), ..words.clone() };
    let streams: Vec<_> = (0..24).map(|which| engine.submit(ask(which % 2 == 0))).collect();
    let stopped = hear(engine.submit(ask(true)));
    for (which, stream) in streams.into_iter().enumerate() {
        assert_eq!(hear(stream), if which % 2 == 0 { stopped.clone() } else { whole.clone() });
    }
}

#[test]
fn ends_are_held_back_included_and_told() {
    let engine = embedded();
    let tokenizer = engine.tokenizer().expect("the embedded model has a tokenizer");
    let words = Generation::greedy(tokenizer.encode("A trait defines").expect("text encodes"), 24);
    let whole = hear(engine.submit(words.clone()));
    let first: String = whole.text.chars().take(1).collect();
    let stop = |least: u32| {
        let rules = LogitRules { min_tokens: least, ..LogitRules::default() };
        hear(engine.submit(Generation { rules, stop: vec![first.clone()], ..words.clone() }))
    };
    assert_eq!((stop(0).tokens.len(), stop(0).text), (1, String::new()));
    assert!(stop(5).tokens.len() > 5, "nothing stops it before its sixth token");
    let included = hear(engine.submit(Generation { stop: vec![first.clone()], include_stop: true, ..words.clone() }));
    assert_eq!((included.tokens.len(), included.text), (1, first.clone()));
    // A stop that the last token completes goes before the length.
    let last = Generation { max_tokens: 1, stop: vec![first.clone()], ..words.clone() };
    assert_eq!(hear(engine.submit(last)).end, Some(Ended::Stop { reason: StopReason::Text(first) }));
    // A stop token does not come before the least number of tokens, and is told apart from the model's own.
    let token = whole.tokens[2];
    let rules = LogitRules { min_tokens: 4, ..LogitRules::default() };
    let by_token = Generation { stop_token_ids: vec![token], ..words.clone() };
    let early = hear(engine.submit(by_token.clone()));
    assert_eq!(early.end, Some(Ended::Stop { reason: StopReason::Token(token) }));
    assert_eq!((early.tokens.len(), early.text), (3, tokenizer.decode(&whole.tokens[..2]).expect("ids decode")));
    let spoken = hear(engine.submit(Generation { include_stop: true, ..by_token.clone() })).text;
    assert_eq!(spoken, tokenizer.decode(&whole.tokens[..3]).expect("ids decode"));
    let late = hear(engine.submit(Generation { rules, ..by_token }));
    assert!(late.tokens.len() >= 4 && !late.tokens[..4].contains(&token), "{late:?}");
    let own = engine.defaults().eos[0];
    let rules = LogitRules { allowed: Some(vec![own]), ..LogitRules::default() };
    let ended = hear(engine.submit(Generation { rules, ..words }));
    assert_eq!(ended.end, Some(Ended::Stop { reason: StopReason::EndToken(own) }));
}

#[test]
fn j41_a_prompt_that_ends_within_a_character_lends_it_nothing() {
    let engine = embedded();
    let tokenizer = engine.tokenizer().expect("the embedded model has a tokenizer");
    let crab = tokenizer.encode("🦀").expect("text encodes");
    let (before, after) = crab.split_at(2);
    // The rest of the character, one forced token a position.
    for &next in after {
        let rules = LogitRules { allowed: Some(vec![next]), ..LogitRules::default() };
        let heard = hear(engine.submit(Generation { rules, ..Generation::greedy(before.to_vec(), 1) }));
        assert_eq!(heard.text, tokenizer.decode(&[next]).expect("ids decode"));
        assert_eq!(heard.text, "\u{fffd}");
    }
}

/// The choices of a job line's result.
fn run_line(engine: &Engine, line: &str) -> Result<serde_json::Value, String> {
    let vocabulary = engine.plan().data().vocabulary;
    let request = LineParser::new(vocabulary).parse(line.as_bytes()).map_err(|refused| refused.error.to_string())?;
    let prompt = match &request.prompt {
        millstream::job::Prompt::Text(text) => {
            engine.tokenizer().expect("a tokenizer").encode(text).expect("it encodes")
        }
        millstream::job::Prompt::TokenIds(ids) => ids.clone(),
        other @ (millstream::job::Prompt::PlainText(_) | millstream::job::Prompt::Chat(_)) => panic!("{other:?}"),
    };
    let generations = generations(engine, &request, &prompt, 0).map_err(|error| error.to_string())?;
    let streams: Vec<_> = generations.into_iter().map(|generation| engine.submit(generation)).collect();
    let choices: Result<Vec<_>, String> =
        streams.into_iter().zip(0..).map(|(stream, index)| choice(engine, index, stream)).collect();
    let (choices, usage) = (choices?, Usage::new(0, 0));
    let mut out = vec![];
    let line = ResultLine {
        line: 1,
        custom_id: "a",
        model: "m",
        created: 0,
        form: Form::Completion,
        choices: &choices,
        usage,
    };
    line.write(&mut out).map_err(|error| error.to_string())?;
    let value: serde_json::Value = serde_json::from_slice(&out).map_err(|error| error.to_string())?;
    Ok(value["response"]["body"]["choices"].clone())
}

#[test]
fn result_lines_tell_log_probabilities_in_the_known_forms() {
    let engine = embedded();
    let line = r#"{"custom_id": "a", "prompt": "A trait defines", "max_tokens": 6, "n": 2, "logprobs": 2, "prompt_logprobs": 1}"#;
    let choices = run_line(&engine, line).expect("a good line");
    let choice = &choices[0];
    let text = choice["text"].as_str().expect("a text");
    let logprobs = &choice["logprobs"];
    let list = |name: &str| logprobs[name].as_array().expect("a list").clone();
    let tokens: Vec<String> = list("tokens").iter().map(|token| token.as_str().expect("a text").into()).collect();
    assert_eq!(tokens.concat(), text);
    let mut offset = 0;
    for (place, token) in tokens.iter().enumerate() {
        assert_eq!(list("text_offset")[place], offset, "offsets are characters of the text");
        offset += token.chars().count();
        let top = list("top_logprobs")[place].as_object().expect("an object").clone();
        assert_eq!(top[token], list("token_logprobs")[place], "greedy: the token is the likeliest");
        assert_eq!(top.len(), 2);
    }
    let prompt = choice["prompt_logprobs"].as_array().expect("a list");
    assert!(prompt[0].is_null() && prompt.len() > 2);
    let ids = engine.tokenizer().expect("a tokenizer").encode("A trait defines").expect("it encodes");
    let second = &prompt[1][ids[1].to_string()];
    assert!(second["logprob"].as_f64().is_some_and(|logprob| logprob < 0.0) && second["rank"].as_u64() >= Some(1));
    assert_eq!(second["decoded_token"], engine.tokenizer().expect("a tokenizer").spelling(ids[1]));
    assert!(choices[1].get("prompt_logprobs").is_none(), "the prompt is told of once");
    assert_eq!(choices[1]["text"], text, "do_sample is false: the likeliest tokens");
    assert!(choice["stop_reason"].is_null());
    let stopped =
        run_line(&engine, &line.replace("\"n\": 2", &format!("\"stop\": {:?}", &tokens[2]))).expect("a good line");
    assert_eq!(
        (&stopped[0]["stop_reason"], &stopped[0]["finish_reason"]),
        (&tokens[2].as_str().into(), &"stop".into())
    );
}

#[test]
fn a_line_that_says_nothing_asks_the_folder_and_then_vllm() {
    let demo = embedded();
    assert_eq!(demo.defaults().sampling.temperature(), Some(0.0), "the embedded model is greedy unless a line says");
    let said = "generation_config.json: job lines that do not say otherwise have do_sample false";
    assert!(demo.notes().iter().any(|note| note == said), "{:?}", demo.notes());
    let fixture = engine("qwen3");
    let parse = |line: &str| LineParser::new(512).parse(line.as_bytes()).expect("a good line");
    let request = parse(r#"{"custom_id": "a", "token_ids": [1, 2]}"#);
    let generation = |engine| generations(engine, &request, &[1, 2], 9).expect("it can be begun").remove(0);
    let Sampling { temperature, top_k, top_p, seed, .. } = generation(&fixture).sampling;
    assert_eq!((temperature, top_k, top_p, seed), (1.0, 0, 1.0, 9));
    assert_eq!((generation(&demo).sampling.temperature, generation(&demo).max_tokens), (0.0, 16));
    let long = generations(&fixture, &request, &[1; 250], 0).expect("it can be begun");
    assert_eq!(long[0].max_tokens, 6, "a default is lowered to what the model has room for");
}

#[test]
fn j74_j77_what_contradicts_the_model_is_an_error_of_its_line() {
    let check = |engine: &Engine, fields: &str, message: &str| {
        let line = format!(r#"{{"custom_id": "a", "token_ids": [1], {fields}}}"#);
        assert_eq!(run_line(engine, &line), Err(message.into()), "{fields}");
    };
    let (demo, fixture) = (embedded(), engine("qwen3"));
    check(&demo, r#""min_tokens": 17"#, "min_tokens is 17, must be at most max_tokens, which is 16");
    check(&demo, r#""min_tokens": 9, "max_tokens": 8"#, "min_tokens is 9, must be at most max_tokens, which is 8");
    check(&demo, r#""bad_words": ["a", "  "]"#, "bad_words[1]: has no tokens; leave it out");
    check(&fixture, r#""bad_words": ["a"]"#, "bad_words: the model has no tokenizer; leave it out");
    check(&fixture, r#""stop": "a""#, "stop: the model has no tokenizer; leave it out");
}

#[test]
fn bad_words_are_not_written_at_the_start_nor_behind_a_space() {
    let engine = embedded();
    let plain =
        run_line(&engine, r#"{"custom_id": "a", "prompt": "Ownership is", "max_tokens": 12}"#).expect("a good line");
    let text = plain[0]["text"].as_str().expect("a text");
    let word = text.split_whitespace().next().expect("a word");
    let line = format!(r#"{{"custom_id": "a", "prompt": "Ownership is", "max_tokens": 12, "bad_words": [{word:?}]}}"#);
    let spared = run_line(&engine, &line).expect("a good line");
    let spared = spared[0]["text"].as_str().expect("a text");
    assert!(!spared.starts_with(&format!(" {word}")) && !spared.starts_with(word), "{word:?} in {spared:?}");
}

/// One continuation to its end.
fn choice(engine: &Engine, index: u32, stream: millstream::Stream) -> Result<millstream::job::Choice, String> {
    let mut telling = Telling::default();
    for output in stream {
        telling.take(output).map_err(|failure| failure.to_string())?;
    }
    telling.choice(engine, index)
}
