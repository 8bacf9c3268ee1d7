//! Millstream: an actor-based dataflow inference engine for large language models.
//!
//! This crate is the facade: checkpoints on disk, text, jobs and the command line, over the crates `graph` (what a model
//! computes), `kernels` (how) and `actors` (where and when).

pub mod checkpoint;
pub mod cli;
pub mod engine;
pub mod error;
pub mod job;
mod json;
pub mod text;

pub use actors::batcher::Capture;
pub use actors::sampler::LogitRules;
pub use actors::ticket::Sampling;
pub use actors::trace;
pub use checkpoint::{Checkpoint, LoadFormat};
pub use engine::{
    Ended, Engine, EngineBuilder, EngineError, Generation, NotYet, Output, PromptRow, StopReason, Stream, Token,
    TokenLogprob,
};
pub use error::{Error, ExitCode};
pub use json::JsonFault;
