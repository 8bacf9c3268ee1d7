//! A job as its user names it: files and settings; opened before the weights are read, run when the engine is there.

use super::capture;
use super::journal::{Disk, Files, Header, Places};
use super::ledger::{Begun, Ledger, Opening};
use super::line::LineParser;
use super::reader::LineReader;
use super::resume::Refusal;
use super::runner::{Interrupt, Progress, Runner, Settings, Summary};
use super::sampling::MAX_TOKENS;
use super::scan::{JobError, survey};
use super::task::Task;
use crate::engine::{Engine, EngineBuilder};
use crate::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Lines from which on the memory of their index is said.
const INDEX_LINES_SAID: u64 = 1_000_000;
/// Bytes a line that are held at most: while the input is read 12 for its hashes, then 8 for its place in the journal; the rest
/// is what the journal's first records take while they are written.
pub(super) const INDEX_BYTES_A_LINE: u64 = 24;

/// A job: requests of one JSONL file, results to another.
#[derive(Clone, Debug)]
pub struct Job {
    task: Task,
    input: PathBuf,
    places: Places,
    captures: PathBuf,
    seed: u64,
    resume: bool,
    strict: bool,
    max_error_rate: Option<f64>,
    holder: Option<u32>,
    files: Arc<dyn Files>,
}

impl Job {
    /// The job of `input`, a JSONL file or `-` for standard input, whose results go to `output`. Its journal is `output.journal`.
    /// On an engine with [`EngineBuilder::capture_edges`] each line leaves a safetensors file in `output.captures` as well.
    pub fn new(input: impl Into<PathBuf>, output: impl AsRef<Path>) -> Self {
        let places = Places::of(output.as_ref());
        let (input, files, captures) = (input.into(), Arc::new(Disk), capture::folder(output.as_ref()));
        Self {
            task: Task::Generate,
            input,
            places,
            captures,
            seed: 0,
            resume: false,
            strict: false,
            max_error_rate: None,
            holder: None,
            files,
        }
    }

    /// What is done with its lines; they are continued unless this is said.
    pub fn task(mut self, task: Task) -> Self {
        self.task = task;
        self
    }

    /// Seed of requests that have none of their own.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Goes on where the journal ends; begins where there is none.
    pub fn resume(mut self) -> Self {
        self.resume = true;
        self
    }

    /// Refuses the job before it starts if any line is bad.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Pauses when more than this share of at least 100 lines, or of all, are error records. Without it, when all of at least 100 are and lines are left.
    pub fn max_error_rate(mut self, share: f64) -> Self {
        self.max_error_rate = Some(share);
        self
    }

    /// Names another process of this machine as the one to turn to, when somebody else wants the job: the one that supervises this one.
    pub fn held_for(mut self, pid: u32) -> Self {
        self.holder = Some(pid);
        self
    }

    /// Lies in these files instead of those of the machine; the input is read from the machine's.
    pub fn files(mut self, files: Arc<dyn Files>) -> Self {
        self.files = files;
        self
    }

    /// Reads the input once and takes the job's files, for a run on the engine that `builder` builds. No weight is read but what
    /// the fingerprint takes.
    ///
    /// # Errors
    /// A bad input, settings or a model that are not those the job was begun with, files of another job, another process on it.
    pub fn open(&self, builder: &EngineBuilder) -> Result<OpenJob, Error> {
        let architecture = builder.architecture()?;
        let mut parser = LineParser::new(architecture.model.vocabulary());
        match (&architecture.labels, self.task) {
            (Some(labels), Task::Generate) => {
                let labels = labels.names.len();
                return Err(JobError::from(Refusal::Classifier { labels }).into());
            }
            (Some(_), Task::Score { .. }) => parser = parser.labels(),
            (None, Task::Generate | Task::Score { .. }) => {}
        }
        if builder.checkpoint().has_chat_templates()? {
            parser = parser.chat();
        }
        let piped = is_pipe(&self.input)?;
        let refused = |refusal: Refusal| Err(JobError::from(refusal).into());
        if piped && self.resume {
            return refused(Refusal::Pipe { input: self.input.clone() });
        }
        if piped && self.strict {
            return refused(Refusal::StrictPipe { input: self.input.clone() });
        }
        let found =
            if piped { None } else { Some(survey(&self.input, self.task, self.strict.then_some(&mut parser))?) };
        let mut parameters = builder.fingerprint()?;
        parameters.insert("seed".into(), self.seed.into());
        parameters.insert("max_tokens".into(), MAX_TOKENS.into());
        if !builder.asked_edges().is_empty() {
            parameters.insert("capture".into(), builder.asked_edges().into());
        }
        if let Task::Score { as_generated } = self.task {
            parameters.insert("task".into(), if as_generated { "score as generated" } else { "score" }.into());
        }
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (fingerprint, hashes, total) = match found {
            Some(found) => (Some(found.fingerprint), found.line_hashes, Some(found.scan.lines)),
            None => (None, vec![], None),
        };
        let (ledger, begun) = Ledger::open(Opening {
            files: self.files.clone(),
            places: self.places.clone(),
            header: Header { created, input: fingerprint, parameters },
            line_hashes: &hashes,
            input: &self.input,
            resume: self.resume,
            holder: self.holder,
        })?;
        let (task, input, seed, captures) = (self.task, self.input.clone(), self.seed, self.captures.clone());
        let settings = Settings { task, input, seed, max_error_rate: self.max_error_rate, total, captures };
        Ok(OpenJob { settings, ledger, begun, parser, asked: self.resume })
    }
}

