//! Turns the logits of a step into tokens: finite check, rules, draw, log-probability, capture. A row's result depends on that row and on
//! the tokens of its own sequence.

mod draw;
mod history;
mod logprob;
mod random;
mod rules;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;

pub use draw::{Scratch, draw, largest};
pub use logprob::LOGPROBS_MAX;
pub use random::{key, uniform};
pub use rules::{BAD_WORD_TOKENS_MAX, BAD_WORDS_MAX, LogitRules, RULES_MAX};

use crate::ticket::{Draw, RowFault, Samples, Sampling, Score, Ticket, Token};
use history::History;
use kernels::{Drawn, DrawnToken};

/// A setting that is no draw.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum SamplingFault {
    /// Not a number to divide by.
    #[error("temperature is {got}, it must be finite and at least 0")]
    Temperature {
        /// What it is.
        got: f32,
    },
    /// Not a share.
    #[error("top_p is {got}, it must be above 0 and at most 1")]
    TopP {
        /// What it is.
        got: f32,
    },
    /// Not a share.
    #[error("min_p is {got}, it must be at least 0 and at most 1")]
    MinP {
        /// What it is.
        got: f32,
    },
    /// Not a factor.
    #[error("repetition_penalty is {got}, it must be above 0 and at most 2")]
    RepetitionPenalty {
        /// What it is.
        got: f32,
    },
    /// Too much to take off a logit.
    #[error("{name} is {got}, it must be from -2 to 2")]
    Penalty {
        /// Which.
        name: &'static str,
        /// What it is.
        got: f32,
    },
    /// Too much to add to a logit.
    #[error("logit_bias of token {token} is {got}, it must be from -100 to 100")]
    Bias {
        /// Whose.
        token: u32,
        /// What it is.
        got: f32,
    },
    /// A list over its limit.
    #[error("{name} has {got} entries, at most {most} are looked at")]
    TooMany {
        /// Which.
        name: &'static str,
        /// Its entries.
        got: usize,
        /// The limit.
        most: usize,
    },
    /// Nothing could be drawn.
    #[error("allowed_token_ids is empty, at least 1 token must be allowed")]
    NothingAllowed,
    /// A bad word that is none, or longer than is looked back on.
    #[error("a bad word has {got} tokens, it must have 1 to {BAD_WORD_TOKENS_MAX}")]
    BadWord {
        /// Its tokens.
        got: usize,
    },
    /// More than room is made for.
    #[error("{name} is {got}, at most {LOGPROBS_MAX} likeliest tokens are told")]
    Logprobs {
        /// Which.
        name: &'static str,
        /// What it is.
        got: u32,
    },
}

impl Sampling {
    /// Whether tokens can be drawn this way.
    pub fn check(&self) -> Result<(), SamplingFault> {
        let Self { temperature, top_p, min_p, .. } = *self;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(SamplingFault::Temperature { got: temperature });
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(SamplingFault::TopP { got: top_p });
        }
        if !(0.0..=1.0).contains(&min_p) {
            return Err(SamplingFault::MinP { got: min_p });
        }
        Ok(())
    }
}

/// What a sampler is built from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SamplerSpec {
    /// Elements of a row of logits.
    pub vocab: u32,
    /// Only tokens below this are drawn: the tokenizer's length, where the model's rows are padded beyond it.
    pub allowed: u32,
    /// Sampled rows of one step.
    pub sampled_rows_max: u32,
    /// Captured rows of one step that [`Sampler::samples`] makes room for.
    pub captured_rows_max: u32,
    /// Elements of a captured row beside its logits.
    pub captured_width: u32,
    /// Sequences that run at once, each in a slot of its own.
    pub slots: u32,
}

