//! The lines of a job file, in memory that does not grow with the file: a line over the limit is passed over unread.

use std::io::{BufRead, Result};

/// Bytes of a line that are read.
pub const LINE_BYTES_MAX: u64 = 16 << 20;

/// One line that is not blank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawLine<'a> {
    /// Its number, from 1; blank lines count.
    pub number: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length without its end.
    pub bytes: u64,
    /// What it says, without its end; `None` where it is over [`LINE_BYTES_MAX`].
    pub text: Option<&'a [u8]>,
}

/// Reads lines. Ends of `\n` and `\r\n` are taken, and a last line without one.
#[derive(Debug)]
pub struct LineReader<R> {
    source: R,
    number: u64,
    offset: u64,
    line: Vec<u8>,
}

impl<R: BufRead> LineReader<R> {
    /// Reads from the start of a file.
    pub fn new(source: R) -> Self {
        Self { source, number: 0, offset: 0, line: Vec::new() }
    }

    /// The next line that is not blank; `None` at the end.
    pub fn next_line(&mut self) -> Result<Option<RawLine<'_>>> {
        loop {
            let offset = self.offset;
            let read = self.fill()?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.offset += read;
            if read > LINE_BYTES_MAX + 2 {
                // A huge line gives its memory back.
                self.line = Vec::new();
                return Ok(Some(RawLine { number: self.number, offset, bytes: read - 1, text: None }));
            }
            let end = self.line.iter().rposition(|&byte| byte != b'\n' && byte != b'\r').map_or(0, |last| last + 1);
            if self.line[..end].iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            // The mark belongs to the file, not to its first line.
            let mark = if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            let text = (end as u64 <= LINE_BYTES_MAX).then_some(&self.line[mark..end]);
            return Ok(Some(RawLine { number: self.number, offset, bytes: end as u64, text }));
        }
    }

    /// Reads to the end of a line into `self.line`, which keeps at most the limit; returns the bytes passed.
    fn fill(&mut self) -> Result<u64> {
        self.line.clear();
        let mut passed = 0u64;
        loop {
            let buffer = match self.source.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                return Ok(passed);
            }
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            if self.line.len() as u64 <= LINE_BYTES_MAX {
                let room = (LINE_BYTES_MAX + 2) as usize - self.line.len();
                self.line.extend_from_slice(&buffer[..used.min(room)]);
            }
            self.source.consume(used);
            passed += used as u64;
            if end.is_some() {
                return Ok(passed);
            }
        }
    }
}
