//! Turns the logits of a step into tokens: finite check, draw, capture. A row's result depends on that row alone.

mod draw;
mod random;
#[cfg(test)]
mod tests;

pub use draw::{Scratch, draw, largest};
pub use random::uniform;

use crate::ticket::{Draw, Samples, Sampling, Ticket, Token};

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
}

/// Draws the tokens of one step after the other.
#[derive(Debug)]
pub struct Sampler {
    spec: SamplerSpec,
    scratch: Scratch,
}

impl Sampler {
    /// A sampler with room for a row.
    pub fn new(spec: SamplerSpec) -> Result<Self, SamplerFault> {
        let SamplerSpec { vocab, allowed, .. } = spec;
        if allowed == 0 || allowed > vocab {
            return Err(SamplerFault::Allowed { allowed, vocab });
        }
        Ok(Self { spec, scratch: Scratch::new(allowed) })
    }

    /// An empty result with room for the largest step.
    pub fn samples(&self) -> Samples {
        let logits = self.spec.captured_rows_max as usize * self.spec.vocab as usize;
        Samples {
            step: 0,
            tokens: Vec::with_capacity(self.spec.sampled_rows_max as usize),
            logits: Vec::with_capacity(logits),
        }
    }

    /// Fills `samples`, whatever it held, from the ticket's sampled rows: `logits` holds one row of `vocab` for each draw.
    /// Allocates only where more rows are captured than room was made for.
    pub fn sample(&mut self, ticket: &Ticket, logits: &[f32], samples: &mut Samples) -> Result<(), SamplerFault> {
        let SamplerSpec { vocab, .. } = self.spec;
        let (step, rows) = (ticket.step.id, ticket.draws.len());
        if logits.len() != rows * vocab as usize {
            return Err(SamplerFault::Rows { step, rows, vocab, got: logits.len() });
        }
        samples.step = step;
        samples.tokens.clear();
        samples.logits.clear();
        for (draw, row) in ticket.draws.iter().zip(logits.chunks_exact(vocab as usize)) {
            let captured = draw.capture.then_some(samples.logits.len() as u32);
            if draw.capture {
                samples.logits.extend_from_slice(row);
            }
            samples.tokens.push(self.token(draw, row, captured));
        }
        Ok(())
    }

    /// Only what could be drawn has to be finite: what a model computes for padding is nobody's business.
    fn token(&mut self, draw: &Draw, row: &[f32], logits: Option<u32>) -> Token {
        let row = &row[..self.spec.allowed as usize];
        let finite = row.iter().all(|logit| logit.is_finite());
        let sampling = draw.sampling.as_ref().filter(|_| finite);
        let token = sampling.map(|sampling| draw::draw(row, sampling, draw.position, &mut self.scratch));
        Token {
            sequence: draw.sequence,
            epoch: draw.epoch,
            slot: draw.slot,
            position: draw.position,
            token,
            finite,
            logits,
        }
    }
}
