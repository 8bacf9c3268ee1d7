//! Where and when: ports, lanes, stages, the actors one a file, communicators, supervision, trace.
//!
//! This crate knows nothing of tokenizers, HTTP or files of jobs.

pub mod batcher;
pub mod feed;
pub mod pool;
pub mod sampler;
pub mod port;
pub mod ticket;

pub use ticket::{Draw, Feed, Samples, Sampling, Ticket, Token};
