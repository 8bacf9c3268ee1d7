//! What goes into the batcher and what comes out of it: its bounds, sequences, refusals, updates, counters.

use crate::pool::PoolSpec;
use crate::sampler::{LOGPROBS_MAX, LogitRules, SamplingFault};
use crate::ticket::{RowFault, Sampling, Score};
use std::ops::Range;
use std::sync::Arc;

/// Most stop tokens of one sequence; they are searched for every token.
pub const STOP_TOKENS_MAX: usize = 64;

/// The bounds of a batcher. None is below one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatcherSpec {
    /// Sequences that run at once; also the number of slots of the feed.
    pub max_num_seqs: u32,
    /// Rows of one step.
    pub max_num_batched_tokens: u32,
    /// Tokens of one sequence, prompt and generated.
    pub max_model_len: u32,
    /// Steps that may be out at once.
    pub in_flight: u32,
    /// Micro-batches that the generating sequences are split into so that they overlap: the depth of the pipeline.
    pub groups: u32,
    /// Sampled rows of one step.
    pub sampled_rows_max: u32,
    /// Sequences that wait for their first admission.
    pub max_waiting: u32,
    /// The pages.
    pub pool: PoolSpec,
}

/// A bound that leaves no room for any work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("batcher: {field} is {got}, it must be at least 1")]
pub struct SpecFault {
    /// Which bound.
    pub field: &'static str,
    /// What it is.
    pub got: u32,
}

impl BatcherSpec {
    /// All faults at once.
    pub fn check(&self) -> Vec<SpecFault> {
        let bounds = [
            ("max_num_seqs", self.max_num_seqs),
            ("max_num_batched_tokens", self.max_num_batched_tokens),
            ("max_model_len", self.max_model_len),
            ("in_flight", self.in_flight),
            ("groups", self.groups),
            ("sampled_rows_max", self.sampled_rows_max),
            ("max_waiting", self.max_waiting),
            ("pool.pages", self.pool.pages),
            ("pool.page_rows", self.pool.page_rows),
        ];
        bounds.into_iter().filter(|&(_, got)| got == 0).map(|(field, got)| SpecFault { field, got }).collect()
    }
}

/// Whose logits are sent back beside the tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capture {
    /// Nobody's.
    None,
    /// Of every row that a token is drawn from.
    Generated,
    /// Of the prompt's last row: what a classifier says of a text.
    Last,
    /// Of every row: the prompt's as well.
    All,
}

/// A sequence to be continued.
#[derive(Clone, PartialEq, Debug)]
pub struct SequenceSpec {
    /// The caller's number for it, not in use by another live sequence.
    pub id: u64,
    /// The tokens to continue, at least one.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most. 0 only looks at the prompt and needs [`Capture::All`], [`Capture::Last`] or
    /// `prompt_logprobs`.
    pub max_tokens: u32,
    /// Tokens that end it, the model's end tokens among them unless they are to be ignored; at most [`STOP_TOKENS_MAX`].
    pub stop_token_ids: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// What changes the logits that tokens are drawn from; `None` where nothing does.
    pub rules: Option<Arc<LogitRules>>,
    /// Whether log-probabilities of generated tokens are wanted, and those of how many likeliest tokens beside each.
    pub logprobs: Option<u32>,
    /// The same for the tokens of the prompt but the first. Rows that tell of them never come from the cache.
    pub prompt_logprobs: Option<u32>,
    /// The first token of the prompt that log-probabilities are wanted of; 0 and 1 mean all but the first. Not beyond the prompt, and 0
    /// with [`Capture::All`].
    pub prompt_logprobs_from: u32,
    /// The first token of the prompt that counts as generated: where an op has two forms its row takes the generated one.
    pub generated_from: Option<u32>,
    /// Whose logits are wanted.
    pub capture: Capture,
}

