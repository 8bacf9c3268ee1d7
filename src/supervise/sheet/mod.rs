//! A sheet of memory that a process shares with its parent: what its actors do, and which thread a fatal signal met.
//!
//! It outlives the process that writes it, so that its parent can say what ended it. Nothing is ever read from it but words that all
//! mean something.

mod crash;

use actors::trace::{Board, Doing, Row, State};
use crash::Crash;
use memmap2::MmapOptions;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::io::Result;

/// Actors that are shown.
const ROWS: usize = 512;

/// What lies in the memory. All zeros is one that nobody has written.
#[repr(C)]
struct Sheet {
    crash: Crash,
    rows: [Row; ROWS],
}

/// A sheet, mapped for as long as this process lives.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    sheet: &'static Sheet,
}

/// Memory for a sheet, to be handed on by its descriptor; all zeros.
pub(crate) fn memory() -> Result<File> {
    let memory = memfd_create("millstream-sheet", MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, size_of::<Sheet>() as u64)?;
    Ok(memory.into())
}

impl Shared {
    /// Maps the sheet in this memory.
    ///
    /// # Errors
    /// What the system refused, or memory that is too small for a sheet.
    pub(crate) fn map(memory: &File) -> Result<Self> {
        let bytes = memory.metadata()?.len();
        if bytes < size_of::<Sheet>() as u64 {
            let why = format!("wanted {} bytes of shared memory, got {bytes}", size_of::<Sheet>());
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
        }
        // Never unmapped: a signal may be met at any time.
        let mapping = Box::leak(Box::new(MmapOptions::new().len(size_of::<Sheet>()).map_raw(memory)?));
        // SAFETY: the mapping is as long as a sheet (checked above), begins at a page, which is more than a sheet's alignment of 64 bytes,
        // lives as long as the process (leaked), and consists of atomics, for which every bit pattern is a value.
        let sheet = unsafe { &*mapping.as_mut_ptr().cast::<Sheet>() };
        Ok(Self { sheet })
    }

    /// Where the actors of this process show what they do.
    pub(crate) fn board(&self) -> Board {
        Board::shared(&self.sheet.rows)
    }

    /// Notes on the sheet which thread a fatal signal meets, from now on.
    ///
    /// # Errors
    /// What the system refused.
    pub(crate) fn note_crashes(&self) -> Result<()> {
        crash::note_on(&self.sheet.crash)
    }

    /// Forgets what the last process wrote.
    pub(crate) fn clear(&self) {
        self.sheet.crash.clear();
        self.sheet.rows.iter().for_each(Row::clear);
    }

    /// Who acted when the process ended: ` while stage 1 acted on step 12`; empty where nobody did.
    pub(crate) fn during(&self) -> String {
        during(&self.board().states(), &self.sheet.crash.thread())
    }
}

/// Who acts, in words. A lane's own thread that met the signal leaves no doubt; a helper of a lane may be of any that acts.
fn during(states: &[State], thread: &str) -> String {
    let acting: Vec<&State> = states.iter().filter(|state| state.doing == Doing::Acts).collect();
    let own: Vec<&State> = acting.iter().copied().filter(|state| state.lane == thread).collect();
    let blamed = if own.is_empty() { acting } else { own };
    if blamed.is_empty() {
        return if thread.is_empty() { String::new() } else { format!(" in thread {thread}") };
    }
    let words = blamed.iter().map(|state| format!("{} acted on step {}", state.actor, state.step.unwrap_or_default()));
    format!(" while {}", words.collect::<Vec<_>>().join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actors::trace::{Level, Trace, Track};

    #[test]
    fn what_one_mapping_writes_another_reads() {
        let memory = memory().expect("memory");
        let (writer, reader) = (Shared::map(&memory).expect("a mapping"), Shared::map(&memory).expect("another"));
        let trace = Trace::with_board(Level::Step, writer.board());
        trace.track("cpu:0", "feed");
        trace.track("cpu:1", "stage 1");
        let states = reader.board().states();
        assert_eq!(states.iter().map(|state| state.actor.as_str()).collect::<Vec<_>>(), ["feed", "stage 1"]);
        assert_eq!(reader.during(), "");
        reader.clear();
        assert!(writer.board().states().is_empty());
        let small = tempfile_of(8);
        assert!(Shared::map(&small).err().expect("too small").to_string().starts_with("wanted "));
    }

    fn tempfile_of(bytes: u64) -> File {
        let memory = memfd_create("small", MemfdFlags::CLOEXEC).expect("memory");
        ftruncate(&memory, bytes).expect("room");
        memory.into()
    }

    #[test]
    fn the_thread_tells_which_of_those_who_acted_is_to_blame() {
        let state = |lane: &str, actor: &str, doing| State {
            track: Track(0),
            lane: lane.into(),
            actor: actor.into(),
            doing,
            step: Some(12),
            since_ns: 0,
        };
        let both = [
            state("cpu:0", "stage 0", Doing::Acts),
            state("cpu:1", "stage 1", Doing::Acts),
            state("cpu:1", "sampler", Doing::Rests),
        ];
        let cases = [
            ("cpu:1", " while stage 1 acted on step 12"),
            ("team-1", " while stage 0 acted on step 12 and stage 1 acted on step 12"),
            ("", " while stage 0 acted on step 12 and stage 1 acted on step 12"),
        ];
        for (thread, expect) in cases {
            assert_eq!(during(&both, thread), expect, "{thread}");
        }
        assert_eq!(during(&both[2..], "millstream"), " in thread millstream");
        assert_eq!(during(&both[2..], ""), "");
    }
}
