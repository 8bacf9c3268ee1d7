//! A job seen from outside, while no process works on it: where it stands, and what ended the process that did.

use super::journal::{Action, Contents, Disk, Files, Hold, JournalError, Mode, Places, Writer, read};
use super::scan::JobError;
use std::path::Path;
use std::sync::Arc;

/// Where a job stands by its journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Lines with a record.
    pub done: u64,
    /// Lines of the job; unknown for a pipe.
    pub total: Option<u64>,
}

impl Standing {
    fn of(contents: &Contents) -> Self {
        Self { done: contents.done(), total: contents.header.input.as_ref().map(|input| input.lines) }
    }
}

fn contents(files: &dyn Files, places: &Places) -> Result<Option<Contents>, JournalError> {
    let journal = &places.journal;
    let handle = files.open(journal, Mode::Read).map_err(JournalError::io(journal, Action::Open))?;
    read(handle.as_ref(), journal)
}

/// Where the job whose results go to `output` stands; `None` where its journal has no header yet.
///
/// # Errors
/// A journal that is damaged, or cannot be read.
pub fn standing(output: &Path) -> Result<Option<Standing>, JobError> {
    let contents = contents(&Disk, &Places::of(output))?;
    Ok(contents.as_ref().map(Standing::of))
}

/// Notes in the journal of the job whose results go to `output` what ended the process that worked on it. What was in flight then runs
/// again in small groups, and a request that ends the process when it runs alone is not run a third time.
///
/// # Errors
/// Another process works on the job; a journal that is damaged; what the system refused.
pub fn note_fault(output: &Path, what: &str) -> Result<(), JobError> {
    let places = Places::of(output);
    let hold = Hold::take(&Disk, &places.journal, &places.note)?;
    let noted = match contents(&Disk, &places)? {
        // Nothing had been begun.
        None => Ok(()),
        Some(contents) => Writer::note_fault(Arc::new(Disk), &places.journal, &contents, what),
    };
    hold.release(&Disk, &places.note);
    Ok(noted?)
}
