//! What recurrent ops leave behind of a sequence, in slots: one memory a recurrent call, as many equal slots as the pool counts.
//!
//! A step reads the slots that its spans begin from and writes others: those that they end in and those of snapshots. No slot is both
//! read and written in one step, so a step that is run again after a fault gives the same bits.

use crate::memory::Memory;
use crate::slab::Slab;
use crate::step::Step;
use graph::plan::StateSpec;

/// State memory of one recurrent call.
#[derive(Debug)]
pub(crate) struct States {
    slot_len: usize,
    slots: usize,
    memory: Memory,
}

impl States {
    /// Zeroed slots.
    pub(crate) fn new(spec: StateSpec, slots: usize) -> Self {
        let slot_len = spec.elements as usize;
        Self { slot_len, slots, memory: Memory::zeroed(slots * slot_len * 4) }
    }

    /// Overwrites everything, as an earlier owner of the slots might have.
    #[cfg(test)]
    pub(crate) fn fill_bytes(&mut self, byte: u8) {
        self.memory.as_bytes_mut().fill(byte);
    }

    /// A view that the threads of a team share.
    pub(crate) fn view(&mut self) -> StatesView<'_> {
        StatesView { slab: Slab::new(self.memory.as_f32_mut()), slot_len: self.slot_len, slots: self.slots }
    }
}

/// The slots while a step runs; made from `&mut States`, so that it is the only one.
#[derive(Clone, Copy)]
pub(crate) struct StatesView<'a> {
    slab: Slab<'a>,
    slot_len: usize,
    slots: usize,
}

impl<'a> StatesView<'a> {
    fn at(self, slot: u32, from: usize, len: usize) -> usize {
        assert!((slot as usize) < self.slots && from + len <= self.slot_len, "a state lies in its slot");
        slot as usize * self.slot_len + from
    }

    /// Elements `from..from + len` of a slot.
    ///
    /// # Safety
    /// Nobody writes them while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn read(self, slot: u32, from: usize, len: usize) -> &'a [f32] {
        // SAFETY: the caller's promise, passed on.
        unsafe { self.slab.read(self.at(slot, from, len), len) }
    }

    /// Elements `from..from + len` of a slot, to be written.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn write(self, slot: u32, from: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise, passed on.
        unsafe { self.slab.write(self.at(slot, from, len), len) }
    }
}

/// Whether the slots of a step are `slots` at most, every span has a state, and none that is written is read or written by
/// another; what is wrong, with the limit and what was found.
pub(crate) fn check(step: &Step, slots: u32) -> Result<(), (&'static str, u64, u64)> {
    if step.states.len() != step.spans.len() {
        return Err(("states of spans", step.spans.len() as u64, step.states.len() as u64));
    }
    let mut snapshots = 0;
    for (span, state) in step.spans.iter().zip(&step.states) {
        if state.from.is_none() && span.start > 0 {
            return Err(("the start of a span without a state", 0, span.start.into()));
        }
        if state.first_snapshot != snapshots {
            return Err(("the first snapshot of a span", snapshots.into(), state.first_snapshot.into()));
        }
        snapshots = snapshots.saturating_add(state.snapshots);
        if snapshots as usize > step.snapshots.len() {
            return Err(("snapshots of all spans", step.snapshots.len() as u64, snapshots.into()));
        }
        let last = span.prompt.min(span.start + span.rows);
        for snapshot in step.snapshots_of(state) {
            let end = snapshot.end;
            if end <= span.start || end > last || end % graph::plan::PAGE_ROWS != 0 {
                return Err((
                    "the end of a snapshot, a page border of the span's prompt rows",
                    last.into(),
                    end.into(),
                ));
            }
        }
    }
    let read = |slot: u32| step.states.iter().any(|state| state.from == Some(slot));
    let written = || step.states.iter().map(|s| s.to).chain(step.snapshots.iter().map(|s| s.slot));
    for (place, slot) in written().enumerate() {
        if slot >= slots {
            return Err(("a state's slot", u64::from(slots).saturating_sub(1), slot.into()));
        }
        if read(slot) || written().take(place).any(|other| other == slot) {
            return Err(("readers and other writers of a slot that is written", 0, 1));
        }
    }
    let beyond = step.states.iter().filter_map(|state| state.from).find(|&slot| slot >= slots);
    beyond.map_or(Ok(()), |slot| Err(("a state's slot", u64::from(slots).saturating_sub(1), slot.into())))
}
