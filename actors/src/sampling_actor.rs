//! The sampler as an actor: tickets, logits and whatever is captured beside them in, samples out.

use crate::lane::{Actor, Fault, LaneContext, Turn};
use crate::port::{Bell, Delivery};
use crate::sampler::{Captured, Sampler};
use crate::stage::{Input, Output};
use crate::tensor::Tensor;
use crate::ticket::{Samples, Ticket};
use crate::trace::{Event, Track, Wait};
use fail::fail_point;
use graph::plan::RowSet;

/// Rows of f32 that arrive once a step.
pub struct Rows {
    /// Where they arrive.
    pub input: Input<Tensor>,
    /// Elements of a row.
    pub width: u32,
    /// Which rows of the step.
    pub rows: RowSet,
}

/// Draws the tokens of each step.
pub struct SamplingActor {
    name: String,
    track: Track,
    sampler: Sampler,
    tickets: Input<Ticket>,
    /// The logits, then what is captured beside them.
    rows: Vec<Rows>,
    samples: Output<Samples>,
    held: Held,
}

/// What has arrived of the next step, in the order of the ports.
#[derive(Default)]
struct Held {
    ticket: Option<Delivery<Ticket>>,
    rows: Vec<Delivery<Tensor>>,
}

impl SamplingActor {
    /// An actor over `sampler`, whose first rows are the logits.
    ///
    /// # Panics
    /// Without rows.
    pub fn new(
        (name, track): (&str, Track),
        sampler: Sampler,
        tickets: Input<Ticket>,
        rows: Vec<Rows>,
        samples: Output<Samples>,
    ) -> Self {
        assert!(!rows.is_empty(), "the first rows are the logits");
        let held = Held { ticket: None, rows: Vec::with_capacity(rows.len()) };
        Self { name: name.into(), track, sampler, tickets, rows, samples, held }
    }

    /// Takes what has arrived; what is waited for, or that it will not come.
    fn receive(&mut self) -> Option<Turn> {
        let wait = |closed, edge| Some(if closed { Turn::Finished } else { Turn::Waiting(Wait::Input(edge)) });
        if self.held.ticket.is_none() {
            self.held.ticket = self.tickets.inbox.try_recv();
        }
        if self.held.ticket.is_none() {
            return wait(self.tickets.inbox.is_closed(), self.tickets.edge);
        }
        for Rows { input, .. } in &mut self.rows[self.held.rows.len()..] {
            let Some(delivery) = input.inbox.try_recv() else { return wait(input.inbox.is_closed(), input.edge) };
            self.held.rows.push(delivery);
        }
        None
    }
}

/// Captured values of one step.
struct Beside<'a> {
    rows: &'a [Rows],
    held: &'a [Delivery<Tensor>],
}

impl Captured for Beside<'_> {
    fn append(&self, ticket: &Ticket, draw: usize, to: &mut Vec<f32>) {
        for (Rows { width, rows, .. }, tensor) in self.rows.iter().zip(self.held) {
            let width = *width as usize;
            let row = match rows {
                RowSet::All => ticket.step.sampled[draw] as usize,
                RowSet::Sampled => draw,
            };
            to.extend_from_slice(&tensor.rows(width)[row * width..][..width]);
        }
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
        self.rows.iter_mut().for_each(|rows| rows.input.inbox.bind_reader(bell.clone()));
        self.samples.outbox.bind_writer(bell.clone());
    }

    fn poll(&mut self, context: &mut LaneContext) -> Result<Turn, Fault> {
        if let Some(turn) = self.receive() {
            return Ok(turn);
        }
        let (Some(ticket), [logits, captured @ ..]) = (&self.held.ticket, self.held.rows.as_slice()) else {
            unreachable!("all of the step has arrived");
        };
        let Some(mut slot) = self.samples.outbox.try_slot() else {
            return Ok(Turn::Waiting(Wait::Credit(self.samples.edges[0])));
        };
        let (step, rows, width) = (ticket.step.id, logits.rows, self.rows[0].width as usize);
        let start_ns = context.begin(step);
        for edge in std::iter::once(self.tickets.edge).chain(self.rows.iter().map(|rows| rows.input.edge)) {
            context.recorder().point(self.track, start_ns, Event::Receive { edge, step });
        }
        let refused = |cause| Fault::Refused { actor: self.name.clone(), step, cause: Box::new(cause) };
        let drawn_from = logits.rows(width);
        let poisoned = poisoned(drawn_from, width);
        let beside = Beside { rows: &self.rows[1..], held: captured };
        let drawn_from = poisoned.as_deref().unwrap_or(drawn_from);
        self.sampler.sample(ticket, (drawn_from, &logits.drawn), &beside, &mut slot).map_err(refused)?;
        fail_point!("sampler");
        let end_ns = context.finish(self.track, rows, u64::from(rows) * width as u64 * 4);
        for edge in &self.samples.edges {
            let sent_ns = end_ns.saturating_sub(1).max(start_ns);
            context.recorder().point(self.track, sent_ns, Event::Send { edge: *edge, step });
        }
        self.sampler.remember(&slot);
        self.held.ticket = None;
        self.held.rows.clear();
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
