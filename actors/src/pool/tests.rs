use super::*;
use proptest::prelude::*;

fn spec(pages: u32) -> PoolSpec {
    let states = StateSlots::default();
    let windows = WindowPages::default();
    PoolSpec { pages, page_rows: 4, prefix_caching: true, two_forms: false, states, windows, weights_version: 1 }
}

fn run(pool: &mut Pool, tokens: &[u32]) -> Lease {
    let mut lease = pool.begin(tokens, 100, tokens.len() as u32 + 1);
    pool.reserve(&mut lease, tokens.len() as u32 + 1).expect("the test's pool is large enough");
    pool.written(&mut lease, tokens);
    lease
}

#[test]
fn a_shared_prefix_outlives_its_first_owner() {
    let mut pool = Pool::new(spec(8));
    let first = run(&mut pool, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(first.cached_rows(), 0);
    let prefix = first.pages()[..2].to_vec();
    let second = pool.begin(&[1, 2, 3, 4, 5, 6, 7, 8, 7], 100, 16);
    assert_eq!((second.pages(), second.cached_rows()), (&prefix[..], 8));
    pool.release(first);
    assert_eq!((pool.free(), pool.cached(), pool.used()), (6, 0, 2));
    pool.release(second);
    assert_eq!((pool.free(), pool.cached(), pool.used()), (6, 2, 0));
}

#[test]
fn a_page_of_generated_rows_is_a_page_of_a_prompt_only_where_ops_have_one_form() {
    for two_forms in [false, true] {
        let mut pool = Pool::new(PoolSpec { two_forms, ..spec(8) });
        let mut first = pool.begin(&[1, 2, 3, 4, 5], 5, 16);
        pool.reserve(&mut first, 12).expect("room");
        pool.written(&mut first, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        pool.release(first);
        let longer = pool.begin(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 9, 16);
        assert_eq!(longer.cached_rows(), if two_forms { 4 } else { 8 });
        let resumed = pool.begin(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 5, 16);
        assert_eq!(resumed.cached_rows(), 8, "it finds what it wrote itself");
        pool.release(longer);
        pool.release(resumed);
    }
}

#[test]
fn the_last_token_is_always_computed() {
    let mut pool = Pool::new(spec(8));
    let first = run(&mut pool, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let same = pool.begin(&[1, 2, 3, 4, 5, 6, 7, 8], 100, 16);
    assert_eq!(same.cached_rows(), 4);
    pool.release(first);
    pool.release(same);
}

#[test]
fn a_page_found_under_another_parent_or_other_weights_is_not_the_same_page() {
    let mut pool = Pool::new(spec(8));
    let first = run(&mut pool, &[1, 1, 1, 1, 2, 2, 2, 2, 0]);
    let other_parent = pool.begin(&[2, 2, 2, 2, 0], 100, 8);
    assert_eq!(other_parent.cached_rows(), 0);
    pool.change_weights(2);
    let other_weights = pool.begin(&[1, 1, 1, 1, 0], 100, 8);
    assert_eq!(other_weights.cached_rows(), 0);
    for lease in [first, other_parent, other_weights] {
        pool.release(lease);
    }
}

#[test]
fn equal_pages_computed_at_once_become_one() {
    let mut pool = Pool::new(spec(8));
    let tokens = [1, 2, 3, 4, 5];
    let (mut first, mut second) = (pool.begin(&tokens, 100, 8), pool.begin(&tokens, 100, 8));
    pool.reserve(&mut first, 6).expect("room");
    pool.reserve(&mut second, 6).expect("room");
    assert_eq!(pool.used(), 4);
    pool.written(&mut first, &tokens);
    pool.written(&mut second, &tokens);
    assert_eq!(first.pages()[0], second.pages()[0]);
    assert_ne!(first.pages()[1], second.pages()[1]);
    assert_eq!(pool.used(), 3);
    pool.release(first);
    pool.release(second);
    assert_eq!((pool.free(), pool.cached()), (7, 1));
}

#[test]
fn a_spent_pool_refuses_with_numbers_and_changes_nothing() {
    let mut pool = Pool::new(spec(4));
    let mut lease = pool.begin(&[1], 100, 100);
    pool.reserve(&mut lease, 5).expect("two pages fit");
    let spent = pool.reserve(&mut lease, 17).expect_err("five pages do not");
    assert_eq!(spent, Spent { wanted: 3, available: 2, capacity: 4 });
    assert_eq!(lease.pages().len(), 2);
    pool.release(lease);
    assert_eq!(pool.free(), 4);
}

#[test]
fn the_page_unused_for_longest_is_given_up_first_and_children_before_parents() {
    let mut pool = Pool::new(spec(4));
    let old = run(&mut pool, &[1, 1, 1, 1, 2, 2, 2]);
    pool.release(old);
    let long = run(&mut pool, &[5, 5, 5, 5, 6, 6, 6, 6]);
    pool.release(long);
    assert_eq!((pool.free(), pool.cached()), (1, 3));
    let mut wants_two = pool.begin(&[9], 100, 16);
    pool.reserve(&mut wants_two, 8).expect("one free page, one given up");
    let hit = pool.begin(&[5, 5, 5, 5, 6, 6, 6, 6, 0], 100, 16);
    assert_eq!(hit.cached_rows(), 8, "the oldest went, not these");
    pool.release(hit);
    pool.reserve(&mut wants_two, 12).expect("another is given up");
    let hit = pool.begin(&[5, 5, 5, 5, 6, 6, 6, 6, 0], 100, 16);
    assert_eq!(hit.cached_rows(), 4, "the child went, the parent stayed");
    pool.release(hit);
    pool.release(wants_two);
}

/// What the index says against the list and the counts, and that children are given up before parents.
fn check(pool: &Pool, leases: &[(Lease, Vec<u32>)]) {
    assert_eq!(pool.free() + pool.cached() + pool.used(), pool.capacity());
    let mut references = vec![0; pool.capacity() as usize];
    for (lease, _) in leases {
        for &page in lease.pages() {
            references[page as usize] += 1;
        }
    }
    assert_eq!(references, pool.references);
    assert_eq!(pool.used() as usize, references.iter().filter(|&&count| count > 0).count());
    let mut gone = vec![false; pool.capacity() as usize];
    for page in pool.cached.iter() {
        assert!(pool.index.contains(page));
        if let Some(parent) = pool.index.parent(page) {
            assert!(!gone[parent as usize], "page {page} would outlive its parent {parent}");
        }
        gone[page as usize] = true;
    }
    for &page in &pool.free {
        assert!(pool.is_free(page));
    }
}

#[derive(Clone, Debug)]
enum Act {
    Begin(Vec<u32>),
    Grow(usize, u32),
    Write(usize, u32),
    Release(usize),
    Weights(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => prop::collection::vec(0u32..2, 1..24).prop_map(Act::Begin),
        3 => (any::<usize>(), 1u32..6).prop_map(|(lease, more)| Act::Grow(lease, more)),
        3 => (any::<usize>(), 1u32..9).prop_map(|(lease, more)| Act::Write(lease, more)),
        2 => any::<usize>().prop_map(Act::Release),
        1 => (1u64..3).prop_map(Act::Weights),
    ]
}

proptest! {
    #[test]
    fn an_idle_pool_adds_up(
        pages in 1u32..20,
        prefix_caching: bool,
        acts in prop::collection::vec(act(), 0..200),
    ) {
        let mut pool = Pool::new(PoolSpec { prefix_caching, ..spec(pages) });
        // The second part are tokens of the rows the lease covers, `written` of them shared or owned.
        let mut leases: Vec<(Lease, Vec<u32>)> = Vec::new();
        for act in acts {
            match act {
                Act::Begin(tokens) => {
                    let mut lease = pool.begin(&tokens, 100, 64);
                    prop_assert_eq!(lease.cached_rows() % 4, 0);
                    prop_assert!((lease.cached_rows() as usize) < tokens.len());
                    match pool.reserve(&mut lease, tokens.len() as u32) {
                        Ok(()) => leases.push((lease, tokens)),
                        Err(_) => pool.release(lease),
                    }
                }
                Act::Grow(which, more) if !leases.is_empty() => {
                    let which = which % leases.len();
                    let (lease, tokens) = &mut leases[which];
                    let rows = tokens.len() as u32 + more;
                    if pool.reserve(lease, rows).is_ok() {
                        tokens.resize(rows as usize, 1);
                    }
                }
                Act::Write(which, part) if !leases.is_empty() => {
                    let which = which % leases.len();
                    let (lease, tokens) = &mut leases[which];
                    let rows = (tokens.len() as u32 * part / 8) as usize;
                    pool.written(lease, &tokens[..rows.max(lease.shared * 4)]);
                }
                Act::Release(which) if !leases.is_empty() => {
                    let (lease, _) = leases.swap_remove(which % leases.len());
                    pool.release(lease);
                }
                Act::Weights(version) => pool.change_weights(version),
                Act::Grow(..) | Act::Write(..) | Act::Release(..) => {}
            }
            check(&pool, &leases);
        }
        for (lease, _) in leases.drain(..) {
            pool.release(lease);
        }
        check(&pool, &[]);
        prop_assert_eq!(pool.free() + pool.cached(), pool.capacity());
        if !prefix_caching {
            prop_assert_eq!(pool.free(), pool.capacity());
        }
    }
}
