//! What bounded a run, as data: shares of the recorded window, and a verdict. Pure: a recording in, figures out.
//!
//! The window reaches from the first act to the last. Where records were lost it begins where every lane still has its own, so that
//! all shares are of the same time.

use super::latency::{Communication, Requests};
use super::record::{Cause, Counter, Edge, Event, Record, Track, Wait};
use super::recording::Recording;
use super::verdict::Verdict;
use std::collections::{BTreeMap, HashMap};

/// How many of the longest waits are told.
const LONGEST: usize = 3;

/// What an actor waited for, by the actor at the other end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Blocked {
    /// A message of this actor.
    Input(Track),
    /// A buffer that this actor holds.
    Credit(Track),
    /// Something outside the ports.
    Outside(Cause),
    /// Its lane: it neither acted nor had been found waiting, so the lane ran another actor or did not run.
    Turn,
}

/// How one actor spent the window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackSummary {
    /// Who.
    pub track: Track,
    /// How often it acted.
    pub acts: u64,
    /// How long.
    pub busy_ns: u64,
    /// How long it waited for each thing, the longest first. With `busy_ns` they come to the window.
    pub waits: Vec<(Blocked, u64)>,
}

/// Messages that waited on an edge.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EdgeSummary {
    /// Which edge.
    pub edge: Edge,
    /// Mean over the window.
    pub mean: f64,
    /// Most at once.
    pub max: u32,
}

/// Values of a counter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CounterSummary {
    /// Which counter.
    pub counter: Counter,
    /// Mean over the window.
    pub mean: f64,
    /// Largest.
    pub max: u64,
}

/// A wait that lasted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongWait {
    /// Who waited.
    pub track: Track,
    /// For what.
    pub blocked: Blocked,
    /// Since when, from the start of the window.
    pub after_ns: u64,
    /// How long, within the window.
    pub ns: u64,
}

/// A recording in figures.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// What bounded the run.
    pub verdict: Verdict,
    /// When the window begins, in the time of the trace.
    pub start_ns: u64,
    /// How long it is.
    pub window_ns: u64,
    /// Steps that acted in it.
    pub steps: u64,
    /// Rows of those steps, each step's counted once.
    pub rows: u64,
    /// The share of the window in which at least two stages acted at once.
    pub overlap: f64,
    /// The share of the time of devices with stages in which nothing acted on them: the bubbles of the pipeline.
    pub bubble: f64,
    /// What communicators did.
    pub communication: Communication,
    /// The requests that ended.
    pub requests: Requests,
    /// The actors that acted or waited, in the order of tracks.
    pub tracks: Vec<TrackSummary>,
    /// The edges on which messages waited.
    pub edges: Vec<EdgeSummary>,
    /// The counters that were recorded.
    pub counters: Vec<CounterSummary>,
    /// The longest waits of stages, the longest first.
    pub longest_waits: Vec<LongWait>,
    /// Records that were lost before the window.
    pub lost: u64,
}

impl Summary {
    /// The figures of `recording`.
    pub fn of(recording: &Recording) -> Self {
        let (start_ns, end_ns) = window(recording);
        let any_stage = recording.tracks.iter().any(|name| is_stage(&name.actor));
        let mut books = Books { any_stage, parts: recording.parts(), ..Books::default() };
        for record in &recording.records {
            let (from_ns, to_ns) = (record.start_ns.max(start_ns), record.end_ns.min(end_ns));
            if from_ns < to_ns {
                books.span(recording, record, (from_ns, to_ns));
            }
        }
        let mut longest_waits = books.longest;
        longest_waits.sort_by_key(|wait| (std::cmp::Reverse(wait.ns), wait.after_ns, wait.track));
        longest_waits.truncate(LONGEST);
        longest_waits.iter_mut().for_each(|wait| wait.after_ns -= start_ns);
        let whole = |(own, waits)| settle(own, waits, end_ns - start_ns);
        let mut summary = Self {
            verdict: Verdict::Empty,
            start_ns,
            window_ns: end_ns - start_ns,
            steps: books.steps.len() as u64,
            rows: books.steps.values().map(|&rows| u64::from(rows)).sum(),
            overlap: 0.0,
            bubble: 0.0,
            communication: Communication::of(recording, (start_ns, end_ns)),
            requests: Requests::of(recording, start_ns),
            tracks: books.tracks.into_values().map(whole).collect(),
            edges: vec![],
            counters: vec![],
            longest_waits,
            lost: recording.lost,
        };
        summary.overlap = summary.share(at_once(books.stages, 2));
        summary.bubble = summary.bubble(recording);
        summary.gauges(recording);
        summary.verdict = summary.judge(recording);
        summary
    }

