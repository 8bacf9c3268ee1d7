//! Where the time went: every act a span, every wait with its cause, every message an arrow; always on.
//!
//! [`write_chrome`] makes the file that Perfetto opens, [`read_chrome`] reads it back, [`Summary`] says what bounded the run and [`Words`] says it in words.

mod board;
mod chrome;
mod chrome_fields;
mod chrome_read;
mod chrome_tables;
mod compare;
mod latency;
mod layer;
mod messages;
mod record;
mod recorder;
mod recording;
mod summary;
mod verdict;
mod words;

pub use board::{Board, Doing, Row, State};
pub use chrome::{Written, write_chrome};
pub use chrome_read::{ChromeFault, ChromeRead, read_chrome};
pub use compare::{ActorChange, Change, Comparison, CounterChange, WaitChange};
pub use latency::{Communication, Percentiles, Requests};
pub use layer::TraceLayer;
pub use messages::Message;
pub use record::{Cause, Counter, Edge, Event, Level, Name, Record, Track, Wait};
pub use recorder::{Clock, Recorder, Trace};
pub use recording::{EdgeName, Held, LaneName, Recording, TrackName};
pub use summary::{Blocked, CounterSummary, EdgeSummary, LongWait, Summary, TrackSummary};
pub use verdict::{Link, Verdict};
pub use words::{Words, time};

/// The heading of the tracks that are no lane of a device: the batcher and the pool.
pub const CONTROL_LANE: &str = "control";

#[cfg(test)]
mod tests;
