//! A model that is nothing but memory: every row's state is a hash of all states its page table leads to, so that any page
//! mixed up, reused too early or read before it was written changes the tokens that follow.

use crate::batcher::{Capture, Finish, SequenceSpec};
use crate::ticket::{Samples, Ticket, Token};

/// Elements of a captured row.
pub(super) const WIDTH: usize = 2;

/// What unowned and unwritten cells hold.
const POISON: u64 = 0xdead_dead_dead_dead;

/// Tokens there are.
pub(super) const VOCAB: u64 = 40;

/// One row in this many has logits that are not finite, in models that fail.
const FAILS_EVERY: u64 = 150;

pub(super) fn mix(one: u64, other: u64) -> u64 {
    let mixed = (one ^ other.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (mixed >> 17)
}

/// The state of a row from those before it.
fn state(before: impl Iterator<Item = u64>, token: u32) -> u64 {
    mix(before.fold(1, mix), u64::from(token))
}

fn token_of(state: u64) -> u32 {
    (state % VOCAB) as u32
}

fn is_finite(state: u64, fails: bool) -> bool {
    !(fails && (state >> 8).is_multiple_of(FAILS_EVERY))
}

fn logits_of(state: u64) -> [f32; WIDTH] {
    [(state >> 40) as f32, (state & 0xff_ffff) as f32]
}

/// What a sequence must produce, whatever it runs beside.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Outcome {
    /// Captured prompt rows, by position.
    pub(super) prompt: Vec<[f32; WIDTH]>,
    /// Tokens and, if captured, the logits they were drawn from.
    pub(super) tokens: Vec<(u32, Option<[f32; WIDTH]>)>,
    pub(super) end: Option<Finish>,
}

/// The outcome of a sequence that runs alone, without pages or steps.
pub(super) fn alone(spec: &SequenceSpec, fails: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut tokens = spec.prompt.clone();
    let mut states = Vec::new();
    loop {
        let position = states.len();
        let now = state(states.iter().copied(), tokens[position]);
        states.push(now);
        let generates = states.len() == tokens.len() && spec.max_tokens > 0;
        let looked_at = spec.capture == Capture::All || states.len() == tokens.len();
        if looked_at && !is_finite(now, fails) {
            outcome.end = Some(Finish::NonFinite { position: position as u32 });
            return outcome;
        }
        if generates {
            let token = token_of(now);
            tokens.push(token);
            outcome.tokens.push((token, (spec.capture != Capture::None).then(|| logits_of(now))));
            if spec.stop_token_ids.contains(&token) {
                outcome.end = Some(Finish::Stop { token });
                return outcome;
            }
        } else if spec.capture == Capture::All {
            outcome.prompt.push(logits_of(now));
        }
        let full = tokens.len() - spec.prompt.len() == spec.max_tokens as usize;
        if full && (generates || states.len() == tokens.len()) {
            outcome.end = Some(Finish::Length);
            return outcome;
        }
    }
}

/// The page memory of one stage.
pub(super) struct Model {
    cells: Vec<u64>,
    page_rows: usize,
    fails: bool,
}

impl Model {
    pub(super) fn new(pages: u32, page_rows: u32, fails: bool) -> Self {
        Self { cells: vec![POISON; (pages * page_rows) as usize], page_rows: page_rows as usize, fails }
    }

    /// Overwrites a page that belongs to nobody.
    pub(super) fn poison(&mut self, page: u32) {
        let first = page as usize * self.page_rows;
        self.cells[first..first + self.page_rows].fill(POISON);
    }

    /// Runs a step.
    pub(super) fn run(&mut self, ticket: &Ticket, ids: &[u32]) -> Samples {
        let mut states = vec![0; ids.len()];
        for span in &ticket.step.spans {
            let table = ticket.step.pages_of(span);
            // Pages that this step begins were somebody else's.
            for &page in &table[(span.start as usize).div_ceil(self.page_rows)..] {
                self.poison(page);
            }
            let cell = |position: usize| {
                table[position / self.page_rows] as usize * self.page_rows + position % self.page_rows
            };
            for at in 0..span.rows {
                let (row, position) = ((span.first_row + at) as usize, (span.start + at) as usize);
                states[row] = state((0..position).map(|before| self.cells[cell(before)]), ids[row]);
                self.cells[cell(position)] = states[row];
            }
        }
        self.sample(ticket, &states)
    }

    fn sample(&self, ticket: &Ticket, states: &[u64]) -> Samples {
        let mut samples = Samples { step: ticket.step.id, ..Samples::default() };
        for (&row, draw) in ticket.step.sampled.iter().zip(&ticket.draws) {
            let state = states[row as usize];
            let finite = is_finite(state, self.fails);
            let logits = draw.capture.then_some(samples.logits.len() as u32);
            if draw.capture {
                samples.logits.extend(logits_of(state));
            }
            samples.tokens.push(Token {
                sequence: draw.sequence,
                epoch: draw.epoch,
                slot: draw.slot,
                position: draw.position,
                token: draw.sampling.filter(|_| finite).map(|_| token_of(state)),
                finite,
                logits,
            });
        }
        samples
    }
}
