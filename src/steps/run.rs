//! Runs a job of steps: its threads, the sink, signals, and what is committed when.

use super::books::Books;
use super::flow::{Crew, Outline, StepJob};
use super::item::{Denied, Gate, Outcome, Verdict};
use crate::engine::EngineError;
use crate::error::Error;
use crate::job::journal::Header;
use crate::job::{
    Begun, ErrorLine, Interrupt, JobError, Ledger, Opening, Pause, Progress, Refusal, Summary, Tally, Task, survey,
    write_filtered, write_response,
};
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Verdicts that wait for the sink.
const VERDICTS: usize = 64;
/// How long nothing may be told before the signals and the journal are looked at.
const WAIT: Duration = Duration::from_millis(50);
/// Items with a record before a share of errors means something.
const RATE_ITEMS_MIN: u64 = 100;

/// A job of steps whose files this process holds.
pub struct OpenSteps {
    job: StepJob,
    ledger: Ledger,
    begun: Begun,
    total: u64,
}

impl std::fmt::Debug for OpenSteps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenSteps").field("job", &self.job).field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl StepJob {
    /// Reads the input once and takes the job's files.
    ///
    /// # Errors
    /// Steps that do not fit together, all of them; a bad input; steps, models or an input that are not those the job was begun with;
    /// files of another job; another process on it.
    pub fn open(self) -> Result<OpenSteps, Error> {
        if !self.outline.faults.is_empty() {
            return Err(EngineError::Steps(self.outline.faults.clone()).into());
        }
        let input = &self.outline.input;
        let there = std::fs::metadata(input).map_err(|source| JobError::Io { file: input.clone(), source })?;
        if !there.is_file() {
            return Err(JobError::from(Refusal::Pipe { input: input.clone() }).into());
        }
        let found = survey(input, Task::Generate, None)?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let parameters = parameters(&self.outline, &self.version)?;
        let (ledger, begun) = Ledger::open(Opening {
            files: self.files.clone(),
            places: self.places.clone(),
            header: Header { created, input: Some(found.fingerprint), parameters },
            line_hashes: &found.line_hashes,
            input,
            resume: self.resume,
            holder: None,
        })?;
        Ok(OpenSteps { total: found.scan.lines, ledger, begun, job: self })
    }
}

/// What changes the results of a job, by name.
fn parameters(outline: &Outline, version: &str) -> Result<Map<String, Value>, Error> {
    let mut parameters = Map::new();
    let steps = outline.steps.iter().map(|(kind, name)| Value::from(format!("{name}: {kind}")));
    parameters.insert("steps".into(), steps.collect::<Vec<Value>>().into());
    parameters.insert("steps_version".into(), version.into());
    for (step, engine) in &outline.engines {
        parameters.insert(format!("model of {step}"), engine.fingerprint()?.into());
    }
    Ok(parameters)
}

impl OpenSteps {
    /// How it was begun.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// Runs what is left of it.
    ///
    /// # Errors
    /// What the system refused: what was committed stays so, and the job can be resumed.
    pub fn run(self, interrupt: &Interrupt, progress: &mut dyn Progress) -> Result<Summary, Error> {
        let Self { job, ledger, begun, total } = self;
        if matches!(begun, Begun::Finished(_)) {
            let tally = ledger.tally();
            ledger.release();
            return Ok(Summary { tally, total: Some(total), tokens: 0, seconds: 0.0, pause: None });
        }
        let started = Instant::now();
        let books = Arc::new(Books::new(ledger));
        let gate = Gate::new(job.items_max);
        let (verdicts, told) = bounded(VERDICTS);
        let mut crew = Crew { books: books.clone(), gate: gate.clone(), verdicts, threads: vec![] };
        (job.crew)(&mut crew);
        let Crew { threads, verdicts, .. } = crew;
        drop(verdicts);
        let mut running = vec![];
        for (name, thread) in threads {
            match Builder::new().name(format!("step {name}")).spawn(thread) {
                Ok(handle) => running.push(handle),
                Err(error) => books.halt(super::books::Halt::Job(JobError::Io { file: name.into(), source: error })),
            }
        }
        let mut sink = Sink { books: &books, total, max_error_rate: job.max_error_rate, tokens: 0, pause: None };
        progress.begun(Some(total), books.ledger().tally());
        sink.listen(&told, interrupt, (progress, started));
        progress.over();
        let (pause, tokens) = (sink.pause.take(), sink.tokens);
        for handle in running {
            if let Err(payload) = handle.join() {
                std::panic::resume_unwind(payload);
            }
        }
        let ended = finish(&books, pause, total, job.max_error_rate);
        let tally = books.ledger().tally();
        tracing::debug!(items = gate.most(), "the most items under way");
        if let Some(books) = Arc::into_inner(books) {
            books.into_ledger().release();
        }
        let pause = ended?;
        Ok(Summary { tally, total: Some(total), tokens, seconds: started.elapsed().as_secs_f64(), pause })
    }
}

