//! What travels between the control plane and the lanes once a step: the ticket down, the sampled tokens back.

use kernels::Step;

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
    /// Whether the row's logits are sent along with the token.
    pub capture: bool,
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
    /// The feed may resolve this step once the samples of all steps below this number have arrived.
    pub needs: u64,
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
    /// Whether all logits of the row were finite.
    pub finite: bool,
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
    /// Captured rows of logits, one after the other, `vocab` elements each.
    pub logits: Vec<f32>,
}
