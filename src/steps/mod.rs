//! Pipelines of steps: a job as a dataflow, read → generate → score with another model → a closure → … → output.
//!
//! A step is a thread between two bounded queues, so steps run beside each other: an item is scored while another one is generated.
//! A bounded number of items is under way in all, and the reader waits for one to leave before it takes another. What a step made of an
//! item is committed to the journal before it is handed on; a job that goes on finds it there and does not make it again.

mod books;
mod closures;
mod engines;
mod fleet;
mod flow;
mod item;
mod read;
mod run;

pub use fleet::{Fleet, FleetPlan};
pub use flow::{Flow, PARTS_MAX, QUEUE_ITEMS, Record, StepJob};
pub use run::OpenSteps;

#[cfg(test)]
mod tests;
