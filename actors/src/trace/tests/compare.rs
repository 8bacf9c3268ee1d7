use super::*;

/// Ten steps over two stages of so many µs each; waits as `waits` says between them.
fn run(first: u64, second: u64, every: u64, wait: Wait) -> Hand {
    (0..10).fold(Hand::new(), |hand, step| {
        let start = step * every;
        let hand = hand.act(FIRST, start, start + first, step).act(SECOND, start + first, start + first + second, step);
        let hand = if first < every { hand.wait(FIRST, start + first, start + every, wait) } else { hand };
        let done = start + first + second;
        if second < every { hand.wait(SECOND, done, done + every - second, Wait::Input(HIDDEN)) } else { hand }
    })
}

fn compared(before: &Hand, after: &Hand) -> Comparison {
    let summaries = [before, after].map(|hand| Summary::of(&hand.recording));
    Comparison::of((&summaries[0], &before.recording), (&summaries[1], &after.recording))
}

#[test]
fn a_stage_that_became_slower_is_named() {
    let (before, after) = (run(50, 60, 100, Wait::Credit(HIDDEN)), run(50, 160, 160, Wait::Credit(HIDDEN)));
    let comparison = compared(&before, &after);
    let lines = comparison.lines();
    assert!(lines[1].starts_with("slower because stage 1 acts 15.0 µs → 40.0 µs (+167 %) a row"), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("stage 0: busy") && line.contains("credit of stage 1")),
        "{lines:#?}"
    );
    // And the other way round it became faster.
    let back = compared(&after, &before).lines();
    assert!(back[1].starts_with("faster because stage 1 acts 40.0 µs → 15.0 µs"), "{back:#?}");
    assert!(comparison.rows_per_second.by() < 0.0 && comparison.actors.iter().any(|own| own.actor == "stage 1"));
}

#[test]
fn credits_that_became_fewer_are_named_and_not_the_input_that_is_late_for_it() {
    let (before, after) = (run(40, 40, 50, Wait::Credit(HIDDEN)), run(40, 40, 100, Wait::Credit(HIDDEN)));
    let lines = compared(&before, &after).lines();
    assert!(
        lines[1].starts_with("slower because stage 0 waits 2.5 µs → 14.5 µs (+480 %) a row for credit of stage 1"),
        "{lines:#?}"
    );
}

#[test]
fn a_run_beside_itself_has_not_changed() {
    let own = run(40, 40, 100, Wait::Credit(HIDDEN));
    let lines = compared(&own, &own).lines();
    assert_eq!(lines[1], "no row takes much longer or shorter");
    assert_eq!(lines.last().map(String::as_str), Some("2 actors did the same as before"));
    assert_eq!(lines.len(), 5, "{lines:#?}");
}

#[test]
fn steps_with_fewer_rows_are_named() {
    let steps = |rows| {
        (0..10).fold(Hand::new(), |hand, step| {
            hand.push(FIRST, step * 100, step * 100 + 90, Event::Act { step, rows, bytes: 1 })
        })
    };
    let lines = compared(&steps(32), &steps(8)).lines();
    assert_eq!(lines[1], "slower because a step has 32.0 → 8.0 rows (-75 %)", "{lines:#?}");
    assert_eq!(compared(&steps(8), &steps(32)).lines()[1], "faster because a step has 8.0 → 32.0 rows (+300 %)");
}

#[test]
fn what_was_counted_is_told_where_its_most_changed() {
    let counted = |value| {
        let own = run(40, 40, 100, Wait::Credit(HIDDEN));
        own.point(BATCHER, 0, Event::Count { counter: Counter(0), value })
    };
    assert_eq!(compared(&counted(4), &counted(4)).counters, []);
    let lines = compared(&counted(4), &counted(9)).lines();
    assert_eq!(lines.last().map(String::as_str), Some("pages in use: mean 4.0 → 9.0, at most 4 → 9"), "{lines:#?}");
}

#[test]
fn actors_of_one_run_alone_are_told() {
    let own = run(40, 40, 100, Wait::Credit(HIDDEN));
    let mut other = run(40, 40, 100, Wait::Credit(HIDDEN));
    other.recording.tracks[2].actor = "stage 1 rank 0".into();
    let comparison = compared(&own, &other);
    assert_eq!((comparison.gone, comparison.new), (vec!["stage 1".into()], vec!["stage 1 rank 0".into()]));
}

#[test]
fn runs_in_which_nothing_acted_can_be_compared() {
    let nothing = Hand::new();
    let lines = compared(&nothing, &nothing).lines();
    assert_eq!(lines[0], "0.0 → 0.0 rows/s; a step 0.0 µs → 0.0 µs with 0.0 → 0.0 rows");
    compared(&nothing, &run(40, 40, 100, Wait::Credit(HIDDEN))).lines();
}
