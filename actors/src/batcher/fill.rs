//! Writing a step: generated rows first, then chunks of prompts, then newcomers; and who has to go when pages run out.

use super::sequence::Running;
use super::{Batcher, CAUTION_MAX, Flight, Part};
use crate::pool::Lease;
use crate::ticket::{Feed, Ticket};
use kernels::{Snapshot, Span, SpanState};
use std::ops::Range;

/// Least of the caution: a share of 1/8.
const CAUTION_MIN: u32 = CAUTION_MAX / 8;

/// What one preemption adds to the caution; one admission takes 1 off it.
const CAUTION_STEP: u32 = CAUTION_MAX / 4;

/// What a step has left.
struct Room {
    rows: u32,
    draws: u32,
}

impl Room {
    fn is_spent(&self) -> bool {
        self.rows == 0 || self.draws == 0
    }
}

impl Batcher {
    /// Writes the next step into `ticket`, whatever it held; `false` if nothing can be issued now or enough steps are out.
    /// Steps are numbered from 0 without gaps. After `false` it is worth another try only after `submit` or `absorb`.
    pub fn fill(&mut self, ticket: &mut Ticket) -> bool {
        if self.flights.len() >= self.spec.in_flight as usize {
            return false;
        }
        self.pool.turn();
        ticket.step.clear();
        ticket.feeds.clear();
        ticket.draws.clear();
        ticket.admissions.clear();
        ticket.needs = 0;
        ticket.step.id = self.next_step;
        let mut flight = self.spare_flights.pop().expect("there are as many as steps may be out");
        flight.parts.clear();
        let mut room = Room { rows: self.spec.max_num_batched_tokens, draws: self.spec.sampled_rows_max };
        let preemptions = self.counters.preemptions;

        self.place_generated(ticket, &mut flight, &mut room);
        self.place_chunks(ticket, &mut flight, &mut room);
        // Pages that were just taken from a sequence are not offered to it again in the same step.
        if self.counters.preemptions == preemptions {
            self.admit(ticket, &mut flight, &mut room);
        }
        if ticket.step.rows == 0 {
            self.spare_flights.push(flight);
            return false;
        }
        flight.step = self.next_step;
        flight.sampled = ticket.draws.len();
        flight.captured = ticket.draws.iter().filter(|draw| draw.capture).count();
        self.flights.push_back(flight);
        self.next_step += 1;
        true
    }

    /// One row each of the sequences that generate, least recently issued first, no more than a group's share.
    fn place_generated(&mut self, ticket: &mut Ticket, flight: &mut Flight, room: &mut Room) {
        let mut turn = std::mem::take(&mut self.turn);
        turn.clear();
        let mut generating = 0;
        for &slot in &self.order {
            let running = self.running(slot).expect("slots in `order` hold a running sequence");
            generating += u32::from(running.is_generating() && running.issued < running.sequence.rows_max());
            if running.can_generate() {
                turn.push(slot);
            }
        }
        turn.sort_unstable_by_key(|&slot| {
            self.running(slot).map(|running| (running.last_step, running.sequence.serial))
        });
        let mut share = generating.div_ceil(self.spec.groups.min(self.spec.in_flight));
        for &slot in &turn {
            if room.is_spent() || share == 0 {
                break;
            }
            // It may have been preempted for one before it in this turn.
            if self.running(slot).is_some() && self.make_room(slot) {
                self.place(slot, 1, ticket, flight);
                share -= 1;
                room.rows -= 1;
                room.draws -= 1;
            }
        }
        self.turn = turn;
    }

    /// The next chunks of prompts that are under way, oldest first. Their pages were reserved at admission.
    fn place_chunks(&mut self, ticket: &mut Ticket, flight: &mut Flight, room: &mut Room) {
        for place in 0..self.order.len() {
            if room.is_spent() {
                return;
            }
            let slot = self.order[place];
            if !self.running_mut(slot).is_generating() {
                self.place_chunk(slot, ticket, flight, room);
            }
        }
    }

    fn place_chunk(&mut self, slot: u32, ticket: &mut Ticket, flight: &mut Flight, room: &mut Room) {
        let (rows, draws) = self.running_mut(slot).chunk(room.rows, room.draws);
        self.place(slot, rows, ticket, flight);
        room.rows -= rows;
        room.draws -= draws;
    }

    /// Admits waiting sequences in order until one does not fit, each with its first chunk.
    fn admit(&mut self, ticket: &mut Ticket, flight: &mut Flight, room: &mut Room) {
        while !room.is_spent() && !self.free_slots.is_empty() {
            let Some(sequence) = self.waiting.front() else { return };
            let mut lease = self.pool.begin(sequence.lookup(), sequence.prompt_rows(), sequence.rows_max());
            let fits = self.pool.reserve(&mut lease, sequence.rows_at_admission()).is_ok();
            if !fits || self.pool.available() < self.growth_to_come(sequence.rows_max(), &lease) {
                self.pool.release(lease);
                return;
            }
            let mut sequence = self.waiting.pop_front().expect("it was looked at above");
            self.waiting_again -= u32::from(sequence.epoch > 0);
            self.caution = self.caution.saturating_sub(1).max(CAUTION_MIN);
            // A sequence that runs grows without allocation.
            sequence.tokens.reserve((sequence.rows_max() + 1).saturating_sub(sequence.known()) as usize);
            self.counters.prefix_query_rows += u64::from(sequence.known() - 1);
            self.counters.prefix_hit_rows += u64::from(lease.cached_rows());
            let slot = self.free_slots.pop().expect("one was free above");
            let serial = sequence.serial;
            let place = self
                .order
                .partition_point(|&slot| self.running(slot).is_some_and(|running| running.sequence.serial < serial));
            self.order.insert(place, slot);
            ticket.admissions.extend(sequence.admission(slot));
            let (prefill_end, issued) = (sequence.known().min(sequence.rows_max()), lease.cached_rows());
            self.slots[slot as usize] = Some(Running { sequence, lease, prefill_end, issued, last_step: 0 });
            self.place_chunk(slot, ticket, flight, room);
        }
    }

