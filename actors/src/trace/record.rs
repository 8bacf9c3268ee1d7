//! One recorded event: fixed size, `Copy`, names only by number.
//!
//! Invariant: a record is at most 64 bytes, so that recording is one push of a cache line.

/// An actor's line in the trace, by its number in the table of tracks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Track(pub u16);

/// A port from one actor to one reader, by its number in the table of edges. A broadcast has one edge a reader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Edge(pub u16);

/// Something counted (pages in use, rows of a batch), by its number in the table of counters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Counter(pub u16);

/// A cause of waiting outside the ports (a peer's progress, a file), by its number in the table of causes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Cause(pub u16);

/// What a mark says, by its number in the table of names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Name(pub u16);

/// How much is recorded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Level {
    /// Nothing.
    Off,
    /// Acts, waits and marks.
    Step,
    /// Messages, depths and counters too.
    #[default]
    Hop,
}

/// What an actor waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Wait {
    /// No message has come over this edge.
    Input(Edge),
    /// All buffers of this edge are out: its reader has not given one back.
    Credit(Edge),
    /// Something that no port announces; the lane polls again soon instead of sleeping for long.
    Outside(Cause),
}

/// What happened. Points in time have equal start and end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Event {
    /// An actor acted.
    Act {
        /// The step's number.
        step: u64,
        /// Rows of the step.
        rows: u32,
        /// Bytes read and written, as the actor counts them.
        bytes: u64,
    },
    /// An actor could not act.
    Wait(Wait),
    /// A message left over an edge.
    Send {
        /// Which edge.
        edge: Edge,
        /// The step's number.
        step: u64,
    },
    /// A message was taken off an edge.
    Receive {
        /// Which edge.
        edge: Edge,
        /// The step's number.
        step: u64,
    },
    /// Messages waiting on an edge, when that number changed.
    Depth {
        /// Which edge.
        edge: Edge,
        /// Messages that wait.
        messages: u32,
    },
    /// A counter's new value.
    Count {
        /// Which counter.
        counter: Counter,
        /// Its value.
        value: u64,
    },
    /// A request from when the batcher took it in to its end, as the actor saw it that tells its stream.
    Request {
        /// Its number, one of its own in the whole trace.
        request: u64,
        /// Tokens that it was told.
        tokens: u32,
        /// From its beginning to its first token; 0 where it was told none.
        first_ns: u64,
        /// The longest time between two of its tokens.
        gap_ns: u64,
    },
    /// Something rare of the process, such as loading a checkpoint: a span of the control plane, or a point.
    Mark {
        /// What it was.
        name: Name,
    },
}

impl Event {
    /// The level from which on it is recorded.
    #[inline]
    pub fn level(&self) -> Level {
        match self {
            Event::Act { .. } | Event::Wait(_) | Event::Request { .. } | Event::Mark { .. } => Level::Step,
            Event::Send { .. } | Event::Receive { .. } | Event::Depth { .. } | Event::Count { .. } => Level::Hop,
        }
    }
}

/// An event on a track. Times are nanoseconds since the trace's origin. Records are ordered by time, then by track.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    /// When it began.
    pub start_ns: u64,
    /// When it ended; equal to the start for a point.
    pub end_ns: u64,
    /// Whose it is.
    pub track: Track,
    /// What it was.
    pub event: Event,
}

const _: () = assert!(size_of::<Record>() <= 64, "a record fits a cache line");
