//! What a job has done: its journal, the index of its results, and its output, as one thing.
//!
//! A result is committed to the journal first and written to the output after that, in the order of the job's lines; so whatever is
//! in the output is committed, and whatever is committed comes into the output.

use super::journal::{
    Action, Contents, Files, Header, Hold, Holder, InFlight, Index, JournalError, Lying, Mode, Places, Record, Writer,
    exists, forget_steps, read,
};
use super::output::{Mended, Output};
use super::resume::{Refusal, Resume};
use super::scan::JobError;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What a job is about to be run with.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Where its files lie.
    pub files: Arc<dyn Files>,
    /// Which files they are.
    pub places: Places,
    /// What it is.
    pub header: Header,
    /// Hashes of its lines.
    pub line_hashes: &'a [u32],
    /// What messages call its input.
    pub input: &'a Path,
    /// Whether it is to go on where it ended.
    pub resume: bool,
    /// Which process to turn to, as a second one is told; this one unless given.
    pub holder: Option<u32>,
}

/// How a job was begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begun {
    /// From its first line; there was nothing.
    New,
    /// From its first line; it had been finished, or nothing of it had been done.
    Anew,
    /// Where it ended.
    Resumed(Resume, Mended),
    /// It is finished.
    Finished(Mended),
}

/// Counts of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Lines with a record.
    pub done: u64,
    /// Error records among them.
    pub errors: u64,
    /// Tokens that were generated for them.
    pub tokens: u64,
}

/// The journal, the index and the output of a job that this process holds.
#[derive(Debug)]
pub struct Ledger {
    files: Arc<dyn Files>,
    places: Places,
    hold: Hold,
    header: Header,
    journal: Writer,
    index: Index,
    /// Results that are not committed yet: item and place.
    uncommitted: VecDeque<(u64, u64)>,
    output: Output,
    /// What was in flight when the job was taken up.
    in_flight: BTreeMap<u64, InFlight>,
    /// What steps had made of it.
    steps: BTreeMap<(u64, u32, u64), u64>,
    fault: Option<String>,
    tally: Tally,
}

impl Ledger {
    /// Takes a job: its lock, then its journal, then its output.
    ///
    /// # Errors
    /// What is there is not this job's, or is held by another process, or the system refused.
    pub fn open(opening: Opening<'_>) -> Result<(Self, Begun), JobError> {
        let Opening { files, places, .. } = &opening;
        let written = output_bytes(files.as_ref(), &places.output)? > 0;
        let foreign = || Refusal::Foreign { output: places.output.clone() };
        if written && !exists(files.as_ref(), &places.journal)? {
            return Err(foreign().into());
        }
        let own = Holder::own();
        let holder = Holder { pid: opening.holder.unwrap_or(own.pid), ..own };
        let hold = Hold::take_as(files.as_ref(), &places.journal, &places.note, &holder)?;
        let journal = &places.journal;
        let handle = files.open(journal, Mode::Read).map_err(JournalError::io(journal, Action::Open))?;
        let contents = read(handle.as_ref(), journal)?;
        match contents {
            None if written => Err(foreign().into()),
            None => Ok((Self::create(opening, hold)?, Begun::New)),
            Some(contents) if opening.resume => Self::resume(opening, hold, contents),
            Some(contents) => {
                if written && contents.done() == 0 {
                    return Err(foreign().into());
                }
                may_begin_anew(&opening, &contents)?;
                Ok((Self::create(opening, hold)?, Begun::Anew))
            }
        }
    }

    fn create(opening: Opening<'_>, hold: Hold) -> Result<Self, JobError> {
        let Opening { files, places, header, line_hashes, .. } = opening;
        // The output first: what is empty beside a journal can be made again.
        let output = Output::create(files.as_ref(), &places.output)?;
        let journal = Writer::create(files.clone(), &places.journal, &header, line_hashes)?;
        Ok(Self {
            files,
            places,
            hold,
            header,
            journal,
            index: Index::default(),
            uncommitted: VecDeque::new(),
            output,
            in_flight: BTreeMap::new(),
            steps: BTreeMap::new(),
            fault: None,
            tally: Tally::default(),
        })
    }

