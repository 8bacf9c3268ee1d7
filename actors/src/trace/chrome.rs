//! Writes a recording in the JSON of chrome://tracing, which ui.perfetto.dev opens too: one process a lane, one thread a track.
//!
//! Invariants: times never go back; acts and waits of one track do not overlap if they did not when they were recorded; an arrow has
//! both ends. The names of everything stand in `otherData`, so that [`super::read_chrome`] gives the recording back.

use super::messages::pairs;
use super::record::{Edge, Event, Record, Track, Wait};
use super::recording::{EdgeName, Recording};
use std::cmp::Reverse;
use std::io::{self, Write};

/// What `otherData.format` says: the reader believes only files that say it.
pub(super) const FORMAT: &str = "millstream trace 1";

/// What became of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Events in the file, those that only name something left aside.
    pub events: u64,
    /// Messages of which one end was not recorded, or not in order; they have no arrow and are left out.
    pub lonely: u64,
}

/// Writes `recording` to `out`, an event a line, and says how much that was. `out` should be buffered.
///
/// # Errors
/// Those of `out`.
pub fn write_chrome(recording: &Recording, out: &mut impl Write) -> io::Result<Written> {
    let (pairs, lonely) = pairs(&recording.records);
    let mut arrows = vec![None; recording.records.len()];
    for (before, (tail, head)) in pairs.into_iter().enumerate() {
        let number = Some(before as u32 + 1);
        (arrows[tail], arrows[head]) = (number, number);
    }
    let mut writer = Writer { recording, lanes: Lanes::new(recording), out, separator: "\n" };
    writer.head(lonely)?;
    writer.names()?;
    let mut order = vec![];
    for (index, record) in recording.records.iter().enumerate() {
        order.push(place(record, index));
        if let Event::Request { .. } = record.event {
            order.push((record.end_ns, END, Reverse(0), index));
        }
    }
    order.sort_unstable();
    let mut written = Written { events: 0, lonely };
    for (_, rank, _, index) in order {
        let record = &recording.records[index];
        if rank == END {
            writer.request_ends(record)?;
        } else {
            written.events += u64::from(writer.record(record, arrows[index])?);
        }
    }
    writer.out.write_all(b"\n]}\n")?;
    Ok(written)
}

/// The rank of the end of a request, which has an event of its own.
const END: u8 = 3;

/// Where a record stands in the file: by time; spans before what they enclose; the tail of an arrow before its head.
fn place(record: &Record, index: usize) -> (u64, u8, Reverse<u64>, usize) {
    let rank = match record.event {
        Event::Act { .. } | Event::Wait(_) | Event::Request { .. } | Event::Mark { .. } => 0,
        Event::Send { .. } => 1,
        Event::Receive { .. } | Event::Depth { .. } | Event::Count { .. } => 2,
    };
    (record.start_ns, rank, Reverse(record.end_ns), index)
}

/// Lanes by their number of process, from 1 in the order of their first tracks.
struct Lanes<'a> {
    names: Vec<&'a str>,
    of_track: Vec<usize>,
}

impl<'a> Lanes<'a> {
    fn new(recording: &'a Recording) -> Self {
        let (mut names, mut of_track): (Vec<&str>, Vec<usize>) = (vec![], vec![]);
        for track in &recording.tracks {
            let known = names.iter().position(|name| *name == track.lane);
            of_track.push(1 + known.unwrap_or(names.len()));
            if known.is_none() {
                names.push(&track.lane);
            }
        }
        Self { names, of_track }
    }

    /// 0 for a track that the table does not name.
    fn of(&self, track: Track) -> usize {
        self.of_track.get(track.0 as usize).copied().unwrap_or(0)
    }
}

struct Writer<'a, W> {
    recording: &'a Recording,
    lanes: Lanes<'a>,
    out: &'a mut W,
    separator: &'static str,
}

/// Microseconds, with the nanoseconds behind the point: no digit is lost.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

