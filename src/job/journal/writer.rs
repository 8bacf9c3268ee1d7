//! Appends to a journal, and makes groups of records durable together.
//!
//! A record is committed when the sync behind it succeeded, and only then. After a failed write or sync nothing is known of what
//! lies behind the last commit: the file is opened anew, cut there, and the records since are written and synced again; a second
//! failure ends the writing, with all that was committed before still committed.

use super::error::{Action, JournalError};
use super::files::{Files, Handle, Mode, write_all_at};
use super::header::Header;
use super::reader::{Contents, read_output};
use super::record::{HEAD_BYTES, Head, PAYLOAD_BYTES_MAX, Record, VERSION};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lines whose hashes share a record.
const LINES_A_RECORD: usize = 1 << 16;

/// When a group of records is made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupPolicy {
    /// As soon as it has this many results.
    pub results_max: u32,
    /// As soon as its first result is this old.
    pub age_max: Duration,
    /// As soon as it has this many bytes: they are held in memory until then.
    pub bytes_max: usize,
}

impl Default for GroupPolicy {
    fn default() -> Self {
        Self { results_max: 256, age_max: Duration::from_secs(1), bytes_max: 8 << 20 }
    }
}

impl GroupPolicy {
    /// Whether a group of so many results and bytes, the first of them so old, is due.
    pub fn due(&self, results: u32, bytes: usize, age: Duration) -> bool {
        results > 0 && (results >= self.results_max || age >= self.age_max || bytes >= self.bytes_max)
    }
}

/// The writing end of a journal.
#[derive(Debug)]
pub struct Writer {
    files: Arc<dyn Files>,
    file: PathBuf,
    handle: Box<dyn Handle>,
    policy: GroupPolicy,
    /// Bytes that are durable.
    committed: u64,
    /// The records behind them.
    pending: Vec<u8>,
    /// How much of `pending` was given to the system.
    written: usize,
    /// Results in `pending`, and when the first came.
    results: u32,
    oldest: Option<Instant>,
}

impl Writer {
    /// Begins a journal at `file`, in place of what is there, with its header committed.
    ///
    /// # Errors
    /// What the system refused, twice.
    pub fn create(
        files: Arc<dyn Files>,
        file: &Path,
        header: &Header,
        line_hashes: &[u32],
    ) -> Result<Self, JournalError> {
        let handle = files.open(file, Mode::Create).map_err(JournalError::io(file, Action::Create))?;
        handle.truncate(0).map_err(JournalError::io(file, Action::Cut))?;
        let mut writer = Self::new(files, file, handle, 0);
        let text = serde_json::to_string(header).expect("a header is JSON");
        writer.append(&Record::Header { version: VERSION, text: &text })?;
        for (index, lines) in line_hashes.chunks(LINES_A_RECORD).enumerate() {
            let hashes: Vec<u8> = lines.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            writer.append(&Record::Lines { first: (index * LINES_A_RECORD) as u64, hashes: &hashes })?;
            writer.write()?;
        }
        writer.commit()?;
        let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        writer.files.sync_folder(folder).map_err(JournalError::io(folder, Action::Sync))?;
        Ok(writer)
    }

    /// Goes on with a journal behind its good records; a torn tail is cut.
    ///
    /// # Errors
    /// What the system refused.
    pub fn resume(files: Arc<dyn Files>, file: &Path, contents: &Contents) -> Result<Self, JournalError> {
        Self::go_on(files, file, contents, &Record::Resumed)
    }

    /// Notes in a journal what ended the process that had written it, with all that was in flight then.
    ///
    /// # Errors
    /// What the system refused.
    pub fn note_fault(files: Arc<dyn Files>, file: &Path, contents: &Contents, what: &str) -> Result<(), JournalError> {
        Self::go_on(files, file, contents, &Record::Fault { what }).map(drop)
    }

    fn go_on(
        files: Arc<dyn Files>,
        file: &Path,
        contents: &Contents,
        first: &Record<'_>,
    ) -> Result<Self, JournalError> {
        let handle = files.open(file, Mode::Update).map_err(JournalError::io(file, Action::Open))?;
        handle.truncate(contents.end).map_err(JournalError::io(file, Action::Cut))?;
        let mut writer = Self::new(files, file, handle, contents.end);
        // What was read may have been in memory only: it counts as committed when this sync succeeded.
        writer.append(first)?;
        writer.commit()?;
        Ok(writer)
    }

