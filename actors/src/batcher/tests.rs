mod model;
mod world;

use super::*;
use crate::pool::PoolSpec;
use crate::sampler::LogitRules;
use crate::ticket::Sampling;
use graph::plan::{StateSlots, WindowPages};
use model::VOCAB;
use std::sync::Arc;
use world::{Dice, World};

fn spec(pages: u32, page_rows: u32) -> BatcherSpec {
    BatcherSpec {
        max_num_seqs: 8,
        max_num_batched_tokens: 64,
        max_model_len: 200,
        in_flight: 2,
        groups: 1,
        sampled_rows_max: 64,
        max_waiting: 100,
        pool: PoolSpec {
            pages,
            page_rows,
            prefix_caching: true,
            two_forms: false,
            states: StateSlots::default(),
            windows: WindowPages::default(),
            weights_version: 0,
        },
    }
}

fn sequence(id: u64, prompt: &[u32], max_tokens: u32) -> SequenceSpec {
    SequenceSpec {
        id,
        prompt: prompt.to_vec(),
        max_tokens,
        stop_token_ids: Vec::new(),
        sampling: Sampling { request: id, ..Sampling::GREEDY },
        rules: None,
        logprobs: None,
        prompt_logprobs: None,
        prompt_logprobs_from: 0,
        generated_from: None,
        capture: Capture::None,
    }
}

/// A sequence whose prompt shares its beginning with a third of the others.
fn any_sequence(id: u64, rows_max: u64, dice: &mut Dice) -> SequenceSpec {
    let family = dice.roll(3);
    let shared = dice.roll(rows_max / 2);
    let own = dice.between(1, 1 + rows_max / 5);
    let mut prompt: Vec<u32> = (0..shared).map(|at| (family * 7 + at * at % 11) as u32).collect();
    prompt.extend((0..own).map(|_| dice.roll(VOCAB) as u32));
    let capture = dice.pick(&[Capture::None, Capture::None, Capture::Generated, Capture::Last, Capture::All]);
    let told = |dice: &mut Dice| (dice.roll(4) == 0).then(|| dice.roll(4) as u32);
    let (logprobs, prompt_logprobs) = (told(dice), told(dice));
    let rules = (dice.roll(3) == 0).then(Arc::default);
    let least = u64::from(matches!(capture, Capture::None | Capture::Generated) && prompt_logprobs.is_none());
    let max_tokens = dice.between(least, rows_max + 1 - prompt.len() as u64) as u32;
    let stop_token_ids = (0..dice.roll(3)).map(|_| dice.roll(VOCAB) as u32).collect();
    let known = prompt.len() as u64;
    let from = if prompt_logprobs.is_some() && capture != Capture::All { dice.roll(known) as u32 } else { 0 };
    let generated_from = (dice.roll(4) == 0).then(|| dice.between(1, known) as u32);
    SequenceSpec {
        stop_token_ids,
        capture,
        rules,
        logprobs,
        prompt_logprobs,
        prompt_logprobs_from: from,
        generated_from,
        ..sequence(id, &prompt, max_tokens)
    }
}

/// What a seed is to be made of.
#[derive(Clone, Copy)]
struct Weather {
    cancels: bool,
    crashes: bool,
    fails: bool,
    /// Whether newcomers are admitted without a thought for what others will want.
    reckless: bool,
    /// Pages beyond what the largest sequence needs, as a share of that in percent.
    spare_pages: u64,
}

const CALM: Weather = Weather { cancels: false, crashes: false, fails: false, reckless: false, spare_pages: 400 };