    /// A duration as a share of the window.
    pub fn share(&self, ns: u64) -> f64 {
        if self.window_ns == 0 { 0.0 } else { ns as f64 / self.window_ns as f64 }
    }

    /// Rows a second.
    pub fn rows_per_second(&self) -> f64 {
        if self.window_ns == 0 { 0.0 } else { self.rows as f64 * 1e9 / self.window_ns as f64 }
    }

    /// An actor's figures, if it acted or waited.
    pub fn track(&self, track: Track) -> Option<&TrackSummary> {
        self.tracks.iter().find(|own| own.track == track)
    }

    fn bubble(&self, recording: &Recording) -> f64 {
        let mut lanes: BTreeMap<&str, (bool, u64)> = BTreeMap::new();
        for own in &self.tracks {
            let (staged, busy_ns) = lanes.entry(recording.lane(own.track)).or_default();
            *staged |= is_stage(recording.actor(own.track));
            *busy_ns = busy_ns.saturating_add(own.busy_ns);
        }
        let busy: Vec<f64> =
            lanes.into_values().filter(|(staged, _)| *staged).map(|(_, ns)| self.share(ns).min(1.0)).collect();
        if busy.is_empty() { 0.0 } else { 1.0 - busy.iter().sum::<f64>() / busy.len() as f64 }
    }

    /// Means and maxima of what was counted.
    fn gauges(&mut self, recording: &Recording) {
        let (mut edges, mut counters): (BTreeMap<Edge, Gauge>, BTreeMap<Counter, Gauge>) = Default::default();
        let (start_ns, end_ns) = (self.start_ns, self.start_ns + self.window_ns);
        for record in &recording.records {
            let at_ns = record.start_ns.clamp(start_ns, end_ns);
            match record.event {
                Event::Depth { edge, messages } => edges.entry(edge).or_default().step(at_ns, u64::from(messages)),
                Event::Count { counter, value } => counters.entry(counter).or_default().step(at_ns, value),
                Event::Act { .. }
                | Event::Wait(_)
                | Event::Send { .. }
                | Event::Receive { .. }
                | Event::Request { .. }
                | Event::Mark { .. } => {}
            }
        }
        let edge = |(edge, gauge): (Edge, Gauge)| EdgeSummary {
            edge,
            mean: gauge.mean(start_ns, end_ns),
            max: u32::try_from(gauge.max).unwrap_or(u32::MAX),
        };
        let counter = |(counter, gauge): (Counter, Gauge)| CounterSummary {
            counter,
            mean: gauge.mean(start_ns, end_ns),
            max: gauge.max,
        };
        self.edges = edges.into_iter().map(edge).collect();
        self.counters = counters.into_iter().map(counter).collect();
    }
}

/// What is added up on one walk over the records.
#[derive(Default)]
struct Books {
    any_stage: bool,
    tracks: BTreeMap<Track, (TrackSummary, BTreeMap<Blocked, u64>)>,
    /// The part of the run that each track belongs to.
    parts: Vec<Option<Track>>,
    /// Rows of each step of each part.
    steps: HashMap<(Option<Track>, u64), u32>,
    /// Acts of stages.
    stages: Vec<(u64, u64)>,
    longest: Vec<LongWait>,
}

impl Books {
    /// Whether an actor stands for the run: a stage, or any where there are none.
    fn counts(&self, recording: &Recording, track: Track) -> bool {
        !self.any_stage || is_stage(recording.actor(track))
    }

