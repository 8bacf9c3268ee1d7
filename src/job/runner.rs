//! Runs a job on an engine: lines in, a bounded number of requests in flight, results into the ledger as they are done.

use super::journal::{InFlight, JournalError};
use super::ledger::{Ledger, Tally};
use super::line::{LineParser, Refused};
use super::pending::{Denied, Maker, Running};
use super::reader::LineReader;
use super::result::ErrorLine;
use super::scan::{JobError, hash};
use super::task::{Ask, Task, ask};
use crate::engine::Engine;
use crate::error::Error;
use std::collections::HashSet;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tracing::info_span;

/// How long nothing may be told before the signals and the journal are looked at.
const WAIT: Duration = Duration::from_millis(50);
/// Lines with a record before a share of errors means something.
const RATE_LINES_MIN: u64 = 100;
/// Lines that are read before results are looked at again: lines that are no requests take no room.
const LINES_A_TURN: usize = 64;
/// Faults after which a request that ran alone is not tried again.
const FAULTS_MAX: u32 = 2;
/// By how much the company of a suspect shrinks.
const COMPANY_CUT: usize = 16;

/// A wish to end, from a signal handler or another thread. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Asks once more: the first time ends with the requests in flight, the second at once. Returns how often it was asked.
    pub fn ask(&self) -> u8 {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Asks as if for the `level`th time, unless that has been reached.
    pub(crate) fn reach(&self, level: u8) {
        self.0.fetch_max(level, Ordering::Relaxed);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Who watches a job.
pub trait Progress {
    /// The first line is about to be read; `total` is unknown for a pipe.
    fn begun(&mut self, total: Option<u64>, tally: Tally);
    /// Lines were done; `tokens_per_second` is that of this run.
    fn advanced(&mut self, tally: Tally, tokens_per_second: f64);
    /// Something that a person should read.
    fn note(&mut self, note: &str);
    /// It is over.
    fn over(&mut self);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn begun(&mut self, _total: Option<u64>, _tally: Tally) {}
    fn advanced(&mut self, _tally: Tally, _tokens_per_second: f64) {}
    fn note(&mut self, _note: &str) {}
    fn over(&mut self) {}
}

/// Why a job stopped before its end.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Pause {
    /// Asked once: what was in flight is done.
    #[error("interrupted")]
    Interrupted,
    /// Asked twice: what was in flight is not done.
    #[error("stopped with {in_flight} requests in flight, which will run again")]
    Stopped {
        /// Requests.
        in_flight: usize,
    },
    /// More errors than were allowed.
    #[error(
        "{errors} of {done} lines are error records, more than --max-error-rate {limit}; mend the input, or give a higher rate"
    )]
    ErrorRate {
        /// Error records.
        errors: u64,
        /// Lines with a record.
        done: u64,
        /// Share that was allowed.
        limit: f64,
    },
    /// Errors only.
    #[error(
        "all {done} lines so far are error records; look at the first of them, or allow it with --max-error-rate 1"
    )]
    AllErrors {
        /// Lines with a record.
        done: u64,
    },
    /// The engine faulted.
    #[error("the engine has ended: {what}")]
    Engine {
        /// What ended it.
        what: String,
    },
}

/// What became of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// Of the whole job, with earlier runs.
    pub tally: Tally,
    /// Lines of the job; unknown for a pipe that was not read to its end.
    pub total: Option<u64>,
    /// Tokens of this run.
    pub tokens: u64,
    /// Seconds of this run.
    pub seconds: f64,
    /// Why it stopped before its end, if it did.
    pub pause: Option<Pause>,
}

/// What a run is told beside its lines.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Settings {
    pub(super) task: Task,
    pub(super) input: PathBuf,
    pub(super) seed: u64,
    pub(super) max_error_rate: Option<f64>,
    pub(super) total: Option<u64>,
    /// Where what is captured goes.
    pub(super) captures: PathBuf,
}

/// A line that was read and not begun.
struct Next {
    item: u64,
    line: u64,
    ask: Result<Ask, Refused>,
}

/// A job on its way.
pub(super) struct Runner<'r, 'e, R> {
    settings: Settings,
    engine: &'e Engine,
    ledger: &'r mut Ledger,
    lines: LineReader<R>,
    parser: LineParser,
    /// Hashes of the names so far, where no first pass has compared them.
    names: Option<HashSet<u64>>,
    maker: Maker<'e>,
    /// Items that were read.
    items: u64,
    next: Option<Next>,
    ended: bool,
    running: Vec<Running>,
    tokens: u64,
}

