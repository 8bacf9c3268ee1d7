use super::*;

#[test]
fn percentiles_are_durations_that_occurred() {
    assert_eq!(Percentiles::of(vec![]), None);
    let wanted = Percentiles { p50_ns: 7, p90_ns: 7, p99_ns: 7 };
    assert_eq!(Percentiles::of(vec![7]), Some(wanted));
    let wanted = Percentiles { p50_ns: 50, p90_ns: 90, p99_ns: 99 };
    assert_eq!(Percentiles::of((1..=100).rev().collect()), Some(wanted));
}

#[test]
fn requests_are_told_with_their_first_token_and_the_time_between_tokens() {
    let ended = |request, tokens, first_us: u64, gap_us: u64| Event::Request {
        request,
        tokens,
        first_ns: first_us * 1000,
        gap_ns: gap_us * 1000,
    };
    let mut hand = Hand::new().act(FIRST, 0, 100, 0);
    // Eleven tokens, the first after 40 µs, ten more within 100 µs; one token; none.
    for (to_us, event) in [(140, ended(0, 11, 40, 30)), (60, ended(1, 1, 60, 0)), (90, ended(2, 0, 0, 0))] {
        hand = hand.push(SAMPLER, 0, to_us, event);
    }
    let summary = Summary::of(&hand.recording);
    let Requests { ended, tokens, first_token, between_tokens, longest_gap } = summary.requests;
    assert_eq!((ended, tokens), (3, 12));
    assert_eq!(first_token.map(|t| (t.p50_ns, t.p99_ns)), Some((40_000, 60_000)));
    assert_eq!(between_tokens.map(|t| t.p50_ns), Some(10_000));
    assert_eq!(longest_gap.map(|t| t.p50_ns), Some(30_000));
    let lines = Words::new(&summary, &hand.recording).lines();
    let wanted = "3 requests ended, 12 tokens; for 50, 90 and 99 in 100 at most; first token 40.0 µs, 60.0 µs, 60.0 µs; \
                  between tokens 10.0 µs, 10.0 µs, 10.0 µs; longest gap 30.0 µs, 30.0 µs, 30.0 µs";
    assert!(lines.contains(&wanted.into()), "{lines:#?}");
}

#[test]
fn communication_is_hidden_while_a_stage_computes() {
    let mut hand = Hand::new();
    hand.recording.tracks[3].actor = "communicator 0 rank 0".into();
    // 30 µs of it beside stage 0, 10 µs beside stage 1, which overlap for 5; 25 µs alone.
    let hand = hand.act(FIRST, 0, 40, 1).act(SAMPLER, 10, 70, 1).act(SECOND, 35, 45, 1).act(SECOND, 90, 100, 2);
    let summary = Summary::of(&hand.recording);
    assert_eq!(summary.communication, Communication { ns: 60_000, hidden_ns: 35_000 });
    // 40 of 100 µs on the first device; 80 of 100 on the second, where the communicator acts beside the stage.
    assert!((summary.bubble - 0.4).abs() < 1e-9, "{}", summary.bubble);
    let wanted = "devices with stages idle 40 %; communication 30 % of their time, 58 % of it while a stage computed";
    let lines = Words::new(&summary, &hand.recording).lines();
    assert!(lines.contains(&wanted.into()), "{lines:#?}");
}
