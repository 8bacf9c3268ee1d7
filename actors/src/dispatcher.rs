//! The batcher between its ports: absorbs samples, writes tickets. A pure state machine; its shell says when to take a turn.

use crate::batcher::{Batcher, Misdelivered, Update};
use crate::port::{Bell, Inbox, Outbox};
use crate::ticket::{Samples, Ticket};

/// A batcher with the ends of the pipeline.
pub struct Dispatcher {
    batcher: Batcher,
    tickets: Outbox<Ticket>,
    samples: Inbox<Samples>,
    updates: Vec<Update>,
}

impl Dispatcher {
    /// A dispatcher over an idle pipeline.
    pub fn new(batcher: Batcher, tickets: Outbox<Ticket>, samples: Inbox<Samples>) -> Self {
        Self { batcher, tickets, samples, updates: vec![] }
    }

    /// Binds both ends to the bell that announces the next turn.
    pub fn bind(&mut self, bell: &Bell) {
        self.tickets.bind_writer(bell.clone());
        self.samples.bind_reader(bell.clone());
    }

    /// The batcher, to submit to.
    pub fn batcher(&mut self) -> &mut Batcher {
        &mut self.batcher
    }

    /// Whether the pipeline has ended: no samples will come any more.
    pub fn is_closed(&self) -> bool {
        self.samples.is_closed()
    }

    /// Absorbs all samples that are there and writes all tickets that can be; `report` hears every update with the captured
    /// logits of its step. Says whether anything moved.
    ///
    /// # Errors
    /// Samples that belong to no step that is out.
    pub fn turn(&mut self, report: &mut dyn FnMut(&Update, &[f32])) -> Result<bool, Misdelivered> {
        let mut moved = false;
        while let Some(samples) = self.samples.try_recv() {
            moved = true;
            self.batcher.absorb(&samples, &mut self.updates)?;
            self.updates.drain(..).for_each(|update| report(&update, &samples.logits));
        }
        while let Some(mut slot) = self.tickets.try_slot() {
            if !self.batcher.fill(&mut slot) {
                break;
            }
            slot.send();
            moved = true;
        }
        Ok(moved)
    }
}
