//! What every actor does at this moment, readable from any thread, and from another process where the board lies in memory that both
//! have: a state dump of a process that runs, and the autopsy of one that ended.
//!
//! Invariant: each row has one writer, the thread of its actor, which stores a few words when the actor begins an act, ends it, or waits
//! for something else than before. A reader may see a row between two of these stores; every value it can see was true a moment ago.

use super::record::{Cause, Edge, Track, Wait};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of a board of a process's own.
const ROWS: usize = 256;
/// Words of an actor's name.
const NAME_WORDS: usize = 6;
/// Words of a lane's name.
const LANE_WORDS: usize = 4;

/// One actor. All zeros is a row that nobody has taken.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Row {
    name: [AtomicU64; NAME_WORDS],
    lane: [AtomicU64; LANE_WORDS],
    doing: AtomicU64,
    /// The step it began last, plus one.
    step: AtomicU64,
    since_ns: AtomicU64,
}

impl Row {
    /// Makes it one that nobody has taken.
    pub fn clear(&self) {
        let words = self.name.iter().chain(&self.lane).chain([&self.doing, &self.step, &self.since_ns]);
        words.for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// What an actor does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// It has its turn behind it and not said what it waits for.
    Rests,
    /// It acts on the step that it began last.
    Acts,
    /// It waits.
    Waits(Wait),
    /// It faulted.
    Down,
    /// It has nothing to do any more.
    Finished,
}

/// A row, as it was a moment ago.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// The actor's track.
    pub track: Track,
    /// Its lane.
    pub lane: String,
    /// Its name.
    pub actor: String,
    /// What it does.
    pub doing: Doing,
    /// The step it began last.
    pub step: Option<u64>,
    /// Since when it does that, in nanoseconds since the trace's origin; 0 where no time is recorded.
    pub since_ns: u64,
}

/// A row for each track of a trace. Clones are the same board.
#[derive(Clone, Debug)]
pub struct Board(Rows);

#[derive(Clone, Debug)]
enum Rows {
    Own(Arc<[Row]>),
    Shared(&'static [Row]),
}

impl Default for Board {
    fn default() -> Self {
        Self(Rows::Own((0..ROWS).map(|_| Row::default()).collect()))
    }
}

impl Board {
    /// A board over rows that another process may read; all zeros.
    pub fn shared(rows: &'static [Row]) -> Self {
        Self(Rows::Shared(rows))
    }

    fn row(&self, track: Track) -> Option<&Row> {
        let rows: &[Row] = match &self.0 {
            Rows::Own(rows) => rows,
            Rows::Shared(rows) => rows,
        };
        // A track beyond the board is not shown.
        rows.get(track.0 as usize)
    }

    /// Names a row.
    pub(super) fn name(&self, track: Track, lane: &str, actor: &str) {
        if let Some(row) = self.row(track) {
            write(&row.lane, lane);
            write(&row.name, actor);
        }
    }

    fn set(&self, track: Track, doing: Doing, now_ns: u64) {
        if let Some(row) = self.row(track) {
            row.since_ns.store(now_ns, Ordering::Relaxed);
            row.doing.store(encode(doing), Ordering::Relaxed);
        }
    }

    /// The actor begins to act.
    #[inline]
    pub(crate) fn acts(&self, track: Track, step: u64, now_ns: u64) {
        if let Some(row) = self.row(track) {
            row.step.store(step.wrapping_add(1), Ordering::Relaxed);
            self.set(track, Doing::Acts, now_ns);
        }
    }

    /// The actor has its turn behind it.
    #[inline]
    pub(crate) fn rests(&self, track: Track) {
        if let Some(row) = self.row(track) {
            row.doing.store(encode(Doing::Rests), Ordering::Relaxed);
        }
    }

    /// The actor waits for something that it did not wait for before.
    #[inline]
    pub(crate) fn waits(&self, track: Track, wait: Wait, now_ns: u64) {
        self.set(track, Doing::Waits(wait), now_ns);
    }

    /// The actor is not polled any more.
    pub(crate) fn ends(&self, track: Track, doing: Doing, now_ns: u64) {
        self.set(track, doing, now_ns);
    }

    /// All rows that were taken, in the order of tracks.
    pub fn states(&self) -> Vec<State> {
        let state = |track| {
            let row = self.row(Track(track))?;
            let actor = read(&row.name);
            let step = row.step.load(Ordering::Relaxed).checked_sub(1);
            let (doing, since_ns) = (decode(row.doing.load(Ordering::Relaxed)), row.since_ns.load(Ordering::Relaxed));
            let taken = !actor.is_empty();
            taken.then(|| State { track: Track(track), lane: read(&row.lane), actor, doing, step, since_ns })
        };
        (0..=u16::MAX).map_while(state).collect()
    }
}

fn encode(doing: Doing) -> u64 {
    let (kind, number) = match doing {
        Doing::Rests => (0, 0),
        Doing::Acts => (1, 0),
        Doing::Waits(Wait::Input(edge)) => (2, edge.0),
        Doing::Waits(Wait::Credit(edge)) => (3, edge.0),
        Doing::Waits(Wait::Outside(cause)) => (4, cause.0),
        Doing::Down => (5, 0),
        Doing::Finished => (6, 0),
    };
    kind | u64::from(number) << 8
}

/// What a word says. Another process may have written it, so that every word means something.
fn decode(word: u64) -> Doing {
    let number = (word >> 8) as u16;
    match word & 0xff {
        1 => Doing::Acts,
        2 => Doing::Waits(Wait::Input(Edge(number))),
        3 => Doing::Waits(Wait::Credit(Edge(number))),
        4 => Doing::Waits(Wait::Outside(Cause(number))),
        5 => Doing::Down,
        6 => Doing::Finished,
        _ => Doing::Rests,
    }
}

/// Writes a text into words, cut where they end.
fn write(words: &[AtomicU64], text: &str) {
    for (index, word) in words.iter().enumerate() {
        let mut bytes = [0; 8];
        let rest = text.as_bytes().get(index * 8..).unwrap_or_default();
        let here = rest.len().min(8);
        bytes[..here].copy_from_slice(&rest[..here]);
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

fn read(words: &[AtomicU64]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_written_last() {
        let board = Board::default();
        board.name(Track(0), "cpu:0", "feed");
        board.name(Track(1), "cpu:1", &"stage ".repeat(20));
        board.acts(Track(0), 0, 5);
        board.waits(Track(1), Wait::Credit(Edge(300)), 7);
        let states = board.states();
        assert_eq!(states.len(), 2);
        assert_eq!((states[0].lane.as_str(), states[0].actor.as_str()), ("cpu:0", "feed"));
        assert_eq!((states[0].doing, states[0].step, states[0].since_ns), (Doing::Acts, Some(0), 5));
        assert_eq!((states[1].doing, states[1].step), (Doing::Waits(Wait::Credit(Edge(300))), None));
        assert_eq!(states[1].actor.len(), NAME_WORDS * 8);
        board.rests(Track(0));
        board.ends(Track(1), Doing::Down, 9);
        let doing: Vec<Doing> = board.states().iter().map(|state| state.doing).collect();
        assert_eq!(doing, [Doing::Rests, Doing::Down]);
        // Beyond the board nothing is shown, and nothing breaks.
        board.acts(Track(u16::MAX), 1, 1);
    }

    #[test]
    fn every_word_means_something() {
        for word in (0..=0xffff).chain([u64::MAX]) {
            let doing = decode(word);
            assert_eq!(decode(encode(doing)), doing);
        }
    }
}
