//! The always-on recorder: a ring a lane, drained when someone asks.
//!
//! Invariants: recording neither allocates nor blocks; a full ring gives up its oldest record and counts it; what is below the
//! trace's level is not recorded, and with [`Level::Off`] not even the clock is read. The recorder does not know what becomes of
//! the records.

use super::board::{Board, Doing, State};
use super::record::{Cause, Counter, Edge, Event, Level, Name, Record, Track};
use super::recording::{EdgeName, LaneName, Recording, TrackName};
use super::words::time;
use crossbeam::queue::ArrayQueue;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Names of marks that are kept; the rest share one. Marks are rare, so that a trace with more has a fault in its names.
const NAMES_MAX: usize = 4096;
/// What the rest are called.
const FURTHER_NAMES: &str = "(further names)";

/// Nanoseconds since the origin of a trace, or of a simulation.
#[derive(Clone, Debug)]
pub enum Clock {
    /// Time as it passes.
    Real(Instant),
    /// Time as a simulator sets it.
    Virtual(Arc<AtomicU64>),
}

impl Clock {
    /// The time now.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        match self {
            Clock::Real(origin) => u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Clock::Virtual(time) => time.load(Ordering::Relaxed),
        }
    }
}

/// All rings of a process and the names of what they hold. Clones are the same trace.
#[derive(Clone, Debug)]
pub struct Trace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    level: Level,
    board: Board,
    /// Names and rings are touched when the plan is built and when the trace is collected, never while recording.
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    names: Recording,
    rings: Vec<Arc<Ring>>,
    /// Where each name stands in the table of names.
    numbers: HashMap<String, Name>,
}

#[derive(Debug)]
struct Ring {
    records: ArrayQueue<Record>,
    lost: AtomicU64,
}

