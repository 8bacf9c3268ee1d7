//! The rows of the picture of time: the spans of each track, packed in rows in which none overlaps another.
//!
//! Acts and waits of an actor never overlap, so an actor has one row. Marks nest and requests overlap; each gets the first row that is
//! free when it begins.

use super::pack::Columns;
use actors::trace::{Event, Record, Recording, Track, Wait};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Rows of one track, at most: what finds none free lies over others in the last.
const ROWS_MAX: usize = 512;
/// What the column of kinds says of an act; a wait has its number in the table of waits, from 1.
const ACT: u16 = 0;
/// A request.
const REQUEST: u16 = u16::MAX - 1;
/// A mark.
const MARK: u16 = u16::MAX;
/// A span that belongs to no step.
const NO_STEP: u32 = u32::MAX;

/// What a row shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Sort {
    Actor,
    Request,
    Mark,
}

/// Rows and what goes with them.
pub(super) struct Rows {
    /// The rows, each with its span of the columns.
    pub(super) rows: Vec<Value>,
    /// What each number of a wait means.
    pub(super) waits: Vec<Value>,
    /// Spans in all rows.
    pub(super) spans: usize,
    /// The row of each track's acts.
    pub(super) of_track: BTreeMap<Track, u16>,
    /// The part of the run that each track belongs to.
    pub(super) parts: Vec<Option<Track>>,
}

/// Enters all spans of `recording` into `columns`.
pub(super) fn rows(recording: &Recording, columns: &mut Columns) -> Rows {
    let mut tracks: BTreeMap<(Sort, Track), Vec<&Record>> = BTreeMap::new();
    for record in &recording.records {
        let sort = match record.event {
            Event::Act { .. } | Event::Wait(_) => Sort::Actor,
            Event::Request { .. } => Sort::Request,
            Event::Mark { .. } => Sort::Mark,
            Event::Send { .. } | Event::Receive { .. } | Event::Depth { .. } | Event::Count { .. } => continue,
        };
        tracks.entry((sort, record.track)).or_default().push(record);
    }
    // Lanes in the order of their first tracks, as in the file.
    let mut lanes: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, name) in recording.tracks.iter().enumerate() {
        lanes.entry(&name.lane).or_insert(number);
    }
    let mut order: Vec<(Sort, Track)> = tracks.keys().copied().collect();
    order.sort_by_key(|(sort, track)| (*sort, lanes.get(recording.lane(*track)), *track));
    let mut packing = Packing::default();
    let mut whole = Rows { rows: vec![], waits: vec![], spans: 0, of_track: BTreeMap::new(), parts: recording.parts() };
    for (sort, track) in order {
        for (level, records) in levels(&tracks[&(sort, track)]).into_iter().enumerate() {
            let from = packing.columns.start.len();
            records.iter().for_each(|record| packing.span(record));
            if let (Sort::Actor, Ok(row)) = (sort, u16::try_from(whole.rows.len())) {
                whole.of_track.entry(track).or_insert(row);
            }
            let (sort, lane, name) = match sort {
                Sort::Actor => ("actor", recording.lane(track), recording.actor(track)),
                Sort::Request => ("request", "requests", "requests"),
                Sort::Mark => ("mark", recording.lane(track), recording.actor(track)),
            };
            let does = recording.tracks.get(track.0 as usize).map_or("", |name| &name.does);
            let part = whole.parts.get(track.0 as usize).copied().flatten().map(|track| track.0);
            whole
                .rows
                .push(json!({"sort": sort, "lane": lane, "name": name, "does": does, "level": level, "part": part,
                "from": from, "to": packing.columns.start.len()}));
        }
    }
    whole.spans = packing.columns.start.len();
    let mut waits: Vec<(u16, Wait)> = packing.waits.into_iter().map(|(wait, number)| (number, wait)).collect();
    waits.sort_unstable();
    let wait = |(_, wait): (u16, Wait)| json!({"words": recording.wait(wait), "class": class(wait)});
    whole.waits = waits.into_iter().map(wait).collect();
    packing.columns.enter(columns);
    whole
}

fn class(wait: Wait) -> &'static str {
    match wait {
        Wait::Input(_) => "input",
        Wait::Credit(_) => "credit",
        Wait::Outside(_) => "outside",
    }
}

/// Spans, sorted by their start, in levels without overlap.
fn levels<'a>(records: &[&'a Record]) -> Vec<Vec<&'a Record>> {
    let mut levels: Vec<Vec<&Record>> = vec![];
    let mut records = records.to_vec();
    // What encloses comes before what it encloses.
    records.sort_by_key(|record| (record.start_ns, std::cmp::Reverse(record.end_ns)));
    for record in records {
        let free = |level: &Vec<&Record>| level.last().is_none_or(|last| last.end_ns <= record.start_ns);
        let at = levels.iter().position(free).unwrap_or(levels.len()).min(ROWS_MAX - 1);
        if at == levels.len() {
            levels.push(vec![]);
        }
        levels[at].push(record);
    }
    levels
}

#[derive(Default)]
struct SpanColumns {
    start: Vec<f64>,
    length: Vec<f64>,
    bytes: Vec<f64>,
    step: Vec<u32>,
    rows: Vec<u32>,
    kind: Vec<u16>,
}

impl SpanColumns {
    fn enter(self, columns: &mut Columns) {
        columns.wide("start", self.start);
        columns.wide("length", self.length);
        columns.wide("bytes", self.bytes);
        columns.whole("step", self.step);
        columns.whole("rows", self.rows);
        columns.short("kind", self.kind);
    }
}

#[derive(Default)]
struct Packing {
    waits: BTreeMap<Wait, u16>,
    columns: SpanColumns,
}

impl Packing {
    fn span(&mut self, record: &Record) {
        let (kind, step, rows, bytes) = match record.event {
            Event::Act { step, rows, bytes } => (ACT, u32::try_from(step).unwrap_or(NO_STEP), rows, bytes),
            Event::Wait(wait) => {
                let next = self.waits.len() as u16 + 1;
                (*self.waits.entry(wait).or_insert(next), NO_STEP, 0, 0)
            }
            Event::Request { request, tokens, first_ns, .. } => {
                (REQUEST, u32::try_from(request).unwrap_or(NO_STEP), tokens, first_ns)
            }
            Event::Mark { name } => (MARK, u32::from(name.0), 0, 0),
            Event::Send { .. } | Event::Receive { .. } | Event::Depth { .. } | Event::Count { .. } => return,
        };
        self.columns.start.push(record.start_ns as f64);
        self.columns.length.push(record.end_ns.saturating_sub(record.start_ns) as f64);
        self.columns.bytes.push(bytes as f64);
        self.columns.step.push(step);
        self.columns.rows.push(rows);
        self.columns.kind.push(kind);
    }
}
