use super::*;

fn verdict(hand: &Hand) -> (Verdict, String) {
    let summary = Summary::of(&hand.recording);
    let words = Words::new(&summary, &hand.recording).verdict();
    (summary.verdict, words)
}

/// Ten steps of two stages, of so many µs each, one starting every `every`; the second waits for the first.
fn steps(first: u64, second: u64, every: u64) -> Hand {
    (0..10).fold(Hand::new(), |hand, step| {
        let start = step * every;
        let handed = start + first;
        let hand = hand.act(FIRST, start, handed, step).act(SECOND, handed, handed + second, step);
        if second < every { hand.wait(SECOND, handed + second, handed + every, Wait::Input(HIDDEN)) } else { hand }
    })
}

#[test]
fn an_actor_that_is_always_busy_bounds_the_run() {
    let (found, words) = verdict(&steps(100, 40, 100));
    let Verdict::Actor { track: FIRST, waiter: Some((SECOND, share)) } = found else { panic!("{found:?}") };
    // Nine gaps of 60 µs within 1040 µs.
    assert!((share - 540.0 / 1040.0).abs() < 1e-9);
    assert_eq!(words, "bound by stage 0: busy 96 % of 1.04 ms; stage 1 waits for it 52 %");
}

#[test]
fn two_lanes_that_are_equally_busy_are_balanced() {
    let (found, words) = verdict(&steps(100, 97, 100));
    assert_eq!(found, Verdict::Balanced { tracks: vec![FIRST, SECOND] });
    assert_eq!(words, "balanced: stage 0 busy 91 %, stage 1 busy 88 % of 1.10 ms");
}

#[test]
fn stages_that_never_act_at_once_are_bound_by_their_order() {
    let hand = steps(50, 45, 100);
    let (found, words) = verdict(&hand);
    let Verdict::InTurn { track: FIRST, .. } = found else { panic!("{found:?}") };
    assert!(words.starts_with("bound by the order of steps: some actor acts 95 % of 995.0 µs"), "{words}");
    assert!(Summary::of(&hand.recording).overlap < 1e-9);
}

#[test]
fn a_run_without_requests_is_bound_by_the_batcher() {
    let hand = (0..10).fold(Hand::new(), |hand, step| {
        let start = step * 100;
        hand.act(FIRST, start, start + 20, step)
            .wait(FIRST, start + 20, start + 100, Wait::Input(TICKETS))
            .act(BATCHER, start + 98, start + 99, step)
            .wait(BATCHER, start, start + 98, Wait::Outside(Cause(0)))
    });
    let (found, words) = verdict(&hand);
    assert!(matches!(found, Verdict::Batcher { .. }), "{found:?}");
    assert_eq!(
        words,
        "bound by the batcher: stage 0 waits for input from batcher 80 %, batcher for no requests 98 % of 999.0 µs"
    );
}

#[test]
fn buffers_that_do_not_come_back_are_what_a_run_is_bound_by() {
    let hand = (0..10).fold(Hand::new(), |hand, step| {
        let start = step * 100;
        hand.act(FIRST, start, start + 20, step)
            .wait(FIRST, start + 20, start + 90, Wait::Credit(HIDDEN))
            .act(SECOND, start + 20, start + 30, step)
            .wait(SECOND, start + 30, start + 90, Wait::Credit(LOGITS))
    });
    let (found, words) = verdict(&hand);
    assert!(matches!(found, Verdict::Credit { .. }), "{found:?}");
    let wanted = "bound by credit of stage 1: stage 0 waits for credit of stage 1 70 %, stage 1 for credit of sampler 60 % of 930.0 µs";
    // The last 60 µs of waiting lie behind the last act.
    assert_eq!(words.split(':').next(), wanted.split(':').next(), "{words}");
}

#[test]
fn waits_for_an_idle_actor_are_told_with_what_it_waits_for() {
    let hand = (0..10).fold(Hand::new(), |hand, step| {
        let start = step * 100;
        hand.act(SECOND, start, start + 20, step).wait(SECOND, start + 20, start + 100, Wait::Input(HIDDEN)).wait(
            FIRST,
            start,
            start + 100,
            Wait::Credit(HIDDEN),
        )
    });
    let (found, words) = verdict(&hand);
    assert!(matches!(found, Verdict::Waiting { .. }), "{found:?}");
    assert!(
        words.starts_with("bound by waiting: stage 1 waits for input from stage 0 78 %, stage 0 for credit of stage 1"),
        "{words}"
    );
}

