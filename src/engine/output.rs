//! What a generation tells: its tokens as they come, its end, and all of it together.

use super::RequestError;

/// Why a generation gave nothing more.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It was never begun.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// A row of logits had an infinity or no number in it.
    #[error("step {step}: the logits of position {position} are not all finite")]
    NonFinite {
        /// The step that computed it.
        step: u64,
        /// The row's position in the sequence.
        position: u32,
    },
    /// The rules of the request leave no token.
    #[error(
        "no token may follow position {position}: allowed_token_ids, bad_words, logit_bias and min_tokens leave none"
    )]
    NothingAllowed {
        /// The row's position in the sequence.
        position: u32,
    },
    /// Its tokens could not be turned into text.
    #[error("{why}")]
    Text {
        /// What the tokenizer says.
        why: String,
    },
    /// The engine has ended, and every generation with it.
    #[error("{what}")]
    Engine {
        /// What ended it.
        what: String,
    },
}

impl Failure {
    /// The short name that an error record has.
    pub fn code(&self) -> &'static str {
        match self {
            Failure::Refused(error) => error.code(),
            Failure::NonFinite { .. } => "non_finite_logits",
            Failure::NothingAllowed { .. } => "nothing_allowed",
            Failure::Text { .. } => "tokenizer",
            Failure::Engine { .. } => "engine_ended",
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
    /// It was refused or failed.
    Failed(Failure),
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
    /// Its log-probability (natural logarithm).
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
    /// A row of each of [`super::Engine::edges`], where logits were asked for.
    pub edges: Vec<Vec<f32>>,
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
    /// Of the row that it was drawn from, a row of each of [`super::Engine::edges`], where logits were asked for.
    pub edges: Vec<Vec<f32>>,
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

/// A generation that has ended, whole.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Completion {
    /// What was asked for of the prompt's rows.
    pub prompt: Vec<PromptRow>,
    /// Its tokens, with the one that stopped it.
    pub tokens: Vec<Token>,
    /// Its text; empty where the model has no tokenizer.
    pub text: String,
    /// Why it ended; never [`Ended::Failed`].
    pub ended: Ended,
}

impl Completion {
    /// Nothing so far.
    pub(super) fn begin() -> Self {
        Self { prompt: vec![], tokens: vec![], text: String::new(), ended: Ended::Cancelled }
    }

    /// Takes in what a stream told.
    ///
    /// # Errors
    /// Why there will be none.
    pub(super) fn take(&mut self, output: Output) -> Result<(), Failure> {
        match output {
            Output::Prompt(row) => self.prompt.push(row),
            Output::Token(token) => {
                self.text.push_str(&token.text);
                self.tokens.push(token);
            }
            Output::Ended(Ended::Failed(failure)) => return Err(failure),
            Output::Ended(ended @ (Ended::Stop { .. } | Ended::Length | Ended::Cancelled)) => self.ended = ended,
        }
        Ok(())
    }

    /// The ids of its tokens.
    pub fn token_ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.token).collect()
    }

    /// The sum of the log-probabilities of its tokens, in f64 and in their order; `None` where they were not asked for.
    pub fn logprob(&self) -> Option<f64> {
        self.tokens.iter().map(|token| token.logprob.as_ref().map(|told| f64::from(told.logprob))).sum()
    }
}
