//! Actors that panic in the middle of a run: restarted within limits, with the same bits; beyond them named, and the engine ends.

use fail::FailScenario;
use graph::plan::Bounds;
use millstream::checkpoint::{Checkpoint, LoadFormat};
use millstream::{Capture, Ended, Engine, Failure, Generation, LogitRules, Output, Sampling, Token};
use std::path::Path;

/// Tokens and the bits of their logits.
type Bits = Vec<(u32, Vec<u32>)>;

fn engine(tensor: u32, pipeline: u32) -> Engine {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/qwen3");
    let checkpoint = Checkpoint::open(&dir, LoadFormat::Mmap).expect("a fixture opens");
    let bounds = Bounds { max_num_batched_tokens: Some(24), ..Bounds::default() };
    let builder = Engine::builder(checkpoint).capture_logits().bounds(bounds);
    builder.tensor_parallel_size(tensor).pipeline_parallel_size(pipeline).build().expect("an engine builds")
}

fn request(which: u32) -> Generation {
    let sampling = Sampling { temperature: 0.9, seed: 5, request: u64::from(which), ..Sampling::GREEDY };
    let prompt = (0..20 + which).map(|i| (i * 13 + which) % 500 + 1).collect();
    // Penalties look back on what was drawn: a token remembered twice would show.
    let rules = LogitRules { repetition_penalty: 1.4, frequency_penalty: 0.5, ..LogitRules::default() };
    Generation { sampling, rules, capture: Capture::Generated, ignore_eos: true, ..Generation::greedy(prompt, 12) }
}

/// What all requests gave, run at the same time.
fn run(engine: &Engine) -> Vec<(Bits, Ended)> {
    let streams: Vec<_> = (0..6).map(|which| engine.submit(request(which))).collect();
    let heard = |stream: millstream::Stream| {
        let (mut bits, mut end) = (Bits::default(), Ended::Cancelled);
        for output in stream {
            match output {
                Output::Prompt(_) => {}
                Output::Token(Token { token, logits, .. }) => {
                    let logits = logits.expect("they were asked for");
                    bits.push((token, logits.into_iter().map(f32::to_bits).collect()));
                }
                Output::Ended(ended) => end = ended,
            }
        }
        (bits, end)
    };
    streams.into_iter().map(heard).collect()
}

#[test]
fn a_panic_anywhere_leaves_the_bits_as_they_are() {
    let scenario = FailScenario::setup();
    for (tensor, pipeline) in [(1, 2), (2, 1)] {
        let calm = run(&engine(tensor, pipeline));
        assert!(calm.iter().all(|(bits, end)| bits.len() == 12 && *end == Ended::Length));
        for place in ["layer_shard", "layer_shard_done", "feed", "sampler", "communicator"] {
            for first in [0, 3, 10] {
                fail::cfg(place, &format!("{first}*off->1*panic(planted)->2*off->1*panic(planted)->off"))
                    .expect("a plan of faults");
                assert!(run(&engine(tensor, pipeline)) == calm, "{place} after {first}, -tp {tensor} -pp {pipeline}");
                fail::remove(place);
            }
        }
    }
    scenario.teardown();
}

#[test]
fn an_actor_that_always_panics_is_named_and_the_engine_ends() {
    let scenario = FailScenario::setup();
    let engine = engine(1, 2);
    fail::cfg("layer_shard", "4*off->panic(planted)").expect("a plan of faults");
    let heard = run(&engine);
    fail::remove("layer_shard");
    let Ended::Failed(failure @ Failure::Engine { what: why }) = &heard[0].1 else { panic!("{:?}", heard[0].1) };
    assert!(why.contains("stage ") && why.contains(": step ") && why.contains("planted"), "{why}");
    assert!(why.contains("5 restarts within 60 s were not enough"), "{why}");
    // Who comes later hears the same at once.
    let late: Vec<Output> = engine.submit(request(0)).collect();
    assert_eq!(late, [Output::Ended(Ended::Failed(failure.clone()))]);
    scenario.teardown();
}

/// How many rows are made no numbers; more with `MILLSTREAM_POISONED_ROWS`.
fn poisoned_rows() -> usize {
    std::env::var("MILLSTREAM_POISONED_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1000)
}

#[test]
fn p19_a_row_that_is_no_numbers_fails_alone_and_is_named() {
    let scenario = FailScenario::setup();
    let engine = engine(1, 2);
    let calm = run(&engine);
    let (mut failed, mut kept, mut round) = (0, 0, 0);
    while failed < poisoned_rows() {
        // One row of one step, another one each time.
        let (skip, row) = (round % 17, round / 17 % 6);
        fail::cfg("sampler_poison", &format!("{skip}*off->1*return({row})->off")).expect("a plan of faults");
        let mut here = 0;
        for ((bits, end), (calm_bits, calm_end)) in run(&engine).iter().zip(&calm) {
            let Ended::Failed(Failure::NonFinite { step, position }) = end else {
                kept += 1;
                assert!((bits, end) == (calm_bits, calm_end), "round {round}: nobody else is changed");
                continue;
            };
            here += 1;
            assert!(calm_bits.starts_with(bits), "what came before it is what it was");
            let said = Failure::NonFinite { step: *step, position: *position }.to_string();
            assert!(said.starts_with("step ") && said.ends_with(" are not all finite"), "{said}");
        }
        assert!(here <= 1, "round {round}: one row, one request");
        failed += here;
        round += 1;
    }
    fail::remove("sampler_poison");
    assert!(run(&engine) == calm, "nothing stays behind");
    println!("{failed} rows were no numbers; {kept} other requests had the bits that they have without");
    scenario.teardown();
}