impl<'r, 'e, R: BufRead> Runner<'r, 'e, R> {
    pub(super) fn new(
        settings: Settings,
        engine: &'e Engine,
        ledger: &'r mut Ledger,
        lines: LineReader<R>,
        parser: LineParser,
    ) -> Self {
        let names = settings.total.is_none().then(HashSet::new);
        let maker = Maker { engine, seed: settings.seed, created: ledger.header().created };
        let (items, next, ended, running, tokens) = (0, None, false, vec![], 0);
        Self { settings, engine, ledger, lines, parser, names, maker, items, next, ended, running, tokens }
    }

    /// Runs until the end, or a reason to pause. Whatever happens, what was done is committed as far as the disk lets it.
    pub(super) fn run(mut self, interrupt: &Interrupt, progress: &mut dyn Progress) -> Result<Summary, Error> {
        let _span = info_span!("job run").entered();
        progress.begun(self.settings.total, self.ledger.tally());
        let started = Instant::now();
        let done = self.turn_until_over(interrupt, progress, started);
        progress.over();
        let pause = done?;
        let unknown: Vec<&str> = self.parser.unknown().collect();
        if !unknown.is_empty() {
            progress.note(&format!("ignored fields: {}", unknown.join(", ")));
        }
        let total = self.settings.total.or(self.ended.then_some(self.items));
        let seconds = started.elapsed().as_secs_f64();
        Ok(Summary { tally: self.ledger.tally(), total, tokens: self.tokens, seconds, pause })
    }

    fn turn_until_over(
        &mut self,
        interrupt: &Interrupt,
        progress: &mut dyn Progress,
        started: Instant,
    ) -> Result<Option<Pause>, Error> {
        let mut pause: Option<Pause> = None;
        let mut drain = None;
        loop {
            match interrupt.asked() {
                0 => {}
                1 => {
                    pause.get_or_insert(Pause::Interrupted);
                }
                _ => {
                    let in_flight = std::mem::take(&mut self.running).len();
                    self.ledger.commit().map_err(JobError::from)?;
                    return Ok(Some(Pause::Stopped { in_flight }));
                }
            }
            if pause.is_none() {
                self.admit()?;
            }
            if self.ended || pause.is_some() {
                drain.get_or_insert_with(|| info_span!("drain", requests = self.running.len()).entered());
            }
            let before = self.ledger.tally();
            if let Some(fault) = self.collect()? {
                return Ok(Some(fault));
            }
            self.ledger.tick(Instant::now()).map_err(JobError::from)?;
            if self.ledger.tally() != before {
                let rate = self.tokens as f64 / started.elapsed().as_secs_f64().max(1e-9);
                progress.advanced(self.ledger.tally(), rate);
            }
            if pause.is_none() {
                pause = self.too_many_errors(RATE_LINES_MIN);
            }
            let more = pause.is_none() && !(self.ended && self.next.is_none());
            if self.running.is_empty() && !more {
                return self.finish(pause);
            }
        }
    }

    /// Commits everything; closes the job if nothing is left of it.
    fn finish(&mut self, pause: Option<Pause>) -> Result<Option<Pause>, Error> {
        let all = self.ended && self.next.is_none();
        let pause = match pause {
            // Behind the last line there is nothing that these could hold up.
            Some(Pause::Interrupted | Pause::AllErrors { .. }) | None if all => {
                self.settings.max_error_rate.and_then(|_| self.too_many_errors(1))
            }
            other => other,
        };
        match &pause {
            None => self.ledger.close().map_err(JobError::from)?,
            Some(_) => self.ledger.commit().map_err(JobError::from)?,
        }
        Ok(pause)
    }

    /// Whether too many of at least `least` lines are error records. A bad line has its record at once and a good one when it is
    /// done, so those in flight count as good: else a few good lines among many bad ones would be too late to be counted.
    fn too_many_errors(&self, least: u64) -> Option<Pause> {
        let Tally { done, errors, .. } = self.ledger.tally();
        if done < least || done == 0 {
            return None;
        }
        let lines = done + self.running.len() as u64;
        match self.settings.max_error_rate {
            Some(limit) => (errors as f64 / lines as f64 > limit).then_some(Pause::ErrorRate { errors, done, limit }),
            None => (errors == lines).then_some(Pause::AllErrors { done }),
        }
    }

    /// Begins as many requests as there is room for.
    fn admit(&mut self) -> Result<(), Error> {
        let window = self.engine.window();
        for _ in 0..LINES_A_TURN {
            if self.sequences() >= window {
                break;
            }
            if self.next.is_none() {
                self.next = self.read()?;
            }
            let Some(next) = self.next.take_if(|next| may_run(next.item, &self.running, self.ledger)) else { break };
            self.begin(next)?;
        }
        Ok(())
    }

    fn sequences(&self) -> usize {
        self.running.iter().map(Running::sequences).sum()
    }

