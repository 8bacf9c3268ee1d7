//! How one step computes: aligned memory, a thread team, one folder an op.
//!
//! This crate knows nothing of models, actors or requests.

pub mod step;

pub use step::{Span, Step};
