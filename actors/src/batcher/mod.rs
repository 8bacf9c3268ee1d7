//! Decides what every step computes: continuous batching, chunked prefill, several micro-batches in flight.
//!
//! The batcher owns the pool, because a reservation and the ticket that uses it are one decision. It is a state machine
//! without clock, I/O or threads: [`Batcher::fill`] writes the next step, [`Batcher::absorb`] takes the results of the oldest
//! step that is out. The same calls in the same order give the same steps.
//!
//! What always holds:
//! - Admission is first come, first served; nobody is passed. A preempted sequence goes back to its place, which is before
//!   everybody who has not run yet.
//! - The oldest running sequence is never preempted, so it can always finish. Any other one is preempted at most three times;
//!   then it is admitted only with all the pages it can ever need.
//! - Results carry (sequence, epoch); what belongs to a sequence that has ended or to an older epoch is dropped.
//! - While there is work, a step is out or the next `fill` writes one.
//!
//! It relies on stages running steps in order: a page that is given back is handed out again while steps that write it may
//! still be on their way, and a step may read rows that an earlier step in flight writes.

mod absorb;
mod fill;
mod sequence;
mod spec;
#[cfg(test)]
mod tests;

pub use spec::{
    BatcherSpec, Capture, Counters, Finish, Misdelivered, Refused, STOP_TOKENS_MAX, SequenceSpec, SpecFault, Update,
};

use crate::pool::Pool;
use crate::ticket::Ticket;
use kernels::Step;
use sequence::{Running, Sequence};
use std::collections::{HashSet, VecDeque};

/// The caution at which a newcomer is admitted only if everything that runs could grow to its end beside it.
const CAUTION_MAX: u32 = 64;

/// Turns sequences into steps and results into tokens.
#[derive(Debug)]
pub struct Batcher {
    spec: BatcherSpec,
    pool: Pool,
    /// Waiting sequences by serial: preempted ones come before those that have not run yet.
    waiting: VecDeque<Sequence>,
    /// How many of the waiting have run before; they do not count against `max_waiting`.
    waiting_again: u32,
    /// Running sequences by slot.
    slots: Vec<Option<Running>>,
    free_slots: Vec<u32>,
    /// Slots of the running sequences by serial, the oldest first.
    order: Vec<u32>,
    /// Ids of live sequences. Only asked, never walked.
    live: HashSet<u64>,
    /// Steps that are out, the oldest first.
    flights: VecDeque<Flight>,
    spare_flights: Vec<Flight>,
    /// Kept between fills for its room: slots that could generate, in turn.
    turn: Vec<u32>,
    /// Which share of what running sequences may still want is kept free when another is admitted, over [`CAUTION_MAX`].
    /// Most sequences stop early, so all of it would waste pages; preemptions raise the share, admissions lower it.
    caution: u32,
    next_step: u64,
    next_serial: u64,
    counters: Counters,
}

/// What has to be known of a step until its results arrive.
#[derive(Debug, Default)]
struct Flight {
    step: u64,
    sampled: usize,
    captured: usize,
    parts: Vec<Part>,
}

/// A sequence's part in a step.
#[derive(Clone, Copy, Debug)]
struct Part {
    slot: u32,
    serial: u64,
    epoch: u32,
    /// The rows below this position are written once the step is done.
    end: u32,
}

impl Batcher {
    /// An idle batcher, or every bound that is zero.
    pub fn new(spec: BatcherSpec) -> Result<Self, Vec<SpecFault>> {
        let faults = spec.check();
        if !faults.is_empty() {
            return Err(faults);
        }
        let seqs = spec.max_num_seqs as usize;
        let new_flight = || Flight { parts: Vec::with_capacity(seqs), ..Flight::default() };
        Ok(Self {
            spec,
            pool: Pool::new(spec.pool),
            waiting: VecDeque::with_capacity(seqs),
            waiting_again: 0,
            slots: (0..seqs).map(|_| None).collect(),
            // Taken from the end: low numbers first.
            free_slots: (0..spec.max_num_seqs).rev().collect(),
            order: Vec::with_capacity(seqs),
            live: HashSet::with_capacity(seqs),
            flights: VecDeque::with_capacity(spec.in_flight as usize),
            spare_flights: (0..spec.in_flight).map(|_| new_flight()).collect(),
            turn: Vec::with_capacity(seqs),
            caution: CAUTION_MAX / 2,
            next_step: 0,
            next_serial: 0,
            counters: Counters::default(),
        })
    }

    /// What it was built from.
    pub fn spec(&self) -> &BatcherSpec {
        &self.spec
    }