/// Whether an input can be read only once.
pub(crate) fn is_pipe(input: &Path) -> Result<bool, JobError> {
    if input == Path::new("-") {
        return Ok(true);
    }
    let there = std::fs::metadata(input).map_err(|source| JobError::Io { file: input.into(), source })?;
    Ok(!there.is_file() && !there.is_dir())
}

/// A job whose files this process holds.
#[derive(Debug)]
pub struct OpenJob {
    settings: Settings,
    ledger: Ledger,
    begun: Begun,
    parser: LineParser,
    asked: bool,
}

impl OpenJob {
    /// How it was begun.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// What has its record already, where nothing is left to do.
    pub fn finished(&self) -> Option<super::ledger::Tally> {
        matches!(self.begun, Begun::Finished(_)).then(|| self.ledger.tally())
    }

    /// Where it stands: lines with a record, and lines of the job.
    pub fn standing(&self) -> (u64, Option<u64>) {
        (self.ledger.tally().done, self.settings.total)
    }

    /// Gives the job back without running it.
    pub fn release(self) {
        self.ledger.release();
    }

    /// What a person should hear before it runs.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = vec![];
        let input = self.settings.input.display();
        match self.settings.total {
            Some(0) => notes.push(format!("{input} has no lines")),
            Some(lines) if lines >= INDEX_LINES_SAID => {
                let bytes = (lines * INDEX_BYTES_A_LINE) >> 20;
                notes.push(format!(
                    "{lines} lines: their index takes at most {bytes} MiB ({INDEX_BYTES_A_LINE} bytes a line)"
                ));
            }
            Some(_) | None => {}
        }
        match &self.begun {
            Begun::New if self.asked => notes.push("there is no journal to go on with: the job begins".into()),
            Begun::New => {}
            Begun::Anew => notes.push("the same job has been here: it begins anew".into()),
            Begun::Resumed(resume, mended) => {
                notes.push(format!(
                    "{} lines are done, {} that were in flight run again",
                    resume.done, resume.in_flight
                ));
                if resume.torn_bytes > 0 {
                    notes.push(format!(
                        "{} bytes at the end of the journal were not whole and were cut",
                        resume.torn_bytes
                    ));
                }
                if let Some(left) = &resume.left {
                    notes.push(format!("taken over from {left}, which ended without a word"));
                }
                notes.extend(mended.notes());
            }
            Begun::Finished(mended) => notes.extend(mended.notes()),
        }
        notes
    }

    /// Runs what is left of it, on the engine of the builder it was opened with.
    ///
    /// # Errors
    /// What the system refused: what was committed stays so, and the job can be resumed.
    pub fn run(
        mut self,
        engine: &Engine,
        interrupt: &Interrupt,
        progress: &mut dyn Progress,
    ) -> Result<Summary, Error> {
        if let Some(tally) = self.finished() {
            self.release();
            return Ok(Summary { tally, total: Some(tally.done), tokens: 0, seconds: 0.0, pause: None });
        }
        let input = &self.settings.input;
        let source: Box<dyn BufRead> = if input == Path::new("-") {
            Box::new(BufReader::new(stdin()))
        } else {
            let failed = |source| JobError::Io { file: input.clone(), source };
            Box::new(BufReader::with_capacity(1 << 16, File::open(input).map_err(failed)?))
        };
        if !engine.edges().is_empty() {
            capture::make(&self.settings.captures)?;
        }
        let lines = LineReader::new(source);
        let done = Runner::new(self.settings, engine, &mut self.ledger, lines, self.parser).run(interrupt, progress);
        self.ledger.release();
        done
    }
}
