//! Turns a ticket's feeds into token ids: known ones from the ticket, sampled ones from one register a slot.
//!
//! Invariant: once the samples of all steps below a ticket's `needs` have been absorbed, in order, and none of that ticket's
//! own step or later, the register of every slot the ticket names holds the token that slot drew last. So a step may be
//! written before the tokens it is fed with are known.

use crate::ticket::{Feed, Samples, Ticket};

/// Why a step cannot be fed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfed {
    /// Samples of an earlier step are still on their way.
    #[error("step {step} needs the samples of all steps below {needs}, those below {arrived} have arrived")]
    Early {
        /// The step.
        step: u64,
        /// As in its ticket.
        needs: u64,
        /// Samples of steps below this have arrived.
        arrived: u64,
    },
    /// The buffer has another number of rows than the step.
    #[error("step {step} has {wanted} rows, the buffer of token ids has {got}")]
    Rows {
        /// The step.
        step: u64,
        /// Feeds of the ticket.
        wanted: usize,
        /// Elements of the buffer.
        got: usize,
    },
}

/// The token each slot drew last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feeder {
    registers: Vec<u32>,
    arrived: u64,
}

impl Feeder {
    /// A feeder for slots `0..slots`.
    pub fn new(slots: u32) -> Self {
        Self { registers: vec![0; slots as usize], arrived: 0 }
    }

    /// Whether everything the ticket is fed with has arrived.
    pub fn ready(&self, ticket: &Ticket) -> bool {
        self.arrived >= ticket.needs
    }

    /// Writes the token id of every row of the step.
    pub fn resolve(&self, ticket: &Ticket, ids: &mut [u32]) -> Result<(), Unfed> {
        let step = ticket.step.id;
        if !self.ready(ticket) {
            return Err(Unfed::Early { step, needs: ticket.needs, arrived: self.arrived });
        }
        if ids.len() != ticket.feeds.len() {
            return Err(Unfed::Rows { step, wanted: ticket.feeds.len(), got: ids.len() });
        }
        for (id, feed) in ids.iter_mut().zip(&ticket.feeds) {
            *id = match *feed {
                Feed::Token(token) => token,
                Feed::Sampled { slot } => self.registers[slot as usize],
            };
        }
        Ok(())
    }

    /// Takes in the samples of the next step.
    pub fn absorb(&mut self, samples: &Samples) {
        for token in &samples.tokens {
            if let Some(drawn) = token.token {
                self.registers[token.slot as usize] = drawn;
            } else if token.fault.is_some() {
                // A step ahead may still ask; its rows will be dropped, and must not be fed another sequence's token.
                self.registers[token.slot as usize] = 0;
            }
        }
        self.arrived = samples.step + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::{RowFault, Token};
    use kernels::Step;

    fn samples(step: u64, slot: u32, token: Option<u32>, finite: bool) -> Samples {
        let fault = (!finite).then_some(RowFault::NonFinite);
        let token = Token { sequence: 0, epoch: 0, slot, position: 0, token, fault, score: None, logits: None };
        Samples { step, tokens: vec![token], ..Samples::default() }
    }

    fn ticket(needs: u64, feeds: Vec<Feed>) -> Ticket {
        Ticket { step: Step { id: 9, rows: feeds.len() as u32, ..Step::default() }, feeds, needs, ..Ticket::default() }
    }

    #[test]
    fn a_row_is_fed_with_the_last_token_of_its_slot() {
        let mut feeder = Feeder::new(2);
        let ticket = ticket(2, vec![Feed::Token(7), Feed::Sampled { slot: 1 }, Feed::Sampled { slot: 0 }]);
        let mut ids = [0; 3];
        feeder.absorb(&samples(0, 1, Some(5), true));
        assert_eq!(feeder.resolve(&ticket, &mut ids), Err(Unfed::Early { step: 9, needs: 2, arrived: 1 }));
        feeder.absorb(&samples(1, 0, Some(6), true));
        assert!(feeder.ready(&ticket));
        assert_eq!(feeder.resolve(&ticket, &mut ids), Ok(()));
        assert_eq!(ids, [7, 5, 6]);
        assert_eq!(feeder.resolve(&ticket, &mut ids[..2]), Err(Unfed::Rows { step: 9, wanted: 3, got: 2 }));
    }

    #[test]
    fn a_row_only_looked_at_leaves_the_register_and_a_failed_row_clears_it() {
        let mut feeder = Feeder::new(1);
        let mut ids = [9];
        feeder.absorb(&samples(0, 0, Some(5), true));
        feeder.absorb(&samples(1, 0, None, true));
        assert_eq!(feeder.resolve(&ticket(2, vec![Feed::Sampled { slot: 0 }]), &mut ids), Ok(()));
        assert_eq!(ids, [5]);
        feeder.absorb(&samples(2, 0, None, false));
        assert_eq!(feeder.resolve(&ticket(3, vec![Feed::Sampled { slot: 0 }]), &mut ids), Ok(()));
        assert_eq!(ids, [0]);
    }
}
