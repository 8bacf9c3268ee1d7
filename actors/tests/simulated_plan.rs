//! Whole plans on one thread: every seed is an interleaving of all actors, and every interleaving gives the same bits.
#![cfg(not(loom))]

mod wired;

use actors::batcher::{Finish, SequenceSpec};
use actors::lane::{Idle, Simulator};
use actors::trace::{Event, Trace};
use graph::plan::{Bounds, Plan};
use std::collections::BTreeMap;
use wired::{Heard, Notes, assert_same, plan, request, wired};

/// Steps that no run of these tests comes near.
const POLLS_MAX: u64 = 2_000_000;
const SEEDS: u64 = 100;

fn requests() -> Vec<SequenceSpec> {
    (0..12).map(|id| request(id, 5 + id as u32 * 3, 4 + id as u32 % 5)).collect()
}

/// Few rows a step and few sequences at once.
fn narrow() -> Bounds {
    Bounds { max_num_seqs: Some(5), max_num_batched_tokens: Some(13), max_model_len: Some(80), ..Bounds::default() }
}

/// As [`narrow`], with pages for about two of the longest sequences.
fn scarce(plan_of: impl Fn(Bounds) -> Plan) -> Plan {
    let all = plan_of(narrow());
    let page_bytes = all.data().devices[0].cache_bytes / u64::from(all.pages());
    plan_of(Bounds { kv_cache_memory_bytes: Some(page_bytes * 7), ..narrow() })
}

/// What every sequence heard under this seed.
fn run(plan: &Plan, requests: Vec<SequenceSpec>, seed: u64) -> BTreeMap<u64, Heard> {
    run_counted(plan, requests, seed).heard
}

fn run_counted(plan: &Plan, requests: Vec<SequenceSpec>, seed: u64) -> Notes {
    let trace = Trace::simulated();
    let (actors, ledger) = wired(plan, requests, &trace);
    let mut simulator = Simulator::new(actors, seed, trace.recorder(1 << 12));
    let idle = simulator.run_until_idle(POLLS_MAX);
    assert!(matches!(idle, Idle::After(_)), "seed {seed}: the plan comes to rest");
    assert!(simulator.downs().is_empty(), "seed {seed}: {:?}", simulator.downs());
    let notes = std::mem::take(&mut *ledger.lock().expect("nobody panicked"));
    for (id, heard) in &notes.heard {
        assert_eq!(heard.end, Some(Finish::Length), "seed {seed}: sequence {id} ends by its own rules");
    }
    notes
}

#[test]
fn every_interleaving_of_a_pipeline_gives_the_bits_of_one_stage() {
    let whole = run(&plan(3, 1, 1, narrow()), requests(), 0);
    assert_eq!(whole.len(), 12);
    for pipeline in [2, 3] {
        let cut = plan(3, 1, pipeline, narrow());
        for seed in 0..SEEDS {
            assert_same(&run(&cut, requests(), seed), &whole, &format!("pipeline {pipeline}, seed {seed}"));
        }
    }
}

#[test]
fn every_interleaving_of_tensor_ranks_gives_the_same_bits() {
    let cut = plan(2, 2, 2, narrow());
    let first = run(&cut, requests(), 0);
    for seed in 1..SEEDS {
        assert_same(&run(&cut, requests(), seed), &first, &format!("seed {seed}"));
    }
}

#[test]
fn scarce_pages_end_every_sequence_with_the_same_bits() {
    // They grow over several pages, so that some have to give way.
    let long = || (0..8).map(|id| request(id, 5 + id as u32 * 2, 36)).collect();
    let plenty = run(&plan(2, 1, 2, narrow()), long(), 0);
    let tight = scarce(|bounds| plan(2, 1, 2, bounds));
    let mut preemptions = 0;
    for seed in 0..SEEDS {
        let notes = run_counted(&tight, long(), seed);
        assert_same(&notes.heard, &plenty, &format!("seed {seed}"));
        preemptions += notes.preemptions;
    }
    assert!(preemptions > 0, "{} pages were enough for everybody", tight.pages());
}

#[test]
fn a_request_alone_has_the_bits_it_has_in_company() {
    let together = run(&plan(2, 1, 2, narrow()), requests(), 3);
    for request in requests() {
        let id = request.id;
        let alone = run(&plan(2, 1, 1, narrow()), vec![request], 5);
        assert_eq!(alone[&id], together[&id], "sequence {id}");
    }
}

#[test]
fn both_stages_act_on_different_steps_at_the_same_time() {
    let trace = Trace::simulated();
    let cut = plan(2, 1, 2, narrow());
    let (actors, _) = wired(&cut, requests(), &trace);
    let names: Vec<String> = actors.iter().map(|actor| actor.name().to_owned()).collect();
    let mut simulator = Simulator::new(actors, 1, trace.recorder(1 << 16));
    simulator.run_until_idle(POLLS_MAX);
    let recording = trace.collect();
    let mut latest = BTreeMap::new();
    let mut ahead = 0;
    for record in &recording.records {
        if let Event::Act { step, .. } = record.event {
            latest.insert(recording.actor(record.track).to_owned(), step);
            let of = |name: &str| latest.get(name).copied().unwrap_or(0);
            ahead = ahead.max(of("stage 0").saturating_sub(of("stage 1")));
        }
    }
    assert!(names.contains(&"stage 1".to_owned()), "{names:?}");
    assert!(ahead >= 1, "stage 0 never ran ahead of stage 1");
}
