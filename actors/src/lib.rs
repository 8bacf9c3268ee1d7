//! Where and when: ports, lanes, stages, the actors one a file, communicators, supervision, trace.
//!
//! This crate knows nothing of tokenizers, HTTP or files of jobs.

pub mod batcher;
pub mod feed;
pub mod pool;
pub mod sampler;
pub mod lane;
pub mod port;
pub mod stage;
pub mod ticket;
pub mod trace;

pub use ticket::{Draw, Feed, Samples, Sampling, Ticket, Token};
