//! Slots of recurrent state: what ops leave behind whose state has one size however long a sequence is.
//!
//! A step reads the slot in which a sequence's state lies and writes another one; the one read is had again from the next step on. So a
//! state never changes once it is written, a step can be run again, and a snapshot is a slot like any other: a sequence that goes on from
//! one reads it, and nothing is copied. Running sequences have two slots each, so that one is always there; snapshots have slots of
//! their own, the one unused for longest going first.
//!
//! Invariant: a slot that a step writes is read by nobody in that step, because slots become free between steps only, or belong to
//! nobody who is in the step.

use super::kind::Kind;
use super::recency::Recency;
use graph::plan::StateSlots;

/// Of the snapshots' slots one in this many, and one at least, is free when a step begins.
const SPARE: u32 = 8;

/// The state of one running sequence.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Held {
    /// Where it lies; `None` before the first row.
    state: Option<u32>,
    /// Snapshots on pages that are not in the index yet: the page's place and the slot.
    pending: Vec<(usize, u32)>,
}

/// Hands out slots and keeps snapshots while there is room. The first [`StateSlots::running`] numbers are for running sequences.
#[derive(Debug)]
pub(crate) struct Slots {
    spec: StateSlots,
    /// Free slots for running sequences.
    free: Vec<u32>,
    /// Slots that the present step reads.
    resting: Vec<u32>,
    /// Free slots for snapshots.
    spare: Vec<u32>,
    /// Snapshots whose pages left the index within the present step.
    orphans: Vec<u32>,
    /// The snapshot of each page.
    of_page: Vec<Option<u32>>,
    /// Pages with a snapshot.
    recency: Recency,
    /// Emptied lists, to be used again.
    lists: Vec<Vec<(usize, u32)>>,
}

impl Slots {
    /// Slots that are all free, for a pool of `pages` pages.
    pub(crate) fn new(spec: StateSlots, pages: u32) -> Self {
        Self {
            spec,
            free: (0..spec.running).rev().collect(),
            resting: Vec::with_capacity(spec.running as usize),
            spare: (spec.running..spec.running + spec.snapshots).rev().collect(),
            orphans: Vec::with_capacity(spec.snapshots as usize),
            of_page: vec![None; pages as usize],
            recency: Recency::new(pages),
            lists: Vec::new(),
        }
    }

    /// Where the state of a sequence lies, and where it goes in the present step.
    pub(crate) fn advance(&mut self, held: &mut Held) -> (Option<u32>, u32) {
        let to = self.free.pop().expect("every running sequence has two slots");
        let from = held.state.replace(to);
        self.resting.extend(from.filter(|&slot| slot < self.spec.running));
        (from, to)
    }

    /// A slot for the state behind the page at `place`, which the present step writes; `None` if there is none to spare.
    pub(crate) fn snapshot(&mut self, held: &mut Held, place: usize) -> Option<u32> {
        let slot = self.spare.pop()?;
        held.pending.push((place, slot));
        Some(slot)
    }

    /// Whether a slot belongs to nobody, neither now nor in the step that was written last.
    #[cfg(test)]
    pub(crate) fn is_free(&self, slot: u32) -> bool {
        self.free.contains(&slot) || self.spare.contains(&slot)
    }

    fn drop_snapshot(&mut self, page: u32) -> Option<u32> {
        let slot = self.of_page[page as usize].take()?;
        self.recency.remove(page);
        Some(slot)
    }
}

impl Kind for Slots {
    type Held = Held;

    fn turn(&mut self) {
        self.free.append(&mut self.resting);
        self.spare.append(&mut self.orphans);
        let wanted = (self.spec.snapshots / SPARE).max(1).min(self.spec.snapshots);
        while (self.spare.len() as u32) < wanted {
            let Some(page) = self.recency.oldest() else { return };
            let slot = self.drop_snapshot(page);
            self.spare.extend(slot);
        }
    }

    fn resumable(&self, prefix: &[u32]) -> usize {
        let has = |&page: &u32| self.of_page[page as usize].is_some();
        prefix.iter().rposition(has).map_or(0, |place| place + 1)
    }

    fn begin(&mut self, prefix: &[u32]) -> Held {
        let state = prefix.last().and_then(|&page| {
            let slot = self.of_page[page as usize]?;
            self.recency.remove(page);
            self.recency.push(page);
            Some(slot)
        });
        Held { state, pending: self.lists.pop().unwrap_or_default() }
    }

    fn publish(&mut self, held: &mut Held, place: usize, page: u32) {
        let Some(at) = held.pending.iter().position(|&(pending, _)| pending == place) else { return };
        let (_, slot) = held.pending.swap_remove(at);
        if self.of_page[page as usize].is_some() {
            // Another sequence was first; the two are equal.
            self.spare.push(slot);
        } else {
            self.of_page[page as usize] = Some(slot);
            self.recency.push(page);
        }
    }

    fn unpublish(&mut self, page: u32) {
        let slot = self.drop_snapshot(page);
        self.orphans.extend(slot);
    }

    fn release(&mut self, mut held: Held) {
        self.free.extend(held.state.filter(|&slot| slot < self.spec.running));
        self.spare.extend(held.pending.drain(..).map(|(_, slot)| slot));
        self.lists.push(held.pending);
    }

    fn forget(&mut self) {
        while let Some(page) = self.recency.oldest() {
            let slot = self.drop_snapshot(page);
            self.spare.extend(slot);
        }
    }

    fn used(&self) -> u32 {
        self.spec.running + self.spec.snapshots - self.available()
    }

    fn available(&self) -> u32 {
        let free = self.free.len() + self.resting.len() + self.spare.len() + self.orphans.len();
        free as u32 + self.recency.len()
    }
}
