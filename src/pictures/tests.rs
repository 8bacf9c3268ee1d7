//! Pages and pictures of recordings made by hand, and of plans.

use super::sketch::{Kind, Sketch};
use super::svg::{Drawing, Rect, draw};
use super::{page, plan_svg};
use crate::{Checkpoint, Engine};
use actors::trace::{
    Counter, Edge, EdgeName, Event, Name, Record, Recording, Track, TrackName, Wait, read_chrome, write_chrome,
};
use graph::plan::Plan;
use serde_json::Value;

const HOSTILE: &str = "</script><script>alert(1)</script> & \"'";

/// Two stages, three steps of 100 µs on each, a request, a mark and a counter.
fn recording() -> Recording {
    let track = |lane: &str, actor: &str| TrackName { lane: lane.into(), actor: actor.into(), does: "works".into() };
    let edge = |what: &str, from, to, by_turn| {
        let (what, from, to) = (what.into(), Track(from), Track(to));
        EdgeName { what, from, to, credits: 2, bytes: 4096, by_turn }
    };
    let mut recording = Recording {
        about: vec!["a model of two layers".into()],
        tracks: vec![
            track("control", "batcher"),
            track("cpu:0", "stage 0"),
            track("cpu:1", "stage 1"),
            track("text", "detokenizer"),
        ],
        edges: vec![edge("tickets", 0, 1, false), edge("hidden", 1, 2, false), edge("tokens", 0, 3, true)],
        counters: vec!["pool: pages in use".into()],
        causes: vec!["no requests".into()],
        names: vec!["plan".into()],
        ..Recording::default()
    };
    let mut push = |track, from_us: u64, to_us: u64, event| {
        recording.records.push(Record { start_ns: from_us * 1000, end_ns: to_us * 1000, track: Track(track), event });
    };
    for step in 0..3 {
        let start = step * 200;
        let act = Event::Act { step, rows: 4, bytes: 100 };
        push(1, start, start + 100, act);
        push(1, start + 99, start + 99, Event::Send { edge: Edge(1), step });
        push(2, start + 100, start + 100, Event::Receive { edge: Edge(1), step });
        push(2, start + 100, start + 200, act);
        push(2, start + 200, start + 300, Event::Wait(Wait::Input(Edge(1))));
        push(3, start + 210, start + 220, act);
        push(0, start, start, Event::Count { counter: Counter(0), value: step + 1 });
    }
    push(3, 5, 600, Event::Request { request: 7, tokens: 3, first_ns: 90_000, gap_ns: 200_000 });
    push(0, 0, 50, Event::Mark { name: Name(0) });
    recording.records.sort_unstable();
    recording
}

/// What a page's scripts read.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"data\">").expect("a page has data");
    let (json, _) = rest.split_once("</script>").expect("an element ends");
    serde_json::from_str(json).expect("JSON")
}

#[test]
fn a_page_holds_what_was_recorded() {
    let data = data(&page(&recording(), 0));
    assert_eq!(data["spans"], 14);
    let rows: Vec<(&str, &str, u64)> = data["rows"].as_array().expect("rows").iter().map(row).collect();
    let wanted = [
        ("cpu:0", "stage 0", 3),
        ("cpu:1", "stage 1", 6),
        ("text", "detokenizer", 3),
        ("requests", "requests", 1),
        ("control", "batcher", 1),
    ];
    assert_eq!(rows, wanted);
    // The detokeniser counts turns, so that no step leads to it.
    let parts: Vec<&Value> = data["rows"].as_array().expect("rows").iter().map(|row| &row["part"]).collect();
    assert_eq!(parts[..3], [&Value::from(0), &Value::from(0), &Value::Null]);
    assert_eq!(data["columns"]["arrow_step"][2], 3);
    assert_eq!(data["columns"]["start"], serde_json::json!(["Float64Array", 0, 14]));
    let names: Vec<&str> =
        data["series"].as_array().expect("series").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(names, ["rows of a step", "pool: pages in use"]);
    let figures = data["figures"].as_array().expect("figures");
    let figure = |name: &str| figures.iter().find(|figure| figure["name"] == name).map(|figure| &figure["value"]);
    assert_eq!(figure("steps"), Some(&"3".into()));
    assert_eq!(figure("bubble"), Some(&"51.6 %".into()));
    assert_eq!(figure("first token"), Some(&"90.0 µs · 90.0 µs · 90.0 µs".into()));
    assert_eq!(figure("between tokens"), Some(&"252.5 µs · 252.5 µs · 252.5 µs".into()));
    assert!(data["verdict"].as_str().is_some_and(|verdict| verdict.starts_with("bound by")));
}

