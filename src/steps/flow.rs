//! A job of steps as its user writes it: typed items, closures, engines.

use super::books::{Books, StepName};
use super::item::{Gate, Message, Outcome, Verdict};
use super::read;
use crate::engine::Engine;
use crate::job::journal::{Disk, Files, Places};
use async_channel::Receiver;
use crossbeam::channel::Sender;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Messages that wait between two steps.
pub const QUEUE_ITEMS: usize = 64;
/// Parts of one fan-out.
pub const PARTS_MAX: usize = 1024;
/// Fan-outs around each other.
pub(super) const DEPTH_MAX: usize = 5;
/// Items under way where no engine says more.
const ITEMS_MIN: usize = 16;

/// What goes from step to step: it can be written to the journal and read back.
pub trait Record: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Record for T {}

/// What the threads of a run are made of.
pub(super) struct Crew {
    pub(super) books: Arc<Books>,
    pub(super) gate: Arc<Gate>,
    pub(super) verdicts: Sender<Verdict>,
    pub(super) threads: Vec<(String, Thread)>,
}

/// What a thread does.
pub(super) type Thread = Box<dyn FnOnce() + Send>;
/// Makes the threads of a step and of those before it; gives what the last one sends.
type Make<T> = Box<dyn FnOnce(&mut Crew) -> Receiver<Message<T>> + Send>;

/// What is known of a job's steps before they run.
#[derive(Clone, Debug)]
pub(super) struct Outline {
    pub(super) input: PathBuf,
    /// Kind and name of each step, in their order.
    pub(super) steps: Vec<(&'static str, String)>,
    /// The engines of steps, by name of the step.
    pub(super) engines: Vec<(String, Engine)>,
    /// Open fan-outs.
    pub(super) depth: usize,
    pub(super) faults: Vec<String>,
}

/// A job of steps whose last one gives a `T` for each item or part.
#[must_use = "a flow does nothing until it is written and run"]
pub struct Flow<T> {
    outline: Outline,
    make: Make<T>,
}

impl<T: Record> Flow<T> {
    /// The lines of `input`, a JSONL file, as items. Each has a `custom_id` of its own; a line that is no `T` becomes an error record.
    pub fn read(input: impl Into<PathBuf>) -> Self {
        let input = input.into();
        let outline = Outline { input: input.clone(), steps: vec![], engines: vec![], depth: 0, faults: vec![] };
        Self { outline, make: Box::new(move |crew| read::read(crew, input)) }
    }

    /// The step that is added, and what it is fed by.
    pub(super) fn add<U: Record>(
        mut self,
        (kind, name): (&'static str, &str),
        thread: impl FnOnce(StepName, Arc<Books>, Receiver<Message<T>>, async_channel::Sender<Message<U>>) -> Thread
        + Send
        + 'static,
    ) -> Flow<U> {
        if self.outline.steps.iter().any(|(_, other)| other == name) || name.is_empty() {
            self.outline.faults.push(format!("step {name:?}: its name is that of another step, or empty"));
        }
        let step = StepName { number: self.outline.steps.len() as u32, name: name.into() };
        self.outline.steps.push((kind, name.into()));
        let make = self.make;
        let make: Make<U> = Box::new(move |crew| {
            let input = make(crew);
            let (output, made) = async_channel::bounded(QUEUE_ITEMS);
            let name = step.name.clone();
            crew.threads.push((name, thread(step, crew.books.clone(), input, output)));
            made
        });
        Flow { outline: self.outline, make }
    }

    pub(super) fn outline(&mut self) -> &mut Outline {
        &mut self.outline
    }

    /// The results go to `output`, one line an item in the order of the input, with the journal beside it: what the last step made is
    /// the `response.body`.
    pub fn write(mut self, output: impl AsRef<Path>) -> StepJob {
        if self.outline.depth > 0 {
            self.outline
                .faults
                .push(format!("{} fan_out without its fan_in; close each before write", self.outline.depth));
        }
        let make = self.make;
        let engines = self.outline.engines.iter().map(|(_, engine)| engine.window());
        let items_max = engines.max().unwrap_or(0).max(ITEMS_MIN);
        let crew: Box<dyn FnOnce(&mut Crew) + Send> = Box::new(move |crew| {
            let made = make(crew);
            crew.threads.push(("write".into(), Box::new(move || deliver(&made))));
        });
        StepJob {
            outline: self.outline,
            crew,
            places: Places::of(output.as_ref()),
            files: Arc::new(Disk),
            items_max,
            version: String::new(),
            resume: false,
            max_error_rate: None,
        }
    }
}

/// Hands what the last step made to the sink.
fn deliver<T: Record>(made: &Receiver<Message<T>>) {
    while let Ok(message) = made.recv_blocking() {
        let outcome = match &message.value {
            None => Outcome::Filtered,
            Some(value) => match serde_json::to_vec(value) {
                Ok(body) => Outcome::Done(body),
                Err(error) => Outcome::Failed(super::item::Denied {
                    code: "step_failed",
                    message: format!("the result cannot be written: {error}"),
                }),
            },
        };
        message.item.conclude(outcome);
    }
}

/// A job of steps that is ready to be opened.
#[must_use = "a job does nothing until it is opened and run"]
pub struct StepJob {
    pub(super) outline: Outline,
    pub(super) crew: Box<dyn FnOnce(&mut Crew) + Send>,
    pub(super) places: Places,
    pub(super) files: Arc<dyn Files>,
    pub(super) items_max: usize,
    pub(super) version: String,
    pub(super) resume: bool,
    pub(super) max_error_rate: Option<f64>,
}

impl std::fmt::Debug for StepJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepJob").field("steps", &self.outline.steps).finish_non_exhaustive()
    }
}

impl StepJob {
    /// Goes on where the journal ends; begins where there is none.
    pub fn resume(mut self) -> Self {
        self.resume = true;
        self
    }

    /// Items under way at most; twice the sequences of the largest engine unless given, and at least one.
    pub fn items_max(mut self, items: usize) -> Self {
        self.items_max = items.max(1);
        self
    }

    /// A name for what the closures do: a job that goes on must have the one it was begun with.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Pauses when more than this share of at least 100 items, or of all, are error records.
    pub fn max_error_rate(mut self, share: f64) -> Self {
        self.max_error_rate = Some(share);
        self
    }

    /// Lies in these files instead of those of the machine; the input is read from the machine's.
    pub fn files(mut self, files: Arc<dyn Files>) -> Self {
        self.files = files;
        self
    }

    /// The steps, their queues and bounds, one a line.
    pub fn explain(&self) -> String {
        let engine = |step: &String| {
            let found = self.outline.engines.iter().find(|(name, _)| name == step);
            found.map(|(_, engine)| format!(" by {}", engine.name())).unwrap_or_default()
        };
        let step =
            |(kind, name): &(&str, String)| format!("{name}: {kind}{}, behind a queue of {QUEUE_ITEMS}", engine(name));
        let read = format!("read: {}, at most {} items under way", self.outline.input.display(), self.items_max);
        let write = format!("write: {}, behind a queue of {QUEUE_ITEMS}", self.places.output.display());
        std::iter::once(read).chain(self.outline.steps.iter().map(step)).chain([write]).collect::<Vec<_>>().join("\n")
    }
}
