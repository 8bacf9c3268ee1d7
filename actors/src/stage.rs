//! Firing: a stage acts when every input has a delivery and every output a slot, all at once.
//!
//! Invariant: on `Ok` all outputs are sent, on `Err` or a panic none, and the inputs stay held, so that the same step can be
//! acted again. A stage does not know its ports, its lane or the time.

use crate::lane::{Actor, Fault, LaneContext, Turn};
use crate::port::{Bell, Delivery, Inbox, Outbox, Slot};
use crate::ticket::Ticket;
use crate::trace::{Edge, Event, Track, Wait};
use std::error::Error;

/// Why a stage refused a step: any error of the kernels.
pub type Refusal = Box<dyn Error + Send + Sync>;

/// A layer shard, a collective: pure dataflow over buffers of type `B`.
pub trait Stage<B>: Send {
    /// Fills every output from the ticket and the inputs. Never waits, never allocates, takes no lock across the call.
    fn act(&mut self, firing: Firing<'_, B>) -> Result<(), Refusal>;

    /// Bytes read and written by a step of that many rows, for the trace.
    fn bytes(&self, rows: u32) -> u64 {
        let _ = rows;
        0
    }
}

/// All inputs present and all outputs writable, at once. Only a [`Cell`] makes one.
#[non_exhaustive]
pub struct Firing<'a, B> {
    /// The step.
    pub ticket: &'a Ticket,
    /// One message an input port, in the order of [`Cell::new`].
    pub inputs: &'a [Delivery<B>],
    /// One free buffer an output port, in the order of [`Cell::new`].
    pub outputs: &'a mut [Slot<B>],
}

/// The reader's end of an edge and its number in the trace.
pub struct Input<T> {
    /// Where messages come in.
    pub inbox: Inbox<T>,
    /// The edge they come over.
    pub edge: Edge,
}

/// The writer's end of a channel and the numbers of its edges in the trace, one a reader.
pub struct Output<T> {
    /// Where messages go out.
    pub outbox: Outbox<T>,
    /// The edges they go over.
    pub edges: Vec<Edge>,
}

/// A stage with its ports: the actor that fires it.
pub struct Cell<S, B> {
    name: String,
    track: Track,
    stage: S,
    tickets: Port<Ticket>,
    inputs: Vec<Port<B>>,
    outputs: Vec<Output<B>>,
    /// Filled in the order of the ports; as many as are here have been taken for the next firing.
    ticket: Option<Delivery<Ticket>>,
    deliveries: Vec<Delivery<B>>,
    slots: Vec<Slot<B>>,
}

struct Port<T> {
    input: Input<T>,
    /// The depth last recorded: only changes are worth a record.
    depth: usize,
}

impl<T> Port<T> {
    fn new(input: Input<T>) -> Self {
        Self { input, depth: 0 }
    }

    fn record(&mut self, context: &LaneContext, track: Track, at_ns: u64, step: u64) {
        let edge = self.input.edge;
        context.recorder().point(track, at_ns, Event::Receive { edge, step });
        let depth = self.input.inbox.depth();
        if depth != self.depth {
            self.depth = depth;
            context.recorder().point(track, at_ns, Event::Depth { edge, messages: depth as u32 });
        }
    }
}

impl<S: Stage<B>, B: Send + Sync> Cell<S, B> {
    /// Wires a stage. Every message of `tickets` pairs with the next one of each input.
    ///
    /// # Panics
    /// If an output has no edge: then a wait for its credit could not be named.
    pub fn new(
        name: &str,
        track: Track,
        stage: S,
        tickets: Input<Ticket>,
        inputs: Vec<Input<B>>,
        outputs: Vec<Output<B>>,
    ) -> Self {
        assert!(outputs.iter().all(|output| !output.edges.is_empty()), "an output has an edge for each reader");
        Self {
            name: name.into(),
            track,
            stage,
            tickets: Port::new(tickets),
            ticket: None,
            deliveries: Vec::with_capacity(inputs.len()),
            slots: Vec::with_capacity(outputs.len()),
            inputs: inputs.into_iter().map(Port::new).collect(),
            outputs,
        }
    }

    /// Puts another stage behind the same ports, with everything held: the step that failed is acted again.
    pub fn restage<R: Stage<B>>(self, stage: R) -> Cell<R, B> {
        let Self { name, track, stage: _, tickets, inputs, outputs, ticket, deliveries, slots } = self;
        Cell { name, track, stage, tickets, inputs, outputs, ticket, deliveries, slots }
    }

    /// Takes what is there; says what is missing, or that an input has closed and nothing can fire again.
    fn gather(&mut self) -> Result<(), Turn> {
        if self.ticket.is_none() {
            self.ticket = Some(receive(&mut self.tickets)?);
        }
        while let Some(port) = self.inputs.get_mut(self.deliveries.len()) {
            self.deliveries.push(receive(port)?);
        }
        while let Some(output) = self.outputs.get_mut(self.slots.len()) {
            self.slots.push(output.outbox.try_slot().ok_or(Turn::Waiting(Wait::Credit(output.edges[0])))?);
        }
        Ok(())
    }
}

fn receive<T>(port: &mut Port<T>) -> Result<Delivery<T>, Turn> {
    let Input { inbox, edge } = &mut port.input;
    match inbox.try_recv() {
        Some(delivery) => Ok(delivery),
        None if inbox.is_closed() => Err(Turn::Finished),
        None => Err(Turn::Waiting(Wait::Input(*edge))),
    }
}

impl<S: Stage<B> + 'static, B: Send + Sync + 'static> Actor for Cell<S, B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn track(&self) -> Track {
        self.track
    }

    fn bind(&mut self, bell: &Bell) {
        self.tickets.input.inbox.bind_reader(bell.clone());
        self.inputs.iter_mut().for_each(|port| port.input.inbox.bind_reader(bell.clone()));
        self.outputs.iter_mut().for_each(|output| output.outbox.bind_writer(bell.clone()));
    }

    fn poll(&mut self, context: &mut LaneContext) -> Result<Turn, Fault> {
        if let Err(turn) = self.gather() {
            return Ok(turn);
        }
        let ticket = self.ticket.as_ref().expect("gathered above");
        let (step, rows) = (ticket.step.id, ticket.step.rows);
        let start_ns = context.begin(step);
        self.tickets.record(context, self.track, start_ns, step);
        self.inputs.iter_mut().for_each(|port| port.record(context, self.track, start_ns, step));
        self.stage
            .act(Firing { ticket, inputs: &self.deliveries, outputs: &mut self.slots })
            .map_err(|cause| Fault::Refused { actor: self.name.clone(), step, cause })?;
        let end_ns = context.finish(self.track, rows, self.stage.bytes(rows));
        // A moment before the end, so that the arrow leaves from inside the act's span.
        let sent_ns = end_ns.saturating_sub(1).max(start_ns);
        for edge in self.outputs.iter().flat_map(|output| &output.edges) {
            context.recorder().point(self.track, sent_ns, Event::Send { edge: *edge, step });
        }
        // Inputs go home first: upstream may be waiting for just that credit while it is on this very lane.
        self.ticket = None;
        self.deliveries.clear();
        self.slots.drain(..).for_each(Slot::send);
        Ok(Turn::Fired)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
