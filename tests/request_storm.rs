//! P14: what nobody would ask for fails alone. Requests of every form, most of them bad, some given up, around eight that must not notice.
//!
//! `P14_REQUESTS=1000000` asks a million.

#[path = "common/random.rs"]
mod random;

use millstream::checkpoint::LoadFormat;
use millstream::{
    Bounds, Capture, Checkpoint, Completion, Engine, Failure, Generation, LogitRules, RequestError, Sampling, Stream,
};
use random::next;
use std::collections::BTreeMap;
use std::path::Path;

/// Requests where the environment does not say.
const REQUESTS: u64 = 20_000;
/// Streams that are open at once, beside the canaries.
const OPEN: usize = 48;
/// Tokens of the fixture's model.
const VOCABULARY: u64 = 512;

/// What requests are made of.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        next(&mut self.0) % sides
    }

    /// One in `sides`.
    fn once(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }

    /// A number near a bound, or far beyond all.
    fn number(&mut self) -> f32 {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, -0.0, 0.0, 1e30, -1e-30];
        if self.once(3) { self.pick(&odd) } else { (self.roll(4001) as f32 - 2000.0) / 900.0 }
    }

    fn tokens(&mut self, most: u64) -> Vec<u32> {
        let beyond = if self.once(12) { 3 } else { 0 };
        (0..self.roll(most + 1)).map(|_| self.roll(VOCABULARY + beyond) as u32).collect()
    }

    fn count(&mut self, most: u64) -> u32 {
        if self.once(15) { self.pick(&[u32::MAX, u32::MAX / 2, 65_537]) } else { self.roll(most) as u32 }
    }

    /// Anything that the type allows.
    fn request(&mut self) -> Generation {
        let most = if self.once(20) { 400 } else { 24 };
        let mut asked = Generation::greedy(self.tokens(most), self.count(10));
        if self.once(2) {
            asked.sampling = Sampling {
                temperature: self.number(),
                top_k: self.count(600),
                top_p: self.number(),
                min_p: self.number(),
                seed: self.roll(u64::MAX),
                request: self.roll(u64::MAX),
                sample: self.count(100),
            };
        }
        if self.once(3) {
            let near = |dice: &mut Self, neutral| if dice.once(2) { neutral } else { dice.number() };
            asked.rules = LogitRules {
                repetition_penalty: near(self, 1.0),
                presence_penalty: near(self, 0.0),
                frequency_penalty: near(self, 0.0),
                bias: (0..self.roll(4)).map(|_| (self.count(VOCABULARY + 1), near(self, 0.5))).collect(),
                allowed: self.once(4).then(|| self.tokens(3)),
                bad_words: (0..self.roll(3)).map(|_| self.tokens(3)).collect(),
                min_tokens: self.count(6),
                end_token_ids: vec![],
            };
        }
        if self.once(30) {
            // Nothing is left to draw.
            let only = vec![self.roll(VOCABULARY) as u32];
            asked.rules = LogitRules { bad_words: vec![only.clone()], allowed: Some(only), ..LogitRules::default() };
        }
        let told = |dice: &mut Self| dice.once(4).then(|| dice.count(24));
        asked.logprobs = told(self);
        asked.prompt_logprobs = told(self);
        asked.prompt_logprobs_from = if self.once(4) { self.count(30) } else { 0 };
        asked.generated_from = self.once(6).then(|| self.count(30));
        asked.stop = if self.once(12) { vec![["", "a", "\u{0}"][self.roll(3) as usize].into()] } else { vec![] };
        asked.stop_token_ids = if self.once(5) { self.tokens(80) } else { vec![] };
        asked.ignore_eos = self.once(2);
        asked.capture = self.pick(&[Capture::None, Capture::None, Capture::Generated, Capture::Last, Capture::All]);
        asked
    }
}

/// One of the eight: what it asks never changes.
fn canary(which: u64) -> Generation {
    let sampling = Sampling { temperature: 0.9, request: which, ..Sampling::GREEDY };
    let prompt = (0..5 + which * 9).map(|at| ((at * 37 + which * 101) % 500) as u32).collect();
    Generation { sampling, logprobs: Some(2), ignore_eos: true, ..Generation::greedy(prompt, 12) }
}

/// What it was told, to the bit.
fn told(completion: Completion) -> Vec<(u32, u32)> {
    let bits = |told: Option<millstream::TokenLogprob>| told.expect("asked for").logprob.to_bits();
    completion.tokens.into_iter().map(|token| (token.token, bits(token.logprob))).collect()
}

#[test]
fn p14_what_nobody_would_ask_for_fails_alone() {
    let requests = std::env::var("P14_REQUESTS").ok().and_then(|count| count.parse().ok()).unwrap_or(REQUESTS);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llama");
    let bounds = Bounds { max_num_seqs: Some(16), max_num_batched_tokens: Some(48), ..Bounds::default() };
    let checkpoint = Checkpoint::open(&dir, LoadFormat::Mmap).expect("a fixture");
    let engine =
        Engine::builder(checkpoint).threads(1).bounds(bounds).capture_logits().build().expect("an engine builds");
    let wanted: Vec<_> =
        (0..8).map(|which| told(engine.generate_blocking(canary(which)).expect("it is good"))).collect();
    let mut dice = Dice(14);
    let mut codes: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut open: Vec<Stream> = vec![];
    let mut canaries: Vec<(usize, Stream)> = vec![];
    let mut sang = 0u64;
    for _ in 0..requests {
        while canaries.len() < 8 {
            let which = (sang as usize + canaries.len()) % 8;
            canaries.push((which, engine.submit(canary(which as u64))));
        }
        match engine.validate(dice.request()) {
            Ok(request) => open.push(request.submit()),
            Err(error) => *codes.entry(error.code()).or_default() += 1,
        }
        if open.len() == OPEN {
            // Some are given up, whatever they are at; the others are heard to their end.
            for stream in open.drain(..) {
                let code = if dice.once(4) { "dropped" } else { ended(&stream.wait()) };
                *codes.entry(code).or_default() += 1;
            }
            for (which, stream) in canaries.drain(..) {
                assert_eq!(told(stream.wait().expect("it is good")), wanted[which], "canary {which}, {codes:?}");
                sang += 1;
            }
        }
    }
    drop((open, canaries));
    assert_eq!(engine.fault(), None);
    for (which, wanted) in wanted.iter().enumerate() {
        let again = engine.generate_blocking(canary(which as u64)).expect("it is good");
        assert_eq!(&told(again), wanted, "canary {which} at the end");
    }
    println!("{requests} requests: {codes:?}; canaries sang {sang} times");
    let kinds = ["done", "dropped", "no_prompt", "prompt_too_long", "invalid_value", "no_tokenizer", "nothing_allowed"];
    for kind in kinds {
        assert!(codes.get(kind).is_some_and(|&count| count > 0), "none was {kind}: {codes:?}");
    }
}

/// The code of how a request ended.
fn ended(end: &Result<Completion, Failure>) -> &'static str {
    match end {
        Ok(_) => "done",
        Err(Failure::Refused(RequestError::Busy)) => "busy",
        Err(failure) => {
            assert!(!matches!(failure, Failure::Engine { .. } | Failure::NonFinite { .. }), "{failure}");
            failure.code()
        }
    }
}
