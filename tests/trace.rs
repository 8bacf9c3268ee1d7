//! A trace of a real run: what is in the file, and that it says what happened.

use millstream::trace::{Level, Recording, Summary, Trace, TraceLayer, Verdict, Words, read_chrome, write_chrome};
use millstream::{Checkpoint, Ended, Engine, Generation, Output};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

/// A job on the embedded model over two stages; the names of the plan's actors, and what was recorded.
fn recorded(level: Level) -> (Vec<String>, Recording) {
    let trace = Trace::with_level(level);
    let layered = Registry::default().with(TraceLayer::new(&trace));
    let actors = tracing::subscriber::with_default(layered, || {
        let builder = Engine::builder(Checkpoint::embedded()).pipeline_parallel_size(2).trace(&trace);
        let engine = builder.build().expect("the embedded model is built");
        let prompt = |request: u32| (0..40).map(|i| 1 + (request * 97 + i * 31) % 4000).collect();
        let generation = |request| Generation { ignore_eos: true, ..Generation::greedy(prompt(request), 12) };
        let streams: Vec<_> = (0..6).map(|request| engine.submit(generation(request))).collect();
        for output in streams.into_iter().flatten() {
            if let Output::Ended(ended) = output {
                assert_eq!(ended, Ended::Length);
            }
        }
        engine.plan().data().actors.iter().map(|actor| actor.name.clone()).collect()
    });
    (actors, trace.collect())
}

fn file(recording: &Recording) -> String {
    let mut bytes = vec![];
    write_chrome(recording, &mut bytes).expect("a vector takes everything");
    String::from_utf8(bytes).expect("JSON is text")
}

fn text<'v>(event: &'v Value, key: &str) -> &'v str {
    event[key].as_str().unwrap_or_default()
}

/// A time of the file in whole nanoseconds.
fn nanoseconds(event: &Value, key: &str) -> u64 {
    (event[key].as_f64().expect("a time") * 1000.0).round() as u64
}

#[test]
fn a_trace_of_a_run_is_whole_and_in_order() {
    let (actors, recording) = recorded(Level::Hop);
    let text_of_file = file(&recording);
    let value: Value = serde_json::from_str(&text_of_file).expect("valid JSON");
    let events = value["traceEvents"].as_array().expect("a list of events");

    let named = |kind: &str| -> HashSet<&str> {
        events.iter().filter(|event| text(event, "name") == kind).map(|event| text(&event["args"], "name")).collect()
    };
    let threads = named("thread_name");
    assert!(actors.iter().all(|actor| threads.contains(actor.as_str())), "{actors:?} are not all in {threads:?}");
    assert!(["control", "cpu:0", "cpu:1", "process"].iter().all(|lane| named("process_name").contains(lane)));

    let timed: Vec<&Value> = events.iter().filter(|event| text(event, "ph") != "M").collect();
    assert!(timed.is_sorted_by_key(|event| nanoseconds(event, "ts")), "times go back");

    let mut free_ns: HashMap<u64, u64> = HashMap::new();
    for span in timed.iter().filter(|event| ["act", "wait"].contains(&text(event, "cat"))) {
        let (from_ns, tid) = (nanoseconds(span, "ts"), span["tid"].as_u64().expect("a thread"));
        let before_ns = free_ns.insert(tid, from_ns + nanoseconds(span, "dur")).unwrap_or_default();
        assert!(from_ns >= before_ns, "{span} begins before the span before it ends, at {before_ns}");
    }

    let mut arrows: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for end in timed.iter().filter(|event| text(event, "cat") == "edge") {
        arrows.entry(end["id"].as_u64().expect("an arrow's number")).or_default().push(text(end, "ph"));
    }
    assert!(arrows.len() > 20, "only {} arrows", arrows.len());
    assert!(arrows.values().all(|ends| *ends == ["s", "f"]), "an arrow lacks an end");
    assert!(timed.iter().any(|event| text(event, "name").starts_with("queue ")));
    for mark in
        ["checkpoint open dir=embedded:demo", "plan", "weights of=stage 0", "weights of=stage 1", "engine build"]
    {
        assert!(timed.iter().any(|event| text(event, "cat") == "mark" && text(event, "name") == mark), "no {mark}");
    }

    let read = read_chrome(text_of_file.as_bytes()).expect("our own file");
    assert_eq!((read.skipped, read.recording.lost), (0, 0));
    let messages = recording.records.len() - read.recording.records.len();
    assert_eq!(messages as u64, read.lonely);
    assert_eq!((&read.recording.tracks, &read.recording.edges), (&recording.tracks, &recording.edges));
    assert_eq!(file(&read.recording).len() + digits(read.lonely) - 1, text_of_file.len());
}

fn digits(number: u64) -> usize {
    number.to_string().len()
}

