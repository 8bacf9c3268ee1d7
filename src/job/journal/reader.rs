//! Reads a journal back: what is done, what was in flight, and where the good records end.
//!
//! A bad record is either the torn tail of what was never made durable, which is cut off, or damage to what was. A record behind
//! it that says how far the journal was durable tells the two apart: later pages of a file may reach the disk before earlier ones,
//! so that good records behind a bad one prove nothing.

use super::error::{Action, Damage, JournalError};
use super::files::{Cursor, Handle, read_all_at};
use super::header::Header;
use super::record::{HEAD_BYTES, Head, MARK, Record, VERSION};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::path::Path;

/// Bytes that are read ahead.
const BUFFER_BYTES: usize = 1 << 18;
/// Bytes of a frame of [`Record::Synced`].
const SYNCED_BYTES: usize = HEAD_BYTES + 8;

/// Where each item's result lies in the journal: eight bytes an item.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Index {
    /// 0, where the header lies, stands for none.
    offsets: Vec<u64>,
}

impl Index {
    /// Where the record of an item begins.
    pub fn get(&self, item: u64) -> Option<u64> {
        let offset = self.offsets.get(usize::try_from(item).ok()?)?;
        (*offset > 0).then_some(*offset)
    }

    pub(crate) fn set(&mut self, item: u64, offset: u64) {
        let item = item as usize;
        if self.offsets.len() <= item {
            self.offsets.resize(item + 1, 0);
        }
        self.offsets[item] = offset;
    }
}

/// An item that was begun and has no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InFlight {
    /// How often it was begun.
    pub attempts: u32,
    /// How often the process or the engine faulted while it ran.
    pub faults: u32,
    /// Items that ran at the last fault, with itself; 0 where there was none.
    pub company: u32,
}

/// What a journal says.
#[derive(Clone, PartialEq, Debug)]
pub struct Contents {
    /// What the job is.
    pub header: Header,
    /// Hashes of its lines.
    pub line_hashes: Vec<u32>,
    /// Where its results are.
    pub index: Index,
    /// What has none.
    pub in_flight: BTreeMap<u64, InFlight>,
    /// Where the records are of what steps made of items without a result: by item, step and part.
    pub steps: BTreeMap<(u64, u32, u64), u64>,
    /// What ended the engine last.
    pub fault: Option<String>,
    /// Items with a result.
    pub results: u64,
    /// Items with an error record.
    pub errors: u64,
    /// Tokens of all results.
    pub tokens: u64,
    /// Whether every line has its record.
    pub closed: bool,
    /// Records that are good.
    pub records: u64,
    /// Bytes of them.
    pub end: u64,
    /// Bytes behind them that are none.
    pub torn_bytes: u64,
    /// What was begun since the job was last taken up and has no result. Apart, so that a fault is looked up among what ran.
    running: BTreeSet<u64>,
}

/// Reads the journal that `handle` is and messages call `file`; `None` where it ends before its header does.
///
/// # Errors
/// Damage of what had been durable, another version, another kind of file, results that contradict each other.
pub fn read(handle: &dyn Handle, file: &Path) -> Result<Option<Contents>, JournalError> {
    let failed = |source| JournalError::Io { file: file.into(), action: Action::Read, source };
    let bytes = handle.bytes().map_err(failed)?;
    let mut frames = Frames::new(handle, 0, bytes);
    let mut contents: Option<Contents> = None;
    let mut payload = vec![];
    loop {
        let offset = frames.at;
        let damage = match frames.next(&mut payload).map_err(failed)? {
            None => break,
            Some(Err(damage)) => damage,
            Some(Ok(record)) => match contents.as_mut() {
                None => {
                    contents = Some(Contents { end: frames.at, ..begin(&record, file)? });
                    continue;
                }
                Some(contents) => match contents.take(&record, offset, handle, file)? {
                    Ok(()) => {
                        contents.records += 1;
                        contents.end = frames.at;
                        continue;
                    }
                    Err(damage) => damage,
                },
            },
        };
        tail(handle, file, (offset, bytes), damage, contents.as_ref().map_or(0, |contents| contents.records))?;
        break;
    }
    Ok(contents.map(|mut contents| {
        contents.torn_bytes = bytes - contents.end;
        contents
    }))
}

