//! Bounded channels in which a credit *is* a buffer: [`Slot`] (yours to fill) → [`Delivery`] (all may read) → home.
//!
//! A channel owns as many preallocated buffers as it has credits. [`Outbox::try_slot`] takes a free one, [`Slot::send`]
//! lends it to the readers and cannot block or fail, because the slot was the room; the last drop of its [`Delivery`]
//! over all readers and clones sends it home. Back-pressure, double buffering and bounded memory are this one rule.
//!
//! Invariants: a message is never lost, duplicated or reordered; a buffer has one writer or any number of readers, never
//! both; nothing is allocated after [`channel`]. A port does not know what it carries.
//!
//! ```
//! use actors::port::channel;
//! let (mut outbox, mut inboxes) = channel(vec![0u8; 2], 1);
//! let mut slot = outbox.try_slot().expect("both credits are home");
//! *slot = 7;
//! slot.send();
//! assert_eq!(*inboxes[0].try_recv().expect("one message was sent"), 7);
//! ```
//! Writing after sending does not compile:
//! ```compile_fail,E0382
//! # use actors::port::channel;
//! let (mut outbox, _inboxes) = channel(vec![0u8], 1);
//! let mut slot = outbox.try_slot().unwrap();
//! slot.send();
//! *slot = 1;
//! ```
//! Nor does writing into what was received:
//! ```compile_fail,E0594
//! # use actors::port::channel;
//! let (mut outbox, mut inboxes) = channel(vec![0u8], 1);
//! outbox.try_slot().unwrap().send();
//! *inboxes[0].try_recv().unwrap() = 1;
//! ```
//! ```compile_fail,E0596
//! # use actors::port::channel;
//! let (mut outbox, mut inboxes) = channel(vec![vec![0u8]], 1);
//! outbox.try_slot().unwrap().send();
//! inboxes[0].try_recv().unwrap().push(1);
//! ```
//! Nor does a buffer that threads cannot share travel between them:
//! ```compile_fail,E0277
//! # use actors::port::channel;
//! let (outbox, _inboxes) = channel(vec![std::cell::Cell::new(0u8)], 1);
//! std::thread::spawn(move || drop(outbox));
//! ```
#![doc = include_str!("README.md")]

mod bell;
mod core;
mod sync;

#[cfg(all(test, not(loom)))]
mod tests;

pub use bell::Bell;

use self::core::Core;
use self::sync::Arc;
use std::ops::{Deref, DerefMut};

/// One channel with as many credits as `buffers`, and `readers` inboxes that each see every message in order.
///
/// # Panics
/// Without a buffer or without a reader: such a channel can never carry a message.
pub fn channel<T>(buffers: Vec<T>, readers: usize) -> (Outbox<T>, Vec<Inbox<T>>) {
    let core = Arc::new(Core::new(buffers, readers));
    let inboxes = (0..readers).map(|reader| Inbox { core: core.clone(), reader }).collect();
    (Outbox { core }, inboxes)
}

/// The writer's end. Dropping it closes the channel once the slots still out are sent or dropped.
pub struct Outbox<T> {
    core: Arc<Core<T>>,
}

/// A reader's end. Dropping it gives back what it has not received, now and later.
pub struct Inbox<T> {
    core: Arc<Core<T>>,
    reader: usize,
}

/// A free buffer and the right to send it once. Dropped unsent, it gives the credit back.
///
/// The buffer holds what was last written into it, by whichever message that was.
#[must_use = "a slot that is dropped unsent sends nothing"]
pub struct Slot<T> {
    core: Arc<Core<T>>,
    index: u32,
    sent: bool,
}

/// A message on loan, read-only. Clones count; the last drop over all readers and clones sends the buffer home.
#[must_use = "a delivery that is dropped is a message that was not looked at"]
pub struct Delivery<T> {
    core: Arc<Core<T>>,
    index: u32,
}

impl<T> Outbox<T> {
    /// A slot, if a credit is home.
    #[inline]
    pub fn try_slot(&mut self) -> Option<Slot<T>> {
        let index = self.core.take()?;
        Some(Slot { core: self.core.clone(), index, sent: false })
    }