fn row(row: &Value) -> (&str, &str, u64) {
    let text = |key: &str| row[key].as_str().expect("a name");
    (text("lane"), text("name"), row["to"].as_u64().expect("a place") - row["from"].as_u64().expect("a place"))
}

#[test]
fn overlapping_spans_share_no_row() {
    let mut recording = recording();
    recording.records.retain(|record| matches!(record.event, Event::Request { .. }));
    let request = recording.records[0];
    recording.records.extend([1, 2, 700].map(|more| Record {
        start_ns: request.start_ns + more * 1000,
        end_ns: request.end_ns + more * 1000,
        ..request
    }));
    let data = data(&page(&recording, 0));
    let spans: Vec<u64> = data["rows"].as_array().expect("rows").iter().map(|own| row(own).2).collect();
    assert_eq!(spans, [2, 1, 1]);
}

#[test]
fn a_file_and_its_recording_give_the_same_page() {
    let mut recording = recording();
    // The taking of a message whose sending was lost.
    let lonely = Event::Receive { edge: Edge(1), step: 9 };
    recording.records.push(Record { start_ns: 700_000, end_ns: 700_000, track: Track(2), event: lonely });
    let mut file = vec![];
    write_chrome(&recording, &mut file).expect("a vector takes everything");
    let read = read_chrome(&file).expect("our own file");
    assert_eq!(read.lonely, 1);
    assert_eq!(page(&read.recording, read.lonely), page(&recording, 0));
}

#[test]
fn a_recording_of_nothing_has_a_page() {
    let data = data(&page(&Recording::default(), 0));
    assert_eq!(data["verdict"], "nothing acted: no step was recorded");
    assert_eq!(data["rows"], serde_json::json!([]));
}

#[test]
fn names_from_outside_end_no_element() {
    let mut recording = recording();
    let harmless = page(&recording, 0);
    recording.about[0] = HOSTILE.into();
    recording.counters[0] = HOSTILE.into();
    recording.causes[0] = HOSTILE.into();
    recording.names[0] = HOSTILE.into();
    for track in &mut recording.tracks {
        (track.lane, track.does) = (HOSTILE.into(), HOSTILE.into());
    }
    recording.tracks[3].actor = HOSTILE.into();
    recording.edges.iter_mut().for_each(|edge| edge.what = HOSTILE.into());
    let page = page(&recording, 0);
    for tag in ["<script", "</script", "</style", "<!--", "<svg"] {
        assert_eq!(page.matches(tag).count(), harmless.matches(tag).count(), "{tag}");
    }
    assert_eq!(data(&page)["names"][0], HOSTILE);
    // Nothing is fetched from anywhere: the one address is the name of SVG's namespace.
    assert_eq!(page.replace("http://www.w3.org/2000/svg", "").matches("://").count(), 0);
}

fn overlap(a: &Rect, b: &Rect) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

/// Holds that nothing overlaps or leaves the picture, and that it is well-formed XML.
fn check(drawing: &Drawing, what: &str) {
    for rects in [&drawing.groups, &drawing.boxes, &drawing.labels] {
        for (number, a) in rects.iter().enumerate() {
            assert!(a.is_within(&drawing.whole), "{what}: {a:?} leaves {:?}", drawing.whole);
            let hit = rects[number + 1..].iter().find(|b| overlap(a, b));
            assert!(hit.is_none(), "{what}: {a:?} lies over {hit:?}");
        }
    }
    for own in &drawing.boxes {
        assert_eq!(drawing.groups.iter().filter(|group| own.is_within(group)).count(), 1, "{what}: {own:?}");
        // A text lies in a box or clear of it.
        let torn = drawing.labels.iter().find(|label| overlap(own, label) && !label.is_within(own));
        assert!(torn.is_none(), "{what}: {own:?} cuts {torn:?}");
    }
    well_formed(&drawing.text);
}

/// Holds that every element ends where XML wants it to, and that `&` begins an entity.
fn well_formed(xml: &str) {
    let mut open: Vec<&str> = vec![];
    for piece in xml.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let entity = |rest: &str| ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|name| rest.starts_with(name));
        assert!(piece.split('&').skip(1).all(entity), "{piece}");
        assert!(!text.contains('>'), "{text}");
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).expect("a tag has a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} do not end");
}

fn plan(tensor: u32, pipeline: u32) -> Plan {
    let builder = Engine::builder(Checkpoint::embedded()).tensor_parallel_size(tensor).pipeline_parallel_size(pipeline);
    builder.plan().expect("the embedded model is planned").1
}

