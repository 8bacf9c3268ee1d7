use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn written(recording: &Recording) -> (String, Written) {
    let mut bytes = vec![];
    let written = write_chrome(recording, &mut bytes).expect("a vector takes everything");
    (String::from_utf8(bytes).expect("JSON is text"), written)
}

/// One message from the first stage to the second, with the acts around it.
fn message() -> Hand {
    let (edge, step) = (HIDDEN, 7);
    Hand::new()
        .act(FIRST, 0, 10, 7)
        .point(FIRST, 9, Event::Send { edge, step })
        .wait(SECOND, 2, 12, Wait::Input(HIDDEN))
        .point(SECOND, 12, Event::Receive { edge, step })
        .act(SECOND, 12, 30, 7)
}

#[test]
fn a_file_shows_what_was_recorded_and_reads_back_equal() {
    let hand = message()
        .point(SECOND, 12, Event::Depth { edge: HIDDEN, messages: 2 })
        .point(BATCHER, 13, Event::Count { counter: Counter(0), value: 5 })
        .point(BATCHER, 14, Event::Mark { name: Name(0) })
        .wait(BATCHER, 15, 20, Wait::Outside(Cause(0)))
        .push(SAMPLER, 16, 40, Event::Request { request: 5, tokens: 3, first_ns: 2500, gap_ns: 1 })
        .wait(FIRST, 15, 20, Wait::Credit(HIDDEN));
    let (text, summary) = written(&hand.recording);
    assert_eq!(summary, Written { events: 11, lonely: 0 });
    for wanted in [
        r#"{"ph":"M","name":"thread_name","pid":3,"tid":4,"args":{"name":"sampler"}}"#,
        r#"{"ph":"X","cat":"act","pid":2,"tid":2,"ts":0.000,"dur":10.000,"name":"step 7","args":{"step":7,"rows":4,"bytes":100}}"#,
        r#""name":"waits: input from stage 0","args":{"cause":"input","edge":1}}"#,
        r#""name":"waits: credit of stage 1","args":{"cause":"credit","edge":1}}"#,
        r#""name":"waits: no requests","args":{"cause":"outside","outside":0}}"#,
        r#"{"ph":"s","cat":"edge","pid":2,"tid":2,"ts":9.000,"name":"hidden","id":1,"args":{"edge":1,"step":7}}"#,
        r#"{"ph":"f","cat":"edge","pid":3,"tid":3,"ts":12.000,"name":"hidden","id":1,"bp":"e","args":{"edge":1,"step":7}}"#,
        r#""name":"queue stage 0 → stage 1: hidden","edge":1,"args":{"messages":2}}"#,
        r#""name":"pages in use","counter":0,"args":{"value":5}}"#,
        r#"{"ph":"b","cat":"request","pid":3,"tid":4,"ts":16.000,"name":"request 5","id":5,"args":{"request":5,"dur":24.000,"tokens":3,"first":2.500,"gap":0.001}}"#,
        r#"{"ph":"e","cat":"request","pid":3,"tid":4,"ts":40.000,"name":"request 5","id":5}"#,
        r#"{"ph":"i","cat":"mark","pid":1,"tid":1,"ts":14.000,"name":"plan","s":"t","args":{"mark":0}}"#,
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    let read = read_chrome(text.as_bytes()).expect("our own file");
    assert_eq!(read, ChromeRead { recording: hand.recording, lonely: 0, skipped: 0 });
}

#[test]
fn an_end_whose_other_end_was_lost_is_left_out_and_counted() {
    let lonely = message().point(FIRST, 40, Event::Send { edge: HIDDEN, step: 8 });
    let backwards = lonely.point(SECOND, 50, Event::Receive { edge: LOGITS, step: 9 }).point(
        SAMPLER,
        60,
        Event::Send { edge: LOGITS, step: 9 },
    );
    let (text, summary) = written(&backwards.recording);
    assert_eq!(summary.lonely, 3);
    let read = read_chrome(text.as_bytes()).expect("our own file");
    assert_eq!((read.lonely, read.recording), (3, message().recording));
}

#[test]
fn several_messages_of_a_step_are_told_apart_by_their_order() {
    let (edge, step) = (HIDDEN, 1);
    let hand = [10, 20].into_iter().fold(Hand::new(), |hand, at| {
        hand.point(FIRST, at, Event::Send { edge, step }).point(SECOND, at + 15, Event::Receive { edge, step })
    });
    let (text, summary) = written(&hand.recording);
    assert_eq!(summary, Written { events: 4, lonely: 0 });
    let ids: Vec<&str> =
        text.match_indices("\"id\":").map(|(at, key)| &text[at + key.len()..at + key.len() + 1]).collect();
    assert_eq!(ids, ["1", "2", "1", "2"]);
}

#[test]
fn foreign_events_are_stepped_over_and_counted() {
    let (text, _) = written(&message().recording);
    let foreign = r#""traceEvents":[ {"ph":"B","ts":"soon","tid":"main","args":[1,{"edge":[[]]}]}, 7, null, {"ph":"X","cat":"gpu"},"#;
    let read = read_chrome(text.replace("\"traceEvents\":[", foreign).as_bytes()).expect("more than ours");
    assert_eq!((read.skipped, read.recording), (4, message().recording));
}

#[test]
fn a_file_that_cannot_be_believed_says_where() {
    let (good, _) = written(&message().recording);
    // Lists in a field are stepped over without recursion; only `args` would recurse.
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let stepped_over =
        good.replace("\"traceEvents\":[", &format!("\"more\":{deep},\"traceEvents\":[{{\"ts\":{deep}}},"));
    assert_eq!(read_chrome(stepped_over.as_bytes()).expect("more than ours").skipped, 1);
    let nested = format!("{}1{},", "{\"args\":".repeat(100_000), "}".repeat(100_000));
    let nested = good.replace("\"traceEvents\":[", &format!("\"traceEvents\":[{nested}"));
    let cases = [
        (String::new(), "the file: wanted an object with otherData and traceEvents, got something else"),
        ("[]".into(), "the file: wanted an object with otherData and traceEvents, got something else"),
        ("{\"traceEvents\":[]}".into(), "otherData.format: wanted \"millstream trace 1\", got \"\""),
        (
            good.replace("trace 1\"", "trace 2\\u001b\""),
            "otherData.format: wanted \"millstream trace 1\", got \"millstream trace 2\\u{1b}\"",
        ),
        (good.replace("traceEvents", "events"), "traceEvents: wanted a list, got nothing"),
        (good.replace("\"to\":2", "\"to\":9"), "otherData.edges[1].to: wanted the number of one of 4 tracks, got 9"),
        (
            good.replace("\"tid\":3,\"ts\":2.000", "\"tid\":0,\"ts\":2.000"),
            "traceEvents[15].tid: wanted 1 to 4, a track, got 0",
        ),
        (
            good.replace("\"dur\":18.000", "\"dur\":-1"),
            "traceEvents[17].dur: wanted microseconds from 0 to 292 years, got -1",
        ),
        (good.replace("\"dur\":18.000", "\"dur\":1e300"), "dur: wanted microseconds from 0 to 292 years"),
        (good.replace("\"rows\":4", "\"rows\":\"4\""), "traceEvents[14].rows: wanted a whole number, got \"4\""),
        (
            good.replace("\"rows\":4", "\"rows\":5000000000"),
            "traceEvents[14].rows: wanted a number of 32 bits, got 5000000000",
        ),
        (
            good.replace("\"cause\":\"input\"", "\"cause\":\"fate\""),
            "traceEvents[15].cause: wanted input, credit or outside, got \"fate\"",
        ),
        (
            good.replace("\"cause\":\"input\",\"edge\":1", "\"cause\":\"input\",\"edge\":3"),
            "traceEvents[15].edge: wanted the number of one of 3 edges, got 3",
        ),
        (good[..good.len() - 5].into(), "line "),
        (nested, "recursion limit"),
    ];
    for (text, wanted) in cases {
        let fault = read_chrome(text.as_bytes()).expect_err(wanted).to_string();
        assert!(fault.contains(wanted), "wanted {wanted}\ngot {fault}");
    }
}

fn event() -> impl Strategy<Value = Event> {
    let (edge, step) = (0..3_u16, 0..6_u64);
    prop_oneof![
        (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(step, rows, bytes)| Event::Act { step, rows, bytes }),
        (0..3_u16).prop_map(|edge| Event::Wait(Wait::Input(Edge(edge)))),
        (0..3_u16).prop_map(|edge| Event::Wait(Wait::Credit(Edge(edge)))),
        Just(Event::Wait(Wait::Outside(Cause(0)))),
        (edge.clone(), step.clone()).prop_map(|(edge, step)| Event::Send { edge: Edge(edge), step }),
        (edge, step).prop_map(|(edge, step)| Event::Receive { edge: Edge(edge), step }),
        (0..3_u16, any::<u32>()).prop_map(|(edge, messages)| Event::Depth { edge: Edge(edge), messages }),
        any::<u64>().prop_map(|value| Event::Count { counter: Counter(0), value }),
        (any::<u64>(), any::<u32>(), 0..1_u64 << 48, 0..1_u64 << 48)
            .prop_map(|(request, tokens, first_ns, gap_ns)| { Event::Request { request, tokens, first_ns, gap_ns } }),
        Just(Event::Mark { name: Name(0) }),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (0..1_u64 << 48, 0..1_u64 << 40, 0..4_u16, event()).prop_map(|(start_ns, length_ns, track, event)| {
        let point =
            matches!(event, Event::Send { .. } | Event::Receive { .. } | Event::Depth { .. } | Event::Count { .. });
        Record { start_ns, end_ns: start_ns + if point { 0 } else { length_ns }, track: Track(track), event }
    })
}

proptest! {
    #[test]
    fn whatever_was_recorded_reads_back(
        records in proptest::collection::vec(record(), 0..60),
        name in ".{0,20}",
        lost in any::<u64>(),
    ) {
        let mut recording = Hand::new().recording;
        recording.tracks[1].actor = name.clone();
        recording.edges[0].what = name.clone();
        recording.names[0] = name.clone();
        recording.about.push(name.clone());
        recording.lanes.push(LaneName { lane: name.clone(), bytes: lost, holds: vec![Held { what: name, bytes: 3 }] });
        recording.lost = lost;
        recording.records = records;
        recording.records.sort_unstable();
        let (text, summary) = written(&recording);
        let read = read_chrome(text.as_bytes()).expect("our own file");
        prop_assert_eq!(summary.events, read.recording.records.len() as u64);
        prop_assert_eq!(summary.events + summary.lonely, recording.records.len() as u64);
        prop_assert_eq!((read.lonely, read.skipped), (summary.lonely, 0));
        // Whatever is missing is an end of a message.
        let kept: HashSet<String> = read.recording.records.iter().map(|record| format!("{record:?}")).collect();
        let message = |r: &Record| matches!(r.event, Event::Send { .. } | Event::Receive { .. });
        recording.records.retain(|record| !message(record) || kept.contains(&format!("{record:?}")));
        read.recording.records.iter().filter(|r| message(r)).for_each(|r| assert!(kept.contains(&format!("{r:?}"))));
        prop_assert_eq!(&read.recording, &recording);
        // Times never go back, and what was read writes the same file again, but for what was lost on the way.
        let (again, _) = written(&read.recording);
        prop_assert_eq!(text.replace(&format!("\"lonely_ends\":{}", summary.lonely), "\"lonely_ends\":0"), again);
    }

    #[test]
    fn no_text_is_a_panic(text in ".{0,200}", cut in 0..4000_usize, put in any::<u8>()) {
        let _ = read_chrome(text.as_bytes());
        let (good, _) = written(&message().recording);
        let mut bytes = good.into_bytes();
        let at = cut % bytes.len();
        bytes[at] = put;
        let _ = read_chrome(&bytes);
        let _ = read_chrome(&bytes[..at]);
    }
}
