//! How one step computes: aligned memory, a thread team, one folder an op.
//!
//! This crate knows nothing of models, actors or requests.

#![allow(
    clippy::needless_range_loop,
    reason = "register blocks are indexed by row and panel, as the maths writes them"
)]
#![allow(clippy::excessive_precision, reason = "coefficients are written as published; the compiler rounds them once")]

pub mod cache;
pub mod catalogue;
pub mod ceiling;
pub mod cuda;
pub mod draws;
pub mod error;
pub mod executor;
pub mod isa;
pub mod memory;
pub mod ops;
mod panel;
mod slab;
mod states;
pub mod step;
pub mod team;
pub mod weights;

pub use cache::Cache;
pub use draws::{Drawn, DrawnToken, TokenDraw};
pub use error::KernelError;
pub use executor::{Execute, Executor, Limits};
pub use isa::Isa;
pub use memory::Memory;
pub use step::{GONE, Snapshot, Span, SpanState, Step};
pub use team::{STACK_BYTES, Team, TeamSpec};
pub use weights::{RowSource, Weight};