fn sketch(plan: &Plan) -> Sketch {
    let trace = actors::trace::Trace::new();
    actors::wiring::name(plan, &trace);
    Sketch::of(&trace.collect(), None)
}

#[test]
fn a_picture_shows_a_plan_and_nothing_overlaps() {
    for (tensor, pipeline) in [(1, 1), (1, 2), (2, 2), (4, 1), (2, 6), (4, 6)] {
        let sketch = sketch(&plan(tensor, pipeline));
        let what = format!("-tp {tensor} -pp {pipeline}");
        check(&draw(&sketch), &what);
        let boxes: Vec<Kind> = sketch.groups.iter().flat_map(|group| &group.boxes).map(|block| block.kind).collect();
        assert!(boxes.len() <= 14, "{what}: {boxes:?}");
        assert!(boxes.contains(&Kind::Stage) && boxes.contains(&Kind::Pool), "{what}: {boxes:?}");
        assert_eq!(boxes.contains(&Kind::Communicator), tensor > 1, "{what}: {boxes:?}");
        let reads = |place: usize| sketch.links.iter().any(|link| link.from == place || link.to.contains(&place));
        assert!((0..boxes.len()).all(|place| reads(place) || boxes[place] == Kind::Pool), "{what}: a box has no link");
    }
    let svg = plan_svg(&plan(2, 2));
    for wanted in ["communicator 0 rank 0", "pool", "cpu:3", "2 × 2.0 MiB", "layers 0 to 2", "tensor 2 × pipeline 2"]
    {
        assert!(svg.contains(wanted), "{wanted}\n{svg}");
    }
}

#[test]
fn a_picture_of_hundreds_of_actors_is_grouped() {
    let mut recording = Recording { about: vec!["a plan of 64 stages of 8 ranks".into()], ..Recording::default() };
    let track = |lane: String, actor: String, does: &str| TrackName { lane, actor, does: does.into() };
    recording.tracks.push(track("control".into(), "batcher".into(), "forms steps"));
    for (stage, rank) in (0..64).flat_map(|stage| (0..8).map(move |rank| (stage, rank))) {
        let lane = format!("cuda:{}", stage * 8 + rank);
        let layers = format!("layers {stage} to {stage}: 9 calls");
        recording.tracks.push(track(lane.clone(), format!("stage {stage}.0 rank {rank}"), &layers));
        recording.tracks.push(track(lane.clone(), format!("stage {stage}.1 rank {rank}"), &layers));
        recording.tracks.push(track(lane, format!("communicator {stage} rank {rank}"), "2 all-reduces"));
    }
    let count = recording.tracks.len() as u16;
    assert!(count > 1500);
    let edge = |from, to, what: &str| EdgeName {
        what: what.into(),
        from: Track(from),
        to: Track(to),
        credits: 2,
        bytes: 1 << 20,
        by_turn: false,
    };
    recording.edges = (1..count).map(|to| edge(to - 1, to, &format!("edge {to}"))).collect();
    recording.edges.extend((1..count).map(|to| edge(0, to, "tickets")));
    let sketch = Sketch::of(&recording, None);
    let titles: Vec<&str> = sketch.groups.iter().flat_map(|group| &group.boxes).map(|block| &*block.title).collect();
    assert_eq!(titles, ["batcher", "stages 0 to 63", "communicators 0 to 63"]);
    assert_eq!(sketch.groups[1].title, "512 lanes alike: cuda:0 … cuda:511");
    check(&draw(&sketch), "512 devices");
}

#[test]
fn long_and_hostile_names_leave_no_picture() {
    let mut recording = recording();
    recording.about[0] = format!("{HOSTILE} {}", "long ".repeat(300));
    recording.tracks.iter_mut().for_each(|track| track.does = format!("{HOSTILE}{}", "x".repeat(500)));
    recording.tracks[1].actor = "stage ".repeat(90);
    recording.tracks[2].lane = "lane ".repeat(90);
    recording.edges[1].what = "W".repeat(900);
    let drawing = draw(&Sketch::of(&recording, Some(&actors::trace::Summary::of(&recording))));
    check(&drawing, "long names");
    assert!(!drawing.text.contains("<script"));
}

#[test]
fn a_picture_of_a_run_tells_rates_and_shares() {
    let recording = recording();
    let svg = draw(&Sketch::of(&recording, Some(&actors::trace::Summary::of(&recording)))).text;
    // Three messages and three acts of 100 µs in the window of 620 µs.
    for wanted in ["hidden; 2 × 4.0 KiB; 4838.7 a second", "busy 48.4 %"] {
        assert!(svg.contains(wanted), "{wanted}\n{svg}");
    }
}
