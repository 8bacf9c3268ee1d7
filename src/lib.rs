//! Millstream: an actor-based dataflow inference engine for large language models.
//!
//! This crate is the facade: checkpoints on disk, text, jobs and the command line, over the crates `graph` (what a model
//! computes), `kernels` (how) and `actors` (where and when).

//! ```
//! use millstream::{Checkpoint, Engine, Generation};
//! let engine = Engine::builder(Checkpoint::embedded()).build()?;
//! let prompt = engine.encode("Ownership is")?;
//! let completion = engine.generate_blocking(Generation::greedy(prompt, 4))?;
//! assert_eq!(completion.tokens.len(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

/// The snippets of pages that people copy from are run as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/library.md")]
    struct Library;
    #[doc = include_str!("../docs/steps.md")]
    struct Steps;
}

pub mod checkpoint;
pub mod cli;
pub mod engine;
pub mod error;
pub mod job;
mod json;
mod limits;
mod pictures;
pub mod score;
pub mod steps;
mod supervise;
pub mod text;

pub use actors::batcher::Capture;
pub use actors::sampler::LogitRules;
pub use actors::ticket::Sampling;
pub use actors::trace;
pub use checkpoint::{Checkpoint, LoadFormat};
pub use engine::{
    CapturedEdges, Completion, Ended, Engine, EngineBuilder, EngineError, Failure, Generation, NotYet, Output,
    PromptRow, RequestError, StopReason, Stream, Token, TokenLogprob, ValidRequest,
};
pub use error::{Error, ExitCode};
pub use graph;
pub use graph::plan::Bounds;
pub use graph::{Activation, DType, Labels};
pub use json::JsonFault;
pub use limits::Limit;