/// The pen of one lane or thread.
#[derive(Clone, Debug)]
pub struct Recorder {
    ring: Arc<Ring>,
    clock: Clock,
    level: Level,
    board: Board,
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Trace {
    /// A trace of everything, whose origin is now.
    pub fn new() -> Self {
        Self::with_level(Level::Hop)
    }

    /// A trace of what `level` says, whose origin is now.
    pub fn with_level(level: Level) -> Self {
        Self::with_board(level, Board::default())
    }

    /// A trace of what `level` says, whose actors show on `board` what they do.
    pub fn with_board(level: Level, board: Board) -> Self {
        Self::with_clock(Clock::Real(Instant::now()), level, board)
    }

    /// A trace of a simulation, with its time at 0.
    pub fn simulated() -> Self {
        Self::with_clock(Clock::Virtual(Arc::new(AtomicU64::new(0))), Level::Hop, Board::default())
    }

    fn with_clock(clock: Clock, level: Level, board: Board) -> Self {
        Self { shared: Arc::new(Shared { clock, level, board, tables: Mutex::new(Tables::default()) }) }
    }

    /// The trace's clock.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// Adds a track: `actor` on `lane`. Tracks of one lane are drawn together.
    pub fn track(&self, lane: &str, actor: &str) -> Track {
        let tracks = &mut self.tables().names.tracks;
        tracks.push(TrackName { lane: lane.into(), actor: actor.into(), does: String::new() });
        let track = Track(number(tracks.len()));
        self.shared.board.name(track, lane, actor);
        track
    }

    /// Adds an edge that carries `what` from one actor to another.
    pub fn edge(&self, what: &str, from: Track, to: Track) -> Edge {
        let edges = &mut self.tables().names.edges;
        edges.push(EdgeName { what: what.into(), from, to, ..EdgeName::default() });
        Edge(number(edges.len()))
    }

    /// Says what was deployed, in a line; what has been said before is not said again.
    pub fn about(&self, line: &str) {
        let about = &mut self.tables().names.about;
        if !about.iter().any(|before| before == line) {
            about.push(line.into());
        }
    }

    /// Says what a lane has room for.
    pub fn lane(&self, lane: LaneName) {
        self.tables().names.lanes.push(lane);
    }

    /// Says what the actor of a track does.
    pub fn does(&self, track: Track, words: &str) {
        if let Some(name) = self.tables().names.tracks.get_mut(track.0 as usize) {
            name.does = words.into();
        }
    }

    /// Says how many buffers an edge has, and of how many bytes each.
    pub fn buffers(&self, edge: Edge, credits: u32, bytes: u64) {
        self.named(edge, |name| (name.credits, name.bytes) = (credits, bytes));
    }

    /// Says that the messages of an edge are numbered by turns of its sender.
    pub fn by_turn(&self, edge: Edge) {
        self.named(edge, |name| name.by_turn = true);
    }

    fn named(&self, edge: Edge, change: impl FnOnce(&mut EdgeName)) {
        if let Some(name) = self.tables().names.edges.get_mut(edge.0 as usize) {
            change(name);
        }
    }

    /// Adds a counter.
    pub fn counter(&self, name: &str) -> Counter {
        let counters = &mut self.tables().names.counters;
        counters.push(name.into());
        Counter(number(counters.len()))
    }

    /// Adds a cause of waiting that is no port.
    pub fn cause(&self, name: &str) -> Cause {
        let causes = &mut self.tables().names.causes;
        causes.push(name.into());
        Cause(number(causes.len()))
    }

    /// The number of what a mark says. Takes a lock: for what is rare.
    pub fn name(&self, text: &str) -> Name {
        let tables = &mut *self.tables();
        let full = tables.names.names.len() + 1 >= NAMES_MAX;
        let text = if full && !tables.numbers.contains_key(text) { FURTHER_NAMES } else { text };
        if let Some(name) = tables.numbers.get(text) {
            return *name;
        }
        tables.names.names.push(text.into());
        let name = Name(number(tables.names.names.len()));
        tables.numbers.insert(text.into(), name);
        name
    }

    /// A recorder with a ring of its own, which holds the last `records` records.
    pub fn recorder(&self, records: usize) -> Recorder {
        let level = self.shared.level;
        // A ring that nothing is put into needs no memory.
        let records = if level == Level::Off { 1 } else { records.max(1) };
        let ring = Arc::new(Ring { records: ArrayQueue::new(records), lost: AtomicU64::new(0) });
        self.tables().rings.push(ring.clone());
        Recorder { ring, clock: self.clock(), level, board: self.shared.board.clone() }
    }

    /// Takes everything recorded since the last call, in order. Recording goes on meanwhile.
    pub fn collect(&self) -> Recording {
        let tables = self.tables();
        let mut recording = tables.names.clone();
        for ring in &tables.rings {
            // Bounded by what a ring holds: a busy lane must not keep us here.
            let there = ring.records.len();
            recording.records.extend((0..there).map_while(|_| ring.records.pop()));
            recording.lost += ring.lost.swap(0, Ordering::Relaxed);
        }
        recording.records.sort_unstable();
        recording
    }

    /// What every actor does at this moment, a line each: who acts on which step, who waits for what, and for how long.
    pub fn moment(&self) -> Vec<String> {
        let (names, now_ns) = (self.tables().names.clone(), self.shared.clock.now_ns());
        self.shared.board.states().iter().map(|state| words(state, &names, now_ns)).collect()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `cpu:0: stage 0 waits for input from feed for 12.3 ms, last step 41`
fn words(state: &State, names: &Recording, now_ns: u64) -> String {
    let since = match state.since_ns {
        0 => String::new(),
        since_ns => format!(" for {}", time(now_ns.saturating_sub(since_ns))),
    };
    let last = state.step.map_or(", no step yet".into(), |step| format!(", last step {step}"));
    let does = match state.doing {
        Doing::Acts => format!("acts on step {}{since}", state.step.unwrap_or_default()),
        Doing::Waits(wait) => format!("waits for {}{since}{last}", names.wait(wait)),
        Doing::Rests => format!("is between two turns{last}"),
        Doing::Down => format!("is down{since}{last}"),
        Doing::Finished => format!("has finished{last}"),
    };
    format!("{}: {} {does}", state.lane, state.actor)
}

/// The number of the entry that was just pushed.
fn number(entries: usize) -> u16 {
    u16::try_from(entries - 1).expect("a plan has fewer than 65536 actors, edges, counters, causes and names")
}

impl Recorder {
    /// A recorder that belongs to no trace and keeps one record: for tests and tools.
    pub fn detached() -> Self {
        Trace::new().recorder(1)
    }

    /// The time now, in nanoseconds since the trace's origin; 0 where nothing is recorded.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        if self.level == Level::Off { 0 } else { self.clock.now_ns() }
    }

    /// Records a span.
    #[inline]
    pub fn span(&self, track: Track, start_ns: u64, end_ns: u64, event: Event) {
        if event.level() > self.level {
            return;
        }
        if self.ring.records.force_push(Record { start_ns, end_ns, track, event }).is_some() {
            self.ring.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records a point in time.
    #[inline]
    pub fn point(&self, track: Track, at_ns: u64, event: Event) {
        self.span(track, at_ns, at_ns, event);
    }

    /// Where what the actors do is shown.
    #[inline]
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// The clock, for who sets it.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }
}
