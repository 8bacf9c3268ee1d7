//! An engine: a plan that runs. Requests go in, streams of tokens come out.

mod builder;
mod conductor;
mod detokenizer;
mod devices;
mod error;
mod fingerprint;

pub use builder::EngineBuilder;
pub use error::EngineError;

use crate::checkpoint::{Checkpoint, GenerationDefaults};
use crate::text::Tokenizer;
use actors::batcher::{Capture, SequenceSpec};
use actors::ticket::Sampling;
use actors::trace::{Recording, Trace};
use builder::Running;
use conductor::{Order, Signal};
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use graph::plan::Plan;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A sequence to be continued.
#[derive(Clone, PartialEq, Debug)]
pub struct Generation {
    /// Token ids to continue; at least one.
    pub prompt: Vec<u32>,
    /// Tokens at most.
    pub max_tokens: u32,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens that end it, beside the model's own.
    pub stop_token_ids: Vec<u32>,
    /// Goes on past the model's own end tokens.
    pub ignore_eos: bool,
    /// Whose logits are sent along; needs [`EngineBuilder::capture_logits`].
    pub capture: Capture,
}

impl Generation {
    /// The likeliest continuation of `prompt`.
    pub fn greedy(prompt: Vec<u32>, max_tokens: u32) -> Self {
        let (sampling, capture) = (Sampling::GREEDY, Capture::None);
        Self { prompt, max_tokens, sampling, stop_token_ids: vec![], ignore_eos: false, capture }
    }
}

/// Why a generation ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Ended {
    /// It drew a stop token, which is its last token and not part of its text.
    Stop {
        /// The token.
        token: u32,
    },
    /// It has all the tokens asked for.
    Length,
    /// It was given up.
    Cancelled,
    /// It was refused or failed; what and why in words.
    Failed(String),
}

/// One thing that a stream tells.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// The logits of a prompt row, in the order of positions.
    Prompt {
        /// The row's position.
        position: u32,
        /// `vocabulary` of them.
        logits: Vec<f32>,
    },
    /// The next token.
    Token {
        /// Its id.
        token: u32,
        /// The text that it completes: often empty, since a character may take several tokens; of the last token, what is left.
        /// All texts joined are the decode of all tokens but the one that stopped it. Empty where the model has no tokenizer.
        text: String,
        /// The logits it was drawn from, if they were asked for.
        logits: Option<Vec<f32>>,
    },
    /// The end.
    Ended(Ended),
}

/// What becomes of one generation, as it happens. Dropping it gives the generation up.
pub struct Stream<'e> {
    engine: &'e Engine,
    id: u64,
    outputs: Receiver<Output>,
    over: bool,
}

/// Nothing was told in the time given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotYet;

impl Stream<'_> {
    /// The next output if it comes within `wait`, else [`NotYet`]; `None` behind the end.
    pub fn next_within(&mut self, wait: Duration) -> Result<Option<Output>, NotYet> {
        if self.over {
            return Ok(None);
        }
        let output = match self.outputs.recv_timeout(wait) {
            Ok(output) => output,
            Err(RecvTimeoutError::Timeout) => return Err(NotYet),
            Err(RecvTimeoutError::Disconnected) => self.engine.ended(),
        };
        self.over = matches!(output, Output::Ended(_));
        Ok(Some(output))
    }
}

impl Iterator for Stream<'_> {
    type Item = Output;

    /// Waits for the next output; `None` behind the end.
    fn next(&mut self) -> Option<Output> {
        if self.over {
            return None;
        }
        let output = self.outputs.recv().unwrap_or_else(|_| self.engine.ended());
        self.over = matches!(output, Output::Ended(_));
        Some(output)
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.engine.order(Order::Cancel(self.id));
        }
    }
}

/// A plan that runs.
pub struct Engine {
    name: String,
    plan: Plan,
    tokenizer: Option<Tokenizer>,
    defaults: GenerationDefaults,
    notes: Vec<String>,
    running: Running,
    trace: Trace,
    next_id: AtomicU64,
}

impl Engine {
    /// An engine for `checkpoint`.
    pub fn builder(checkpoint: Checkpoint) -> EngineBuilder {
        EngineBuilder::new(checkpoint)
    }

    fn new(
        name: String,
        plan: Plan,
        tokenizer: Option<Tokenizer>,
        (defaults, notes): (GenerationDefaults, Vec<String>),
        running: Running,
        trace: Trace,
    ) -> Self {
        Self { name, plan, tokenizer, defaults, notes, running, trace, next_id: AtomicU64::new(0) }
    }

    /// What the model is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The plan it runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The model's tokenizer; `None` where the checkpoint has none.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// What a person should hear before it runs: sources that disagree, settings that were lowered, code that is not run.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What ends a text.
    pub fn defaults(&self) -> &GenerationDefaults {
        &self.defaults
    }

    /// Everything recorded since the last call.
    pub fn recording(&self) -> Recording {
        self.trace.collect()
    }

    /// What ended the engine, once something has: every generation fails then, whatever it asked for.
    pub fn fault(&self) -> Option<&str> {
        self.running.0.fault.get().map(String::as_str)
    }

    /// What a stream hears whose other end is gone, which only happens when the engine is.
    fn ended(&self) -> Output {
        let why = self.running.0.fault.get_or_init(|| "the engine has ended".into());
        Output::Ended(Ended::Failed(why.clone()))
    }

    /// Begins a generation. Waits where too many are waiting already.
    pub fn submit(&self, generation: Generation) -> Stream<'_> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut stops = generation.stop_token_ids;
        if !generation.ignore_eos {
            stops.extend(&self.defaults.eos);
        }
        let captured = if generation.capture == Capture::All { generation.prompt.len() } else { 0 };
        // Room for everything that can be told, so that telling never waits.
        let (tell, outputs) = bounded(captured + generation.max_tokens as usize + 2);
        let spec = SequenceSpec {
            id,
            prompt: generation.prompt,
            max_tokens: generation.max_tokens,
            stop_token_ids: stops,
            sampling: generation.sampling,
            capture: generation.capture,
        };
        self.order(Order::Submit(spec, tell));
        Stream { engine: self, id, outputs, over: false }
    }

    fn order(&self, order: Order) {
        let control = &self.running.0;
        // Refused only when the control thread has ended; then the stream's channel is closed, which its reader is told.
        if control.orders.send(order).is_ok() {
            control.bell.ring();
        }
    }
}

impl Drop for Engine {
    /// Ends the control thread, whose dropped ports end the lanes one after the other.
    fn drop(&mut self) {
        let (control, lanes) = &mut self.running;
        while let Err(actix::prelude::SendError::Full(_)) = control.addr.try_send(Signal::Stop) {
            std::thread::yield_now();
        }
        if let Some(thread) = control.thread.take() {
            // A panic of the control thread has been reported by the streams it left open.
            drop(thread.join());
        }
        for lane in lanes.drain(..) {
            lane.stop();
            drop(lane.join());
        }
    }
}