/// What the first record begins.
fn begin(record: &Record<'_>, file: &Path) -> Result<Contents, JournalError> {
    let &Record::Header { version, text } = record else {
        return Err(JournalError::Corrupt { file: file.into(), record: 0, offset: 0, damage: Damage::Form });
    };
    if version != VERSION {
        return Err(JournalError::Version { file: file.into(), got: version, wanted: VERSION });
    }
    let header = serde_json::from_str(text);
    let header =
        header.map_err(|_| JournalError::Corrupt { file: file.into(), record: 0, offset: 0, damage: Damage::Form })?;
    Ok(Contents {
        header,
        line_hashes: vec![],
        index: Index::default(),
        in_flight: BTreeMap::new(),
        steps: BTreeMap::new(),
        fault: None,
        results: 0,
        errors: 0,
        tokens: 0,
        closed: false,
        records: 1,
        end: 0,
        torn_bytes: 0,
        running: BTreeSet::new(),
    })
}

impl Contents {
    /// Items that have a record.
    pub fn done(&self) -> u64 {
        self.results + self.errors
    }

    /// Whether an item can have been told of by now: items are begun in their order.
    fn possible(&self, item: u64) -> bool {
        item < self.records
    }

    /// Takes one record in.
    fn take(
        &mut self,
        record: &Record<'_>,
        offset: u64,
        handle: &dyn Handle,
        file: &Path,
    ) -> Result<Result<(), Damage>, JournalError> {
        match *record {
            Record::Header { .. } => return Ok(Err(Damage::Form)),
            Record::Lines { first, hashes } => {
                if first != self.line_hashes.len() as u64 || !hashes.len().is_multiple_of(4) {
                    return Ok(Err(Damage::Form));
                }
                let hashes =
                    hashes.chunks_exact(4).map(|hash| u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]));
                self.line_hashes.extend(hashes);
            }
            Record::Admitted { item, attempt } => {
                if !self.possible(item) {
                    return Ok(Err(Damage::Form));
                }
                if self.index.get(item).is_none() {
                    self.in_flight.entry(item).or_default().attempts = attempt;
                    self.running.insert(item);
                }
            }
            Record::Result { item, line, .. } | Record::Error { item, line } => {
                if !self.possible(item) {
                    return Ok(Err(Damage::Form));
                }
                if let Some(first) = self.index.get(item) {
                    let same = read_output(handle, file, first)?.as_slice() == line;
                    let conflict = JournalError::Conflict { file: file.into(), item, first, second: offset };
                    return if same { Ok(Ok(())) } else { Err(conflict) };
                }
                self.index.set(item, offset);
                self.in_flight.remove(&item);
                self.running.remove(&item);
                forget_steps(&mut self.steps, item);
                if let Record::Result { tokens, .. } = *record {
                    self.results += 1;
                    self.tokens = self.tokens.saturating_add(tokens);
                } else {
                    self.errors += 1;
                }
            }
            Record::Step { item, step, part, .. } => {
                if !self.possible(item) {
                    return Ok(Err(Damage::Form));
                }
                if self.index.get(item).is_none() {
                    self.steps.entry((item, step, part)).or_insert(offset);
                }
            }
            Record::Synced { bytes } => {
                if bytes > offset {
                    return Ok(Err(Damage::Form));
                }
            }
            Record::Fault { what } => {
                let running = std::mem::take(&mut self.running);
                for item in &running {
                    let own = self.in_flight.entry(*item).or_default();
                    (own.faults, own.company) = (own.faults.saturating_add(1), running.len() as u32);
                }
                self.fault = Some(what.to_owned());
            }
            Record::Resumed => {
                self.closed = false;
                self.running.clear();
            }
            Record::Closed { .. } => self.closed = true,
        }
        Ok(Ok(()))
    }
}

/// What steps made of an item that has its result is of no use any more.
pub(crate) fn forget_steps(steps: &mut BTreeMap<(u64, u32, u64), u64>, item: u64) {
    while let Some((&key, _)) = steps.range((item, 0, 0)..=(item, u32::MAX, u64::MAX)).next() {
        steps.remove(&key);
    }
}

/// Fails where the bad record at `range.0` of a file of `range.1` bytes had been durable.
fn tail(handle: &dyn Handle, file: &Path, range: (u64, u64), damage: Damage, record: u64) -> Result<(), JournalError> {
    let failed = |source| JournalError::Io { file: file.into(), action: Action::Read, source };
    let (offset, bytes) = range;
    if synced_behind(handle, offset, bytes).map_err(failed)? {
        return Err(JournalError::Corrupt { file: file.into(), record, offset, damage });
    }
    // A header that never reached the disk may have left zeros.
    let mut begun = [0; MARK.len()];
    let known = begun.len().min(bytes as usize);
    read_all_at(handle, &mut begun[..known], 0).map_err(failed)?;
    if offset == 0 && begun[..known] != MARK[..known] && begun != [0; MARK.len()] {
        return Err(JournalError::NotAJournal { file: file.into() });
    }
    Ok(())
}

