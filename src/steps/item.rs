//! An item under way: what all of its parts share, and the gate that bounds how many there are.

use crossbeam::channel::Sender;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Why an item, or a line, has no result: the code and words of its error record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Denied {
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// What became of an item.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The body of its result, as JSON.
    Done(Vec<u8>),
    /// It was filtered out.
    Filtered,
    /// It failed.
    Failed(Denied),
}

/// What the sink is told.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) item: u64,
    pub(super) line: u64,
    pub(super) custom_id: Option<String>,
    pub(super) tokens: u64,
    pub(super) outcome: Outcome,
}

/// How many items are under way.
#[derive(Debug, Default)]
struct Count {
    items: usize,
    /// The least company that one of them may have, with itself.
    tightest: Vec<usize>,
    /// The most there ever were.
    most: usize,
}

/// Lets a bounded number of items in.
#[derive(Debug)]
pub(super) struct Gate {
    count: Mutex<Count>,
    left: Condvar,
    items_max: usize,
}

impl Gate {
    pub(super) fn new(items_max: usize) -> Arc<Self> {
        Arc::new(Self { count: Mutex::default(), left: Condvar::new(), items_max })
    }

    /// Waits until one more may be under way. An item that was there at a fault may run beside `company` items at most, with itself.
    pub(super) fn enter(self: &Arc<Self>, company: Option<usize>) -> Permit {
        let own = company.unwrap_or(self.items_max).clamp(1, self.items_max);
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while count.items >= count.tightest.iter().copied().min().unwrap_or(self.items_max).min(own) {
            count = self.left.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        count.items += 1;
        count.most = count.most.max(count.items);
        count.tightest.push(own);
        Permit { gate: self.clone(), own }
    }

    /// The most items that were ever under way at once.
    pub(super) fn most(&self) -> usize {
        self.count.lock().unwrap_or_else(PoisonError::into_inner).most
    }
}

/// The right of one item to be under way.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    own: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut count = self.gate.count.lock().unwrap_or_else(PoisonError::into_inner);
        count.items -= 1;
        if let Some(place) = count.tightest.iter().position(|&own| own == self.own) {
            count.tightest.swap_remove(place);
        }
        self.gate.left.notify_all();
    }
}

/// What the parts of an item share. It leaves the gate with the last of them.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) number: u64,
    pub(super) line: u64,
    pub(super) custom_id: String,
    pub(super) tokens: AtomicU64,
    over: AtomicBool,
    verdicts: Sender<Verdict>,
    _permit: Permit,
}

impl Item {
    pub(super) fn new(
        (number, line): (u64, u64),
        custom_id: String,
        verdicts: Sender<Verdict>,
        permit: Permit,
    ) -> Self {
        let (tokens, over) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { number, line, custom_id, tokens, over, verdicts, _permit: permit }
    }

    /// Whether it has its verdict, or will have none in this run.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Says what became of it; only the first word counts.
    pub(super) fn conclude(&self, outcome: Outcome) {
        if self.over.swap(true, Ordering::AcqRel) {
            return;
        }
        let (item, line, custom_id) = (self.number, self.line, Some(self.custom_id.clone()));
        let tokens = self.tokens.load(Ordering::Acquire);
        // The sink listens until every sender is gone.
        drop(self.verdicts.send(Verdict { item, line, custom_id, tokens, outcome }));
    }

    /// Ends it without a word: it runs again when the job goes on.
    pub(super) fn abandon(&self) {
        self.over.store(true, Ordering::Release);
    }
}

/// An item, or one part of it, between two steps.
#[derive(Clone, Debug)]
pub(super) struct Message<T> {
    pub(super) item: Arc<Item>,
    /// Which part, and of which: a digit to the base of [`super::PARTS_MAX`] for each fan-out around it.
    pub(super) part: u64,
    /// Parts of each fan-out around it, the outermost first.
    pub(super) sizes: Vec<u32>,
    /// `None` where it is no more: filtered out, or the item is over.
    pub(super) value: Option<T>,
}

impl<T> Message<T> {
    /// The same part with another value.
    pub(super) fn with<U>(self, value: Option<U>) -> Message<U> {
        Message { item: self.item, part: self.part, sizes: self.sizes, value }
    }
}
