//! Everything that the page's scripts read: names and words as JSON, numbers as columns.

use super::figures::{bars, figures};
use super::pack::Columns;
use super::rows::{Rows, rows};
use actors::trace::{Counter, Edge, Event, Recording, Summary, Track, Words};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Queues that get a chart, those that were fullest; the words have them all.
const QUEUES: usize = 24;

/// The JSON of a page, and its columns as base64.
pub(super) fn data(recording: &Recording, summary: &Summary, lonely: u64) -> (Value, String) {
    let mut columns = Columns::default();
    let rows = rows(recording, &mut columns);
    arrows(recording, &rows, &mut columns);
    let (series, left_out) = series(recording, summary, &rows, &mut columns);
    let (index, block) = columns.finish();
    let words = Words::new(summary, recording);
    let (start, end) = (summary.start_ns, summary.start_ns.saturating_add(summary.window_ns));
    let data = json!({
        "about": recording.about,
        "verdict": words.verdict(),
        "lines": words.lines().into_iter().skip(1).collect::<Vec<_>>(),
        "window": [start, end],
        "figures": figures(recording, summary),
        "bars": bars(recording, summary),
        "rows": rows.rows,
        "waits": rows.waits,
        "names": recording.names,
        "spans": rows.spans,
        "series": series,
        "queues_left_out": left_out,
        "lost": recording.lost,
        "lonely": lonely,
        "columns": index,
    });
    (data, block)
}

/// Messages that carry the number of a step, in the order of steps.
fn arrows(recording: &Recording, rows: &Rows, columns: &mut Columns) {
    let (mut sent, mut taken, mut steps, mut from, mut to, mut edges) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for message in recording.messages() {
        let Some(edge) = recording.edge(message.edge).filter(|edge| !edge.by_turn) else { continue };
        let ends = (rows.of_track.get(&edge.from), rows.of_track.get(&edge.to), u32::try_from(message.step));
        let (Some(tail), Some(head), Ok(step)) = ends else { continue };
        sent.push(message.sent_ns as f64);
        taken.push(message.taken_ns as f64);
        steps.push(step);
        from.push(*tail);
        to.push(*head);
        edges.push(message.edge.0);
    }
    columns.wide("arrow_sent", sent);
    columns.wide("arrow_taken", taken);
    columns.whole("arrow_step", steps);
    columns.short("arrow_from", from);
    columns.short("arrow_to", to);
    columns.short("arrow_edge", edges);
}

/// Something that changes over time: its name, and its points.
struct Series {
    name: String,
    group: &'static str,
    points: Vec<(u64, u64)>,
}

/// What was counted, as columns of times and values; and how many queues have no chart.
fn series(recording: &Recording, summary: &Summary, whole: &Rows, columns: &mut Columns) -> (Vec<Value>, usize) {
    let mut counters: BTreeMap<Counter, Vec<(u64, u64)>> = BTreeMap::new();
    let mut depths: BTreeMap<Edge, Vec<(u64, u64)>> = BTreeMap::new();
    let mut rows: BTreeMap<(Option<Track>, u64), (u64, u64)> = BTreeMap::new();
    for record in &recording.records {
        match record.event {
            Event::Count { counter, value } => counters.entry(counter).or_default().push((record.start_ns, value)),
            Event::Depth { edge, messages } => {
                depths.entry(edge).or_default().push((record.start_ns, messages.into()));
            }
            Event::Act { step, rows: count, .. } if recording.actor(record.track).starts_with("stage ") => {
                let part = whole.parts.get(record.track.0 as usize).copied().flatten();
                rows.entry((part, step)).or_insert((record.start_ns, count.into()));
            }
            Event::Act { .. }
            | Event::Wait(_)
            | Event::Send { .. }
            | Event::Receive { .. }
            | Event::Request { .. }
            | Event::Mark { .. } => {}
        }
    }
    let mut all = vec![];
    if !rows.is_empty() {
        let mut points: Vec<(u64, u64)> = rows.into_values().collect();
        points.sort_unstable();
        all.push(Series { name: "rows of a step".into(), group: "steps", points });
    }
    for (counter, points) in counters {
        all.push(Series { name: recording.counter(counter).into(), group: "pool and batcher", points });
    }
    let mut fullest: Vec<_> = summary.edges.iter().filter(|edge| edge.max > 0).collect();
    fullest.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    let left_out = fullest.len().saturating_sub(QUEUES);
    for edge in fullest.into_iter().take(QUEUES) {
        let Some(name) = recording.edge(edge.edge) else { continue };
        let name = format!("{} → {}: {}", recording.actor(name.from), recording.actor(name.to), name.what);
        let points = depths.remove(&edge.edge).unwrap_or_default();
        all.push(Series { name, group: "queues", points });
    }
    let (mut times, mut values, mut told) = (vec![], vec![], vec![]);
    for Series { name, group, points } in all {
        told.push(json!({"name": name, "group": group, "from": times.len(), "to": times.len() + points.len()}));
        times.extend(points.iter().map(|(at_ns, _)| *at_ns as f64));
        values.extend(points.iter().map(|(_, value)| *value as f64));
    }
    columns.wide("point_time", times);
    columns.wide("point_value", values);
    (told, left_out)
}