impl<W: Write> Writer<'_, W> {
    fn text(&mut self, text: &str) -> io::Result<()> {
        Ok(serde_json::to_writer(&mut *self.out, text)?)
    }

    fn list<T>(&mut self, key: &str, items: &[T], item: impl Fn(&mut Self, &T) -> io::Result<()>) -> io::Result<()> {
        write!(self.out, ",\n\"{key}\":[")?;
        for (index, one) in items.iter().enumerate() {
            self.out.write_all(if index == 0 { b"" } else { b"," })?;
            item(self, one)?;
        }
        self.out.write_all(b"]")
    }

    /// Everything before the first event: the tables, and what is missing.
    fn head(&mut self, lonely: u64) -> io::Result<()> {
        let recording = self.recording;
        let lost = recording.lost;
        write!(self.out, "{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"format\":\"{FORMAT}\",")?;
        write!(self.out, "\"lost_records\":{lost},\"lonely_ends\":{lonely}")?;
        self.list("about", &recording.about, |own, line| own.text(line))?;
        self.list("lanes", &recording.lanes, |own, lane| {
            own.out.write_all(b"{\"lane\":")?;
            own.text(&lane.lane)?;
            write!(own.out, ",\"bytes\":{}", lane.bytes)?;
            own.list("holds", &lane.holds, |own, held| {
                own.out.write_all(b"{\"what\":")?;
                own.text(&held.what)?;
                write!(own.out, ",\"bytes\":{}}}", held.bytes)
            })?;
            own.out.write_all(b"}")
        })?;
        self.list("tracks", &recording.tracks, |own, track| {
            own.out.write_all(b"{\"lane\":")?;
            own.text(&track.lane)?;
            own.out.write_all(b",\"actor\":")?;
            own.text(&track.actor)?;
            own.out.write_all(b",\"does\":")?;
            own.text(&track.does)?;
            own.out.write_all(b"}")
        })?;
        self.list("edges", &recording.edges, |own, edge| {
            own.out.write_all(b"{\"what\":")?;
            own.text(&edge.what)?;
            write!(own.out, ",\"from\":{},\"to\":{}", edge.from.0, edge.to.0)?;
            write!(own.out, ",\"credits\":{},\"bytes\":{},\"by_turn\":{}}}", edge.credits, edge.bytes, edge.by_turn)
        })?;
        self.list("counters", &recording.counters, |own, name| own.text(name))?;
        self.list("causes", &recording.causes, |own, name| own.text(name))?;
        self.list("names", &recording.names, |own, name| own.text(name))?;
        self.out.write_all(b"},\n\"traceEvents\":[")
    }

    /// Names processes and threads, and orders both as the plan does.
    fn names(&mut self) -> io::Result<()> {
        for index in 0..self.lanes.names.len() {
            let (pid, name) = (index + 1, self.lanes.names[index]);
            self.meta("process_name", pid, 0, Some(name))?;
            self.meta("process_sort_index", pid, 0, None)?;
        }
        for (index, track) in self.recording.tracks.iter().enumerate() {
            let pid = self.lanes.of_track[index];
            self.meta("thread_name", pid, index + 1, Some(&track.actor))?;
            self.meta("thread_sort_index", pid, index + 1, None)?;
        }
        Ok(())
    }

    /// One `M` event: a name where there is one, else the place among its like.
    fn meta(&mut self, kind: &str, pid: usize, tid: usize, name: Option<&str>) -> io::Result<()> {
        let separator = std::mem::replace(&mut self.separator, ",\n");
        write!(self.out, "{separator}{{\"ph\":\"M\",\"name\":\"{kind}\",\"pid\":{pid},\"tid\":{tid},\"args\":{{")?;
        match name {
            Some(name) => {
                self.out.write_all(b"\"name\":")?;
                self.text(name)?;
            }
            None => write!(self.out, "\"sort_index\":{}", if tid == 0 { pid } else { tid })?,
        }
        self.out.write_all(b"}}")
    }

    /// Writes what all events have; the caller goes on behind a comma.
    fn begin(&mut self, phase: &str, category: &str, record: &Record) -> io::Result<()> {
        let separator = std::mem::replace(&mut self.separator, ",\n");
        // A thread of number 0 is idleness to some viewers.
        let (pid, tid, ts) = (self.lanes.of(record.track), u32::from(record.track.0) + 1, Micros(record.start_ns));
        write!(
            self.out,
            "{separator}{{\"ph\":\"{phase}\",\"cat\":\"{category}\",\"pid\":{pid},\"tid\":{tid},\"ts\":{ts}"
        )?;
        if phase == "X" {
            write!(self.out, ",\"dur\":{}", Micros(record.end_ns.saturating_sub(record.start_ns)))?;
        }
        self.out.write_all(b",\"name\":")
    }

    /// Writes a record; says whether it is in the file.
    fn record(&mut self, record: &Record, arrow: Option<u32>) -> io::Result<bool> {
        let recording = self.recording;
        match record.event {
            Event::Act { step, rows, bytes } => {
                self.begin("X", "act", record)?;
                write!(self.out, "\"step {step}\",\"args\":{{\"step\":{step},\"rows\":{rows},\"bytes\":{bytes}}}}}")?;
            }
            Event::Wait(wait) => {
                self.begin("X", "wait", record)?;
                self.text(&format!("waits: {}", recording.wait(wait)))?;
                let (cause, key, number) = match wait {
                    Wait::Input(edge) => ("input", "edge", edge.0),
                    Wait::Credit(edge) => ("credit", "edge", edge.0),
                    Wait::Outside(cause) => ("outside", "outside", cause.0),
                };
                write!(self.out, ",\"args\":{{\"cause\":\"{cause}\",\"{key}\":{number}}}}}")?;
            }
            Event::Send { edge, step } => return self.arrow("s", record, (edge, step), arrow),
            Event::Receive { edge, step } => return self.arrow("f", record, (edge, step), arrow),
            Event::Depth { edge, messages } => {
                self.begin("C", "depth", record)?;
                let name = recording.edge(edge).map_or_else(|| "queue ?".into(), |name| queue(recording, name));
                self.text(&name)?;
                // A viewer draws every member of `args` as a line of its own, so the edge stands outside.
                write!(self.out, ",\"edge\":{},\"args\":{{\"messages\":{messages}}}}}", edge.0)?;
            }
            Event::Count { counter, value } => {
                self.begin("C", "count", record)?;
                self.text(recording.counter(counter))?;
                write!(self.out, ",\"counter\":{},\"args\":{{\"value\":{value}}}}}", counter.0)?;
            }
            Event::Request { request, tokens, first_ns, gap_ns } => {
                self.begin("b", "request", record)?;
                let (dur, first, gap) =
                    (Micros(record.end_ns.saturating_sub(record.start_ns)), Micros(first_ns), Micros(gap_ns));
                write!(
                    self.out,
                    "\"request {request}\",\"id\":{request},\"args\":{{\"request\":{request},\"dur\":{dur}"
                )?;
                write!(self.out, ",\"tokens\":{tokens},\"first\":{first},\"gap\":{gap}}}}}")?;
            }
            Event::Mark { name } => {
                let point = record.start_ns == record.end_ns;
                self.begin(if point { "i" } else { "X" }, "mark", record)?;
                self.text(recording.name(name))?;
                let scope = if point { ",\"s\":\"t\"" } else { "" };
                write!(self.out, "{scope},\"args\":{{\"mark\":{}}}}}", name.0)?;
            }
        }
        Ok(true)
    }

    /// The end of a request, which viewers know by its number.
    fn request_ends(&mut self, record: &Record) -> io::Result<()> {
        let Event::Request { request, .. } = record.event else { return Ok(()) };
        self.begin("e", "request", &Record { start_ns: record.end_ns, ..*record })?;
        write!(self.out, "\"request {request}\",\"id\":{request}}}")
    }

    /// One end of an arrow, bound to the span that encloses it.
    fn arrow(&mut self, phase: &str, record: &Record, message: (Edge, u64), arrow: Option<u32>) -> io::Result<bool> {
        let (Some(id), (edge, step)) = (arrow, message) else { return Ok(false) };
        let recording = self.recording;
        self.begin(phase, "edge", record)?;
        self.text(recording.edge(edge).map_or("?", |name| &name.what))?;
        let bound = if phase == "f" { ",\"bp\":\"e\"" } else { "" };
        write!(self.out, ",\"id\":{id}{bound},\"args\":{{\"edge\":{},\"step\":{step}}}}}", edge.0)?;
        Ok(true)
    }
}

fn queue(recording: &Recording, name: &EdgeName) -> String {
    format!("queue {} → {}: {}", recording.actor(name.from), recording.actor(name.to), name.what)
}
