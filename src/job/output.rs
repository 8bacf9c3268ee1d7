//! The output of a job: the results of its journal, in the order of the job's lines. It can always be made again.

use super::journal::{
    Action, Cursor, Files, Handle, Index, JournalError, Mode, Places, read, read_output, write_all_at,
};
use crate::error::Shown;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 18;
/// Bytes of a line of an output that are compared.
const LINE_BYTES_MAX: u64 = 1 << 30;
/// Changed lines that are listed; the others are counted.
const LISTED_MAX: usize = 10;

/// A line of an output that is not what the journal has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edited {
    /// Its number, from 1.
    pub line: u64,
    /// The name of the result that belongs there.
    pub custom_id: Option<String>,
}

/// What was mended in an output.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mended {
    /// Lines that somebody changed: at most ten of them.
    pub edited: Vec<Edited>,
    /// How many there are.
    pub edited_count: u64,
    /// Lines that no result belongs to.
    pub surplus: u64,
    /// Bytes of a last line that was not whole.
    pub torn_bytes: u64,
}

/// The output while it is written.
#[derive(Debug)]
pub(super) struct Output {
    handle: Box<dyn Handle>,
    file: PathBuf,
    /// The item whose line is written next.
    next: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Output {
    /// An empty output.
    pub(super) fn create(files: &dyn Files, file: &Path) -> Result<Self, JournalError> {
        let output = Self::open(files, file)?;
        output.handle.truncate(0).map_err(JournalError::io(file, Action::Cut))?;
        Ok(output)
    }

    fn open(files: &dyn Files, file: &Path) -> Result<Self, JournalError> {
        let handle = files.open(file, Mode::Create).map_err(JournalError::io(file, Action::Create))?;
        Ok(Self { handle, file: file.into(), next: 0, bytes: 0, buffer: vec![] })
    }

    /// An output as far as it agrees with the results, which `line` gives by their place; the rest is cut.
    pub(super) fn verify(
        files: &dyn Files,
        file: &Path,
        index: &Index,
        line: impl Fn(u64) -> Result<Vec<u8>, JournalError>,
    ) -> Result<(Self, Mended), JournalError> {
        let mut output = Self::open(files, file)?;
        let mended = output.compare(index, line)?;
        output.handle.truncate(output.bytes).map_err(JournalError::io(file, Action::Cut))?;
        Ok((output, mended))
    }

    /// Goes over the lines that agree, and finds those that do not.
    fn compare(
        &mut self,
        index: &Index,
        line: impl Fn(u64) -> Result<Vec<u8>, JournalError>,
    ) -> Result<Mended, JournalError> {
        let failed = |source| JournalError::Io { file: self.file.clone(), action: Action::Read, source };
        let mut source = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(self.handle.as_ref(), 0));
        let (mut mended, mut got, mut item) = (Mended::default(), vec![], 0);
        let (mut agreed, mut bytes) = (0, 0);
        loop {
            got.clear();
            (&mut source).take(LINE_BYTES_MAX).read_until(b'\n', &mut got).map_err(failed)?;
            if got.is_empty() {
                break;
            }
            match index.get(item) {
                None => mended.surplus += 1,
                Some(offset) => {
                    let wanted = line(offset)?;
                    let good = agreed == item;
                    if got == wanted && good {
                        agreed += 1;
                        bytes += got.len() as u64;
                    } else if good && wanted.starts_with(&got) {
                        mended.torn_bytes = got.len() as u64;
                    } else if got != wanted {
                        mended.edited_count += 1;
                        if mended.edited.len() < LISTED_MAX {
                            mended.edited.push(Edited { line: item + 1, custom_id: custom_id(&wanted) });
                        }
                    }
                }
            }
            item += 1;
        }
        (self.next, self.bytes) = (agreed, bytes);
        Ok(mended)
    }

    /// Writes the lines that follow, as far as they are there.
    pub(super) fn pump(
        &mut self,
        index: &Index,
        line: impl Fn(u64) -> Result<Vec<u8>, JournalError>,
    ) -> Result<(), JournalError> {
        while let Some(offset) = index.get(self.next) {
            self.buffer.extend(line(offset)?);
            self.next += 1;
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        let written = write_all_at(self.handle.as_ref(), &self.buffer, self.bytes);
        written.map_err(JournalError::io(&self.file, Action::Write))?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes it durable.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.handle.sync().map_err(JournalError::io(&self.file, Action::Sync))
    }

    /// Lines that are written.
    pub(super) fn lines(&self) -> u64 {
        self.next
    }
}

/// Makes the output of a job again from its journal: the results up to the first that is missing. It takes the place of the old
/// one whole. Returns its lines. The job must not be running.
///
/// # Errors
/// What the system refused, or a damaged journal.
pub fn rebuild(files: &dyn Files, places: &Places) -> Result<u64, JournalError> {
    let file = &places.journal;
    let journal = files.open(file, Mode::Read).map_err(JournalError::io(file, Action::Open))?;
    let index = read(journal.as_ref(), file)?.map(|contents| contents.index).unwrap_or_default();
    let mut name = places.output.as_os_str().to_owned();
    name.push(".tmp");
    let fresh = PathBuf::from(name);
    let mut output = Output::create(files, &fresh)?;
    output.pump(&index, |offset| read_output(journal.as_ref(), file, offset))?;
    output.sync()?;
    files.rename(&fresh, &places.output).map_err(JournalError::io(&places.output, Action::Rename))?;
    files.sync_folder(places.folder()).map_err(JournalError::io(places.folder(), Action::Sync))?;
    Ok(output.lines())
}

/// The name in a line of an output.
fn custom_id(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        custom_id: Option<String>,
    }
    serde_json::from_slice::<Named>(line).ok()?.custom_id
}

impl Mended {
    /// What a person should hear.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![];
        if self.torn_bytes > 0 {
            notes.push(format!(
                "the last {} bytes of the output were not a whole line and were written again",
                self.torn_bytes
            ));
        }
        for Edited { line, custom_id } in &self.edited {
            let name = custom_id.as_deref().map(|id| format!(" ({})", Shown::quoted(id))).unwrap_or_default();
            notes.push(format!("line {line}{name} of the output was not what the journal has, and was written again"));
        }
        let left = self.edited_count - self.edited.len() as u64;
        if left > 0 {
            notes.push(format!("and {left} more lines of the output"));
        }
        if self.surplus > 0 {
            notes.push(format!("{} lines of the output belonged to no result and were cut", self.surplus));
        }
        notes
    }
}
