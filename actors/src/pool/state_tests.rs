use super::*;

/// A pool of a model whose ops recur, for `sequences` at once.
fn pool(sequences: u32, snapshots: u32) -> Pool {
    let states = StateSlots { running: 2 * sequences, snapshots };
    let windows = WindowPages::default();
    Pool::new(PoolSpec {
        pages: 64,
        page_rows: 4,
        prefix_caching: true,
        two_forms: true,
        states,
        windows,
        weights_version: 1,
    })
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
    let slot = pool.slots.as_mut().and_then(|slots| slots.snapshot(&mut slots::Held::default(), 0));
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

/// A pool of a model with windows of `window` rows, for two sequences and steps of 16 rows, two in flight.
fn windowed(window: u32) -> Pool {
    let windows = WindowPages { pages: 2 * (window.div_ceil(4) + 2) + 3 * (4 + 2), window };
    let states = StateSlots::default();
    Pool::new(PoolSpec {
        pages: 64,
        page_rows: 4,
        prefix_caching: true,
        two_forms: false,
        states,
        windows,
        weights_version: 1,
    })
}

/// Runs a prompt through a windowed pool in steps of 16 rows; its lease, and the table of its last step.
fn run_windowed(pool: &mut Pool, prompt: &[u32]) -> (Lease, Vec<u32>) {
    let rows = prompt.len() as u32;
    let mut lease = pool.begin(prompt, rows, rows + 1);
    pool.reserve(&mut lease, rows + 1).expect("the test's pool is large enough");
    let (mut from, mut table) = (lease.cached_rows(), vec![]);
    while from < rows {
        pool.turn();
        let to = rows.min(from + 16);
        table.clear();
        pool.window_table(&mut lease, from..to, &mut table);
        pool.written(&mut lease, &prompt[..to as usize]);
        from = to;
    }
    (lease, table)
}

#[test]
fn pages_behind_the_window_are_given_up_while_a_sequence_runs() {
    let mut pool = windowed(8);
    let (lease, table) = run_windowed(&mut pool, &tokens(1, 61));
    assert_eq!(table.len(), 16);
    // The last step began at row 48, whose window begins at row 41.
    assert!(
        table[..10].iter().all(|&page| page == kernels::GONE) && !table[10..].contains(&kernels::GONE),
        "{table:?}"
    );
    pool.turn();
    assert_eq!(pool.windows_used(), 3, "rows 54 to 60 and the next one");
    pool.release(lease);
    assert_eq!((pool.windows_used(), pool.used()), (0, 0));
}

#[test]
fn a_prompt_goes_on_where_its_whole_window_is_found() {
    let mut pool = windowed(8);
    let prompt = tokens(1, 33);
    let (lease, _) = run_windowed(&mut pool, &prompt);
    pool.release(lease);
    let same = pool.begin(&prompt, 33, 40);
    assert_eq!(same.cached_rows(), 32);
    // Many other prompts take the pages of windows, but not those that a sequence holds.
    for seed in 2..9 {
        let (lease, _) = run_windowed(&mut pool, &tokens(seed, 33));
        pool.release(lease);
    }
    let again = pool.begin(&prompt, 33, 40);
    assert_eq!(again.cached_rows(), 32);
    pool.release(again);
    pool.release(same);
    for seed in 9..16 {
        let (lease, _) = run_windowed(&mut pool, &tokens(seed, 33));
        pool.release(lease);
    }
    let late = pool.begin(&prompt, 33, 40);
    assert_eq!(late.cached_rows(), 0, "its pages are there, its windows are not");
    pool.release(late);
    assert_eq!((pool.used(), pool.windows_used()), (0, 0));
}

#[test]
fn equal_prompts_side_by_side_give_up_what_is_behind_their_windows() {
    let mut pool = windowed(8);
    let prompt = tokens(1, 120);
    let mut leases = [pool.begin(&prompt, 120, 121), pool.begin(&prompt, 120, 121)];
    leases.iter_mut().for_each(|lease| pool.reserve(lease, 121).expect("the test's pool is large enough"));
    for from in (0..120).step_by(8) {
        for lease in &mut leases {
            pool.turn();
            pool.window_table(lease, from..from + 8, &mut vec![]);
        }
        // The pages of one are found by their prefix; those of the other are its own, and never will be.
        leases.iter_mut().for_each(|lease| pool.written(lease, &prompt[..from as usize + 8]));
    }
    pool.turn();
    assert_eq!(pool.windows_used(), 2 * 2, "the rows that the next one sees");
    leases.into_iter().for_each(|lease| pool.release(lease));
    assert_eq!((pool.used(), pool.windows_used()), (0, 0));
}
