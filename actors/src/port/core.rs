//! What the ends of a channel share: the buffers, their loan counts, the way out and the way home.
//!
//! Invariant: every buffer is in exactly one place: free, a slot, or lent. `loans[i]` is 0 in the first two and the number
//! of copies outstanding in the third. Only this file and the two handles in `mod.rs` touch a buffer's memory.

use super::bell::Bell;
use super::sync::{ArrayQueue, AtomicBool, AtomicU32, Ordering, UnsafeCell, fence};
use crossbeam::utils::CachePadded;
use std::sync::OnceLock;

/// More copies of one delivery than any program makes; past it a leak of copies could wrap the count.
const LOANS_MAX: u32 = u32::MAX / 2;

pub(super) struct Core<T> {
    buffers: Box<[UnsafeCell<T>]>,
    loans: Box<[CachePadded<AtomicU32>]>,
    free: ArrayQueue<u32>,
    readers: Box<[Reader]>,
    /// Who may still send: the outbox and every slot that is out. At 0 the channel is closed.
    pens: CachePadded<AtomicU32>,
    writer_bell: OnceLock<Bell>,
}

struct Reader {
    sent: ArrayQueue<u32>,
    gone: AtomicBool,
    bell: OnceLock<Bell>,
}

// SAFETY: `Core` hands out `&mut T` only through a slot, whose index left `free` once and is in no queue (`Core::take`),
// and `&T` only through deliveries, counted in `loans`; so threads share `T` by `&` (needs `Sync`) and pass it on (needs
// `Send`), and never both write.
unsafe impl<T: Send + Sync> Sync for Core<T> {}
// SAFETY: as above; a `Core` that moves takes its buffers along, which needs `T: Send`.
unsafe impl<T: Send + Sync> Send for Core<T> {}

impl<T> Core<T> {
    pub(super) fn new(buffers: Vec<T>, readers: usize) -> Self {
        assert!(!buffers.is_empty(), "a channel without credits can never carry a message");
        assert!(readers > 0, "a channel needs a reader");
        let credits = u32::try_from(buffers.len()).expect("more buffers than a u32 counts");
        let readers_count = u32::try_from(readers).expect("more readers than a u32 counts");
        assert!(readers_count < LOANS_MAX, "more readers than a loan count holds");
        let free = ArrayQueue::new(buffers.len());
        for index in 0..credits {
            assert!(free.push(index).is_ok(), "the free list holds every credit");
        }
        let reader =
            |_| Reader { sent: ArrayQueue::new(buffers.len()), gone: AtomicBool::new(false), bell: OnceLock::new() };
        Self {
            readers: (0..readers).map(reader).collect(),
            loans: buffers.iter().map(|_| CachePadded::new(AtomicU32::new(0))).collect(),
            buffers: buffers.into_iter().map(UnsafeCell::new).collect(),
            free,
            pens: CachePadded::new(AtomicU32::new(1)),
            writer_bell: OnceLock::new(),
        }
    }

    pub(super) fn credits(&self) -> usize {
        self.buffers.len()
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn depth(&self, reader: usize) -> usize {
        self.readers[reader].sent.len()
    }

    pub(super) fn buffer(&self, index: u32) -> &UnsafeCell<T> {
        &self.buffers[index as usize]
    }

    /// Takes a free buffer and a pen with it.
    #[inline]
    pub(super) fn take(&self) -> Option<u32> {
        let index = self.free.pop()?;
        // Relaxed: the outbox that calls this holds a pen, so the count cannot be seen at 0 meanwhile.
        self.pens.fetch_add(1, Ordering::Relaxed);
        Some(index)
    }

    /// Lends a filled buffer to every reader.
    #[inline]
    pub(super) fn lend(&self, index: u32) {
        // Before the first push: a quick reader may drop its copy before the second reader has got its own (race C).
        // Relaxed, because every pop of the index acquires what the push released.
        self.loans[index as usize].store(self.readers.len() as u32, Ordering::Relaxed);
        for reader in &self.readers {
            let pushed = reader.sent.push(index);
            debug_assert!(pushed.is_ok(), "a reader's queue holds every credit");
        }
        // Races A and D (README): the pushes before the reads of `asleep` and `gone`.
        fence(Ordering::SeqCst);
        for reader in &self.readers {
            if reader.gone.load(Ordering::Relaxed) {
                self.drain(reader);
            } else if let Some(bell) = reader.bell.get() {
                bell.ring_fenced();
            }
        }
    }

    /// Puts an unsent buffer back.
    pub(super) fn put_back(&self, index: u32) {
        self.home(index);
    }

    /// Lays down a pen; the last one closes the channel.
    #[inline]
    pub(super) fn lay_down_pen(&self) {
        // Release: whoever reads 0 also sees every push that was made with a pen (race E).
        if self.pens.fetch_sub(1, Ordering::AcqRel) == 1 {
            fence(Ordering::SeqCst);
            self.readers.iter().filter_map(|reader| reader.bell.get()).for_each(Bell::ring_fenced);
        }
    }

    pub(super) fn receive(&self, reader: usize) -> Option<u32> {
        self.readers[reader].sent.pop()
    }

    pub(super) fn is_closed(&self, reader: usize) -> bool {
        self.pens.load(Ordering::Acquire) == 0 && self.readers[reader].sent.is_empty()
    }

    pub(super) fn all_gone(&self) -> bool {
        self.readers.iter().all(|reader| reader.gone.load(Ordering::Relaxed))
    }

    /// Counts one more copy of a lent buffer.
    pub(super) fn copy(&self, index: u32) {
        // Relaxed: the caller holds a copy, so the count is at least 1 and the buffer stays lent.
        let before = self.loans[index as usize].fetch_add(1, Ordering::Relaxed);
        assert!(before < LOANS_MAX, "copies of a delivery are leaked");
    }

    /// Gives one copy back; the last one sends the buffer home.
    #[inline]
    pub(super) fn give_back(&self, index: u32) {
        // Race B: release, so that our reads end before the next write; acquire, so that the last one speaks for all.
        if self.loans[index as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.home(index);
        }
    }

    #[inline]
    fn home(&self, index: u32) {
        let pushed = self.free.push(index);
        debug_assert!(pushed.is_ok(), "the free list holds every credit");
        fence(Ordering::SeqCst);
        if let Some(bell) = self.writer_bell.get() {
            bell.ring_fenced();
        }
    }

    /// Marks a reader as gone and gives back what it has not received.
    pub(super) fn leave(&self, reader: usize) {
        let reader = &self.readers[reader];
        reader.gone.store(true, Ordering::Relaxed);
        // Race D: `gone` before our last look at the queue.
        fence(Ordering::SeqCst);
        self.drain(reader);
        if self.all_gone()
            && let Some(bell) = self.writer_bell.get()
        {
            bell.ring();
        }
    }

    /// May run on both sides at once; an index is popped by one of them.
    fn drain(&self, reader: &Reader) {
        while let Some(index) = reader.sent.pop() {
            self.give_back(index);
        }
    }

    pub(super) fn bind_writer(&self, bell: Bell) {
        bind(&self.writer_bell, bell);
    }

    pub(super) fn bind_reader(&self, reader: usize, bell: Bell) {
        bind(&self.readers[reader].bell, bell);
    }
}

fn bind(place: &OnceLock<Bell>, bell: Bell) {
    let bound = place.get_or_init(|| bell.clone());
    assert!(bound.same(&bell), "an end of a channel is bound to one bell for good");
    // Race F: a message sent before we were bound is found by the look at the port that follows the binding.
    fence(Ordering::SeqCst);
}