    /// The pool, to look at.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// An empty ticket with room for the largest step.
    pub fn ticket(&self) -> Ticket {
        let rows = self.spec.max_num_batched_tokens;
        let sampled = self.spec.sampled_rows_max.min(rows) as usize;
        let spans = self.spec.max_num_seqs.min(rows) as usize;
        let pages = spans * self.spec.pool.pages_of(self.spec.max_model_len).min(self.spec.pool.pages) as usize;
        Ticket {
            step: self.step(Step::with_capacity(spans, pages, sampled)),
            feeds: Vec::with_capacity(rows as usize),
            draws: Vec::with_capacity(sampled),
            admissions: Vec::with_capacity(spans),
            needs: 0,
        }
    }

    /// A step with room for states and tables of windows, where the model has any.
    fn step(&self, step: Step) -> Step {
        let (states, windows) = (self.spec.pool.states, self.spec.pool.windows);
        let step = if windows.pages > 0 { step.with_windows() } else { step };
        if states.running > 0 { step.with_states(states.snapshots as usize) } else { step }
    }

    /// Takes a sequence in, or says why it never or not now can be.
    pub fn submit(&mut self, sequence: SequenceSpec) -> Result<(), Refused> {
        self.check(&sequence)?;
        self.live.insert(sequence.id);
        self.waiting.push_back(Sequence::new(sequence, self.next_serial));
        self.next_serial += 1;
        Ok(())
    }

    fn check(&self, sequence: &SequenceSpec) -> Result<(), Refused> {
        sequence.check(&self.spec)?;
        let id = sequence.id;
        if self.live.contains(&id) {
            return Err(Refused::DuplicateId { id });
        }
        let max_waiting = self.spec.max_waiting;
        if self.waiting.len() as u32 - self.waiting_again >= max_waiting {
            return Err(Refused::QueueFull { id, max_waiting });
        }
        Ok(())
    }

    /// How many more sequences could be submitted now.
    pub fn room(&self) -> u32 {
        self.spec.max_waiting.saturating_sub(self.waiting.len() as u32 - self.waiting_again)
    }

    /// Gives a sequence up wherever it is and reports its end; does nothing if it is not live. Results still on their way
    /// are dropped when they arrive.
    pub fn cancel(&mut self, id: u64, updates: &mut Vec<Update>) {
        if !self.live.contains(&id) {
            return;
        }
        if let Some(place) = self.waiting.iter().position(|sequence| sequence.spec.id == id) {
            let sequence = self.waiting.remove(place).expect("it was found there");
            self.waiting_again -= u32::from(sequence.epoch > 0);
        } else {
            let is_it = |slot: &u32| self.running(*slot).is_some_and(|running| running.sequence.spec.id == id);
            let slot = self.order.iter().copied().find(is_it).expect("a live sequence waits or runs");
            self.stop(slot);
        }
        self.live.remove(&id);
        updates.push(Update::Finished { id, reason: Finish::Cancelled });
    }

    /// Forgets all steps that are out and the contents of all pages, as after a restart of the stages: every running sequence
    /// goes back to its place in the queue with the tokens known here. Results of forgotten steps are refused; numbering
    /// goes on.
    pub fn restart(&mut self) {
        while let Some(&slot) = self.order.last() {
            self.send_back(slot);
        }
        while let Some(flight) = self.flights.pop_front() {
            self.spare_flights.push(flight);
        }
        self.pool.forget();
    }

    /// Whether there is nothing to do: no sequence is live and no step is out.
    pub fn is_idle(&self) -> bool {
        self.live.is_empty() && self.flights.is_empty()
    }

    /// Figures for traces and progress.
    pub fn counters(&self) -> Counters {
        Counters {
            running: self.order.len() as u32,
            waiting: self.waiting.len() as u32,
            in_flight: self.flights.len() as u32,
            pages_used: self.pool.used(),
            pages_available: self.pool.available(),
            ..self.counters
        }
    }

    fn running(&self, slot: u32) -> Option<&Running> {
        self.slots[slot as usize].as_ref()
    }

    fn running_mut(&mut self, slot: u32) -> &mut Running {
        self.slots[slot as usize].as_mut().expect("slots in `order` hold a running sequence")
    }

    /// Takes a sequence out of its slot and gives its pages back.
    fn stop(&mut self, slot: u32) -> Sequence {
        let running = self.slots[slot as usize].take().expect("only running sequences are stopped");
        self.order.retain(|&other| other != slot);
        self.free_slots.push(slot);
        self.pool.release(running.lease);
        running.sequence
    }

    /// Puts a running sequence back to its place in the queue.
    fn send_back(&mut self, slot: u32) {
        let mut sequence = self.stop(slot);
        sequence.epoch += 1;
        let place = self.waiting.partition_point(|waiting| waiting.serial < sequence.serial);
        self.waiting.insert(place, sequence);
        self.waiting_again += 1;
    }
}
