//! An engine: a plan that runs. Requests go in, streams of tokens come out.

mod builder;
mod conductor;
mod detokenizer;
mod devices;
mod error;
mod fingerprint;
mod supervision;

pub use builder::EngineBuilder;
pub use error::EngineError;

use crate::checkpoint::{Checkpoint, GenerationDefaults};
use crate::text::{StopTexts, Tokenizer};
use actors::batcher::{Capture, SequenceSpec};
use actors::sampler::LogitRules;
use actors::ticket::Sampling;
use actors::trace::{Recording, Trace};
use builder::Running;
use conductor::{Order, Signal};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use detokenizer::Listener;
use graph::plan::Plan;
use std::sync::Arc;
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
    /// What changes the logits that they are drawn from. Its `min_tokens` holds back stop texts as well; its `end_token_ids` are added to.
    pub rules: LogitRules,
    /// Whether the log-probability of each token is told, and beside it those of how many likeliest tokens, 20 at most.
    pub logprobs: Option<u32>,
    /// The same for each token of the prompt but the first. The prompt is then computed whole, whatever is cached.
    pub prompt_logprobs: Option<u32>,
    /// Texts that end it: the text is cut before the first one, and ends with the token that completed it. See [`StopTexts`].
    pub stop: Vec<String>,
    /// Leaves what ended it in the text: the stop text, or the text of the stop token.
    pub include_stop: bool,
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
        Self {
            prompt,
            max_tokens,
            sampling: Sampling::GREEDY,
            rules: LogitRules::default(),
            logprobs: None,
            prompt_logprobs: None,
            stop: vec![],
            include_stop: false,
            stop_token_ids: vec![],
            ignore_eos: false,
            capture: Capture::None,
        }
    }
}

/// Why a generation ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Ended {
    /// It came to a stop. What stopped it is part of its tokens, and not of its text unless that was asked for.
    Stop {
        /// At what.
        reason: StopReason,
    },
    /// It has all the tokens asked for.
    Length,
    /// It was given up.
    Cancelled,
    /// It was refused or failed; what and why in words.
    Failed(String),
}

/// What stopped a generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// One of the model's own end tokens.
    EndToken(u32),
    /// A stop token of the request.
    Token(u32),
    /// A stop text of the request.
    Text(String),
}

/// How likely a token was, by the raw logits: before temperature and rules.
#[derive(Clone, PartialEq, Debug)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Its log-probability.
    pub logprob: f32,
    /// 1 for the likeliest of all, the lowest id first among equals.
    pub rank: u32,
    /// The likeliest tokens and their log-probabilities, the likeliest first, as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// What was asked for of a prompt row.
#[derive(Clone, PartialEq, Debug)]
pub struct PromptRow {
    /// The row's position.
    pub position: u32,
    /// `vocabulary` logits, if they were asked for.
    pub logits: Option<Vec<f32>>,
    /// How likely the prompt's token at `position + 1` was, if that was asked for.
    pub logprob: Option<TokenLogprob>,
}

/// The next token of a generation.
#[derive(Clone, PartialEq, Debug)]
pub struct Token {
    /// Its id.
    pub token: u32,
    /// The text that it completes: often empty, since a character may take several tokens and the beginning of a stop text is held
    /// back; of the last token, what is left. All texts joined are the decode of all tokens but the one that stopped it, cut before a
    /// stop text. Empty where the model has no tokenizer.
    pub text: String,
    /// The logits it was drawn from, if they were asked for.
    pub logits: Option<Vec<f32>>,
    /// How likely it was, if that was asked for.
    pub logprob: Option<TokenLogprob>,
}

/// One thing that a stream tells.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// A prompt row, in the order of positions.
    Prompt(PromptRow),
    /// The next token.
    Token(Token),
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
        let prompt_rows = match (generation.capture, generation.prompt_logprobs) {
            (Capture::None | Capture::Generated, None) => 0,
            (Capture::All, _) | (Capture::None | Capture::Generated, Some(_)) => generation.prompt.len(),
        };
        // What is longer than the model's context is refused.
        let tokens = generation.max_tokens.min(self.plan.data().settings.max_model_len);
        // Room for everything that can be told, so that telling never waits.
        let (tell, outputs) = bounded(prompt_rows + tokens as usize + 2);
        match self.order_of(id, generation, tell.clone()) {
            Ok(order) => self.order(order),
            // A new channel has room.
            Err(why) => drop(tell.try_send(Output::Ended(Ended::Failed(why)))),
        }
        Stream { engine: self, id, outputs, over: false }
    }

    /// What the conductor has to hear of a generation, or why it is none.
    fn order_of(&self, id: u64, generation: Generation, stream: Sender<Output>) -> Result<Order, String> {
        let stops = StopTexts::new(&generation.stop).map_err(|fault| fault.to_string())?;
        if !stops.is_empty() && self.tokenizer.is_none() {
            return Err("stop: the model has no tokenizer; give stop_token_ids".into());
        }
        let end_tokens: Arc<[u32]> =
            if generation.ignore_eos { Arc::default() } else { self.defaults.eos.as_slice().into() };
        let stop_token_ids = [&generation.stop_token_ids[..], &end_tokens[..]].concat();
        let (mut rules, include_stop) = (generation.rules, generation.include_stop);
        let min_tokens = rules.min_tokens;
        if min_tokens > 0 {
            rules.end_token_ids.extend(&stop_token_ids);
        }
        let spec = SequenceSpec {
            id,
            prompt: generation.prompt,
            max_tokens: generation.max_tokens,
            stop_token_ids,
            sampling: generation.sampling,
            rules: Some(rules).filter(|rules| !rules.is_neutral()).map(Arc::new),
            logprobs: generation.logprobs,
            prompt_logprobs: generation.prompt_logprobs,
            capture: generation.capture,
        };
        Ok(Order::Submit(Box::new(spec), Listener { stream, stops, include_stop, min_tokens, end_tokens }))
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
