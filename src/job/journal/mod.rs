//! The journal of a job: an append-only file beside the output, of which every record has a checksum.
//!
//! What is committed there is done; the output is derived from it and can be made again. It knows nothing of requests or models: an
//! item has a number, and its result is a line of bytes.

mod error;
mod files;
mod header;
mod lock;
mod reader;
mod record;
mod writer;

pub use error::{Action, Damage, JournalError};
pub(crate) use files::{Cursor, write_all_at};
pub use files::{Disk, Files, Handle, Lying, Mode};
pub use header::{Difference, Header, InputFingerprint};
pub(crate) use lock::exists;
pub use lock::{Hold, Holder, Places};
pub use reader::{Contents, InFlight, Index, read};
pub(crate) use reader::{forget_steps, read_output};
pub use record::{Record, VERSION};
pub use writer::{GroupPolicy, Writer};

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;
