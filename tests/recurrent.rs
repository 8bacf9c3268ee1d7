//! Models whose layers recur, against their references and against themselves on bits: whatever a request rides with, wherever its prompt
//! was cut, and whether it goes on from a snapshot or is computed again.

#[path = "common/families.rs"]
mod families;
#[path = "common/told.rs"]
mod told;

use families::{Kind, families};
use graph::plan::Bounds;
use millstream::{Capture, Generation, Sampling};
use told::{Bits, bits, builder, engine, prompt, rows, run_parity};

fn recurrent() -> impl Iterator<Item = &'static str> {
    families(&[Kind::Recurrent])
}

fn request(seed: u32, length: u32, capture: Capture) -> Generation {
    let sampling = Sampling { temperature: 0.9, top_k: 40, seed: 3, request: u64::from(seed), ..Sampling::GREEDY };
    Generation { sampling, capture, ignore_eos: true, ..Generation::greedy(prompt(seed, length), 20) }
}

/// The request alone, whole, on one thread, with nothing cached.
fn alone(name: &str, length: u32, capture: Capture) -> Bits {
    bits(engine(name).submit(request(1, length, capture)))
}

#[test]
fn every_layout_is_within_tolerance_of_the_reference() {
    for name in recurrent() {
        for arguments in [
            &[][..],
            &["-tp", "2"],
            &["-pp", "2"],
            &["-tp", "2", "-pp", "2"],
            &["-tp", "4"][..if name == "mamba2" { 2 } else { 0 }],
            &["--max-num-batched-tokens", "1"],
            &["--max-num-batched-tokens", "5"],
            &["--max-num-batched-tokens", "16"],
            &["-tp", "2", "-pp", "2", "--max-num-batched-tokens", "7"],
        ] {
            run_parity(name, arguments);
        }
    }
}

#[test]
fn chunks_threads_and_pipelines_do_not_change_a_bit() {
    for name in recurrent() {
        let gold = alone(name, 75, Capture::All);
        for (chunk, threads, stages) in [(1, 1, 1), (5, 2, 1), (16, 1, 1), (64, 2, 1), (128, 1, 2), (7, 1, 3)] {
            let bounds = Bounds { max_num_seqs: Some(1), ..rows(chunk) };
            let engine =
                builder(name).bounds(bounds).pipeline_parallel_size(stages).threads(threads.max(stages as usize));
            let engine = engine.build().expect("an engine builds");
            let found = bits(engine.submit(request(1, 75, Capture::All)));
            assert!(found == gold, "{name}: chunks of {chunk}, {threads} threads, {stages} stages");
        }
    }
}

#[test]
fn company_does_not_change_a_bit() {
    for name in recurrent() {
        let engine = builder(name).bounds(rows(64)).threads(2).build().expect("an engine builds");
        let of = |seed: u32| request(seed, 3 + seed * 7 % 60, Capture::Generated);
        let streams: Vec<_> = (1..20).map(|seed| engine.submit(of(seed))).collect();
        for (stream, seed) in streams.into_iter().zip(1..) {
            let lonely = bits(self::engine(name).submit(of(seed)));
            assert!(bits(stream) == lonely, "{name}: request {seed}");
        }
    }
}

#[test]
fn a_snapshot_does_not_change_a_bit() {
    for name in recurrent() {
        let engine = engine(name);
        // The same prompt again; longer and shorter ones that begin with it; and one whose last border is its end.
        for length in [75, 75, 70, 77, 40, 64, 64, 65, 96] {
            let found = bits(engine.submit(request(1, length, Capture::Generated)));
            assert!(found == alone(name, length, Capture::Generated), "{name}: {length} tokens");
        }
    }
}

#[test]
fn preemption_does_not_change_a_bit() {
    for name in recurrent() {
        let golds: Vec<_> =
            (1..9).map(|seed| bits(self::engine(name).submit(request(seed, 75, Capture::Generated)))).collect();
        // As many pages as two of these requests come to hold, and slots for eight.
        let whole = builder(name).bounds(Bounds { max_num_seqs: Some(8), ..rows(128) });
        let (_, plan) = whole.plan().expect("a plan");
        let device = &plan.data().devices[0];
        if device.cache_bytes == 0 {
            continue;
        }
        let page = device.cache_bytes / u64::from(plan.pages());
        let budget = 2 * device.state_bytes.max(11 * page);
        let bounds = Bounds { kv_cache_memory_bytes: Some(budget), max_num_seqs: Some(8), ..rows(128) };
        let engine = builder(name).bounds(bounds).build().expect("an engine builds");
        let streams: Vec<_> = (1..9).map(|seed| engine.submit(request(seed, 75, Capture::Generated))).collect();
        for (stream, gold) in streams.into_iter().zip(&golds) {
            assert!(bits(stream) == *gold, "{name}");
        }
    }
}