    /// Buffers of the channel.
    pub fn credits(&self) -> usize {
        self.core.credits()
    }

    /// Buffers that are home now.
    pub fn free(&self) -> usize {
        self.core.free()
    }

    /// Whether every reader has gone, so that whatever is sent comes straight home.
    pub fn is_deserted(&self) -> bool {
        self.core.all_gone()
    }

    /// Rings `bell` when a buffer comes home. An end is bound once; binding the same bell again does nothing.
    ///
    /// # Panics
    /// If the end is bound to another bell.
    pub fn bind_writer(&mut self, bell: Bell) {
        self.core.bind_writer(bell);
    }
}

impl<T> Drop for Outbox<T> {
    fn drop(&mut self) {
        self.core.lay_down_pen();
    }
}

impl<T> Inbox<T> {
    /// The oldest message not received yet, if one has arrived.
    #[inline]
    pub fn try_recv(&mut self) -> Option<Delivery<T>> {
        let index = self.core.receive(self.reader)?;
        Some(Delivery { core: self.core.clone(), index })
    }

    /// Messages that wait to be received.
    pub fn depth(&self) -> usize {
        self.core.depth(self.reader)
    }

    /// Buffers of the channel.
    pub fn credits(&self) -> usize {
        self.core.credits()
    }

    /// Whether the writer is gone and everything it sent has been received: no message will come any more.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed(self.reader)
    }

    /// Rings `bell` when a message arrives and when the channel closes. An end is bound once; binding the same bell again
    /// does nothing.
    ///
    /// # Panics
    /// If the end is bound to another bell.
    pub fn bind_reader(&mut self, bell: Bell) {
        self.core.bind_reader(self.reader, bell);
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.core.leave(self.reader);
    }
}

impl<T> Slot<T> {
    /// Sends. Cannot block and cannot fail, because the slot was the room.
    #[inline]
    pub fn send(mut self) {
        self.sent = true;
        self.core.lend(self.index);
    }

    /// Which of the channel's buffers this is: for what is prepared once a buffer, such as a captured graph.
    pub fn buffer_index(&self) -> usize {
        self.index as usize
    }
}

impl<T> Deref for Slot<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        let buffer = self.core.buffer(self.index).with(|buffer| buffer);
        // SAFETY: `Core::take` popped this index off the free list, and no queue holds it until `send` consumes the slot:
        // nobody else reaches the buffer, and `&self` keeps `deref_mut` away while the reference lives.
        unsafe { &*buffer }
    }
}

impl<T> DerefMut for Slot<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        let buffer = self.core.buffer(self.index).with_mut(|buffer| buffer);
        // SAFETY: as in `deref`; `&mut self` makes the reference the only one.
        unsafe { &mut *buffer }
    }
}

impl<T> Drop for Slot<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.sent {
            self.core.put_back(self.index);
        }
        self.core.lay_down_pen();
    }
}

impl<T> Delivery<T> {
    /// Which of the channel's buffers this is.
    pub fn buffer_index(&self) -> usize {
        self.index as usize
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        let buffer = self.core.buffer(self.index).with(|buffer| buffer);
        // SAFETY: this copy is counted in `loans[index]` (`Core::lend`, `Core::copy`), so `Core::give_back` cannot have
        // sent the buffer home: no slot for it exists, and all others read.
        unsafe { &*buffer }
    }
}

impl<T> Clone for Delivery<T> {
    fn clone(&self) -> Self {
        self.core.copy(self.index);
        Self { core: self.core.clone(), index: self.index }
    }
}

impl<T> Drop for Delivery<T> {
    #[inline]
    fn drop(&mut self) {
        self.core.give_back(self.index);
    }
}

impl<T> std::fmt::Debug for Outbox<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outbox").field("credits", &self.credits()).field("free", &self.free()).finish()
    }
}

impl<T> std::fmt::Debug for Inbox<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Inbox").field("credits", &self.credits()).field("depth", &self.depth()).finish()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Slot<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Slot").field(&**self).finish()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Delivery<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Delivery").field(&**self).finish()
    }
}