    fn resume(opening: Opening<'_>, hold: Hold, contents: Contents) -> Result<(Self, Begun), JobError> {
        let Opening { files, places, header, line_hashes, input, .. } = opening;
        let mut resume = Resume::plan(&contents, &header, line_hashes, input, &places.output)?;
        resume.left = hold.left().cloned();
        let journal = Writer::resume(files.clone(), &places.journal, &contents)?;
        let line = |offset| journal.output(offset);
        let (mut output, mended) = Output::verify(files.as_ref(), &places.output, &contents.index, line)?;
        output.pump(&contents.index, line)?;
        let tally = Tally { done: contents.done(), errors: contents.errors, tokens: contents.tokens };
        let finished = contents.closed;
        let mut ledger = Self {
            files,
            places,
            hold,
            header: contents.header,
            journal,
            index: contents.index,
            uncommitted: VecDeque::new(),
            output,
            in_flight: contents.in_flight,
            steps: contents.steps,
            fault: contents.fault,
            tally,
        };
        if finished {
            ledger.close()?;
            return Ok((ledger, Begun::Finished(mended)));
        }
        Ok((ledger, Begun::Resumed(resume, mended)))
    }

    /// What the job is; `created` is that of its first run.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What it has done.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether an item has its record.
    pub fn has(&self, item: u64) -> bool {
        self.index.get(item).is_some() || self.uncommitted.iter().any(|(other, _)| *other == item)
    }

    /// What became of an item that was in flight when the job was taken up.
    pub fn in_flight(&self, item: u64) -> Option<InFlight> {
        self.in_flight.get(&item).copied()
    }

    /// What ended the engine last.
    pub fn last_fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Notes that an item is begun. [`Ledger::write`] has to follow before it really is.
    ///
    /// # Errors
    /// None today; a record over the limit.
    pub fn admit(&mut self, item: u64) -> Result<(), JournalError> {
        let attempt = self.in_flight(item).map_or(0, |own| own.attempts) + 1;
        self.journal.append(&Record::Admitted { item, attempt }).map(drop)
    }

    /// What a step made of a part of an item before the job was taken up.
    ///
    /// # Errors
    /// What the system refused.
    pub fn step(&self, item: u64, step: u32, part: u64) -> Result<Option<Vec<u8>>, JournalError> {
        let found = self.steps.get(&(item, step, part));
        found.map(|&offset| self.journal.output(offset)).transpose()
    }

    /// Notes what a step made of a part of an item: (item, step, part). It is committed with the results.
    ///
    /// # Errors
    /// A record over the limit.
    pub fn note_step(&mut self, place: (u64, u32, u64), made: &[u8], now: Instant) -> Result<(), JournalError> {
        let (item, step, part) = place;
        self.journal.append_result(&Record::Step { item, step, part, made }, now).map(drop)
    }

    /// Gives all records to the system, so that they outlive the process.
    ///
    /// # Errors
    /// What the system refused.
    pub fn write(&mut self) -> Result<(), JournalError> {
        self.journal.write()?;
        self.settle()
    }

    /// Takes the result of an item: the line of the output, with its end, and its tokens.
    ///
    /// # Errors
    /// A result that differs from the one the item has already.
    pub fn result(&mut self, item: u64, tokens: u64, line: &[u8], now: Instant) -> Result<(), JournalError> {
        self.take(&Record::Result { item, tokens, line }, now)
    }

    /// Takes the error record of an item: the line of the output, with its end.
    ///
    /// # Errors
    /// As [`Ledger::result`].
    pub fn error(&mut self, item: u64, line: &[u8], now: Instant) -> Result<(), JournalError> {
        self.take(&Record::Error { item, line }, now)
    }