impl SequenceSpec {
    /// Whether a batcher of these bounds can ever run it to its end.
    ///
    /// # Errors
    /// The first thing that it cannot do.
    pub fn check(&self, bounds: &BatcherSpec) -> Result<(), Refused> {
        let &SequenceSpec { id, max_tokens, .. } = self;
        let prompt = self.prompt.len() as u64;
        if prompt == 0 {
            return Err(Refused::EmptyPrompt { id });
        }
        let told = self.prompt_logprobs.is_some() && (prompt == 1 || u64::from(self.prompt_logprobs_from) < prompt);
        if self.only_tells() && !told {
            return Err(Refused::NothingWanted { id });
        }
        let from = u64::from(self.prompt_logprobs_from.max(self.generated_from.unwrap_or(0)));
        if from > prompt || (self.capture == Capture::All && self.prompt_logprobs_from > 0) {
            return Err(Refused::From { id, from, prompt });
        }
        // The last token of a prompt that is only told of is never fed.
        if prompt + u64::from(max_tokens) > u64::from(bounds.max_model_len) + u64::from(self.only_tells()) {
            return Err(Refused::TooLong { id, prompt, max_tokens, max_model_len: bounds.max_model_len });
        }
        let (rows, pool_rows) = (u64::from(self.rows_max(prompt as u32)), bounds.pool.rows());
        if rows > pool_rows {
            return Err(Refused::NeverFits { id, rows, pool_rows, largest: pool_rows + u64::from(self.unfed()) });
        }
        let stops = self.stop_token_ids.len();
        if stops > STOP_TOKENS_MAX {
            return Err(Refused::TooManyStops { id, got: stops });
        }
        self.check_sampling().map_err(|fault| Refused::Sampling { id, fault })
    }

    /// The first setting of its draws that is none.
    fn check_sampling(&self) -> Result<(), SamplingFault> {
        self.sampling.check()?;
        self.rules.as_ref().map_or(Ok(()), |rules| rules.check())?;
        let told = [("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)];
        let over =
            told.into_iter().find_map(|(name, count)| Some((name, count.filter(|&count| count > LOGPROBS_MAX)?)));
        over.map_or(Ok(()), |(name, got)| Err(SamplingFault::Logprobs { name, got }))
    }

    /// Whether it is there for the log-probabilities of its own tokens.
    fn only_tells(&self) -> bool {
        match self.capture {
            Capture::None | Capture::Generated => self.max_tokens == 0,
            Capture::Last | Capture::All => false,
        }
    }

    /// Rows that a sequence with a prompt of this many tokens needs in all: neither the last token that is drawn nor the last one that is
    /// told of is ever fed.
    pub(super) fn rows_max(&self, prompt_len: u32) -> u32 {
        (prompt_len + self.max_tokens - self.unfed()).max(1)
    }

    /// Whether its last token has no row.
    pub(super) fn unfed(&self) -> u32 {
        u32::from(self.max_tokens > 0 || self.only_tells())
    }

    /// Whether rows of the prompt are sampled before its last one.
    pub(super) fn looks_at_prompt(&self) -> bool {
        self.capture == Capture::All || self.prompt_logprobs.is_some()
    }
}

/// Why a sequence was not taken.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Refused {
    /// There is nothing to continue.
    #[error("sequence {id}: the prompt is empty, at least 1 token is needed")]
    EmptyPrompt {
        /// The sequence.
        id: u64,
    },
    /// Neither tokens nor logits are wanted.
    #[error(
        "sequence {id}: max_tokens is 0, at least 1 is needed unless logits or log-probabilities of the prompt are wanted"
    )]
    NothingWanted {
        /// The sequence.
        id: u64,
    },
    /// Longer than the model's context.
    #[error("sequence {id}: {prompt} prompt tokens and max_tokens {max_tokens} exceed max_model_len {max_model_len}")]
    TooLong {
        /// The sequence.
        id: u64,
        /// Tokens of the prompt.
        prompt: u64,
        /// Tokens to generate.
        max_tokens: u32,
        /// The bound.
        max_model_len: u32,
    },
    /// A place beyond the prompt, or rows that would be told of and left out.
    #[error(
        "sequence {id}: the prompt has {prompt} tokens and is told of from token {from} on; give at most its length, and 0 where all \
         logits are wanted"
    )]
    From {
        /// The sequence.
        id: u64,
        /// The place.
        from: u64,
        /// Tokens of the prompt.
        prompt: u64,
    },
    /// Too large for the pool even when nothing else runs.
    #[error(
        "sequence {id}: {rows} rows of key-value cache are needed, the pool has {pool_rows}; \
         the largest prompt and max_tokens that fit are {largest} tokens together"
    )]
    NeverFits {
        /// The sequence.
        id: u64,
        /// Rows it may need.
        rows: u64,
        /// Rows of all pages.
        pool_rows: u64,
        /// Prompt tokens and `max_tokens` together that would fit.
        largest: u64,
    },
    /// Too many tokens end it.
    #[error("sequence {id}: {got} stop tokens, at most {STOP_TOKENS_MAX} are searched for")]
    TooManyStops {
        /// The sequence.
        id: u64,
        /// How many there are.
        got: usize,
    },
    /// The draw is not one.
    #[error("sequence {id}: {fault}")]
    Sampling {
        /// The sequence.
        id: u64,
        /// What is wrong with it.
        fault: SamplingFault,
    },
    /// The number is taken.
    #[error("sequence {id}: a live sequence has the same id")]
    DuplicateId {
        /// The sequence.
        id: u64,
    },
    /// No room to wait; try again after a sequence has been admitted.
    #[error("sequence {id}: {max_waiting} sequences are waiting, which is the most")]
    QueueFull {
        /// The sequence.
        id: u64,
        /// The bound.
        max_waiting: u32,
    },
}

