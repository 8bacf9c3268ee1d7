//! Where the time went: every act a span, every wait with its cause, every message an arrow; always on.

mod record;
mod recorder;
mod recording;

pub use record::{Cause, Counter, Edge, Event, Record, Track, Wait};
pub use recorder::{Clock, Recorder, Trace};
pub use recording::{EdgeName, Recording, TrackName};
