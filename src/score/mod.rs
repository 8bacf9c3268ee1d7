//! Scoring: how likely given tokens are behind a context, as evaluation harnesses ask for it.
//!
//! A checkpoint with a head of labels says one score a label of a whole text instead.
//!
//! A token's score is the log-probability that generation would have told of it: the same row, the same bits.

mod classify;
mod lines;
mod text;
mod windows;

pub use classify::Classification;
pub(crate) use classify::{ClassifiedLine, row};
pub use lines::{ScoreError, Scored, ScoredLine, scorings};
pub use text::{Perplexity, TextError, perplexity};
pub use windows::{Window, rolling_windows};

use crate::engine::{Completion, Engine, Failure, Generation, TokenLogprob};
use crate::text::{Tokenizer, TokenizerError};

/// Tokens behind a context.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scoring {
    /// What stands before them; at least one token.
    pub context: Vec<u32>,
    /// The tokens; at least one.
    pub continuation: Vec<u32>,
    /// Whether they are to be taken as generated: where an op has two forms that differ in bits, by the form of generated rows. Where
    /// all ops have one form the bits are the same.
    pub as_generated: bool,
}

impl Scoring {
    /// What the engine is asked for. The context comes from the cache where it can, and the last token is never fed.
    pub fn generation(&self) -> Generation {
        let from = self.context.len() as u32;
        Generation {
            prompt_logprobs: Some(0),
            prompt_logprobs_from: from,
            generated_from: self.as_generated.then_some(from),
            ignore_eos: true,
            ..Generation::greedy([&self.context[..], &self.continuation[..]].concat(), 0)
        }
    }
}

/// How likely the tokens of a continuation are.
#[derive(Clone, PartialEq, Debug)]
pub struct Score {
    /// One a token, in their order.
    pub tokens: Vec<TokenLogprob>,
}

impl Score {
    /// The score that a completion of [`Scoring::generation`] is.
    pub fn of(completion: Completion) -> Self {
        Self { tokens: completion.prompt.into_iter().filter_map(|row| row.logprob).collect() }
    }

    /// The log-likelihood of the continuation: the sum over its tokens, in f64 and in their order.
    pub fn loglikelihood(&self) -> f64 {
        self.tokens.iter().map(|token| f64::from(token.logprob)).sum()
    }

    /// Whether every token is the likeliest in its place, the lowest id first among equals: what greedy generation gives.
    pub fn is_greedy(&self) -> bool {
        self.tokens.iter().all(|token| token.rank == 1)
    }
}

impl Engine {
    /// Scores tokens behind a context. Dropping the future gives it up.
    ///
    /// # Errors
    /// Why it was refused, or failed.
    pub async fn score(&self, scoring: &Scoring) -> Result<Score, Failure> {
        self.generate(scoring.generation()).await.map(Score::of)
    }

    /// As [`Engine::score`], waiting for it on this thread.
    ///
    /// # Errors
    /// As [`Engine::score`].
    pub fn score_blocking(&self, scoring: &Scoring) -> Result<Score, Failure> {
        self.generate_blocking(scoring.generation()).map(Score::of)
    }

    /// The token that stands before a text without a context: the one that begins texts, else the first that ends them.
    pub fn prefix_token(&self) -> Option<u32> {
        self.defaults().bos.or(self.defaults().eos.first().copied())
    }
}

/// The tokens of a context and of what follows it, parted as lm-evaluation-harness does: spaces at the end of the context go over to
/// the continuation, both are encoded as one text, and what is beyond the tokens of the context alone is the continuation's.
///
/// # Errors
/// What the tokenizer says.
pub fn encode_pair(
    tokenizer: &Tokenizer,
    context: &str,
    continuation: &str,
) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
    let own = context.trim_end();
    let whole = tokenizer.encode(&[context, continuation].concat())?;
    let context = tokenizer.encode(own)?;
    let continuation = whole.get(context.len()..).unwrap_or_default().to_vec();
    Ok((context, continuation))
}
