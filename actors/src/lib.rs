//! Where and when: ports, lanes, stages, the actors one a file, communicators, supervision, trace.
//!
//! This crate knows nothing of tokenizers, HTTP or files of jobs.

#[cfg(not(loom))]
pub mod batcher;
#[cfg(not(loom))]
pub mod communicator;
#[cfg(not(loom))]
pub mod dispatcher;
#[cfg(not(loom))]
pub mod feed;
#[cfg(not(loom))]
pub mod lane;
#[cfg(not(loom))]
pub mod pool;
pub mod port;
#[cfg(not(loom))]
pub mod sampler;
#[cfg(not(loom))]
pub mod sampling_actor;
#[cfg(not(loom))]
pub mod shard;
#[cfg(not(loom))]
pub mod stage;
#[cfg(not(loom))]
pub mod tensor;
#[cfg(not(loom))]
pub mod ticket;
#[cfg(not(loom))]
pub mod token_feed;
#[cfg(not(loom))]
pub mod trace;
#[cfg(not(loom))]
pub mod wiring;

#[cfg(not(loom))]
pub use tensor::Tensor;
#[cfg(not(loom))]
pub use ticket::{Admission, Draw, Feed, RowFault, Samples, Sampling, Score, Ticket, Token};
