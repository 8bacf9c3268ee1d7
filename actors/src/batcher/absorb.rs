//! Taking in the results of a step: tokens, ends, and rows that are now known to be written.

use super::{Batcher, Finish, Misdelivered, Part, Update};
use crate::ticket::{Samples, Score, Token};
use std::ops::Range;

impl Batcher {
    /// Takes in the results of the oldest step that is out and appends what became known to `updates`.
    pub fn absorb(&mut self, samples: &Samples, updates: &mut Vec<Update>) -> Result<(), Misdelivered> {
        let width = self.check_delivery(samples)?;
        let flight = self.flights.pop_front().expect("the delivery was checked against it");
        for token in &samples.tokens {
            let logits = token.logits.map(|first| first as usize..first as usize + width);
            self.absorb_token(token, logits, updates);
        }
        for part in &flight.parts {
            self.absorb_part(part);
        }
        self.spare_flights.push(flight);
        Ok(())
    }

    /// The width of a captured row, if these are the results that are due.
    fn check_delivery(&self, samples: &Samples) -> Result<usize, Misdelivered> {
        let (step, rows) = (samples.step, samples.tokens.len());
        let flight = self.flights.front().ok_or(Misdelivered::Unasked { got: step })?;
        if flight.step != step {
            return Err(Misdelivered::OutOfOrder { wanted: flight.step, got: step });
        }
        if flight.sampled != rows {
            return Err(Misdelivered::Rows { step, wanted: flight.sampled, got: rows });
        }
        let elements = samples.logits.len();
        let width = elements.checked_div(flight.captured).unwrap_or(0);
        let in_range = |token: &Token| token.logits.is_none_or(|first| first as usize + width <= elements);
        if width * flight.captured != elements || !samples.tokens.iter().all(in_range) {
            return Err(Misdelivered::Logits { step, elements, rows: flight.captured });
        }
        let got = samples.top.len();
        let told = |score: Score| score.first as usize + score.count as usize <= got;
        if !samples.tokens.iter().all(|token| token.score.is_none_or(told)) {
            return Err(Misdelivered::Top { step, got });
        }
        Ok(width)
    }

    fn absorb_token(&mut self, token: &Token, logits: Option<Range<usize>>, updates: &mut Vec<Update>) {
        if !self.is_current(token.slot, token.sequence, token.epoch) {
            return;
        }
        let sequence = &mut self.running_mut(token.slot).sequence;
        let (id, position) = (sequence.spec.id, token.position);
        if let Some(fault) = token.fault {
            self.stop(token.slot);
            self.report_end(id, Finish::Fault { fault, position }, updates);
            return;
        }
        let score = token.score;
        if position < sequence.prompt_len {
            sequence.reported = position + 1;
        }
        let Some(drawn) = token.token else {
            if logits.is_some() || score.is_some() {
                updates.push(Update::Prompt { id, position, logits, score });
            }
            if sequence.spec.max_tokens == 0 && position + 1 == sequence.rows_max() {
                self.end(token.slot, Finish::Length, updates);
            }
            return;
        };
        assert_eq!(position + 1, sequence.known(), "sequence {id}: tokens arrive in order");
        sequence.tokens.push(drawn);
        updates.push(Update::Token { id, token: drawn, position: position + 1, logits, score });
        let is_stop = sequence.spec.stop_token_ids.contains(&drawn);
        let is_full = sequence.known() - sequence.prompt_len == sequence.spec.max_tokens;
        self.counters.generated_tokens += 1;
        if is_stop {
            self.end(token.slot, Finish::Stop { token: drawn }, updates);
        } else if is_full {
            self.end(token.slot, Finish::Length, updates);
        }
    }

    /// The rows of the step are written: full pages can be shared from now on.
    fn absorb_part(&mut self, part: &Part) {
        if !self.is_current(part.slot, part.serial, part.epoch) {
            return;
        }
        let running = self.slots[part.slot as usize].as_mut().expect("it was found current");
        self.pool.written(&mut running.lease, &running.sequence.tokens[..part.end as usize]);
    }

    /// Ends a sequence whose rows up to its last but one token are written.
    fn end(&mut self, slot: u32, reason: Finish, updates: &mut Vec<Update>) {
        let running = self.slots[slot as usize].as_mut().expect("only running sequences end");
        let id = running.sequence.spec.id;
        // The row of the token just drawn may be on its way, and is not written yet.
        let written = running.sequence.known() - running.sequence.spec.unfed();
        self.pool.written(&mut running.lease, &running.sequence.tokens[..written as usize]);
        self.stop(slot);
        self.report_end(id, reason, updates);
    }

    fn report_end(&mut self, id: u64, reason: Finish, updates: &mut Vec<Update>) {
        self.live.remove(&id);
        updates.push(Update::Finished { id, reason });
    }

    /// Whether a result belongs to the sequence that runs in the slot, as it runs now.
    fn is_current(&self, slot: u32, serial: u64, epoch: u32) -> bool {
        self.running(slot).is_some_and(|running| running.sequence.serial == serial && running.sequence.epoch == epoch)
    }
}
