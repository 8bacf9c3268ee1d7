//! What the sampler remembers of the sequence in a slot, for rules that depend on the tokens before.
//!
//! It sees steps in order, so its own memory is always current, though the batcher writes steps ahead. A history is made of an
//! admission and of every token drawn since; made anew from a later admission of the same sequence it is the same.

use super::rules::LogitRules;
use crate::ticket::{Admission, Draw};
use std::sync::Arc;

/// A token that came before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) token: u32,
    /// How often it came in the output; 0 for one of the prompt only.
    pub(super) outputs: u32,
}

/// The sequence in one slot. Its room is used again by the next one.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct History {
    sequence: u64,
    epoch: u32,
    rules: Option<Arc<LogitRules>>,
    outputs: u32,
    /// Tokens that penalties fall on, by id.
    seen: Vec<Seen>,
    /// The last tokens of the output, as many as a bad word looks back on or up to twice as many.
    tail: Vec<u32>,
    look_back: usize,
}

impl History {
    /// Begins with what an admission says. Allocates where no sequence of this slot has been as long.
    pub(super) fn begin(&mut self, admission: &Admission) {
        let Admission { sequence, epoch, rules, tokens, prompt_len, tokens_max, .. } = admission;
        (self.sequence, self.epoch) = (*sequence, *epoch);
        let (prompt, output) = tokens.split_at(*prompt_len as usize);
        self.outputs = output.len() as u32;
        self.seen.clear();
        if rules.penalises() {
            self.seen.reserve(*tokens_max as usize);
            let prompt = if rules.repeats() { prompt } else { &[] };
            self.seen.extend(prompt.iter().map(|&token| Seen { token, outputs: 0 }));
            self.seen.extend(output.iter().map(|&token| Seen { token, outputs: 1 }));
            self.seen.sort_unstable_by_key(|seen| seen.token);
            self.seen.dedup_by(|later, earlier| {
                let same = later.token == earlier.token;
                earlier.outputs += if same { later.outputs } else { 0 };
                same
            });
        }
        self.look_back = rules.look_back();
        self.tail.clear();
        self.tail.reserve(2 * self.look_back);
        self.tail.extend_from_slice(&output[output.len().saturating_sub(self.look_back)..]);
        self.rules = Some(rules.clone());
    }

    /// Whether it is that of this sequence, with rules.
    pub(super) fn is_of(&self, sequence: u64, epoch: u32) -> bool {
        self.rules.is_some() && self.sequence == sequence && self.epoch == epoch
    }

    /// The rules of a draw, if it is one of the sequence here.
    pub(super) fn rules_of(&self, draw: &Draw) -> Option<Arc<LogitRules>> {
        self.rules.clone().filter(|_| self.is_of(draw.sequence, draw.epoch))
    }

    /// Takes in the token that was drawn.
    pub(super) fn push(&mut self, token: u32) {
        self.outputs += 1;
        if self.rules.as_ref().is_some_and(|rules| rules.penalises()) {
            match self.seen.binary_search_by_key(&token, |seen| seen.token) {
                Ok(place) => self.seen[place].outputs += 1,
                Err(place) => self.seen.insert(place, Seen { token, outputs: 1 }),
            }
        }
        if self.look_back > 0 {
            if self.tail.len() == 2 * self.look_back {
                self.tail.drain(..self.look_back);
            }
            self.tail.push(token);
        }
    }

    /// Tokens of output.
    pub(super) fn outputs(&self) -> u32 {
        self.outputs
    }

    /// Tokens that penalties fall on, by id.
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Whether the output ends with these tokens, which are no more than a bad word looks back on.
    pub(super) fn ends_with(&self, tokens: &[u32]) -> bool {
        self.tail.ends_with(tokens)
    }
}