fn storm(seed: u64, weather: Weather) -> Counters {
    let mut dice = Dice::new(seed);
    let page_rows = dice.pick(&[1, 2, 4, 16]);
    let rows_max = dice.between(10, 60);
    let pages = rows_max.div_ceil(page_rows) * (100 + dice.roll(weather.spare_pages + 1)) / 100;
    let max_num_seqs = dice.between(1, 9) as u32;
    let states = match dice.roll(2) {
        0 => StateSlots::default(),
        _ => StateSlots { running: 2 * max_num_seqs, snapshots: dice.roll(12) as u32 },
    };
    let (max_num_batched_tokens, in_flight) = (dice.pick(&[1u32, 7, 64]), dice.between(1, 4) as u32);
    let windows = match dice.roll(3) {
        0 => {
            let window = dice.between(1, 30) as u32;
            // What a plan counts for running sequences and the steps in flight, and not a page more.
            let a_step = max_num_batched_tokens.div_ceil(page_rows as u32) + max_num_seqs;
            let pages = max_num_seqs * (window.div_ceil(page_rows as u32) + 2) + (in_flight + 1) * a_step;
            WindowPages { pages, window }
        }
        _ => WindowPages::default(),
    };
    let spec = BatcherSpec {
        max_num_seqs,
        max_num_batched_tokens,
        in_flight,
        groups: dice.between(1, 3) as u32,
        sampled_rows_max: dice.pick(&[1, 5, 64]),
        pool: PoolSpec {
            prefix_caching: dice.roll(4) > 0,
            two_forms: dice.roll(2) > 0,
            states,
            windows,
            ..spec(pages as u32, page_rows as u32).pool
        },
        ..spec(pages as u32, page_rows as u32)
    };
    let mut world = World::new(spec, weather.fails);
    let sequences = dice.between(1, 16);
    let mut submitted = 0;
    while submitted < sequences {
        if dice.roll(6) == 0 {
            let sequence = any_sequence(submitted, rows_max, &mut dice);
            world.submit(sequence).expect("it fits the pool and the queue");
            submitted += 1;
        }
        world.turn(&mut dice);
        trouble(&mut world, weather, submitted, &mut dice);
    }
    for _ in 0..dice.roll(200) {
        world.turn(&mut dice);
        trouble(&mut world, weather, submitted, &mut dice);
    }
    world.finish(&mut dice);
    world.batcher.counters()
}

fn trouble(world: &mut World, weather: Weather, submitted: u64, dice: &mut Dice) {
    if weather.reckless {
        world.batcher.caution = 0;
        if dice.roll(20) == 0 {
            world.preempt(dice);
        }
    }
    if weather.cancels && submitted > 0 && dice.roll(30) == 0 {
        world.cancel(dice.roll(submitted));
    }
    if weather.crashes && dice.roll(60) == 0 {
        world.crash();
    }
}

