use super::*;

/// A pool of a model whose ops recur, for `sequences` at once.
fn pool(sequences: u32, snapshots: u32) -> Pool {
    let states = StateSlots { running: 2 * sequences, snapshots };
    Pool::new(PoolSpec { pages: 64, page_rows: 4, prefix_caching: true, two_forms: true, states, weights_version: 1 })
}

/// Computes the rows of a prompt that were not found, `chunk` at a time, each chunk a step of its own.
fn run(pool: &mut Pool, prompt: &[u32], chunk: u32) -> Lease {
    let rows = prompt.len() as u32;
    let mut lease = pool.begin(prompt, rows, rows + 1);
    pool.reserve(&mut lease, rows + 1).expect("the test's pool is large enough");
    let mut from = lease.cached_rows();
    while from < rows {
        pool.turn();
        let to = rows.min(from + chunk);
        pool.advance(&mut lease).expect("it has states");
        for end in from + 1..=to {
            let _ = pool.snapshot(&mut lease, end);
        }
        from = to;
    }
    pool.written(&mut lease, prompt);
    lease
}

fn tokens(seed: u32, count: u32) -> Vec<u32> {
    (0..count).map(|at| seed * 100 + at).collect()
}

#[test]
fn a_prompt_goes_on_from_the_last_border_with_both_its_pages_and_a_snapshot() {
    let mut pool = pool(2, 8);
    let prompt = tokens(1, 19);
    let first = run(&mut pool, &prompt, 7);
    assert_eq!(first.cached_rows(), 0);
    pool.release(first);
    let mut same = pool.begin(&prompt, 19, 32);
    assert_eq!(same.cached_rows(), 16, "the last border of the prompt");
    pool.turn();
    let (from, to) = pool.advance(&mut same).expect("it has states");
    assert!(from.is_some_and(|slot| slot >= 4) && to < 4, "it reads the snapshot and writes a slot of its own");
    pool.release(same);
    // Without the last page there is no snapshot before it.
    let shorter = pool.begin(&prompt[..15], 15, 32);
    assert_eq!(shorter.cached_rows(), 0);
    pool.release(shorter);
    assert_eq!((pool.used(), pool.states_used(), pool.states_available()), (0, 0, 12));
}

#[test]
fn where_prompts_part_a_snapshot_is_kept_the_second_time() {
    let mut pool = pool(2, 8);
    let with = |seed| [tokens(1, 12), tokens(seed, 9)].concat();
    for (seed, found) in [(2, 0), (3, 0), (4, 12), (5, 12)] {
        let lease = run(&mut pool, &with(seed), 64);
        assert_eq!(lease.cached_rows(), found, "prompt {seed}");
        pool.release(lease);
    }
}

#[test]
fn snapshots_are_given_up_unused_longest_first_and_never_within_a_step() {
    let mut pool = pool(1, 2);
    for seed in 1..4 {
        let lease = run(&mut pool, &tokens(seed, 9), 64);
        pool.release(lease);
    }
    let found = |pool: &mut Pool, seed| {
        let lease = pool.begin(&tokens(seed, 9), 9, 16);
        let rows = lease.cached_rows();
        pool.release(lease);
        rows
    };
    pool.turn();
    assert_eq!([1, 2, 3].map(|seed| found(&mut pool, seed)), [0, 0, 8], "one slot is always free when a step begins");
    let mut reader = pool.begin(&tokens(3, 9), 9, 16);
    let (from, _) = pool.advance(&mut reader).expect("it has states");
    let slot = pool.slots.as_mut().and_then(|slots| slots.snapshot(&mut Held::default(), 0));
    assert!(slot.is_some() && slot != from, "what the step reads is not written in it");
    pool.release(reader);
}

#[test]
fn a_sequence_that_ends_early_gives_back_what_it_had_not_published() {
    let mut pool = pool(1, 4);
    let prompt = tokens(1, 9);
    let mut lease = pool.begin(&prompt, 9, 16);
    pool.reserve(&mut lease, 9).expect("room");
    for step in 0..3 {
        pool.turn();
        let (from, to) = pool.advance(&mut lease).expect("it has states");
        assert_eq!(from.is_none(), step == 0);
        assert_ne!(from, Some(to));
    }
    assert!(pool.snapshot(&mut lease, 8).is_some());
    assert_eq!(pool.states_used(), 2, "a state and a snapshot; what the step reads is as good as free");
    pool.release(lease);
    assert_eq!((pool.used(), pool.states_used()), (0, 0));
    let again = pool.begin(&prompt, 9, 16);
    assert_eq!(again.cached_rows(), 0);
    pool.release(again);
}
