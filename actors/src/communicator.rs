//! The local communicator: collectives among the ranks of one process, over ports that every member reads.
//!
//! Each rank's term goes to all members by a broadcast channel, and each member reduces all terms itself, in a binary tree over their order. So
//! every rank gets the same bits, no rank waits inside a call, and a collective of one micro-batch never blocks another's compute.

use crate::lane::{Actor, Fault, LaneContext, Turn};
use crate::port::{Bell, Delivery};
use crate::stage::{Input, Output};
use crate::tensor::Tensor;
use crate::trace::{Event, Track, Wait};
use fail::fail_point;
use graph::plan::Move;
use kernels::ops::{concat, reduce};
use smallvec::SmallVec;

/// Ranks of a group that need no allocation.
const RANKS: usize = 16;

/// One collective of a member, with its ports.
pub struct Collective {
    how: Move,
    width: usize,
    blocks: usize,
    inputs: Vec<Input<Tensor>>,
    output: Option<Output<Tensor>>,
    held: Vec<Delivery<Tensor>>,
}

impl Collective {
    /// A collective whose terms have `width` elements a row, in `blocks` runs that are gathered one by one, and arrive in the order of
    /// ranks. Without an output this rank only contributes, and has no inputs either.
    ///
    /// # Panics
    /// For a move that the local communicator does not have; the plan refuses those.
    pub fn new(
        how: Move,
        (width, blocks): (u32, u32),
        inputs: Vec<Input<Tensor>>,
        output: Option<Output<Tensor>>,
    ) -> Self {
        assert!(matches!(how, Move::AllReduce | Move::AllGather(_)), "the plan holds only moves that exist");
        let held = Vec::with_capacity(inputs.len());
        Self { how, width: width as usize, blocks: blocks as usize, inputs, output, held }
    }

    /// Takes what is there; says what is missing.
    fn gather(&mut self) -> Result<(), Turn> {
        while let Some(input) = self.inputs.get_mut(self.held.len()) {
            match input.inbox.try_recv() {
                Some(delivery) => self.held.push(delivery),
                None if input.inbox.is_closed() => return Err(Turn::Finished),
                None => return Err(Turn::Waiting(Wait::Input(input.edge))),
            }
        }
        Ok(())
    }

    fn fire(&mut self, track: Track, context: &mut LaneContext) -> Result<Turn, Turn> {
        let Some(output) = &mut self.output else { return Err(Turn::Finished) };
        let mut slot = output.outbox.try_slot().ok_or(Turn::Waiting(Wait::Credit(output.edges[0])))?;
        let (step, rows) = (self.held[0].step, self.held[0].rows);
        let start_ns = context.begin(step);
        for input in &self.inputs {
            context.recorder().point(track, start_ns, Event::Receive { edge: input.edge, step });
        }
        fail_point!("communicator");
        let parts: SmallVec<[&[f32]; RANKS]> = self.held.iter().map(|part| part.rows(self.width)).collect();
        let len = parts[0].len();
        (slot.step, slot.rows) = (step, rows);
        let mut bytes = len as u64 * 4 * (parts.len() as u64 + 1);
        match self.how {
            Move::AllGather(_) => {
                bytes = len as u64 * 8 * parts.len() as u64;
                let all = len * parts.len();
                concat::columns(&parts, rows as usize * self.blocks, &mut slot.memory.as_f32_mut()[..all]);
            }
            Move::AllReduce | Move::Nothing | Move::Slice(_) | Move::AllToAll { .. } | Move::ReduceScatter(_) => {
                reduce::sum(&parts, &mut slot.memory.as_f32_mut()[..len]);
            }
        }
        drop(parts);
        let end_ns = context.finish(track, rows, bytes);
        for edge in &output.edges {
            let sent_ns = end_ns.saturating_sub(1).max(start_ns);
            context.recorder().point(track, sent_ns, Event::Send { edge: *edge, step });
        }
        self.held.clear();
        slot.send();
        Ok(Turn::Fired)
    }
}

/// One rank of a group: the only actor that touches the group's ports.
pub struct LocalCommunicator {
    name: String,
    track: Track,
    collectives: Vec<Collective>,
}

impl LocalCommunicator {
    /// A member with its collectives, in the one order of the group.
    pub fn new(name: &str, track: Track, collectives: Vec<Collective>) -> Self {
        Self { name: name.into(), track, collectives }
    }
}

impl Actor for LocalCommunicator {
    fn name(&self) -> &str {
        &self.name
    }

    fn track(&self) -> Track {
        self.track
    }

    fn bind(&mut self, bell: &Bell) {
        for collective in &mut self.collectives {
            collective.inputs.iter_mut().for_each(|input| input.inbox.bind_reader(bell.clone()));
            collective.output.iter_mut().for_each(|output| output.outbox.bind_writer(bell.clone()));
        }
    }

    /// Fires the first collective that can: those of an older step come first, since each reads its ports in order.
    fn poll(&mut self, context: &mut LaneContext) -> Result<Turn, Fault> {
        let mut waiting = None;
        let mut open = false;
        for collective in self.collectives.iter_mut().filter(|c| c.output.is_some()) {
            let turn = match collective.gather() {
                Ok(()) => collective.fire(self.track, context).unwrap_or_else(|turn| turn),
                Err(turn) => turn,
            };
            match turn {
                Turn::Fired => return Ok(Turn::Fired),
                Turn::Waiting(wait) => {
                    open = true;
                    waiting.get_or_insert(wait);
                }
                Turn::Finished => {}
            }
        }
        Ok(waiting.filter(|_| open).map_or(Turn::Finished, Turn::Waiting))
    }
}