    fn take(&mut self, record: &Record<'_>, now: Instant) -> Result<(), JournalError> {
        let (item, line) = record.output().expect("a result or an error record");
        let waiting = self.uncommitted.iter().find(|(other, _)| *other == item).map(|(_, offset)| *offset);
        if let Some(first) = self.index.get(item).or(waiting) {
            if self.journal.output(first)?.as_slice() == line {
                return Ok(());
            }
            let second = self.journal.committed();
            return Err(JournalError::Conflict { file: self.places.journal.clone(), item, first, second });
        }
        let offset = self.journal.append_result(record, now)?;
        self.uncommitted.push_back((item, offset));
        self.tally.done += 1;
        forget_steps(&mut self.steps, item);
        if let Record::Result { tokens, .. } = record {
            self.tally.tokens += tokens;
        } else {
            self.tally.errors += 1;
        }
        Ok(())
    }

    /// Commits the results so far if their group is due at `now`, and writes the output as far as it goes.
    ///
    /// # Errors
    /// What the system refused; what was committed before stays committed.
    pub fn tick(&mut self, now: Instant) -> Result<(), JournalError> {
        self.journal.tick(now)?;
        self.settle()
    }

    /// Commits all results so far, and writes the output as far as it goes.
    ///
    /// # Errors
    /// As [`Ledger::tick`].
    pub fn commit(&mut self) -> Result<(), JournalError> {
        self.journal.commit()?;
        self.settle()
    }

    /// Takes what was committed into the index and the output.
    fn settle(&mut self) -> Result<(), JournalError> {
        let before = self.uncommitted.len();
        while let Some((item, offset)) = self.uncommitted.front().copied() {
            if offset >= self.journal.committed() {
                break;
            }
            self.index.set(item, offset);
            self.uncommitted.pop_front();
        }
        if self.uncommitted.len() == before {
            return Ok(());
        }
        self.output.pump(&self.index, |offset| self.journal.output(offset))
    }

    /// Notes what ended the engine while requests were in flight.
    ///
    /// # Errors
    /// What the system refused.
    pub fn note_fault(&mut self, what: &str) -> Result<(), JournalError> {
        self.journal.append(&Record::Fault { what })?;
        self.commit()
    }

    /// Commits everything and notes that every line has its record.
    ///
    /// # Errors
    /// What the system refused.
    pub fn close(&mut self) -> Result<(), JournalError> {
        self.commit()?;
        self.output.sync()?;
        self.journal.append(&Record::Closed { items: self.tally.done })?;
        self.journal.commit()?;
        // That all of it is durable is good to know later, and no fault if it is not.
        drop(self.journal.write());
        Ok(())
    }

    /// Gives the job back: its lock and the note of its holder.
    pub fn release(self) {
        self.hold.release(self.files.as_ref(), &self.places.note);
    }
}

/// Bytes of the output that is there; refuses what is no file.
fn output_bytes(files: &dyn Files, output: &Path) -> Result<u64, JobError> {
    match files.look(output).map_err(JournalError::io(output, Action::Open))? {
        None => Ok(0),
        Some(Lying::File(bytes)) => Ok(bytes),
        Some(Lying::Link) => Err(Refusal::Link { output: output.into() }.into()),
        Some(Lying::Other) => Err(Refusal::NotAFile { output: output.into() }.into()),
    }
}

/// Whether a job with a journal may be begun from its first line: it is this one and finished, or nothing of it is done.
fn may_begin_anew(opening: &Opening<'_>, contents: &Contents) -> Result<(), Refusal> {
    let (output, now) = (opening.places.output.clone(), &opening.header);
    let done = contents.done();
    if done == 0 && !contents.closed {
        return Ok(());
    }
    if !contents.closed {
        return Err(Refusal::Unfinished { output, done });
    }
    let differences = contents.header.differences(&now.parameters);
    let input = now.input.is_none() || contents.header.input != now.input;
    if input || !differences.is_empty() { Err(Refusal::OtherJob { output, differences, input }) } else { Ok(()) }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
