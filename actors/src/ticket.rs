//! What travels between the control plane and the lanes once a step: the ticket down, the sampled tokens back.

use crate::sampler::LogitRules;
use kernels::Step;
use std::sync::Arc;

/// How the next token is drawn from a row of logits. `Copy`, so that it rides in a ticket without allocation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest logit (the lowest id among equals).
    pub temperature: f32,
    /// Keeps this many of the largest; 0 keeps all.
    pub top_k: u32,
    /// Keeps the smallest set whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less likely than this share of the likeliest; 0 keeps all.
    pub min_p: f32,
    /// First part of the counter-based random number: (seed, request, sample, position).
    pub seed: u64,
    /// Second part: a number that is the request's own, whatever it is batched with.
    pub request: u64,
    /// Third part: which of the request's samples.
    pub sample: u32,
}

impl Sampling {
    /// Takes the largest logit.
    pub const GREEDY: Self =
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0, request: 0, sample: 0 };
}

/// Where the token of a row comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feed {
    /// Known when the ticket was written.
    Token(u32),
    /// The last token sampled for this slot; it may still be on its way when the ticket is written.
    Sampled {
        /// The sequence's slot.
        slot: u32,
    },
}

/// What the sampler does with one sampled row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Draw {
    /// The sequence, by the number the batcher gave it.
    pub sequence: u64,
    /// How often the sequence had been preempted when the ticket was written; a result of an older epoch is dropped.
    pub epoch: u32,
    /// The sequence's slot: which register of the feed gets the token.
    pub slot: u32,
    /// The position of the row in its sequence; the drawn token is the one at `position + 1`.
    pub position: u32,
    /// How to draw; `None` for a row whose logits are only looked at.
    pub sampling: Option<Sampling>,
    /// Whether the draw obeys the rules that the sequence was admitted with.
    pub ruled: bool,
    /// The token that follows the row, where it is known and its log-probability is wanted.
    pub next: Option<u32>,
    /// Whether the log-probability of the token drawn, or of `next`, is told, and beside it those of how many likeliest tokens.
    pub logprobs: Option<u32>,
    /// Whether the row's logits are sent along with the token.
    pub capture: bool,
}

impl Draw {
    /// Whether the sampler needs the row's logits: for rules, which know what came before, or to send them on. All other draws can be made
    /// where the logits are.
    pub fn needs_logits(&self) -> bool {
        self.ruled || self.capture
    }
}

/// A sequence with rules that begins in a slot, or begins again: what the sampler has to know of it. Every later draw of the
/// sequence and epoch obeys these rules.
#[derive(Clone, PartialEq, Debug)]
pub struct Admission {
    /// The slot.
    pub slot: u32,
    /// The sequence, as in [`Draw`].
    pub sequence: u64,
    /// The epoch, as in [`Draw`].
    pub epoch: u32,
    /// What changes its logits.
    pub rules: Arc<LogitRules>,
    /// Its tokens so far: the prompt, and what was drawn before the epoch began.
    pub tokens: Arc<[u32]>,
    /// Tokens of the prompt.
    pub prompt_len: u32,
    /// Tokens that it can come to.
    pub tokens_max: u32,
}

/// One step, as the batcher hands it to the lanes. Filled again and again without allocation.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ticket {
    /// Rows, positions and pages.
    pub step: Step,
    /// One a row of the step.
    pub feeds: Vec<Feed>,
    /// One a sampled row of the step, in the same order.
    pub draws: Vec<Draw>,
    /// Sequences with rules that begin with this step.
    pub admissions: Vec<Admission>,
    /// The feed may resolve this step once the samples of all steps below this number have arrived.
    pub needs: u64,
}

/// Why a row gives no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowFault {
    /// Its logits were not all finite.
    NonFinite,
    /// The rules of the sequence allow no token at all.
    NothingAllowed,
}

/// How likely a token was.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Score {
    /// The token: the one drawn, or the one that follows in the prompt.
    pub token: u32,
    /// Its log-probability by the raw logits.
    pub logprob: f32,
    /// 1 for the likeliest of all, the lowest id first among equals.
    pub rank: u32,
    /// Where the likeliest tokens of the row begin in [`Samples::top`].
    pub first: u32,
    /// How many of them there are.
    pub count: u32,
}

/// One sampled row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Token {
    /// The sequence, as in [`Draw`].
    pub sequence: u64,
    /// The epoch, as in [`Draw`].
    pub epoch: u32,
    /// The slot, as in [`Draw`].
    pub slot: u32,
    /// The position of the row the token was drawn from.
    pub position: u32,
    /// The token; `None` where nothing was to be drawn.
    pub token: Option<u32>,
    /// Why the row is of no use, if it is not.
    pub fault: Option<RowFault>,
    /// How likely the token was, if that was asked for.
    pub score: Option<Score>,
    /// Where the row's logits begin in [`Samples::logits`], if they were asked for.
    pub logits: Option<u32>,
}

/// What the sampler sends back for one step.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Samples {
    /// The step, as in its ticket.
    pub step: u64,
    /// One a sampled row, in the ticket's order.
    pub tokens: Vec<Token>,
    /// Captured rows, one after the other: `vocab` logits each, and what the plan captures beside them.
    pub logits: Vec<f32>,
    /// The likeliest tokens of rows that asked for them, with their log-probabilities, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

impl Samples {
    /// The likeliest tokens of a scored row.
    pub fn top_of(&self, score: &Score) -> &[(u32, f32)] {
        &self.top[score.first as usize..][..score.count as usize]
    }
}