    /// The next line without a record.
    fn read(&mut self) -> Result<Option<Next>, Error> {
        while !self.ended {
            let file = &self.settings.input;
            let Some(raw) = self.lines.next_line().map_err(|source| JobError::Io { file: file.clone(), source })?
            else {
                self.ended = true;
                break;
            };
            let (item, line) = (self.items, raw.number);
            self.items += 1;
            if !self.ledger.has(item) {
                return Ok(Some(Next { item, line, ask: ask(self.settings.task, &mut self.parser, &raw) }));
            }
        }
        Ok(None)
    }

    /// Begins a request, or takes the error record of a line that cannot be one.
    fn begin(&mut self, next: Next) -> Result<(), Error> {
        let Next { item, line, ask } = next;
        let ask = match ask {
            Ok(ask) => ask,
            Err(refused) => {
                let record = Maker::refused(line, &refused);
                return Ok(self.ledger.error(item, &record, Instant::now()).map_err(JobError::from)?);
            }
        };
        let id = ask.custom_id().to_owned();
        if let Some(names) = &mut self.names
            && !names.insert(hash(&id))
        {
            return self.refuse(
                item,
                line,
                &id,
                "duplicate_id",
                "an earlier line has this custom_id; each names one result",
            );
        }
        if let Some(own) = self.ledger.in_flight(item).filter(quarantined) {
            let what = self.ledger.last_fault().unwrap_or("the process ended").to_owned();
            let message = format!("quarantined after {} attempts, the last of which ended with: {what}", own.faults);
            return self.refuse(item, line, &id, "quarantined", &message);
        }
        let prepared = match self.maker.prepare(ask) {
            Ok(prepared) => prepared,
            Err(Denied { code, message }) => return self.refuse(item, line, &id, code, &message),
        };
        self.ledger.admit(item).and_then(|()| self.ledger.write()).map_err(JobError::from)?;
        self.running.push(Running::begin((item, line), id, prepared));
        Ok(())
    }

    fn refuse(&mut self, item: u64, line: u64, id: &str, code: &str, message: &str) -> Result<(), Error> {
        let record = Maker::error(ErrorLine { line, custom_id: Some(id), code, message });
        Ok(self.ledger.error(item, &record, Instant::now()).map_err(JobError::from)?)
    }

    /// Waits for the oldest request to go on, looks at all others, and takes the results of those that are done.
    fn collect(&mut self) -> Result<Option<Pause>, Error> {
        let mut wait = WAIT;
        let mut at = 0;
        while at < self.running.len() {
            let ended = self.running[at].listen(std::mem::take(&mut wait));
            match ended {
                None => at += 1,
                Some(Ok(())) => {
                    let done = self.running.remove(at);
                    // Before the result, which says that the line is done.
                    done.write_captured(&self.settings.captures)?;
                    match self.maker.record(&done) {
                        Ok((record, tokens)) => {
                            self.tokens += tokens;
                            self.ledger.result(done.item(), tokens, &record, Instant::now()).map_err(JobError::from)?;
                        }
                        Err(why) => self.refuse(done.item(), done.line(), done.custom_id(), "tokenizer", &why)?,
                    }
                }
                Some(Err(failure)) => {
                    if let Some(what) = self.engine.fault() {
                        return self.fault(what.to_owned()).map(Some).map_err(|error| JobError::from(error).into());
                    }
                    let done = self.running.remove(at);
                    self.refuse(done.item(), done.line(), done.custom_id(), failure.code(), &failure.to_string())?;
                }
            }
        }
        Ok(None)
    }

    /// Notes that the engine is gone, with all that was in flight.
    fn fault(&mut self, what: String) -> Result<Pause, JournalError> {
        self.ledger.note_fault(&what)?;
        self.running.clear();
        Ok(Pause::Engine { what })
    }
}

/// Whether a request faulted alone as often as is allowed.
fn quarantined(own: &InFlight) -> bool {
    own.faults >= FAULTS_MAX && own.company == 1
}

/// How many requests may run beside one that was in flight at a fault, with itself: a sixteenth of what it was then, so that of the 256
/// that run by default the third fault finds the one to blame alone, and two such requests are found within five restarts. `None`
/// where there is nothing against it.
fn company_max(own: Option<InFlight>) -> Option<usize> {
    own.filter(|own| own.faults > 0).map(|own| (own.company as usize / COMPANY_CUT).max(1))
}

/// Whether an item may be begun now: suspects run among themselves, in groups that get smaller.
fn may_run(item: u64, running: &[Running], ledger: &Ledger) -> bool {
    let limit = |item| company_max(ledger.in_flight(item));
    let tightest = running.iter().map(|other| limit(other.item())).chain([limit(item)]);
    let mixed = running.iter().any(|other| limit(other.item()).is_some() != limit(item).is_some());
    let most = tightest.flatten().min().unwrap_or(usize::MAX);
    running.is_empty() || (!mixed && running.len() < most)
}