#[test]
fn a_summary_of_a_run_names_its_stages() {
    let (_, recording) = recorded(Level::Hop);
    let summary = Summary::of(&recording);
    assert_ne!(summary.verdict, Verdict::Empty);
    // Six prompts of 40 tokens, and eleven more rows each.
    assert_eq!(summary.rows, 6 * (40 + 11));
    let acts: BTreeMap<&str, u64> = summary.tracks.iter().map(|own| (recording.actor(own.track), own.acts)).collect();
    assert_eq!(acts["stage 0"], summary.steps);
    assert_eq!(acts["stage 1"], summary.steps);
    assert_eq!((summary.requests.ended, summary.requests.tokens), (6, 6 * 12));
    let first = summary.requests.first_token.expect("every request was told tokens");
    assert!(first.p50_ns > 0 && first.p99_ns < summary.window_ns, "{first:?}");
    // What the plan says of them is there for a picture.
    assert!(recording.tracks.iter().any(|name| name.actor == "stage 1" && name.does.starts_with("layers 3 to 5")));
    assert!(recording.edges.iter().any(|edge| edge.what == "tickets" && edge.credits == 3 && edge.bytes > 0));
    assert!(recording.lanes.iter().any(|lane| lane.lane == "cpu:1" && lane.holds[0].what == "weights"));
    let lines = Words::new(&summary, &recording).lines();
    for stage in ["stage 0 idle ", "stage 1 idle "] {
        assert!(lines.iter().any(|line| line.starts_with(stage)), "{lines:#?}");
    }
}

#[test]
fn levels_say_what_is_recorded() {
    let (actors, nothing) = recorded(Level::Off);
    assert!(nothing.records.is_empty());
    assert!(nothing.tracks.len() >= actors.len());
    assert_eq!(read_chrome(file(&nothing).as_bytes()).expect("our own file").recording, nothing);
    let (_, steps) = recorded(Level::Step);
    assert!(!steps.records.is_empty());
    assert!(steps.records.iter().all(|record| record.event.level() == Level::Step));
}

#[test]
fn a_traced_command_writes_its_file_and_another_reads_it() {
    let dir = std::env::temp_dir().join(format!("millstream-trace-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder for the test");
    let path = |name: &str| dir.join(name).to_str().expect("a path of ASCII").to_owned();
    let root = env!("CARGO_MANIFEST_DIR");
    let main = |words: &[&str]| millstream::cli::main(["millstream"].iter().chain(words).map(Into::into));
    let (job, out, trace, bad) = (format!("{root}/LICENSE-MIT"), path("out.jsonl"), path("t.json"), path("bad.json"));

    // Every line of this file is a bad line of a job: the run ends well, and nothing acts.
    assert_eq!(main(&["run", &job, "-o", &out, "--trace", &trace]), 0);
    assert_eq!(main(&["trace", &trace]), 0);
    assert_eq!(main(&["trace", &trace, "--json"]), 0);
    // A run that fails before its engine is built leaves a trace too.
    std::fs::remove_file(&trace).expect("it was written");
    assert_eq!(main(&["run", &job, "-o", &out, "--model", &path("none"), "--trace", &trace]), 66);
    assert_eq!(main(&["trace", &trace]), 0);

    // The page of a run, and that of its file, are the same; a run can be held against another.
    let (report, html, svg) = (path("report.html"), path("page.html"), path("plan.svg"));
    assert_eq!(main(&["run", &job, "-o", &path("again.jsonl"), "--trace", &trace, "--report", &report]), 0);
    assert_eq!(main(&["trace", &trace, "--html", &html]), 0);
    let text = |file: &str| std::fs::read_to_string(file).expect("it was written");
    assert_eq!(text(&report), text(&html));
    assert_eq!(main(&["trace", &trace, &trace]), 0);
    assert_eq!(main(&["trace", &trace, &trace, "--json"]), 0);
    assert_eq!(main(&["plan", "-tp", "2", "-pp", "2", "--svg", &svg]), 0);
    assert!(text(&svg).starts_with("<svg ") && text(&svg).contains("communicator 1 rank 1"));
    assert_eq!(main(&["trace", &trace, &path("none.json")]), 66);
    assert_eq!(main(&["trace", &trace, "--html", &path("no/where.html")]), 74);
    assert_eq!(main(&["trace", &trace, &trace, "--html", &html]), 64);
    assert_eq!(main(&["plan", "--svg", &path("no/where.svg")]), 74);
    assert_eq!(main(&["run", &job, "-o", &out, "--report", &path("no/where.html")]), 74);
    assert_eq!(main(&["run", &job, "-o", &out, "--trace", &path("no/where.json")]), 74);
    assert_eq!(main(&["run", &job, "-o", &out, "--trace-level", "all"]), 64);
    assert_eq!(main(&["trace", &path("none.json")]), 66);
    std::fs::write(&bad, "{\"traceEvents\":[]}").expect("a file of the test");
    assert_eq!(main(&["trace", &bad]), 65);
    std::fs::remove_dir_all(&dir).expect("the test's own folder");
}
