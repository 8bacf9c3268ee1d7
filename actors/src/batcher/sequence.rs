//! One sequence as the batcher keeps it: the tokens known here, how far rows have been issued, and what is still on its way.

use super::spec::{Capture, SequenceSpec};
use crate::pool::Lease;
use crate::ticket::{Admission, Draw, Feed};

/// Draws of one sequence that may be out at once: the one the host waits for and the one issued ahead of it.
const DRAWS_AHEAD: u32 = 1;

/// How often a sequence may be preempted; then it waits until all it can ever need is free at once.
pub(super) const PREEMPTIONS_MAX: u32 = 3;

/// A live sequence, waiting or running.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) spec: SequenceSpec,
    /// Counts submissions; never used twice, so that late results of an earlier sequence match nobody.
    pub(super) serial: u64,
    /// Counts the times it was sent back to the queue; a result of an older epoch is dropped.
    pub(super) epoch: u32,
    /// Counts the times it was sent back for want of pages.
    pub(super) preemptions: u32,
    /// Tokens of the prompt.
    pub(super) prompt_len: u32,
    /// Prompt and generated tokens known here. The prompt is moved here from `spec`.
    pub(super) tokens: Vec<u32>,
    /// Prompt rows of which everything that was asked for has been reported.
    pub(super) reported: u32,
    /// Rows that have ever been issued, in any epoch.
    pub(super) issued_ever: u32,
}

/// What a sequence has while it runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) sequence: Sequence,
    pub(super) lease: Lease,
    /// Tokens known at admission: rows before this place are issued in chunks, the others one a step.
    pub(super) prefill_end: u32,
    /// Rows issued; the next row's position.
    pub(super) issued: u32,
    /// The step of the last row issued; every admission issues one at once.
    pub(super) last_step: u64,
}

impl Sequence {
    pub(super) fn new(mut spec: SequenceSpec, serial: u64) -> Self {
        let tokens = std::mem::take(&mut spec.prompt);
        let prompt_len = tokens.len() as u32;
        // Rows before these tell nothing that is wanted.
        let reported = spec.prompt_logprobs_from.saturating_sub(1);
        Self { spec, serial, epoch: 0, preemptions: 0, prompt_len, tokens, reported, issued_ever: 0 }
    }

    /// Tokens known here.
    pub(super) fn known(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// Rows that the whole sequence needs.
    pub(super) fn rows_max(&self) -> u32 {
        self.spec.rows_max(self.prompt_len)
    }

    /// Its first rows, which take the form of a prompt's where an op has two.
    pub(super) fn prompt_rows(&self) -> u32 {
        self.spec.generated_from.unwrap_or(self.prompt_len)
    }

    /// Rows to reserve at admission: what is known and one more, or everything once it may not be preempted again.
    pub(super) fn rows_at_admission(&self) -> u32 {
        if self.is_pinned() { self.rows_max() } else { (self.known() + 1).min(self.rows_max()) }
    }

    /// Whether it has been preempted as often as it may.
    pub(super) fn is_pinned(&self) -> bool {
        self.preemptions >= PREEMPTIONS_MAX
    }

    /// The tokens whose rows may come from the cache, and one more: rows whose logits are still wanted are computed.
    pub(super) fn lookup(&self) -> &[u32] {
        let all_told = !self.spec.looks_at_prompt() || self.known() > self.prompt_len;
        if all_told { &self.tokens } else { &self.tokens[..self.known().min(self.reported + 1) as usize] }
    }

    /// Whether the row at `position` is sampled, if only to look at its logits.
    fn draws(&self, position: u32) -> bool {
        let looked_at = self.spec.looks_at_prompt() && (self.reported..self.prompt_len).contains(&position);
        position + 1 >= self.known() || looked_at
    }

    /// What the sampler has to hear when the sequence begins in `slot`, if it has rules.
    pub(super) fn admission(&self, slot: u32) -> Option<Admission> {
        Some(Admission {
            slot,
            sequence: self.serial,
            epoch: self.epoch,
            rules: self.spec.rules.clone()?,
            tokens: self.tokens.as_slice().into(),
            prompt_len: self.prompt_len,
            tokens_max: self.prompt_len + self.spec.max_tokens,
        })
    }
}

impl Running {
    /// Whether all rows known at admission have been issued.
    pub(super) fn is_generating(&self) -> bool {
        self.issued >= self.prefill_end
    }

    /// Whether a generated row can be issued now: its token is known or on its way, and is not the last one.
    pub(super) fn can_generate(&self) -> bool {
        self.is_generating()
            && self.issued < self.sequence.rows_max()
            && self.issued < self.sequence.known() + DRAWS_AHEAD
    }

    /// Where the row at `position` gets its token.
    pub(super) fn feed(&self, position: u32, slot: u32) -> Feed {
        match self.sequence.tokens.get(position as usize) {
            Some(&token) => Feed::Token(token),
            None => Feed::Sampled { slot },
        }
    }

    /// What is drawn from the row at `position`, if anything.
    pub(super) fn draw(&self, position: u32, slot: u32) -> Option<Draw> {
        let sequence = &self.sequence;
        if !sequence.draws(position) {
            return None;
        }
        let generates = position + 1 >= sequence.known() && sequence.spec.max_tokens > 0;
        let next = sequence.tokens.get(position as usize + 1).filter(|_| !generates).copied();
        Some(Draw {
            sequence: sequence.serial,
            epoch: sequence.epoch,
            slot,
            position,
            sampling: generates.then_some(sequence.spec.sampling),
            ruled: generates && sequence.spec.rules.is_some(),
            next,
            logprobs: if generates { sequence.spec.logprobs } else { sequence.spec.prompt_logprobs },
            capture: match sequence.spec.capture {
                Capture::None => false,
                Capture::Generated => generates,
                Capture::Last => position + 1 == sequence.prompt_len,
                Capture::All => true,
            },
        })
    }

    /// How many of the next `rows` rows of the prefill can be issued with at most `draws` sampled rows, and how many of
    /// them are sampled.
    pub(super) fn chunk(&self, rows: u32, draws: u32) -> (u32, u32) {
        let rows = rows.min(self.prefill_end - self.issued);
        let mut drawn = 0;
        for taken in 0..rows {
            let draw = u32::from(self.sequence.draws(self.issued + taken));
            if drawn + draw > draws {
                return (taken, drawn);
            }
            drawn += draw;
        }
        (rows, drawn)
    }
}