/// Commits everything; closes the job if nothing is left of it.
fn finish(books: &Books, pause: Option<Pause>, total: u64, rate: Option<f64>) -> Result<Option<Pause>, JobError> {
    let halted = books.halted();
    let mut ledger = books.ledger();
    let pause = match halted? {
        Some(pause) => Some(pause),
        None if ledger.tally().done == total => rate.and_then(|_| too_many_errors(ledger.tally(), rate, 1)),
        None => pause,
    };
    match &pause {
        None => ledger.close()?,
        Some(_) => ledger.commit()?,
    }
    Ok(pause)
}

/// Whether too many of at least `least` items are error records.
fn too_many_errors(tally: Tally, rate: Option<f64>, least: u64) -> Option<Pause> {
    let Tally { done, errors, .. } = tally;
    let limit = rate?;
    let many = done >= least && done > 0 && errors as f64 / done as f64 > limit;
    many.then_some(Pause::ErrorRate { errors, done, limit })
}

/// Writes verdicts to the ledger.
struct Sink<'b> {
    books: &'b Books,
    total: u64,
    max_error_rate: Option<f64>,
    tokens: u64,
    pause: Option<Pause>,
}

impl Sink<'_> {
    /// Listens until every step has ended.
    fn listen(
        &mut self,
        told: &Receiver<Verdict>,
        interrupt: &Interrupt,
        (progress, started): (&mut dyn Progress, Instant),
    ) {
        loop {
            match interrupt.asked() {
                0 => {}
                1 => self.stop(Pause::Interrupted),
                _ => {
                    let in_flight = self.total.saturating_sub(self.books.ledger().tally().done) as usize;
                    self.stop(Pause::Stopped { in_flight });
                    self.books.abandon();
                }
            }
            let done = match told.recv_timeout(WAIT) {
                Ok(verdict) => self.take(verdict),
                Err(RecvTimeoutError::Timeout) => self.books.ledger().tick(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = done {
                self.books.halt(super::books::Halt::Job(error.into()));
            }
            let tally = self.books.ledger().tally();
            progress.advanced(tally, self.tokens as f64 / started.elapsed().as_secs_f64().max(1e-9));
            if let Some(pause) = too_many_errors(tally, self.max_error_rate, RATE_ITEMS_MIN) {
                self.stop(pause);
            }
        }
    }

    fn stop(&mut self, pause: Pause) {
        match (&self.pause, &pause) {
            (None, _) | (Some(Pause::Interrupted), Pause::Stopped { .. }) => self.pause = Some(pause),
            (Some(_), _) => {}
        }
        self.books.drain();
    }

    fn take(&mut self, verdict: Verdict) -> Result<(), crate::job::journal::JournalError> {
        let Verdict { item, line, custom_id, tokens, outcome } = verdict;
        let mut record = vec![];
        let mut ledger = self.books.ledger();
        let now = Instant::now();
        match outcome {
            Outcome::Done(body) => {
                let body = String::from_utf8(body).ok().and_then(|text| RawValue::from_string(text).ok());
                write_response(line, custom_id.as_deref().unwrap_or_default(), body, &mut record)
                    .expect("memory takes what is written");
                self.tokens += tokens;
                ledger.result(item, tokens, &record, now)?;
            }
            Outcome::Filtered => {
                write_filtered(line, custom_id.as_deref().unwrap_or_default(), &mut record)
                    .expect("memory takes what is written");
                self.tokens += tokens;
                ledger.result(item, tokens, &record, now)?;
            }
            Outcome::Failed(Denied { code, message }) => {
                let error = ErrorLine { line, custom_id: custom_id.as_deref(), code, message: &message };
                error.write(&mut record).expect("memory takes what is written");
                ledger.error(item, &record, now)?;
            }
        }
        ledger.tick(now)
    }
}