/// Why a step could not be sampled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SamplerFault {
    /// There is no token to draw.
    #[error("sampler: {allowed} of {vocab} tokens are allowed, at least 1 and at most all of them must be")]
    Allowed {
        /// Tokens that may be drawn.
        allowed: u32,
        /// Elements of a row.
        vocab: u32,
    },
    /// The logits are not those of the ticket.
    #[error("step {step}: {got} logits arrived, {rows} sampled rows of {vocab} were asked for")]
    Rows {
        /// The step.
        step: u64,
        /// Sampled rows of the ticket.
        rows: usize,
        /// Elements of a row.
        vocab: u32,
        /// Elements that arrived.
        got: usize,
    },
    /// A draw by rules that no admission brought.
    #[error("step {step}: slot {slot} draws for sequence {sequence} in epoch {epoch}, which was not admitted to it")]
    NotAdmitted {
        /// The step.
        step: u64,
        /// The slot.
        slot: u32,
        /// The sequence.
        sequence: u64,
        /// The epoch.
        epoch: u32,
    },
}

/// What is sent along with the logits of a captured row.
pub trait Captured {
    /// Appends what there is of the row of draw `draw`: as many elements as the sampler's spec says.
    fn append(&self, ticket: &Ticket, draw: usize, to: &mut Vec<f32>);
}

/// Nothing beside the logits.
impl Captured for () {
    fn append(&self, _ticket: &Ticket, _draw: usize, _to: &mut Vec<f32>) {}
}

/// Draws the tokens of one step after the other.
#[derive(Debug)]
pub struct Sampler {
    spec: SamplerSpec,
    scratch: Scratch,
    /// By slot.
    histories: Vec<History>,
    /// The logits of one row after its rules; made at the first row that has any.
    row: Vec<f32>,
}

impl Sampler {
    /// A sampler with room for a row.
    pub fn new(spec: SamplerSpec) -> Result<Self, SamplerFault> {
        let SamplerSpec { vocab, allowed, .. } = spec;
        if allowed == 0 || allowed > vocab {
            return Err(SamplerFault::Allowed { allowed, vocab });
        }
        let histories = vec![History::default(); spec.slots as usize];
        Ok(Self { spec, scratch: Scratch::new(allowed), histories, row: Vec::new() })
    }

    /// An empty result with room for the largest step.
    pub fn samples(&self) -> Samples {
        let logits = self.spec.captured_rows_max as usize * (self.spec.vocab + self.spec.captured_width) as usize;
        Samples {
            step: 0,
            tokens: Vec::with_capacity(self.spec.sampled_rows_max as usize),
            logits: Vec::with_capacity(logits),
            top: Vec::with_capacity(self.spec.sampled_rows_max as usize * LOGPROBS_MAX as usize),
        }
    }

    /// Fills `samples`, whatever it held, from the ticket's sampled rows: `logits` holds one row of `vocab` for each draw, and `captured`
    /// gives the rest of a captured row. What is in `drawn` was drawn where the logits are, which then are looked at for those draws only that need
    /// them.
    /// Allocates only where more rows are captured than room was made for, and where a sequence with rules is admitted that is longer
    /// than any before it in its slot.
    pub fn sample(
        &mut self,
        ticket: &Ticket,
        (logits, drawn): (&[f32], &Drawn),
        captured: &dyn Captured,
        samples: &mut Samples,
    ) -> Result<(), SamplerFault> {
        let SamplerSpec { vocab, .. } = self.spec;
        let (step, rows) = (ticket.step.id, ticket.draws.len());
        if logits.len() != rows * vocab as usize {
            return Err(SamplerFault::Rows { step, rows, vocab, got: logits.len() });
        }
        samples.step = step;
        samples.tokens.clear();
        samples.logits.clear();
        samples.top.clear();
        for admission in &ticket.admissions {
            self.histories[admission.slot as usize].begin(admission);
        }
        for (number, (draw, row)) in ticket.draws.iter().zip(logits.chunks_exact(vocab as usize)).enumerate() {
            let first = draw.capture.then_some(samples.logits.len() as u32);
            if draw.capture {
                samples.logits.extend_from_slice(row);
                captured.append(ticket, number, &mut samples.logits);
            }
            let token = match drawn.rows.get(number).filter(|_| !draw.needs_logits()) {
                Some(found) => from_device(draw, found, &drawn.top, &mut samples.top),
                None => self.token(draw, row, (step, first), &mut samples.top)?,
            };
            samples.tokens.push(token);
        }
        Ok(())
    }

