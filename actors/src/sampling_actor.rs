//! The sampler as an actor: tickets and logits in, samples out.

use crate::lane::{Actor, Fault, LaneContext, Turn};
use crate::port::{Bell, Delivery};
use crate::sampler::Sampler;
use crate::stage::{Input, Output};
use crate::tensor::Tensor;
use crate::ticket::{Samples, Ticket};
use crate::trace::{Event, Track, Wait};
use fail::fail_point;

/// Draws the tokens of each step.
pub struct SamplingActor {
    name: String,
    track: Track,
    sampler: Sampler,
    vocabulary: usize,
    tickets: Input<Ticket>,
    logits: Input<Tensor>,
    samples: Output<Samples>,
    held: (Option<Delivery<Ticket>>, Option<Delivery<Tensor>>),
}

impl SamplingActor {
    /// An actor over `sampler`, whose logits have `vocabulary` elements a row.
    pub fn new(
        (name, track): (&str, Track),
        (sampler, vocabulary): (Sampler, u32),
        tickets: Input<Ticket>,
        logits: Input<Tensor>,
        samples: Output<Samples>,
    ) -> Self {
        let vocabulary = vocabulary as usize;
        Self { name: name.into(), track, sampler, vocabulary, tickets, logits, samples, held: (None, None) }
    }
}

impl Actor for SamplingActor {
    fn name(&self) -> &str {
        &self.name
    }

    fn track(&self) -> Track {
        self.track
    }

    fn bind(&mut self, bell: &Bell) {
        self.tickets.inbox.bind_reader(bell.clone());
        self.logits.inbox.bind_reader(bell.clone());
        self.samples.outbox.bind_writer(bell.clone());
    }

    fn poll(&mut self, context: &mut LaneContext) -> Result<Turn, Fault> {
        if self.held.0.is_none() {
            self.held.0 = self.tickets.inbox.try_recv();
        }
        if self.held.1.is_none() {
            self.held.1 = self.logits.inbox.try_recv();
        }
        let (ticket, logits) = match &self.held {
            (Some(ticket), Some(logits)) => (ticket, logits),
            (None, _) if self.tickets.inbox.is_closed() => return Ok(Turn::Finished),
            (_, None) if self.logits.inbox.is_closed() => return Ok(Turn::Finished),
            (None, _) => return Ok(Turn::Waiting(Wait::Input(self.tickets.edge))),
            (_, None) => return Ok(Turn::Waiting(Wait::Input(self.logits.edge))),
        };
        let Some(mut slot) = self.samples.outbox.try_slot() else {
            return Ok(Turn::Waiting(Wait::Credit(self.samples.edges[0])));
        };
        let (step, rows) = (ticket.step.id, logits.rows);
        let start_ns = context.begin(step);
        for edge in [self.tickets.edge, self.logits.edge] {
            context.recorder().point(self.track, start_ns, Event::Receive { edge, step });
        }
        let refused = |cause| Fault::Refused { actor: self.name.clone(), step, cause: Box::new(cause) };
        let drawn_from = logits.rows(self.vocabulary);
        let poisoned = poisoned(drawn_from, self.vocabulary);
        self.sampler.sample(ticket, poisoned.as_deref().unwrap_or(drawn_from), &mut slot).map_err(refused)?;
        fail_point!("sampler");
        let end_ns = context.finish(self.track, rows, u64::from(rows) * self.vocabulary as u64 * 4);
        for edge in &self.samples.edges {
            let sent_ns = end_ns.saturating_sub(1).max(start_ns);
            context.recorder().point(self.track, sent_ns, Event::Send { edge: *edge, step });
        }
        self.sampler.remember(&slot);
        self.held = (None, None);
        slot.send();
        Ok(Turn::Fired)
    }
}

/// Where tests have a row of a step be no numbers: the step's logits with that row so.
fn poisoned(logits: &[f32], width: usize) -> Option<Vec<f32>> {
    let row = poisoned_row().filter(|row| (row + 1) * width <= logits.len())?;
    let mut logits = logits.to_vec();
    logits[row * width + width / 2] = if row % 2 == 0 { f32::NAN } else { f32::INFINITY };
    Some(logits)
}

fn poisoned_row() -> Option<usize> {
    fail_point!("sampler_poison", |row| row.and_then(|row| row.parse().ok()));
    None
}
