//! Steps that are closures: one to one, one to some, one to many, many to one. A panic fails the item, by the name of the step.

use super::books::{Books, StepName};
use super::flow::{DEPTH_MAX, Flow, PARTS_MAX, Record, Thread};
use super::item::{Denied, Message, Outcome};
use async_channel::{Receiver, Sender};
use std::collections::HashMap;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a closure gives, or the error record that its failure or panic comes to.
pub(super) fn guarded<U>(step: &StepName, closure: impl FnOnce() -> Result<U, String>) -> Result<U, Denied> {
    let denied = |code, what: String| Denied { code, message: format!("step {}: {what}", step.name) };
    match catch_unwind(AssertUnwindSafe(closure)) {
        Ok(made) => made.map_err(|why| denied("step_failed", why)),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            let text =
                text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "of no words".into());
            Err(denied("step_panicked", format!("panicked: {text}")))
        }
    }
}

/// What a step makes of a part: from the journal, or by `closure`, committed.
fn perform<T, U: Record>(
    step: &StepName,
    books: &Books,
    message: &Message<T>,
    closure: impl FnOnce() -> Result<U, String>,
) -> Option<U> {
    let item = &message.item;
    if item.is_over() {
        return None;
    }
    if books.is_abandoned() {
        item.abandon();
        return None;
    }
    if let Some(made) = books.remembered(item, step, message.part) {
        return Some(made);
    }
    let made = guarded(step, closure).and_then(|made| books.commit(item, step, message.part, &made).map(|()| made));
    made.map_err(|denied| item.conclude(Outcome::Failed(denied))).ok()
}

/// A thread that makes one message of each.
fn one_to_one<T: Record, U: Record>(
    input: Receiver<Message<T>>,
    output: Sender<Message<U>>,
    mut make: impl FnMut(Message<T>) -> Message<U> + Send + 'static,
) -> Thread {
    Box::new(move || {
        while let Ok(message) = input.recv_blocking() {
            // Nobody behind listens only when the run is over.
            drop(output.send_blocking(make(message)));
        }
    })
}

/// The parts of a fan-out that have come, by their place.
type Group<T> = Vec<(u64, Option<T>)>;

impl<T: Record> Flow<T> {
    /// Makes a `U` of each item.
    pub fn map<U: Record>(self, name: &str, closure: impl Fn(T) -> U + Send + 'static) -> Flow<U> {
        self.try_map(name, move |value| Ok::<U, String>(closure(value)))
    }

    /// Makes a `U` of each item, or an error record that begins with the step's name.
    pub fn try_map<U: Record, E: Display>(
        self,
        name: &str,
        closure: impl Fn(T) -> Result<U, E> + Send + 'static,
    ) -> Flow<U> {
        self.add(("map", name), move |step, books: Arc<Books>, input, output| {
            one_to_one(input, output, move |mut message: Message<T>| {
                let value = message.value.take();
                let made = value.and_then(|value| {
                    perform(&step, &books, &message, || closure(value).map_err(|error| error.to_string()))
                });
                message.with(made)
            })
        })
    }

    /// Keeps the items that `keep` says. One that goes has a line in the output that says so; a part that goes is missing in its fan-in.
    pub fn filter(self, name: &str, keep: impl Fn(&T) -> bool + Send + 'static) -> Flow<T> {
        self.add(("filter", name), move |step, books: Arc<Books>, input, output| {
            one_to_one(input, output, move |mut message: Message<T>| {
                let value = message.value.take();
                let kept = value.filter(|value| perform(&step, &books, &message, || Ok(keep(value))).unwrap_or(false));
                message.with(kept)
            })
        })
    }

    /// Makes parts of each item, at least one and at most [`PARTS_MAX`]; the steps that follow see each by itself, until
    /// [`Flow::fan_in`].
    pub fn fan_out<U: Record + Clone>(mut self, name: &str, closure: impl Fn(T) -> Vec<U> + Send + 'static) -> Flow<U> {
        let outline = self.outline();
        outline.depth += 1;
        if outline.depth > DEPTH_MAX {
            outline
                .faults
                .push(format!("step {name:?}: {} fan_outs around each other, at most {DEPTH_MAX}", outline.depth));
        }
        self.add(("fan_out", name), move |step, books: Arc<Books>, input: Receiver<Message<T>>, output| {
            Box::new(move || {
                while let Ok(mut message) = input.recv_blocking() {
                    let parts = message.value.take().and_then(|value| {
                        perform(&step, &books, &message, || {
                            let parts = closure(value);
                            let good = (1..=PARTS_MAX).contains(&parts.len());
                            if good {
                                Ok(parts)
                            } else {
                                Err(format!("{} parts, must be 1 to {PARTS_MAX}", parts.len()))
                            }
                        })
                    });
                    // One that is no more goes on as one part, so that the fan-in hears of it.
                    let parts: Vec<Option<U>> = parts.map_or(vec![None], |parts| parts.into_iter().map(Some).collect());
                    let sizes = [&message.sizes[..], &[parts.len() as u32]].concat();
                    for (index, value) in parts.into_iter().enumerate() {
                        let part = message.part * PARTS_MAX as u64 + index as u64;
                        let (item, sizes) = (message.item.clone(), sizes.clone());
                        drop(output.send_blocking(Message { item, part, sizes, value }));
                    }
                }
            })
        })
    }

    /// Makes one of the parts of the last fan-out, in their order, without those that were filtered out.
    pub fn fan_in<U: Record>(mut self, name: &str, closure: impl Fn(Vec<T>) -> U + Send + 'static) -> Flow<U> {
        let outline = self.outline();
        match outline.depth.checked_sub(1) {
            Some(depth) => outline.depth = depth,
            None => outline.faults.push(format!("step {name:?}: fan_in without a fan_out before it")),
        }
        self.add(("fan_in", name), move |step, books: Arc<Books>, input: Receiver<Message<T>>, output| {
            Box::new(move || {
                let mut groups: HashMap<(u64, u64), Group<T>> = HashMap::new();
                while let Ok(mut message) = input.recv_blocking() {
                    let Some(size) = message.sizes.pop() else { continue };
                    let (parent, index) = (message.part / PARTS_MAX as u64, message.part % PARTS_MAX as u64);
                    let key = (message.item.number, parent);
                    let group = groups.entry(key).or_default();
                    group.push((index, message.value.take()));
                    if group.len() < size as usize {
                        continue;
                    }
                    let mut group = groups.remove(&key).unwrap_or_default();
                    group.sort_unstable_by_key(|(index, _)| *index);
                    let parts: Vec<T> = group.into_iter().filter_map(|(_, value)| value).collect();
                    message.part = parent;
                    let made = perform(&step, &books, &message, || Ok(closure(parts)));
                    drop(output.send_blocking(message.with(made)));
                }
            })
        })
    }
}
