//! Tokens drawn where the logits are: what is asked of a row, and what was found.

/// Likeliest tokens that can be told of a row at most.
pub const TOP_MAX: u32 = 20;

/// Which token a row is about.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Wanted {
    /// One that is drawn: `temperature` 0 takes the largest logit; `top_k` 0, `top_p` 1 and `min_p` 0 keep all.
    Drawn {
        /// Divides the logits.
        temperature: f32,
        /// Keeps so many of the largest.
        top_k: u32,
        /// Keeps the likeliest ones up to this probability.
        top_p: f32,
        /// Drops those less likely than this share of the likeliest.
        min_p: f32,
        /// The key of the random number, whose stream is `position`.
        key: [u32; 5],
        /// The row's place in its sequence.
        position: u32,
    },
    /// One that is known.
    Known(u32),
    /// None: whether all logits are numbers is all that is asked.
    Nothing,
}

/// What is asked of a sampled row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TokenDraw {
    /// Its token.
    pub wanted: Wanted,
    /// Whether the token's log-probability is told, and beside it those of how many likeliest tokens.
    pub logprobs: Option<u32>,
}

/// What was found of a sampled row.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct DrawnToken {
    /// The token that was drawn or known; none where a logit is no number, and where none was asked for.
    pub token: Option<u32>,
    /// Whether all logits that could be drawn are numbers.
    pub is_finite: bool,
    /// The token's log-probability and its rank, where they were asked for.
    pub score: Option<(f32, u32)>,
    /// Where its likeliest tokens begin in [`Drawn::top`], and how many they are.
    pub top: (u32, u32),
}

/// What was found of all sampled rows of a step.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Drawn {
    /// By row; empty where nothing was drawn.
    pub rows: Vec<DrawnToken>,
    /// Likeliest tokens with their log-probabilities.
    pub top: Vec<(u32, f32)>,
}

impl Drawn {
    /// Nothing.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.top.clear();
    }
}
