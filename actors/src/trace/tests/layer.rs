use super::*;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

fn marks(recording: &Recording) -> Vec<(&str, bool)> {
    let mark = |record: &Record| {
        let Event::Mark { name } = record.event else { return None };
        Some((recording.name(name), record.end_ns > record.start_ns))
    };
    recording.records.iter().filter_map(mark).collect()
}

#[test]
fn spans_and_events_of_the_process_are_marks_on_a_track_of_their_thread() {
    let trace = Trace::new();
    let layered = Registry::default().with(TraceLayer::new(&trace));
    tracing::subscriber::with_default(layered, || {
        let _engine = tracing::info_span!("engine").entered();
        tracing::info_span!("weights", of = "stage 0", layers = 3).in_scope(|| tracing::warn!(left = 2, "almost full"));
    });
    let recording = trace.collect();
    assert_eq!(
        marks(&recording),
        [("engine", true), ("weights of=stage 0 layers=3", true), ("almost full left=2", false)]
    );
    assert_eq!(recording.tracks.len(), 1);
    assert_eq!(recording.tracks[0].lane, "process");
    let ends: Vec<u64> = recording.records.iter().map(|record| record.end_ns).collect();
    assert!(ends[0] >= ends[1] && ends[1] >= ends[2], "they nest: {ends:?}");
}

#[test]
fn a_trace_of_nothing_records_nothing_and_one_of_steps_no_messages() {
    for (level, kept) in [(Level::Off, 0), (Level::Step, 2), (Level::Hop, 3)] {
        let trace = Trace::with_level(level);
        let recorder = trace.recorder(8);
        recorder.span(FIRST, 1, 2, Event::Act { step: 1, rows: 1, bytes: 1 });
        recorder.span(FIRST, 2, 3, Event::Wait(Wait::Input(TICKETS)));
        recorder.point(FIRST, 3, Event::Send { edge: HIDDEN, step: 1 });
        assert_eq!(trace.collect().records.len(), kept);
    }
}

#[test]
fn names_of_marks_are_bounded() {
    let trace = Trace::new();
    let mut last = Name::default();
    for number in 0..10_000 {
        last = trace.name(&format!("mark {number}"));
    }
    let recording = trace.collect();
    assert_eq!((trace.name("mark 7"), recording.names.len()), (Name(7), 4096));
    assert_eq!(recording.name(last), "(further names)");
}
