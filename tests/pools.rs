//! Every kind of memory that a sequence leaves behind, alone and together with others: going on behind a cached prefix, being computed
//! again after a preemption and being told what was generated never change a bit, and what is to happen does happen.

#[path = "common/told.rs"]
#[allow(dead_code, reason = "others use more of it")]
mod told;

use actors::trace::Event;
use graph::plan::Bounds;
use millstream::{Capture, Engine, Generation, Sampling};
use told::{Bits, bits, builder, engine, prompt};

/// Pages of whole sequences; of latents; of windows; of windows and whole sequences; states; states and pages.
const KINDS: [&str; 6] = ["qwen3", "deepseek_v3", "mistral", "gemma2", "mamba2", "qwen3_next"];

fn request(seed: u32, length: u32) -> Generation {
    let sampling = Sampling { temperature: 0.9, top_k: 40, seed: 3, request: u64::from(seed), ..Sampling::GREEDY };
    let capture = Capture::Generated;
    Generation { sampling, capture, ignore_eos: true, ..Generation::greedy(prompt(seed, length), 20) }
}

/// Rows that were computed since the last call.
fn computed(engine: &Engine) -> u64 {
    let recording = engine.recording();
    assert_eq!(recording.lost, 0, "all records are there");
    let feed = |record: &&actors::trace::Record| recording.actor(record.track) == "feed";
    let rows = |record: &actors::trace::Record| match record.event {
        Event::Act { rows, .. } => u64::from(rows),
        Event::Wait(_)
        | Event::Send { .. }
        | Event::Receive { .. }
        | Event::Depth { .. }
        | Event::Count { .. }
        | Event::Request { .. }
        | Event::Mark { .. } => 0,
    };
    recording.records.iter().filter(feed).map(rows).sum()
}

#[test]
fn a_cached_prefix_is_used_and_does_not_change_a_bit() {
    for name in KINDS {
        let engine = engine(name);
        // A state is kept at a prompt's last border, and where two prompts part.
        let states = matches!(name, "mamba2" | "qwen3_next");
        // Again, then longer and shorter ones that begin alike, some of which end at a page's border.
        for (length, cached) in
            [(75, 0), (75, 64), (77, 64), (70, 64), (96, 64), (96, 80), (40, if states { 0 } else { 32 })]
        {
            let found = bits(engine.submit(request(1, length)));
            let rows = computed(&engine);
            assert!(found == bits(self::engine(name).submit(request(1, length))), "{name}: {length} tokens");
            assert_eq!(rows, u64::from(length - cached) + 19, "{name}: {length} tokens of which {cached} are cached");
        }
    }
}

/// The least cache with which a plan of these bounds has at least `pages` pages.
fn tight(name: &str, bounds: Bounds, pages: u32) -> Bounds {
    let with = |bytes| Bounds { kv_cache_memory_bytes: Some(bytes), ..bounds };
    let fits = |bytes| builder(name).bounds(with(bytes)).plan().is_ok_and(|(_, plan)| plan.pages() >= pages);
    let (mut too_little, mut enough) = (0u64, 1 << 30);
    while enough - too_little > 1 {
        let middle = too_little + (enough - too_little) / 2;
        if fits(middle) { enough = middle } else { too_little = middle }
    }
    with(enough)
}

#[test]
fn preemptions_do_not_change_a_bit() {
    // Of the other kinds a running sequence never lacks anything: it has all of its slots and windows from the beginning.
    for (name, length, tokens, caching) in [
        ("qwen3", 75, 20, false),
        ("qwen3", 75, 20, true),
        ("deepseek_v3", 75, 20, false),
        ("gemma2", 110, 100, false),
        ("gpt_oss", 110, 100, false),
        ("qwen3_next", 110, 100, false),
        ("qwen3_next", 110, 100, true),
    ] {
        let request = |seed| Generation { max_tokens: tokens, ..request(seed, length) };
        let golds: Vec<Bits> = (1..9).map(|seed| bits(engine(name).submit(request(seed)))).collect();
        let bounds = Bounds { max_num_seqs: Some(8), max_num_batched_tokens: Some(16), ..Bounds::default() };
        let builder = builder(name).bounds(tight(name, bounds, 11)).threads(1);
        let builder = if caching { builder } else { builder.without_prefix_caching() };
        let once = 8 * u64::from(length + tokens - 1);
        let preempted = |_: &u32| {
            let engine = builder.clone().build().expect("an engine builds");
            let streams: Vec<_> = (1..9).map(|seed| engine.submit(request(seed))).collect();
            for (seed, (stream, gold)) in (1..9).zip(streams.into_iter().zip(&golds)) {
                assert!(bits(stream) == *gold, "{name}: request {seed}");
            }
            computed(&engine) > once
        };
        // Who is sent back depends on who comes when.
        assert!((0..100).any(|round| preempted(&round)), "{name}: nobody was preempted in 100 rounds");
    }
}

#[test]
fn generated_rows_are_those_of_the_same_tokens_told_as_generated() {
    for name in ["mamba2", "qwen3_next", "gemma2"] {
        for chunk in [1, 5, 256] {
            let bounds = Bounds { max_num_batched_tokens: Some(chunk), max_num_seqs: Some(1), ..Bounds::default() };
            let engine = builder(name).bounds(bounds).threads(1).build().expect("an engine builds");
            // The prompt's border before, at and behind the border of a chunk of a scan.
            for length in [1, 2, 15, 16, 17, 31, 32, 33, 64, 65] {
                let drawn = bits(engine.submit(request(7, length)));
                let tokens = [prompt(7, length), drawn.tokens[..19].to_vec()].concat();
                let again = Generation {
                    capture: Capture::All,
                    generated_from: Some(length),
                    ignore_eos: true,
                    ..Generation::greedy(tokens, 1)
                };
                let again = bits(engine.submit(again));
                let border = length as usize - 1;
                let again = [&again.prompt[border..], &again.generated].concat();
                assert!(again == drawn.generated, "{name}: a prompt of {length} tokens in steps of {chunk}");
            }
        }
    }
}