#[test]
fn a_recording_in_which_nothing_acted_says_so() {
    for hand in [Hand::new(), Hand::new().wait(FIRST, 0, 9, Wait::Input(TICKETS))] {
        let (found, words) = verdict(&hand);
        assert_eq!((found, words.as_str()), (Verdict::Empty, "nothing acted: no step was recorded"));
        assert_eq!(Words::new(&Summary::of(&hand.recording), &hand.recording).lines().len(), 1);
    }
}

#[test]
fn figures_are_of_the_window_and_idleness_has_its_causes() {
    let hand = Hand::new()
        .wait(SECOND, 0, 100, Wait::Input(HIDDEN))
        .act(FIRST, 100, 200, 1)
        .act(SECOND, 150, 250, 1)
        .wait(SECOND, 250, 280, Wait::Credit(LOGITS))
        .wait(SECOND, 280, 290, Wait::Input(HIDDEN))
        .act(SECOND, 290, 300, 2)
        .wait(SECOND, 300, 900, Wait::Input(HIDDEN))
        .point(SECOND, 150, Event::Depth { edge: HIDDEN, messages: 2 })
        .point(SECOND, 250, Event::Depth { edge: HIDDEN, messages: 0 })
        .point(BATCHER, 50, Event::Count { counter: Counter(0), value: 6 });
    let summary = Summary::of(&hand.recording);
    assert_eq!((summary.start_ns, summary.window_ns), (100_000, 200_000));
    assert_eq!((summary.steps, summary.rows), (2, 8));
    assert!((summary.rows_per_second() - 40_000.0).abs() < 1e-6);
    assert!((summary.overlap - 0.25).abs() < 1e-9);
    assert_eq!((summary.edges[0].mean, summary.edges[0].max), (1.0, 2));
    assert_eq!((summary.counters[0].mean, summary.counters[0].max), (6.0, 6));
    assert_eq!(summary.longest_waits.iter().map(|wait| wait.ns).collect::<Vec<_>>(), [30_000, 10_000]);
    for own in &summary.tracks {
        assert_eq!(own.busy_ns + own.waits.iter().map(|(_, ns)| ns).sum::<u64>(), summary.window_ns);
    }
    let lines = Words::new(&summary, &hand.recording).lines();
    assert!(lines.contains(&"2 steps, 8 rows, 40000.0 rows/s; at least two stages at once 25 %".into()), "{lines:#?}");
    let wanted = "stage 1 idle 45 %: its turn on cpu:1 56 %, credit of sampler 33 %, input from stage 0 11 % (cpu:1, 2 acts of 55.0 µs)";
    assert!(lines.contains(&wanted.into()), "{lines:#?}");
    assert!(
        lines.contains(&"long wait: stage 1 30.0 µs for credit of sampler, 150.0 µs into the window".into()),
        "{lines:#?}"
    );
}

#[test]
fn replicas_count_their_own_steps() {
    // Two stages: step 0 of one is step 0 of the other only where messages join them.
    let mut hand = Hand::new().act(FIRST, 0, 10, 0).act(SECOND, 0, 10, 0);
    let steps = |hand: &Hand| Summary::of(&hand.recording).steps;
    assert_eq!(steps(&hand), 1);
    hand.recording.edges = vec![
        EdgeName { from: BATCHER, to: FIRST, ..EdgeName::default() },
        EdgeName { from: SECOND, to: SAMPLER, ..EdgeName::default() },
    ];
    assert_eq!(hand.recording.parts(), [Some(BATCHER), Some(BATCHER), Some(SECOND), Some(SECOND)]);
    assert_eq!((steps(&hand), Summary::of(&hand.recording).rows), (2, 8));
    // Messages that count turns join nothing.
    hand.recording.edges.push(EdgeName { from: FIRST, to: SECOND, by_turn: true, ..EdgeName::default() });
    assert_eq!(steps(&hand), 2);
}

#[test]
fn after_a_loss_the_window_begins_where_every_lane_has_records() {
    let mut hand = steps(100, 40, 100);
    hand.recording.lost = 5;
    hand.recording.records.retain(|record| record.track != SECOND || record.start_ns >= 500_000);
    let summary = Summary::of(&hand.recording);
    assert_eq!((summary.start_ns, summary.window_ns), (500_000, 540_000));
    let lines = Words::new(&summary, &hand.recording).lines();
    assert_eq!(lines[1], "5 records before these were lost, the rings were full: all figures are of the last 540.0 µs");
}
