//! Lines of a scoring job: from continuations to scorings, and from scores to the line of the output.

use super::{Scoring, encode_pair};
use crate::engine::{Engine, RequestError, TokenLogprob};
use crate::job::{Piece, ScoreRequest, Usage};
use crate::text::TokenizerError;
use serde::Serialize;
use std::io::{Result as IoResult, Write};

/// Why a continuation cannot be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// A text behind token ids.
    #[error("continuations[{index}] is a text and the prompt is token_ids; give both as texts or both as token ids")]
    TextBehindIds {
        /// Its place in the list.
        index: usize,
    },
    /// Nothing stands before the first token.
    #[error(
        "the prompt is empty and the model names neither bos_token_id nor eos_token_id; give a prompt of at least one token"
    )]
    NoPrefix,
    /// A continuation that has no token of its own.
    #[error("continuations[{index}] has no tokens of its own behind the prompt; give a longer one, or token ids")]
    Empty {
        /// Its place in the list.
        index: usize,
    },
    /// A continuation that has no room even without the prompt.
    #[error("continuations[{index}] has {tokens} tokens, at most max_model_len {max_model_len} are scored")]
    TooLong {
        /// Its place in the list.
        index: usize,
        /// Its tokens.
        tokens: usize,
        /// The bound.
        max_model_len: u32,
    },
    /// What the tokenizer says.
    #[error("continuations[{index}]: {source}")]
    Tokenizer {
        /// Its place in the list.
        index: usize,
        /// What it says.
        source: TokenizerError,
    },
    /// The engine does not take it.
    #[error(transparent)]
    Refused(#[from] RequestError),
}

impl ScoreError {
    /// The short name that an error record has.
    pub fn code(&self) -> &'static str {
        match self {
            ScoreError::TextBehindIds { .. } | ScoreError::Empty { .. } => "invalid_value",
            ScoreError::NoPrefix => "no_prompt",
            ScoreError::TooLong { .. } => "prompt_too_long",
            ScoreError::Tokenizer { .. } => "tokenizer",
            ScoreError::Refused(error) => error.code(),
        }
    }
}

/// The scorings of a line, one a continuation, and for each how many tokens of its context were cut off at the left, which the model
/// has no room for.
///
/// # Errors
/// The first continuation that cannot be scored.
pub fn scorings(
    engine: &Engine,
    request: &ScoreRequest,
    as_generated: bool,
) -> Result<Vec<(Scoring, usize)>, ScoreError> {
    let max_model_len = engine.plan().data().settings.max_model_len;
    let of = |(index, continuation): (usize, &Piece)| {
        let (mut context, continuation) = pair(engine, &request.context, index, continuation)?;
        if context.is_empty() {
            context.push(engine.prefix_token().ok_or(ScoreError::NoPrefix)?);
        }
        let tokens = continuation.len();
        if tokens == 0 {
            return Err(ScoreError::Empty { index });
        }
        // The last token is not fed, so that there is room for one more; the context keeps at least one.
        let Some(room) = (max_model_len as usize + 1).checked_sub(tokens).filter(|&room| room > 0) else {
            return Err(ScoreError::TooLong { index, tokens, max_model_len });
        };
        let cut = context.len().saturating_sub(room);
        context.drain(..cut);
        Ok((Scoring { context, continuation, as_generated }, cut))
    };
    request.continuations.iter().enumerate().map(of).collect()
}

/// The tokens of a context and of a continuation.
fn pair(
    engine: &Engine,
    context: &Piece,
    index: usize,
    continuation: &Piece,
) -> Result<(Vec<u32>, Vec<u32>), ScoreError> {
    let instead = "token ids";
    let tokenizer = || engine.tokenizer().ok_or(RequestError::NoTokenizer { field: "prompt", instead });
    let failed = |source| ScoreError::Tokenizer { index, source };
    match (context, continuation) {
        (Piece::TokenIds(context), Piece::TokenIds(ids)) => Ok((context.clone(), ids.clone())),
        (Piece::TokenIds(_), Piece::Text(_)) => Err(ScoreError::TextBehindIds { index }),
        (Piece::Text(context), Piece::TokenIds(ids)) => {
            let encoded = if context.is_empty() { vec![] } else { engine.encode(context)? };
            Ok((encoded, ids.clone()))
        }
        (Piece::Text(context), Piece::Text(text)) => {
            engine.check_text(context)?;
            engine.check_text(text)?;
            if context.is_empty() {
                return Ok((vec![], tokenizer()?.encode_bare(text).map_err(failed)?));
            }
            encode_pair(tokenizer()?, context, text).map_err(failed)
        }
    }
}

/// One scored continuation of a line.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Scored {
    /// Which of the line's.
    pub index: u32,
    /// The sum of its tokens' log-probabilities (natural logarithm).
    pub loglikelihood: f64,
    /// Whether greedy generation would have given it.
    pub is_greedy: bool,
    /// Its tokens.
    pub num_tokens: u32,
    /// Tokens of the context that were cut off at its beginning for want of room.
    pub truncated_tokens: u32,
    /// The ids of its tokens.
    pub token_ids: Vec<u32>,
    /// Their log-probabilities.
    pub token_logprobs: Vec<f32>,
    /// Their ranks: 1 for the likeliest.
    pub token_ranks: Vec<u32>,
}

impl Scored {
    /// What the output says of a continuation of which `told` was told.
    pub fn new(index: usize, truncated: usize, told: &[TokenLogprob]) -> Self {
        let score = super::Score { tokens: told.to_vec() };
        Self {
            index: index as u32,
            loglikelihood: score.loglikelihood(),
            is_greedy: score.is_greedy(),
            num_tokens: told.len() as u32,
            truncated_tokens: truncated as u32,
            token_ids: told.iter().map(|token| token.token).collect(),
            token_logprobs: told.iter().map(|token| token.logprob).collect(),
            token_ranks: told.iter().map(|token| token.rank).collect(),
        }
    }
}

/// The line of the output of a scored line.
#[derive(Clone, PartialEq, Debug)]
pub struct ScoredLine<'a> {
    /// The line it came from.
    pub line: u64,
    /// Its name.
    pub custom_id: &'a str,
    /// What the model is called.
    pub model: &'a str,
    /// Seconds since 1970, of the job.
    pub created: u64,
    /// One a continuation, in their order.
    pub results: &'a [Scored],
    /// Tokens of contexts and continuations.
    pub usage: Usage,
}

impl ScoredLine<'_> {
    /// Writes it, with the end of its line.
    pub fn write(&self, out: impl Write) -> IoResult<()> {
        #[derive(Serialize)]
        struct Body<'a> {
            id: String,
            object: &'static str,
            created: u64,
            model: &'a str,
            results: &'a [Scored],
            usage: Usage,
        }
        let body = Body {
            id: format!("score-{}", self.line),
            object: "score",
            created: self.created,
            model: self.model,
            results: self.results,
            usage: self.usage,
        };
        crate::job::write_response(self.line, self.custom_id, body, out)
    }
}