    /// Enters a span, which lies in the window from `from_ns` to `to_ns`.
    fn span(&mut self, recording: &Recording, record: &Record, (from_ns, to_ns): (u64, u64)) {
        let (track, ns) = (record.track, to_ns - from_ns);
        let empty = || (TrackSummary { track, acts: 0, busy_ns: 0, waits: vec![] }, BTreeMap::new());
        match record.event {
            Event::Act { step, rows, .. } => {
                let (own, _) = self.tracks.entry(track).or_insert_with(empty);
                own.acts += 1;
                // Saturating, since a file from outside may say anything.
                own.busy_ns = own.busy_ns.saturating_add(ns);
                if self.counts(recording, track) {
                    let part = self.parts.get(track.0 as usize).copied().flatten();
                    let most = self.steps.entry((part, step)).or_default();
                    *most = rows.max(*most);
                    self.stages.push((from_ns, to_ns));
                }
            }
            Event::Wait(wait) => {
                let blocked = blocked(recording, wait);
                let (_, waits) = self.tracks.entry(track).or_insert_with(empty);
                let waited_ns = waits.entry(blocked).or_default();
                *waited_ns = waited_ns.saturating_add(ns);
                if self.counts(recording, track) {
                    self.longest.push(LongWait { track, blocked, after_ns: from_ns, ns });
                }
            }
            Event::Send { .. }
            | Event::Receive { .. }
            | Event::Depth { .. }
            | Event::Count { .. }
            | Event::Request { .. }
            | Event::Mark { .. } => {}
        }
    }
}

/// A stage, as plans call them.
pub(super) fn is_stage(actor: &str) -> bool {
    actor.starts_with("stage ")
}

/// A communicator, as plans call them.
pub(super) fn is_communicator(actor: &str) -> bool {
    actor.starts_with("communicator ")
}

/// First and last act, but nothing before the last lane's first record if records were lost.
fn window(recording: &Recording) -> (u64, u64) {
    let acts = || recording.records.iter().filter(|record| matches!(record.event, Event::Act { .. }));
    let (Some(first), Some(last)) = (acts().map(|r| r.start_ns).min(), acts().map(|r| r.end_ns).max()) else {
        return (0, 0);
    };
    if recording.lost == 0 {
        return (first, last.max(first));
    }
    let mut lanes: HashMap<&str, u64> = HashMap::new();
    for record in recording.records.iter().filter(|record| !matches!(record.event, Event::Mark { .. })) {
        let lane = recording.lane(record.track);
        let since = lanes.entry(lane).or_insert(record.start_ns);
        *since = record.start_ns.min(*since);
    }
    let start_ns = lanes.into_values().max().unwrap_or(first).clamp(first, last.max(first));
    (start_ns, last.max(first))
}

fn blocked(recording: &Recording, wait: Wait) -> Blocked {
    let unknown = Track(u16::MAX);
    match wait {
        Wait::Input(edge) => Blocked::Input(recording.edge(edge).map_or(unknown, |name| name.from)),
        Wait::Credit(edge) => Blocked::Credit(recording.edge(edge).map_or(unknown, |name| name.to)),
        Wait::Outside(cause) => Blocked::Outside(cause),
    }
}

/// Puts the waits in order of length, with the rest of the window among them.
fn settle(mut own: TrackSummary, mut waits: BTreeMap<Blocked, u64>, window_ns: u64) -> TrackSummary {
    let known_ns = waits.values().fold(own.busy_ns, |sum, ns| sum.saturating_add(*ns));
    if known_ns < window_ns {
        waits.insert(Blocked::Turn, window_ns - known_ns);
    }
    own.waits = waits.into_iter().collect();
    own.waits.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    own
}

/// How long at least `least` of the spans were open at once.
pub(super) fn at_once(spans: Vec<(u64, u64)>, least: i64) -> u64 {
    let mut edges: Vec<(u64, i64)> =
        spans.into_iter().flat_map(|(from_ns, to_ns)| [(from_ns, 1), (to_ns, -1)]).collect();
    edges.sort_unstable();
    let (mut open, mut since_ns, mut total_ns) = (0, 0, 0);
    for (at_ns, change) in edges {
        if open >= least {
            total_ns += at_ns - since_ns;
        }
        open += change;
        since_ns = at_ns;
    }
    total_ns
}

/// A figure that changes in steps.
#[derive(Default)]
struct Gauge {
    since_ns: u64,
    value: u64,
    area: f64,
    max: u64,
}

impl Gauge {
    fn step(&mut self, at_ns: u64, value: u64) {
        self.area += self.value as f64 * at_ns.saturating_sub(self.since_ns) as f64;
        (self.since_ns, self.value) = (at_ns, value);
        self.max = self.max.max(value);
    }

    /// Over the window; 0 before the first step.
    fn mean(&self, start_ns: u64, end_ns: u64) -> f64 {
        let open = self.value as f64 * end_ns.saturating_sub(self.since_ns) as f64;
        if end_ns > start_ns { (self.area + open) / (end_ns - start_ns) as f64 } else { 0.0 }
    }
}