/// Whether a record behind `offset`, in a file of `bytes`, says that what is there was durable. Only frames of that kind's length are
/// looked into, each where its mark is, so that the time is that of reading the rest once, whatever it holds.
fn synced_behind(handle: &dyn Handle, offset: u64, bytes: u64) -> std::io::Result<bool> {
    let mut window = vec![0; (BUFFER_BYTES as u64).min(bytes.saturating_sub(offset + 1)) as usize];
    let mut at = offset + 1;
    while bytes.saturating_sub(at) >= SYNCED_BYTES as u64 {
        let there = (bytes - at).min(window.len() as u64) as usize;
        read_all_at(handle, &mut window[..there], at)?;
        let last = there - SYNCED_BYTES;
        for begin in 0..=last {
            let frame = &window[begin..begin + SYNCED_BYTES];
            if frame.starts_with(&MARK)
                && let Some(Record::Synced { bytes }) = record_of(at + begin as u64, frame)
                && bytes > offset
            {
                return Ok(true);
            }
        }
        at += last as u64 + 1;
    }
    Ok(false)
}

/// The record that begins at `offset` and is just as long as one of [`Record::Synced`].
fn record_of(offset: u64, frame: &[u8]) -> Option<Record<'_>> {
    let (head, payload) = frame.split_first_chunk::<HEAD_BYTES>()?;
    let head = Head::of(head, payload.len() as u64).ok().filter(|head| head.bytes == payload.len())?;
    head.record(offset, payload).ok()
}

/// The frames of a journal, one after the other.
struct Frames<'a> {
    source: BufReader<Cursor<'a>>,
    at: u64,
    bytes: u64,
}

impl<'a> Frames<'a> {
    fn new(handle: &'a dyn Handle, at: u64, bytes: u64) -> Self {
        Self { source: BufReader::with_capacity(BUFFER_BYTES, Cursor::new(handle, at)), at, bytes }
    }

    /// The next record, whose payload is read into `payload`; `None` at the end. Nothing can be read behind damage.
    fn next<'p>(&mut self, payload: &'p mut Vec<u8>) -> std::io::Result<Option<Result<Record<'p>, Damage>>> {
        let left = self.bytes - self.at;
        if left == 0 {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        if left < HEAD_BYTES as u64 {
            return Ok(Some(Err(Damage::Length(left as u32))));
        }
        self.source.read_exact(&mut head)?;
        let head = match Head::of(&head, left - HEAD_BYTES as u64) {
            Ok(head) => head,
            Err(damage) => return Ok(Some(Err(damage))),
        };
        // Its length is checked against the file's, so no more is made room for than is there.
        payload.clear();
        (&mut self.source).take(head.bytes as u64).read_to_end(payload)?;
        let record = head.record(self.at, payload);
        if record.is_ok() {
            self.at += (HEAD_BYTES + head.bytes) as u64;
        }
        Ok(Some(record))
    }
}

/// The line of the output that the record at `offset` is.
pub(crate) fn read_output(handle: &dyn Handle, file: &Path, offset: u64) -> Result<Vec<u8>, JournalError> {
    let failed = |source| JournalError::Io { file: file.into(), action: Action::Read, source };
    let bytes = handle.bytes().map_err(failed)?;
    let corrupt = |damage| JournalError::Corrupt { file: file.into(), record: 0, offset, damage };
    let left = bytes.checked_sub(offset + HEAD_BYTES as u64).ok_or_else(|| corrupt(Damage::Mark))?;
    let mut head = [0; HEAD_BYTES];
    read_all_at(handle, &mut head, offset).map_err(failed)?;
    let head = Head::of(&head, left).map_err(corrupt)?;
    let mut payload = vec![0; head.bytes];
    read_all_at(handle, &mut payload, offset + HEAD_BYTES as u64).map_err(failed)?;
    let record = head.record(offset, &payload).map_err(corrupt)?;
    let line = record.bytes().ok_or_else(|| corrupt(Damage::Form))?;
    Ok(line.to_vec())
}
