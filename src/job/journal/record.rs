//! Records and their frames: mark, length, kind, checksum, payload.
//!
//! The checksum is over the record's place in the file too, so that a record that was moved is as wrong as one that was changed.
//! All numbers are little-endian.

use super::error::Damage;

/// The version of the format.
pub const VERSION: u32 = 1;
/// What begins a frame. Its first byte is in no UTF-8 text, so that no result contains it.
pub(crate) const MARK: [u8; 4] = [0xf5, b'M', b'S', b'J'];
/// Bytes before the payload: mark, length, kind, checksum.
pub(crate) const HEAD_BYTES: usize = 4 + 4 + 1 + CHECKSUM_BYTES;
/// Bytes of a payload. A result of 128 continuations of a million tokens each is near a gigabyte.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 30;
/// The first half of a BLAKE3 hash.
const CHECKSUM_BYTES: usize = 16;

/// One record. An item is a line's place among the lines that are not blank, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// What the job is; the first record.
    Header {
        /// Version of the format.
        version: u32,
        /// The rest, as JSON.
        text: &'a str,
    },
    /// Hashes of lines, so that the first line that changed can be named.
    Lines {
        /// The first line's item.
        first: u64,
        /// Four bytes a line.
        hashes: &'a [u8],
    },
    /// A request was begun.
    Admitted {
        /// Its item.
        item: u64,
        /// Which time, from 1.
        attempt: u32,
    },
    /// A request's result.
    Result {
        /// Its item.
        item: u64,
        /// Tokens that were generated.
        tokens: u64,
        /// The line of the output, with its end.
        line: &'a [u8],
    },
    /// What a step made of a part of an item that has no result yet.
    Step {
        /// The item.
        item: u64,
        /// The step's place in the job.
        step: u32,
        /// Which part of the item.
        part: u64,
        /// What it made.
        made: &'a [u8],
    },
    /// A request's error record.
    Error {
        /// Its item.
        item: u64,
        /// The line of the output, with its end.
        line: &'a [u8],
    },
    /// All bytes of the journal before this many were made durable.
    Synced {
        /// The bytes.
        bytes: u64,
    },
    /// What ended the process or the engine while requests were in flight.
    Fault {
        /// In words.
        what: &'a str,
    },
    /// A process took the job up again; what was in flight before is not in flight any more.
    Resumed,
    /// Every line has its record.
    Closed {
        /// How many.
        items: u64,
    },
}

impl<'a> Record<'a> {
    fn kind(&self) -> u8 {
        match self {
            Record::Header { .. } => 1,
            Record::Lines { .. } => 2,
            Record::Admitted { .. } => 3,
            Record::Result { .. } => 4,
            Record::Error { .. } => 5,
            Record::Synced { .. } => 6,
            Record::Fault { .. } => 7,
            Record::Resumed => 8,
            Record::Closed { .. } => 9,
            Record::Step { .. } => 10,
        }
    }

    fn payload(&self, out: &mut Vec<u8>) {
        match *self {
            Record::Header { version, text } => {
                out.extend(version.to_le_bytes());
                out.extend(text.as_bytes());
            }
            Record::Lines { first, hashes } => {
                out.extend(first.to_le_bytes());
                out.extend(hashes);
            }
            Record::Admitted { item, attempt } => {
                out.extend(item.to_le_bytes());
                out.extend(attempt.to_le_bytes());
            }
            Record::Result { item, tokens, line } => {
                out.extend(item.to_le_bytes());
                out.extend(tokens.to_le_bytes());
                out.extend(line);
            }
            Record::Error { item, line } => {
                out.extend(item.to_le_bytes());
                out.extend(line);
            }
            Record::Step { item, step, part, made } => {
                out.extend(item.to_le_bytes());
                out.extend(step.to_le_bytes());
                out.extend(part.to_le_bytes());
                out.extend(made);
            }
            Record::Synced { bytes } => out.extend(bytes.to_le_bytes()),
            Record::Fault { what } => out.extend(what.as_bytes()),
            Record::Resumed => {}
            Record::Closed { items } => out.extend(items.to_le_bytes()),
        }
    }

