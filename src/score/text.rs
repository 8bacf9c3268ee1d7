//! The perplexity of a text: every token scored once, in rolling windows that run beside each other.

use super::{Score, Scoring, rolling_windows};
use crate::engine::{Engine, Failure, RequestError, Stream};
use crate::text::TokenizerError;
use serde::Serialize;
use std::collections::VecDeque;

/// Why a text has no perplexity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Texts, for a model that has tokens only.
    #[error("the model has no tokenizer; a text cannot be scored")]
    NoTokenizer,
    /// Nothing stands before the first token.
    #[error("the model names neither bos_token_id nor eos_token_id; nothing stands before the first token")]
    NoPrefix,
    /// A window that is none.
    #[error("--stride is {stride}, must be from 1 to the {max_len} positions of a window")]
    Stride {
        /// What it is.
        stride: usize,
        /// Positions of a window.
        max_len: usize,
    },
    /// What the tokenizer says.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A window failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// How likely a text is, with the names and units of lm-evaluation-harness. Sums of several texts are their sum.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Perplexity {
    /// The sum of the log-probabilities of all tokens (natural logarithm).
    pub loglikelihood: f64,
    /// Tokens.
    pub tokens: u64,
    /// Words: what white space parts, as `re.split(r"\s+", text)` counts them.
    pub words: u64,
    /// Bytes of the text in UTF-8.
    pub bytes: u64,
}

impl Perplexity {
    /// e to the power of the mean negative log-likelihood a token.
    pub fn token_perplexity(&self) -> f64 {
        (-self.loglikelihood / self.tokens as f64).exp()
    }

    /// The same a word.
    pub fn word_perplexity(&self) -> f64 {
        (-self.loglikelihood / self.words as f64).exp()
    }

    /// The same a byte.
    pub fn byte_perplexity(&self) -> f64 {
        (-self.loglikelihood / self.bytes as f64).exp()
    }

    /// The negative log-likelihood a byte, to the base of 2.
    pub fn bits_per_byte(&self) -> f64 {
        -self.loglikelihood / self.bytes as f64 / std::f64::consts::LN_2
    }
}

impl std::ops::Add for Perplexity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            loglikelihood: self.loglikelihood + other.loglikelihood,
            tokens: self.tokens + other.tokens,
            words: self.words + other.words,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// The perplexity of `text` in rolling windows of `max_model_len` positions and `stride` new tokens, by default as many as there is room
/// for. As many windows are under way as the engine runs; sums are taken in the order of the text.
///
/// # Errors
/// A model without what is needed, a stride that is none, a window that failed.
pub fn perplexity(
    engine: &Engine,
    text: &str,
    stride: Option<usize>,
    as_generated: bool,
) -> Result<Perplexity, TextError> {
    let tokenizer = engine.tokenizer().ok_or(TextError::NoTokenizer)?;
    let prefix = engine.prefix_token().ok_or(TextError::NoPrefix)?;
    let settings = &engine.plan().data().settings;
    let max_len = settings.max_model_len as usize;
    let stride = stride.unwrap_or(max_len);
    if !(1..=max_len).contains(&stride) {
        return Err(TextError::Stride { stride, max_len });
    }
    let tokens = tokenizer.encode_bare(text)?;
    let scoring = |window: super::Window| {
        let prefix = if window.prefixed { vec![prefix] } else { vec![] };
        let context = [&prefix[..], &tokens[window.context]].concat();
        Scoring { context, continuation: tokens[window.scored].to_vec(), as_generated }
    };
    let mut running: VecDeque<Stream> = VecDeque::new();
    let mut loglikelihood = 0.0;
    let take = |stream: Stream| Ok::<f64, Failure>(Score::of(stream.wait()?).loglikelihood());
    for window in rolling_windows(tokens.len(), max_len, stride) {
        if running.len() >= settings.max_num_seqs as usize * engine.replicas() {
            loglikelihood += running.pop_front().map_or(Ok(0.0), take)?;
        }
        let request =
            engine.validate(scoring(window).generation()).map_err(|error: RequestError| Failure::from(error))?;
        running.push_back(request.submit());
    }
    for stream in running {
        loglikelihood += take(stream)?;
    }
    let words = text.split(char::is_whitespace).filter(|word| !word.is_empty()).count() as u64;
    // The empty words that a split leaves at either end count there too.
    let edges = [text.starts_with(char::is_whitespace), text.ends_with(char::is_whitespace)];
    let empty = if words == 0 { 1 + u64::from(!text.is_empty()) } else { edges.into_iter().map(u64::from).sum() };
    Ok(Perplexity { loglikelihood, tokens: tokens.len() as u64, words: words + empty, bytes: text.len() as u64 })
}
