//! What can be wrong with a journal, or with the disk under it.

use super::lock::Holder;
use crate::error::ExitCode;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What was done with a file when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Made.
    Create,
    /// Opened.
    Open,
    /// Read.
    Read,
    /// Written.
    Write,
    /// Made durable.
    Sync,
    /// Cut to a length.
    Cut,
    /// Given another name.
    Rename,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Create => "made",
            Action::Open => "opened",
            Action::Read => "read",
            Action::Write => "written",
            Action::Sync => "made durable",
            Action::Cut => "cut",
            Action::Rename => "renamed",
        })
    }
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Damage {
    /// The bytes that begin a record are not there.
    Mark,
    /// It is longer than the rest of the file, or than any record may be.
    Length(u32),
    /// Its checksum is not that of its bytes.
    Checksum,
    /// Its checksum holds, and it is of no known kind.
    Kind(u8),
    /// Its checksum holds, and its content has another form.
    Form,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Mark => f.write_str("the mark of a record is not there"),
            Damage::Length(bytes) => write!(f, "its length of {bytes} bytes cannot be"),
            Damage::Checksum => f.write_str("its checksum does not hold"),
            Damage::Kind(kind) => write!(f, "it is of kind {kind}, which is not known"),
            Damage::Form => f.write_str("its content is not of its kind's form"),
        }
    }
}

/// A fault of the journal or of the files beside it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused an operation.
    #[error("{}: cannot be {action}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was done.
        action: Action,
        /// What the system said.
        source: std::io::Error,
    },
    /// A record that was safe on the disk has changed.
    #[error(
        "{}: record {record} at byte {offset} is damaged: {damage}; it had been safe on the disk, so the disk or a program \
         has changed it. Restore the file, or remove it and the output to begin anew", .file.display()
    )]
    Corrupt {
        /// The journal.
        file: PathBuf,
        /// The record's place, from 0.
        record: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// A file of another kind.
    #[error("{}: is no journal of this program, and is left as it is; name another output", .file.display())]
    NotAJournal {
        /// The file.
        file: PathBuf,
    },
    /// A journal of another version.
    #[error(
        "{}: journal of version {got}, this program reads version {wanted}; finish the job with the program that began it, \
         or name another output", .file.display()
    )]
    Version {
        /// The journal.
        file: PathBuf,
        /// Its version.
        got: u32,
        /// The version that is read.
        wanted: u32,
    },
    /// Two results of one line that are not the same.
    #[error(
        "{}: item {item} has two results that differ, at bytes {first} and {second}; the same request gives the same bits, \
         so one of them is not of this job", .file.display()
    )]
    Conflict {
        /// The journal.
        file: PathBuf,
        /// The line's place among the lines that are not blank, from 0.
        item: u64,
        /// Where the first record is.
        first: u64,
        /// Where the other is, or would have been.
        second: u64,
    },
    /// Another process works on the job.
    #[error("{}: another process works on this job: {holder}", .file.display())]
    Held {
        /// The journal.
        file: PathBuf,
        /// Who.
        holder: Holder,
    },
    /// A file system without locks.
    #[error(
        "{}: cannot be locked, so that two processes could write one output: {source}; name an output on a file system \
         with locks", .file.display()
    )]
    NoLocks {
        /// The journal.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A record over the limit.
    #[error("{}: a record of {bytes} bytes is over the limit of {limit}", .file.display())]
    TooLarge {
        /// The journal.
        file: PathBuf,
        /// Its length.
        bytes: usize,
        /// The most a record may have.
        limit: usize,
    },
}

impl JournalError {
    /// What makes an error of an operation on a file.
    pub(crate) fn io(file: &Path, action: Action) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| JournalError::Io { file: file.into(), action, source }
    }

    /// Whether the job can go on later without anything being mended in its files: no space, no file handles, a disk that failed.
    pub fn pauses(&self) -> bool {
        match self {
            JournalError::Io { source, .. } => exhausted(source),
            JournalError::Held { .. } => true,
            JournalError::Corrupt { .. }
            | JournalError::NotAJournal { .. }
            | JournalError::Version { .. }
            | JournalError::Conflict { .. }
            | JournalError::NoLocks { .. }
            | JournalError::TooLarge { .. } => false,
        }
    }

    /// What a command exits with.
    pub fn exit_code(&self) -> ExitCode {
        if self.pauses() {
            return ExitCode::Paused;
        }
        match self {
            JournalError::Io { action: Action::Create, .. } | JournalError::NoLocks { .. } => ExitCode::CannotCreate,
            JournalError::Io { .. } => ExitCode::Io,
            JournalError::Corrupt { .. }
            | JournalError::NotAJournal { .. }
            | JournalError::Version { .. }
            | JournalError::Conflict { .. } => ExitCode::Data,
            JournalError::Held { .. } => ExitCode::Paused,
            JournalError::TooLarge { .. } => ExitCode::Bug,
        }
    }
}

/// Whether the machine has run out of something, or its disk failed.
fn exhausted(error: &std::io::Error) -> bool {
    let kinds = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::OutOfMemory];
    let numbers = [libc::EIO, libc::EMFILE, libc::ENFILE, libc::ENOSPC, libc::EDQUOT, libc::ENOMEM];
    kinds.contains(&error.kind()) || error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}