/// By how much more than always: `MILLSTREAM_STORMS=53` makes a million storms of the 19,000.
fn factor() -> u64 {
    std::env::var("MILLSTREAM_STORMS").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

fn storms(seeds: std::ops::Range<u64>, weather: Weather) -> (u64, u64, u64) {
    let mut sums = (0, 0, 0);
    for seed in seeds.start..seeds.end * factor() {
        let counters = std::panic::catch_unwind(|| storm(seed, weather)).unwrap_or_else(|_| panic!("seed {seed}"));
        sums.0 += counters.preemptions;
        sums.1 += counters.prefix_hit_rows;
        sums.2 += counters.generated_tokens;
    }
    sums
}

#[test]
fn tokens_and_logits_are_those_of_the_request_alone() {
    let (_, hits, tokens) = storms(0..5000, CALM);
    assert!(hits > 10_000 && tokens > 50_000, "{hits} rows were found, {tokens} tokens generated");
}

#[test]
fn a_spent_pool_preempts_and_still_everything_ends_alike() {
    let (preemptions, ..) = storms(0..5000, Weather { spare_pages: 60, reckless: true, ..CALM });
    assert!(preemptions > 4000, "{preemptions} preemptions");
}

#[test]
fn cancels_crashes_and_failing_rows_hurt_nobody_else() {
    storms(0..5000, Weather { cancels: true, spare_pages: 100, ..CALM });
    storms(0..2000, Weather { fails: true, spare_pages: 100, ..CALM });
    storms(0..2000, Weather { cancels: true, crashes: true, fails: true, reckless: true, spare_pages: 100 });
}

#[test]
fn late_results_of_a_preempted_sequence_are_dropped() {
    let mut world = World::new(BatcherSpec { in_flight: 6, ..spec(100, 4) }, false);
    world.submit(SequenceSpec { capture: Capture::All, ..sequence(0, &[3, 1, 4, 1, 5], 9) }).expect("room");
    for _ in 0..3 {
        assert!(world.fill() && world.fill(), "the prompt, and one row ahead");
        let slot = world.batcher.order[0];
        world.batcher.send_back(slot);
    }
    world.finish(&mut Dice::new(0));
}

#[test]
fn a_sequence_preempted_three_times_waits_for_all_it_needs_and_then_stays() {
    let mut world = World::new(spec(10, 4), false);
    world.submit(sequence(0, &[1; 8], 20)).expect("room");
    world.submit(sequence(1, &[2; 4], 28)).expect("room");
    while world.fill() {}
    let slot = world.batcher.order[1];
    world.batcher.running_mut(slot).sequence.preemptions = sequence::PREEMPTIONS_MAX;
    world.batcher.send_back(slot);
    let mut dice = Dice::new(0);
    while world.batcher.counters().running > 0 {
        assert_eq!(world.batcher.counters().running, 1, "27 rows and 31 rows do not fit 40");
        world.turn(&mut dice);
    }
    world.fill();
    assert_eq!(world.batcher.pool().used(), 8, "everything is reserved");
    world.finish(&mut dice);
    assert_eq!(world.batcher.counters().preemptions, 0);
}

/// Half the pages that all running sequences will want, short and long ones mixed, no prefix shared.
#[test]
fn preemption_wastes_at_most_a_tenth_of_the_rows() {
    for prefix_caching in [false, true] {
        let mut dice = Dice::new(9);
        // Eight sequences of 20 to 180 rows want 800 rows on average.
        let pool = PoolSpec { prefix_caching, ..spec(100, 4).pool };
        let mut world = World::new(BatcherSpec { max_waiting: 400, pool, ..spec(100, 4) }, false);
        for id in 0..300 {
            let total = dice.between(20, 180);
            let prompt: Vec<u32> = (0..dice.between(5, total - 5)).map(|_| dice.roll(VOCAB) as u32).collect();
            world.submit(sequence(id, &prompt, (total - prompt.len() as u64) as u32)).expect("room");
        }
        world.finish(&mut dice);
        let counters = world.batcher.counters();
        let rows: u32 = world.rows.iter().sum();
        assert!(counters.recomputed_rows * 10 <= u64::from(rows), "of {rows} rows: {counters:?}");
    }
}

#[test]
fn groups_of_generating_sequences_are_out_together() {
    for groups in 1..=3 {
        let spec = BatcherSpec { in_flight: groups, groups, ..spec(100, 4) };
        let mut world = World::new(spec, false);
        for id in 0..6 {
            world.submit(sequence(id, &[id as u32, 1], 20)).expect("room");
        }
        world.fill();
        for _ in 0..100 {
            while world.enter() || world.feed() {}
            world.deliver();
            while world.fill() {}
        }
        world.finish(&mut Dice::new(0));
        let steady = &world.rows[4..20];
        assert!(steady.iter().all(|&rows| rows == 6 / groups), "{groups} groups: {steady:?}");
    }
}

#[test]
fn chunks_of_a_prompt_go_out_back_to_back() {
    let spec = BatcherSpec { max_num_batched_tokens: 7, in_flight: 4, ..spec(100, 4) };
    let mut world = World::new(spec, false);
    world.submit(sequence(0, &[3; 20], 5)).expect("room");
    while world.fill() {}
    assert_eq!(world.rows, [7, 7, 6, 1], "three chunks and, one ahead of the host, the first generated row");
    world.finish(&mut Dice::new(0));
}

#[test]
fn a_request_is_refused_by_name_and_with_numbers() {
    let check = |sequence: SequenceSpec, message: &str| {
        let mut batcher = Batcher::new(BatcherSpec { max_waiting: 1, ..spec(10, 4) }).expect("no bound is zero");
        let refused = match batcher.submit(sequence.clone()) {
            Ok(()) => batcher.submit(sequence).expect_err("the second time"),
            Err(refused) => refused,
        };
        assert_eq!(refused.to_string(), message);
        assert!(batcher.pool().used() == 0);
    };
    check(sequence(1, &[], 3), "sequence 1: the prompt is empty, at least 1 token is needed");
    check(
        sequence(2, &[1], 0),
        "sequence 2: max_tokens is 0, at least 1 is needed unless logits or log-probabilities of the prompt are wanted",
    );
    let tells = SequenceSpec { prompt_logprobs: Some(0), prompt_logprobs_from: 2, ..sequence(2, &[1, 2], 0) };
    check(
        tells.clone(),
        "sequence 2: max_tokens is 0, at least 1 is needed unless logits or log-probabilities of the prompt are wanted",
    );
    check(
        SequenceSpec { prompt_logprobs_from: 3, max_tokens: 1, ..tells.clone() },
        "sequence 2: the prompt has 2 tokens and is told of from token 3 on; give at most its length, and 0 where all logits are wanted",
    );
    // The last token that is told of needs no row.
    let long = |len| SequenceSpec { prompt: vec![1; len], prompt_logprobs_from: 1, ..tells.clone() };
    check(long(202), "sequence 2: 202 prompt tokens and max_tokens 0 exceed max_model_len 200");
    check(sequence(3, &[1, 2], 199), "sequence 3: 2 prompt tokens and max_tokens 199 exceed max_model_len 200");
    check(
        sequence(4, &[1, 2], 40),
        "sequence 4: 41 rows of key-value cache are needed, the pool has 40; \
         the largest prompt and max_tokens that fit are 41 tokens together",
    );
    check(
        SequenceSpec { stop_token_ids: vec![0; 65], ..sequence(5, &[1], 1) },
        "sequence 5: 65 stop tokens, at most 64 are searched for",
    );
    check(
        SequenceSpec { sampling: Sampling { top_p: 2.0, ..Sampling::GREEDY }, ..sequence(6, &[1], 1) },
        "sequence 6: top_p is 2, it must be above 0 and at most 1",
    );
    check(
        SequenceSpec { prompt_logprobs: Some(21), ..sequence(6, &[1], 1) },
        "sequence 6: prompt_logprobs is 21, at most 20 likeliest tokens are told",
    );
    let rules = LogitRules { frequency_penalty: 1e3, ..LogitRules::default() };
    check(
        SequenceSpec { rules: Some(Arc::new(rules)), ..sequence(6, &[1], 1) },
        "sequence 6: frequency_penalty is 1000, it must be from -2 to 2",
    );
    check(sequence(7, &[1], 40), "sequence 7: a live sequence has the same id");
    let mut batcher = Batcher::new(BatcherSpec { max_waiting: 1, ..spec(10, 4) }).expect("no bound is zero");
    assert_eq!(batcher.submit(sequence(8, &[1], 1)), Ok(()));
    let refused = batcher.submit(sequence(9, &[1], 1)).expect_err("the queue has one place");
    assert_eq!(refused.to_string(), "sequence 9: 1 sequences are waiting, which is the most");
}

#[test]
fn bounds_that_leave_no_room_are_all_named() {
    let faults = Batcher::new(BatcherSpec { groups: 0, in_flight: 0, ..spec(0, 4) }).expect_err("three are zero");
    let messages: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        ["in_flight", "groups", "pool.pages"].map(|field| format!("batcher: {field} is 0, it must be at least 1"))
    );
}

#[test]
fn results_out_of_turn_are_refused_and_change_nothing() {
    use crate::ticket::Samples;
    let mut batcher = Batcher::new(spec(10, 4)).expect("no bound is zero");
    let mut updates = Vec::new();
    let samples = |step| Samples { step, ..Samples::default() };
    assert_eq!(batcher.absorb(&samples(0), &mut updates), Err(Misdelivered::Unasked { got: 0 }));
    batcher.submit(sequence(0, &[1], 1)).expect("room");
    let mut ticket = batcher.ticket();
    assert!(batcher.fill(&mut ticket));
    assert_eq!(batcher.absorb(&samples(1), &mut updates), Err(Misdelivered::OutOfOrder { wanted: 0, got: 1 }));
    let rows = Misdelivered::Rows { step: 0, wanted: 1, got: 0 };
    assert_eq!(batcher.absorb(&samples(0), &mut updates), Err(rows));
    assert_eq!(updates, []);
}
