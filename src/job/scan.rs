//! The first pass over a job: how long it is, and whether every result will have a name of its own.
//!
//! Eight bytes a line are held, not the names; only where two hashes are equal is the file read again.

use super::journal::{InputFingerprint, JournalError};
use super::line::{LineError, LineParser, good_id};
use super::reader::LineReader;
use super::resume::Refusal;
use super::task::{Task, ask};
use crate::error::{ExitCode, Shown, read_exit_code};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Faults of a job that are listed; the others are counted.
const LISTED_MAX: usize = 10;

/// A name that two lines have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DuplicateId {
    /// The name.
    pub custom_id: String,
    /// The line that has it first.
    pub first: u64,
    /// The line that has it again.
    pub second: u64,
}

/// Why a job is not begun.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of captured edges could not be written.
    #[error("{}: captured edges cannot be written: {source}", .file.display())]
    Capture {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Lines share a name.
    #[error("{}", Duplicates { file, first, count: *count })]
    DuplicateIds {
        /// The file.
        file: PathBuf,
        /// At most ten.
        first: Vec<DuplicateId>,
        /// How many there are.
        count: usize,
    },
    /// Bad lines, in a job that is to have none.
    #[error("{}", BadLines { file, first, count: *count })]
    BadLines {
        /// The file.
        file: PathBuf,
        /// At most ten: line and why.
        first: Vec<(u64, LineError)>,
        /// How many there are.
        count: u64,
    },
    /// Of its journal or its output.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What is there already is not of this job.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl JobError {
    /// What a command exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            JobError::Io { source, .. } => read_exit_code(source),
            JobError::Capture { .. } => ExitCode::Io,
            JobError::DuplicateIds { .. } | JobError::BadLines { .. } => ExitCode::Data,
            JobError::Journal(error) => error.exit_code(),
            JobError::Refused(refusal) => refusal.exit_code(),
        }
    }
}

/// One duplicate a line.
struct Duplicates<'a> {
    file: &'a Path,
    first: &'a [DuplicateId],
    count: usize,
}

impl fmt::Display for Duplicates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (index, DuplicateId { custom_id, first, second }) in self.first.iter().enumerate() {
            let newline = if index > 0 { "\n" } else { "" };
            let id = Shown::quoted(custom_id);
            write!(f, "{newline}{file}:{second}: custom_id {id} is that of line {first} too; each names one result")?;
        }
        more(f, self.count - self.first.len())
    }
}

/// One bad line a line.
struct BadLines<'a> {
    file: &'a Path,
    first: &'a [(u64, LineError)],
    count: u64,
}

impl fmt::Display for BadLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (index, (line, error)) in self.first.iter().enumerate() {
            write!(f, "{}{file}:{line}: {error}", if index > 0 { "\n" } else { "" })?;
        }
        more(f, self.count as usize - self.first.len())
    }
}

fn more(f: &mut fmt::Formatter<'_>, left: usize) -> fmt::Result {
    if left > 0 { write!(f, "\nand {left} more") } else { Ok(()) }
}

/// What the first pass found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// Lines that are not blank: results there will be.
    pub lines: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// All that the first pass found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// How long the job is.
    pub scan: Scan,
    /// What tells this input from another.
    pub fingerprint: InputFingerprint,
    /// Four bytes of the hash of each line that is not blank: they name the line that changed.
    pub line_hashes: Vec<u32>,
}

/// Reads all of a job once. With `strict` every line must be a request of that parser's model.
pub fn scan(file: &Path, strict: Option<&mut LineParser>) -> Result<Scan, JobError> {
    Ok(survey(file, Task::Generate, strict)?.scan)
}

/// As [`scan`] of a job of this task, with what a later run compares.
pub fn survey(file: &Path, task: Task, mut strict: Option<&mut LineParser>) -> Result<Survey, JobError> {
    let mut found = Scan::default();
    let (mut hashes, mut line_hashes): (Vec<u64>, Vec<u32>) = (Vec::new(), Vec::new());
    let (mut bad, mut bad_count) = (Vec::new(), 0);
    let (bytes, content) = each_line(file, |line, text| {
        found.lines += 1;
        found.bytes = line.offset + line.bytes;
        line_hashes.push(line_hash(&line));
        if let Some(id) = text.and_then(id_of) {
            hashes.push(hash(&id));
        }
        let Some(parser) = strict.as_deref_mut() else { return };
        if let Err(error) = ask(task, parser, &line) {
            bad_count += 1;
            if bad.len() < LISTED_MAX {
                bad.push((line.number, error.error));
            }
        }
    })?;
    if bad_count > 0 {
        return Err(JobError::BadLines { file: file.into(), first: bad, count: bad_count });
    }
    hashes.sort_unstable();
    let twice: HashSet<u64> = hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    drop(hashes);
    if !twice.is_empty() {
        duplicates(file, &twice)?;
    }
    let fingerprint = InputFingerprint { bytes, lines: found.lines, blake3: content.to_hex().to_string() };
    Ok(Survey { scan: found, fingerprint, line_hashes })
}

/// Four bytes of the hash of a line; of its length where it was passed over.
fn line_hash(line: &super::RawLine<'_>) -> u32 {
    let hash = match line.text {
        Some(text) => blake3::hash(text),
        None => blake3::hash(&line.bytes.to_le_bytes()),
    };
    let [first, second, third, fourth, ..] = *hash.as_bytes();
    u32::from_le_bytes([first, second, third, fourth])
}

/// Reads the file again for the names behind equal hashes.
fn duplicates(file: &Path, twice: &HashSet<u64>) -> Result<(), JobError> {
    let mut lines: HashMap<String, u64> = HashMap::new();
    let (mut first, mut count) = (Vec::new(), 0);
    each_line(file, |line, text| {
        let Some(id) = text.and_then(id_of).filter(|id| twice.contains(&hash(id))) else { return };
        let Some(&before) = lines.get(id.as_ref()) else {
            lines.insert(id.into_owned(), line.number);
            return;
        };
        count += 1;
        if first.len() < LISTED_MAX {
            first.push(DuplicateId { custom_id: id.into_owned(), first: before, second: line.number });
        }
    })?;
    if count == 0 { Ok(()) } else { Err(JobError::DuplicateIds { file: file.into(), first, count }) }
}

/// Calls `act` for each line of the file; returns its length and the hash of all of it.
fn each_line(
    file: &Path,
    mut act: impl FnMut(super::RawLine<'_>, Option<&[u8]>),
) -> Result<(u64, blake3::Hash), JobError> {
    let failed = |source| JobError::Io { file: file.into(), source };
    let mut hashing = Hashing { source: File::open(file).map_err(failed)?, bytes: 0, hasher: blake3::Hasher::new() };
    let mut reader = LineReader::new(BufReader::with_capacity(1 << 16, &mut hashing));
    while let Some(line) = reader.next_line().map_err(failed)? {
        act(line, line.text);
    }
    Ok((hashing.bytes, hashing.hasher.finalize()))
}

/// Hashes what is read through it.
struct Hashing {
    source: File,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl Read for Hashing {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(into)?;
        self.hasher.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// The name of a line, if it has a good one; the rest is only skimmed.
fn id_of(text: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        custom_id: Cow<'a, str>,
    }
    let Named { custom_id } = serde_json::from_slice(text).ok()?;
    good_id(&custom_id).then_some(custom_id)
}

/// What stands for a name where only equality matters.
pub(super) fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