    /// Appends the frame of this record, whose first byte will be at `offset`; returns the payload's length where that is too
    /// much, and appends nothing.
    pub fn frame(&self, offset: u64, out: &mut Vec<u8>) -> Result<(), usize> {
        let begin = out.len();
        out.resize(begin + HEAD_BYTES, 0);
        self.payload(out);
        let bytes = out.len() - begin - HEAD_BYTES;
        if bytes > PAYLOAD_BYTES_MAX {
            out.truncate(begin);
            return Err(bytes);
        }
        let (head, payload) = out[begin..].split_at_mut(HEAD_BYTES);
        head[..4].copy_from_slice(&MARK);
        head[4..8].copy_from_slice(&(bytes as u32).to_le_bytes());
        head[8] = self.kind();
        head[9..].copy_from_slice(&checksum(offset, self.kind(), payload));
        Ok(())
    }

    /// The record of a payload whose checksum held.
    pub(crate) fn of(kind: u8, payload: &'a [u8]) -> Result<Self, Damage> {
        let mut rest = Rest(payload);
        let record = match kind {
            1 => Record::Header { version: rest.u32()?, text: rest.text()? },
            2 => Record::Lines { first: rest.u64()?, hashes: rest.all() },
            3 => Record::Admitted { item: rest.u64()?, attempt: rest.u32()? },
            4 => Record::Result { item: rest.u64()?, tokens: rest.u64()?, line: rest.all() },
            5 => Record::Error { item: rest.u64()?, line: rest.all() },
            6 => Record::Synced { bytes: rest.u64()? },
            7 => Record::Fault { what: rest.text()? },
            8 => Record::Resumed,
            9 => Record::Closed { items: rest.u64()? },
            10 => Record::Step { item: rest.u64()?, step: rest.u32()?, part: rest.u64()?, made: rest.all() },
            other => return Err(Damage::Kind(other)),
        };
        if rest.0.is_empty() { Ok(record) } else { Err(Damage::Form) }
    }

    /// The line of the output that this record is, with its item.
    pub fn output(&self) -> Option<(u64, &'a [u8])> {
        match *self {
            Record::Result { item, line, .. } | Record::Error { item, line } => Some((item, line)),
            Record::Header { .. }
            | Record::Lines { .. }
            | Record::Admitted { .. }
            | Record::Step { .. }
            | Record::Synced { .. }
            | Record::Fault { .. }
            | Record::Resumed
            | Record::Closed { .. } => None,
        }
    }
}

impl<'a> Record<'a> {
    /// The line of the output that this record is, or what a step made.
    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        if let Record::Step { made, .. } = *self { Some(made) } else { self.output().map(|(_, line)| line) }
    }
}

/// What is left of a payload.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Damage> {
        let (taken, rest) = self.0.split_first_chunk::<BYTES>().ok_or(Damage::Form)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        self.take().map(u64::from_le_bytes)
    }

    fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn text(&mut self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.all()).map_err(|_| Damage::Form)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Bytes of the payload.
    pub(crate) bytes: usize,
    kind: u8,
    checksum: [u8; CHECKSUM_BYTES],
}

impl Head {
    /// The head that these bytes are, where `left` bytes follow them.
    pub(crate) fn of(head: &[u8; HEAD_BYTES], left: u64) -> Result<Self, Damage> {
        let mut rest = Rest(head);
        if rest.take()? != MARK {
            return Err(Damage::Mark);
        }
        let bytes = rest.u32()?;
        if u64::from(bytes) > left || bytes as usize > PAYLOAD_BYTES_MAX {
            return Err(Damage::Length(bytes));
        }
        let [kind] = rest.take()?;
        Ok(Self { bytes: bytes as usize, kind, checksum: rest.take()? })
    }

    /// The record behind this head at `offset`.
    pub(crate) fn record<'a>(&self, offset: u64, payload: &'a [u8]) -> Result<Record<'a>, Damage> {
        if checksum(offset, self.kind, payload) != self.checksum {
            return Err(Damage::Checksum);
        }
        Record::of(self.kind, payload)
    }
}

fn checksum(offset: u64, kind: u8, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(payload);
    let mut half = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut half);
    half
}
