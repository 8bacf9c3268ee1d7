//! The ledger of a job of steps, shared by their threads; and the wish to stop, of whoever has a reason.

use super::flow::Record;
use super::item::{Denied, Item};
use crate::job::journal::JournalError;
use crate::job::{JobError, Ledger, Pause};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Why a run ends before its end, beside the signals.
#[derive(Debug)]
pub(super) enum Halt {
    /// A file of the job failed.
    Job(JobError),
    /// An engine ended.
    Engine(String),
}

/// What a step is called, and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StepName {
    pub(super) number: u32,
    pub(super) name: String,
}

/// The ledger and the state of a run.
#[derive(Debug)]
pub(super) struct Books {
    ledger: Mutex<Ledger>,
    /// No item is begun any more.
    draining: AtomicBool,
    /// What is under way is given up, too: closed then.
    abandon: async_channel::Sender<()>,
    abandoned: async_channel::Receiver<()>,
    halt: Mutex<Option<Halt>>,
}

impl Books {
    pub(super) fn new(ledger: Ledger) -> Self {
        let (abandon, abandoned) = async_channel::bounded(1);
        let (draining, halt) = (AtomicBool::new(false), Mutex::new(None));
        Self { ledger: Mutex::new(ledger), draining, abandon, abandoned, halt }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn into_ledger(self) -> Ledger {
        self.ledger.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins no item any more.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Gives up what is under way.
    pub(super) fn abandon(&self) {
        self.drain();
        self.abandon.close();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandon.is_closed()
    }

    /// Is done when what is under way is given up.
    pub(super) fn abandoned(&self) -> async_channel::Receiver<()> {
        self.abandoned.clone()
    }

    /// Ends the run; the first reason counts.
    pub(super) fn halt(&self, why: Halt) {
        let mut halt = self.halt.lock().unwrap_or_else(PoisonError::into_inner);
        halt.get_or_insert(why);
        drop(halt);
        self.abandon();
    }

    /// Why the run was ended, if it was.
    ///
    /// # Errors
    /// A file of the job failed.
    pub(super) fn halted(&self) -> Result<Option<Pause>, JobError> {
        match self.halt.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(None),
            Some(Halt::Job(error)) => Err(error),
            Some(Halt::Engine(what)) => {
                self.ledger().note_fault(&what)?;
                Ok(Some(Pause::Engine { what }))
            }
        }
    }

    /// What a step made of a part before this run, if it did.
    pub(super) fn remembered<U: Record>(&self, item: &Item, step: &StepName, part: u64) -> Option<U> {
        let found = self.ledger().step(item.number, step.number, part);
        let bytes = self.kept(found)??;
        // A closure that was changed may read its own results no more: then the step is done again.
        serde_json::from_slice(&bytes).ok()
    }

    /// Commits what a step made of a part, in its turn with the others; `None` once the run is halted.
    pub(super) fn commit<U: Record>(&self, item: &Item, step: &StepName, part: u64, made: &U) -> Result<(), Denied> {
        let bytes = serde_json::to_vec(made).map_err(|error| Denied {
            code: "step_failed",
            message: format!("step {}: its result cannot be written: {error}", step.name),
        })?;
        let done = self.ledger().note_step((item.number, step.number, part), &bytes, Instant::now());
        self.kept(done);
        Ok(())
    }

    /// The value, or a halt.
    fn kept<V>(&self, done: Result<V, JournalError>) -> Option<V> {
        match done {
            Ok(value) => Some(value),
            Err(error) => {
                self.halt(Halt::Job(error.into()));
                None
            }
        }
    }
}
