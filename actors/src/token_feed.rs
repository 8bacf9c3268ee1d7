//! The feed as an actor: tickets and samples in, token ids out.

use crate::feed::Feeder;
use crate::lane::{Actor, Fault, LaneContext, Turn};
use crate::port::{Bell, Delivery};
use crate::stage::{Input, Output};
use crate::tensor::Tensor;
use crate::ticket::{Samples, Ticket};
use crate::trace::{Event, Track, Wait};
use fail::fail_point;

/// Resolves the ids of each step as soon as the samples it needs are here.
pub struct TokenFeed {
    name: String,
    track: Track,
    feeder: Feeder,
    tickets: Input<Ticket>,
    samples: Input<Samples>,
    ids: Output<Tensor>,
    ticket: Option<Delivery<Ticket>>,
}

impl TokenFeed {
    /// A feed of `slots` registers.
    pub fn new(
        (name, track): (&str, Track),
        slots: u32,
        tickets: Input<Ticket>,
        samples: Input<Samples>,
        ids: Output<Tensor>,
    ) -> Self {
        let feeder = Feeder::new(slots);
        Self { name: name.into(), track, feeder, tickets, samples, ids, ticket: None }
    }

    /// Takes one message of samples, if there is one.
    fn absorb(&mut self, context: &LaneContext) -> bool {
        let Some(samples) = self.samples.inbox.try_recv() else { return false };
        let (edge, step) = (self.samples.edge, samples.step);
        context.recorder().point(self.track, context.recorder().now_ns(), Event::Receive { edge, step });
        self.feeder.absorb(&samples);
        true
    }
}

impl Actor for TokenFeed {
    fn name(&self) -> &str {
        &self.name
    }

    fn track(&self) -> Track {
        self.track
    }

    fn bind(&mut self, bell: &Bell) {
        self.tickets.inbox.bind_reader(bell.clone());
        self.samples.inbox.bind_reader(bell.clone());
        self.ids.outbox.bind_writer(bell.clone());
    }

    fn poll(&mut self, context: &mut LaneContext) -> Result<Turn, Fault> {
        if self.ticket.is_none() {
            self.ticket = self.tickets.inbox.try_recv();
        }
        let Some(ticket) = &self.ticket else {
            if self.tickets.inbox.is_closed() {
                return Ok(Turn::Finished);
            }
            // Samples that no ticket asks for yet go home at once, so that the sampler is never short of credit.
            if self.absorb(context) {
                return Ok(Turn::Fired);
            }
            return Ok(Turn::Waiting(Wait::Input(self.tickets.edge)));
        };
        if !self.feeder.ready(ticket) {
            // The samples go home with this poll, which somebody may be waiting for.
            let taken = self.absorb(context);
            return Ok(if taken { Turn::Fired } else { Turn::Waiting(Wait::Input(self.samples.edge)) });
        }
        let Some(mut slot) = self.ids.outbox.try_slot() else {
            return Ok(Turn::Waiting(Wait::Credit(self.ids.edges[0])));
        };
        let (step, rows) = (ticket.step.id, ticket.step.rows);
        let start_ns = context.begin(step);
        context.recorder().point(self.track, start_ns, Event::Receive { edge: self.tickets.edge, step });
        (slot.step, slot.rows) = (step, rows);
        let ids = &mut slot.memory.as_u32_mut()[..rows as usize];
        let refused = |cause| Fault::Refused { actor: self.name.clone(), step, cause: Box::new(cause) };
        self.feeder.resolve(ticket, ids).map_err(refused)?;
        fail_point!("feed");
        abort_if_poisoned(ids);
        let end_ns = context.finish(self.track, rows, u64::from(rows) * 4);
        for edge in &self.ids.edges {
            let sent_ns = end_ns.saturating_sub(1).max(start_ns);
            context.recorder().point(self.track, sent_ns, Event::Send { edge: *edge, step });
        }
        self.ticket = None;
        slot.send();
        Ok(Turn::Fired)
    }
}

/// Where tests have a token end the process, as a fault in native code would.
fn abort_if_poisoned(ids: &[u32]) {
    if poison().is_some_and(|token| ids.contains(&token)) {
        std::process::abort();
    }
}

fn poison() -> Option<u32> {
    fail_point!("feed_poison", |token| token.and_then(|token| token.parse().ok()));
    None
}