    fn new(files: Arc<dyn Files>, file: &Path, handle: Box<dyn Handle>, committed: u64) -> Self {
        let (file, policy) = (file.to_path_buf(), GroupPolicy::default());
        Self { files, file, handle, policy, committed, pending: vec![], written: 0, results: 0, oldest: None }
    }

    /// Bytes that are durable.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Appends a record in memory; returns where it will begin.
    ///
    /// # Errors
    /// A record over the limit.
    pub fn append(&mut self, record: &Record<'_>) -> Result<u64, JournalError> {
        let offset = self.committed + self.pending.len() as u64;
        let limit = PAYLOAD_BYTES_MAX;
        record.frame(offset, &mut self.pending).map_err(|bytes| JournalError::TooLarge {
            file: self.file.clone(),
            bytes,
            limit,
        })?;
        Ok(offset)
    }

    /// Appends a result or an error record at time `now`.
    ///
    /// # Errors
    /// A record over the limit.
    pub fn append_result(&mut self, record: &Record<'_>, now: Instant) -> Result<u64, JournalError> {
        let offset = self.append(record)?;
        self.results += 1;
        self.oldest.get_or_insert(now);
        Ok(offset)
    }

    /// Gives all records to the system, so that they outlive this process. They are not committed by that.
    ///
    /// # Errors
    /// What the system refused, twice.
    pub fn write(&mut self) -> Result<(), JournalError> {
        match self.try_write() {
            Ok(()) => Ok(()),
            Err(_) => self.rewrite(),
        }
    }

    fn try_write(&mut self) -> Result<(), JournalError> {
        let at = self.committed + self.written as u64;
        write_all_at(self.handle.as_ref(), &self.pending[self.written..], at)
            .map_err(JournalError::io(&self.file, Action::Write))?;
        self.written = self.pending.len();
        Ok(())
    }

    /// Commits the group if it is due at `now`; says whether it did.
    ///
    /// # Errors
    /// What the system refused, twice.
    pub fn tick(&mut self, now: Instant) -> Result<bool, JournalError> {
        let age = self.oldest.map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest));
        let due = self.policy.due(self.results, self.pending.len(), age);
        if due {
            self.commit()?;
        }
        Ok(due)
    }

    /// Makes all records durable.
    ///
    /// # Errors
    /// What the system refused, twice. Then none of the records since the last commit counts.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        if self.try_write().and_then(|()| self.sync()).is_err() {
            return self.rewrite();
        }
        self.commit_done();
        Ok(())
    }

    fn sync(&self) -> Result<(), JournalError> {
        self.handle.sync().map_err(JournalError::io(&self.file, Action::Sync))
    }

    /// Opens the file anew, cuts it behind the last commit, and writes and syncs what came since.
    fn rewrite(&mut self) -> Result<(), JournalError> {
        let done = self.try_rewrite();
        match &done {
            Ok(()) => self.commit_done(),
            // The tail is cut if that is possible; else the next reader cuts it.
            Err(_) => drop(self.handle.truncate(self.committed)),
        }
        done
    }

    fn try_rewrite(&mut self) -> Result<(), JournalError> {
        self.handle = self.files.open(&self.file, Mode::Update).map_err(JournalError::io(&self.file, Action::Open))?;
        self.handle.truncate(self.committed).map_err(JournalError::io(&self.file, Action::Cut))?;
        self.written = 0;
        self.try_write()?;
        self.sync()
    }

    /// Notes that all that is pending is durable.
    fn commit_done(&mut self) {
        self.committed += self.pending.len() as u64;
        self.pending.clear();
        (self.written, self.results, self.oldest) = (0, 0, None);
        let synced = Record::Synced { bytes: self.committed };
        synced.frame(self.committed, &mut self.pending).expect("eight bytes are below the limit");
    }

    /// The line of the output that the record at `offset` is, or what a step made.
    ///
    /// # Errors
    /// What the system refused, or a record that changed since it was written.
    pub fn output(&self, offset: u64) -> Result<Vec<u8>, JournalError> {
        let Some(at) = offset.checked_sub(self.committed) else {
            return read_output(self.handle.as_ref(), &self.file, offset);
        };
        let frame = &self.pending[at as usize..];
        let (head, rest) = frame.split_first_chunk::<HEAD_BYTES>().expect("a record that was appended is whole");
        let head = Head::of(head, rest.len() as u64).expect("a record that was appended is good");
        let record = head.record(offset, &rest[..head.bytes]).expect("a record that was appended is good");
        Ok(record.bytes().expect("only what has bytes is asked for").to_vec())
    }
}