    /// Pages to keep for what runs already and for a newcomer: by the present caution a share of all they may still want.
    fn growth_to_come(&self, rows_max: u32, lease: &Lease) -> u32 {
        if self.order.is_empty() {
            return 0;
        }
        let pages = &self.spec.pool;
        let growth = |rows_max: u32, lease: &Lease| pages.pages_of(rows_max) - lease.pages().len() as u32;
        let running = self.order.iter().filter_map(|&slot| self.running(slot));
        let growths = running.map(|running| growth(running.sequence.rows_max(), &running.lease));
        let wanted: u64 = growths.map(u64::from).sum::<u64>() + u64::from(growth(rows_max, lease));
        (wanted * u64::from(self.caution)).div_ceil(u64::from(CAUTION_MAX)) as u32
    }

    /// Puts the next `rows` rows of a sequence into the step.
    fn place(&mut self, slot: u32, rows: u32, ticket: &mut Ticket, flight: &mut Flight) {
        if rows == 0 {
            return;
        }
        let page_rows = self.spec.pool.page_rows;
        let running = self.slots[slot as usize].as_mut().expect("only running sequences are placed");
        let (first_row, start, end) = (ticket.step.rows, running.issued, running.issued + rows);
        for position in start..end {
            let feed = running.feed(position, slot);
            if matches!(feed, Feed::Sampled { .. }) {
                // Its token is drawn from the row before, which went out alone with this sequence's last step.
                ticket.needs = ticket.needs.max(running.last_step + 1);
            }
            ticket.feeds.push(feed);
            if let Some(draw) = running.draw(position, slot) {
                ticket.step.sampled.push(first_row + position - start);
                ticket.draws.push(draw);
            }
        }
        let table = &running.lease.pages()[..end.div_ceil(page_rows) as usize];
        let (first_page, pages) = (ticket.step.pages.len() as u32, table.len() as u32);
        let prompt = running.sequence.prompt_rows();
        ticket.step.pages.extend_from_slice(table);
        ticket.step.spans.push(Span { first_row, rows, start, prompt, first_page, pages });
        ticket.step.rows += rows;
        self.pool.window_table(&mut running.lease, start..end, &mut ticket.step.windows);
        self.place_state(slot, start..end, ticket);
        let running = self.running_mut(slot);
        let prefilled = end.min(running.prefill_end).saturating_sub(start);
        let recomputed = running.sequence.issued_ever.min(end).saturating_sub(start);
        running.sequence.issued_ever = running.sequence.issued_ever.max(end);
        running.issued = end;
        let (serial, epoch) = (running.sequence.serial, running.sequence.epoch);
        flight.parts.push(Part { slot, serial, epoch, end });
        let step = self.next_step;
        self.running_mut(slot).last_step = step;
        self.counters.prompt_rows += u64::from(prefilled);
        self.counters.recomputed_rows += u64::from(recomputed);
    }

    /// Where the recurrent state of a sequence with these rows in the step comes from and goes to, and which snapshots are kept.
    fn place_state(&mut self, slot: u32, rows: Range<u32>, ticket: &mut Ticket) {
        let running = self.slots[slot as usize].as_mut().expect("only running sequences are placed");
        let Some((from, to)) = self.pool.advance(&mut running.lease) else { return };
        let first_snapshot = ticket.step.snapshots.len() as u32;
        let page_rows = self.spec.pool.page_rows;
        let first = (rows.start / page_rows + 1) * page_rows;
        for end in (first..=rows.end).step_by(page_rows as usize) {
            let slot = self.pool.snapshot(&mut running.lease, end);
            ticket.step.snapshots.extend(slot.map(|slot| Snapshot { end, slot }));
        }
        let snapshots = ticket.step.snapshots.len() as u32 - first_snapshot;
        ticket.step.states.push(SpanState { from, to, first_snapshot, snapshots });
    }

    /// Reserves the page of a sequence's next row, preempting others for it; `false` if it cannot go on in this step.
    fn make_room(&mut self, slot: u32) -> bool {
        loop {
            let running = self.slots[slot as usize].as_mut().expect("only running sequences need room");
            if self.pool.reserve(&mut running.lease, running.issued + 1).is_ok() {
                return true;
            }
            let Some(victim) = self.victim() else { return false };
            self.running_mut(victim).sequence.preemptions += 1;
            self.counters.preemptions += 1;
            self.caution = (self.caution + CAUTION_STEP).min(CAUTION_MAX);
            self.send_back(victim);
            if victim == slot {
                return false;
            }
        }
    }

    /// The running sequence with the fewest rows computed, the youngest among equals; never the oldest, a pinned one, or one
    /// that already has rows in this step.
    fn victim(&self) -> Option<u32> {
        let candidates = self.order.iter().skip(1).copied().filter(|&slot| {
            self.running(slot)
                .is_some_and(|running| !running.sequence.is_pinned() && running.last_step != self.next_step)
        });
        candidates.min_by_key(|&slot| {
            self.running(slot).map(|running| (running.issued, std::cmp::Reverse(running.sequence.serial)))
        })
    }
}
