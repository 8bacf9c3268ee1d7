use super::*;

fn team(threads: usize, spin: bool) -> Team {
    Team::new(TeamSpec { threads, cores: None, spin })
}

#[test]
fn every_thread_runs_each_region_once() {
    for threads in [0, 1, 2, 3, 5] {
        for spin in [true, false] {
            let team = team(threads, spin);
            let counts: Vec<AtomicUsize> = (0..team.threads()).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..1000 {
                team.run(&|thread| {
                    counts[thread].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1000));
        }
    }
}

#[test]
fn a_panic_of_any_thread_reaches_the_caller_and_the_team_lives_on() {
    let team = team(3, false);
    for culprit in 0..3 {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            team.run(&|thread| assert!(thread != culprit, "thread {culprit} fails"));
        }));
        assert!(caught.is_err());
        let count = AtomicUsize::new(0);
        team.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}

#[test]
fn workers_that_have_parked_wake_up_for_the_next_region() {
    let team = team(2, false);
    for _ in 0..50 {
        while !team.shared.parked[0].load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let count = AtomicUsize::new(0);
        team.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn two_callers_take_turns() {
    let team = team(2, false);
    let count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    team.run(&|_| {
                        count.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    assert_eq!(count.load(Ordering::Relaxed), 2000);
}

#[test]
fn a_core_that_does_not_exist_is_an_error_and_stops_nobody() {
    assert!(pin_current(usize::MAX).is_err());
    let team = Team::new(TeamSpec { threads: 2, cores: Some(vec![0, 1 << 20]), spin: false });
    team.run(&|_| {});
}

#[test]
fn shares_cover_everything_once() {
    for total in [0, 1, 7, 16, 100] {
        for parts in 1..5 {
            let all: Vec<usize> = (0..parts).flat_map(|index| share(total, parts, index, 8)).collect();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
    }
}