/// Why a sequence ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// It drew a stop token; that token was reported and is not part of the output text.
    Stop {
        /// The stop token.
        token: u32,
    },
    /// It has all the tokens that were asked for.
    Length,
    /// Its caller gave it up.
    Cancelled,
    /// A row gave no token.
    Fault {
        /// Why.
        fault: RowFault,
        /// The row's position in the sequence.
        position: u32,
    },
}

/// What became known about a sequence.
#[derive(Clone, PartialEq, Debug)]
pub enum Update {
    /// What was asked for of a prompt row, in order of positions, each once.
    Prompt {
        /// The sequence.
        id: u64,
        /// The row's position.
        position: u32,
        /// Where its logits are in [`crate::ticket::Samples::logits`], if they were asked for.
        logits: Option<Range<usize>>,
        /// How likely the next token of the prompt was, if that was asked for.
        score: Option<Score>,
    },
    /// The next token, in order of positions, each once.
    Token {
        /// The sequence.
        id: u64,
        /// The token.
        token: u32,
        /// Its own position in the sequence; it was drawn from the row before.
        position: u32,
        /// Where that row's logits are in [`crate::ticket::Samples::logits`], if they were asked for.
        logits: Option<Range<usize>>,
        /// How likely it was, if that was asked for.
        score: Option<Score>,
    },
    /// The end; nothing follows under this id.
    Finished {
        /// The sequence.
        id: u64,
        /// Why.
        reason: Finish,
    },
}

/// Results that do not belong to the oldest step that is out. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misdelivered {
    /// No step is out.
    #[error("results of step {got} arrived, but no step is out")]
    Unasked {
        /// The results' step.
        got: u64,
    },
    /// Another step's turn.
    #[error("results of step {got} arrived, step {wanted} is next")]
    OutOfOrder {
        /// The step whose turn it is.
        wanted: u64,
        /// The results' step.
        got: u64,
    },
    /// Not the rows that were asked for.
    #[error("step {step}: {got} sampled rows arrived, {wanted} were asked for")]
    Rows {
        /// The step.
        step: u64,
        /// Rows asked for.
        wanted: usize,
        /// Rows arrived.
        got: usize,
    },
    /// Logits that are not a whole number of equal rows.
    #[error("step {step}: {elements} captured logits are not {rows} equal rows")]
    Logits {
        /// The step.
        step: u64,
        /// Elements arrived.
        elements: usize,
        /// Rows captured.
        rows: usize,
    },
    /// Likeliest tokens that did not arrive.
    #[error("step {step}: {got} likeliest tokens arrived, its rows name more")]
    Top {
        /// The step.
        step: u64,
        /// How many arrived.
        got: usize,
    },
}

/// Figures for traces and progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Sequences that hold pages.
    pub running: u32,
    /// Sequences that wait, preempted ones included.
    pub waiting: u32,
    /// Steps that are out.
    pub in_flight: u32,
    /// Pages that running sequences hold.
    pub pages_used: u32,
    /// Pages that could still be had, cached ones included.
    pub pages_available: u32,
    /// Sequences sent back to the queue so far.
    pub preemptions: u64,
    /// Rows that would have been found had every prefix been cached.
    pub prefix_query_rows: u64,
    /// Rows that were found.
    pub prefix_hit_rows: u64,
    /// Rows issued for tokens that were known at admission.
    pub prompt_rows: u64,
    /// Rows issued a second time, after a preemption.
    pub recomputed_rows: u64,
    /// Tokens generated and reported.
    pub generated_tokens: u64,
}