    /// Takes the tokens of a step into the histories of their sequences. Apart from drawing them, so that a step that was drawn and not sent
    /// can be drawn again.
    pub fn remember(&mut self, samples: &Samples) {
        for token in &samples.tokens {
            let history = &mut self.histories[token.slot as usize];
            if let Some(drawn) = token.token.filter(|_| history.is_of(token.sequence, token.epoch)) {
                history.push(drawn);
            }
        }
    }

    /// Only what could be drawn has to be finite: what a model computes for padding is nobody's business.
    fn token(
        &mut self,
        draw: &Draw,
        row: &[f32],
        (step, logits): (u64, Option<u32>),
        top: &mut Vec<(u32, f32)>,
    ) -> Result<Token, SamplerFault> {
        let row = &row[..self.spec.allowed as usize];
        let finite = row.iter().all(|logit| logit.is_finite());
        let mut fault = (!finite).then_some(RowFault::NonFinite);
        let mut token = None;
        if let Some(sampling) = draw.sampling.as_ref().filter(|_| finite) {
            token = self.drawn(draw, sampling, row, step)?;
            fault = token.is_none().then_some(RowFault::NothingAllowed);
        }
        let scored = token.or(draw.next.filter(|&next| finite && next < self.spec.allowed));
        let score = |(token, count)| logprob::score(row, token, count, top);
        let score: Option<Score> = scored.zip(draw.logprobs).map(score);
        let Draw { sequence, epoch, slot, position, .. } = *draw;
        Ok(Token { sequence, epoch, slot, position, token, fault, score, logits })
    }

    /// The token drawn from a finite row by the rules of its sequence; `None` where they allow none.
    fn drawn(&mut self, draw: &Draw, sampling: &Sampling, row: &[f32], step: u64) -> Result<Option<u32>, SamplerFault> {
        let Draw { sequence, epoch, slot, position, .. } = *draw;
        if !draw.ruled {
            return Ok(Some(draw::draw(row, sampling, position, &mut self.scratch)));
        }
        let history = &self.histories[slot as usize];
        let not_admitted = SamplerFault::NotAdmitted { step, slot, sequence, epoch };
        let rules = history.rules_of(draw).ok_or(not_admitted)?;
        rules.apply(row, history, &mut self.row);
        if self.row.iter().all(|&logit| logit == f32::NEG_INFINITY) {
            return Ok(None);
        }
        Ok(Some(draw::draw(&self.row, sampling, position, &mut self.scratch)))
    }
}

/// The token of a draw that a device made.
fn from_device(draw: &Draw, found: &DrawnToken, likeliest: &[(u32, f32)], top: &mut Vec<(u32, f32)>) -> Token {
    let Draw { sequence, epoch, slot, position, .. } = *draw;
    let token = found.token.filter(|_| draw.sampling.is_some());
    let fault = match (found.is_finite, token) {
        (false, _) => Some(RowFault::NonFinite),
        (true, None) if draw.sampling.is_some() => Some(RowFault::NothingAllowed),
        (true, _) => None,
    };
    let score = found.score.zip(found.token).map(|((logprob, rank), token)| {
        let (first, count) = (top.len() as u32, found.top.1);
        top.extend_from_slice(&likeliest[found.top.0 as usize..][..count as usize]);
        Score { token, logprob, rank, first, count }
    });
    Token { sequence, epoch, slot, position, token, fault, score, logits: None }
}
