//! The atomics, cells, queues and threads under the ports: std and crossbeam, or loom's under `cfg(loom)`.
//!
//! Invariant: the loom stand-ins promise no more ordering than what they stand for, so a model that passes is no
//! accident of the stand-in.

#[cfg(not(loom))]
pub(super) use plain::*;

#[cfg(loom)]
pub(super) use modelled::*;

#[cfg(not(loom))]
mod plain {
    pub(in crate::port) use crossbeam::queue::ArrayQueue;
    pub(in crate::port) use std::sync::Arc;
    pub(in crate::port) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
    use std::sync::{Mutex, PoisonError};
    use std::thread::{Thread, current, park, park_timeout};
    use std::time::Duration;

    /// The thread that sleeps: the one that attached itself last. `unpark` before `park` makes `park` return at once.
    #[derive(Debug, Default)]
    pub(in crate::port) struct Parker(Mutex<Option<Thread>>);

    impl Parker {
        pub(in crate::port) fn attach(&self) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(current());
        }

        /// For the attached thread only. May return early.
        pub(in crate::port) fn park(&self) {
            park();
        }

        /// Like `park`, but at most for `limit`.
        pub(in crate::port) fn park_at_most(&self, limit: Duration) {
            park_timeout(limit);
        }

        pub(in crate::port) fn unpark(&self) {
            // Cloned, so that the sleeper does not wake into our lock.
            let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(thread) = thread {
                thread.unpark();
            }
        }
    }

    /// `std::cell::UnsafeCell` with the access functions of loom's.
    #[derive(Debug)]
    pub(in crate::port) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(in crate::port) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(in crate::port) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        #[inline]
        pub(in crate::port) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

#[cfg(loom)]
mod modelled {
    pub(in crate::port) use loom::cell::UnsafeCell;
    pub(in crate::port) use loom::sync::Arc;
    pub(in crate::port) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Condvar, Mutex};
    use std::collections::VecDeque;

    /// A thread's park token. Not loom's own `park`: its `unpark` also releases a thread that waits for a lock or a join.
    #[derive(Debug, Default)]
    pub(in crate::port) struct Parker {
        token: Mutex<bool>,
        given: Condvar,
    }

    impl Parker {
        pub(in crate::port) fn attach(&self) {}

        pub(in crate::port) fn park(&self) {
            let mut token = self.token.lock().expect("no model panics with the lock held");
            while !*token {
                token = self.given.wait(token).expect("no model panics with the lock held");
            }
            *token = false;
        }

        /// Returns at once: no model has time.
        pub(in crate::port) fn park_at_most(&self, _limit: std::time::Duration) {}

        pub(in crate::port) fn unpark(&self) {
            *self.token.lock().expect("no model panics with the lock held") = true;
            self.given.notify_one();
        }
    }

    /// Stands for crossbeam's queue, which is not built on loom's atomics.
    ///
    /// Emptiness is read from a relaxed count *outside* the lock: a reader may miss an element that another thread has
    /// already pushed. Without that the lock would order every push against every pop, and a missing fence in the sleep
    /// protocol could not show.
    #[derive(Debug)]
    pub(in crate::port) struct ArrayQueue<T> {
        items: Mutex<VecDeque<T>>,
        count: AtomicUsize,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(in crate::port) fn new(capacity: usize) -> Self {
            let items = Mutex::new(VecDeque::with_capacity(capacity));
            Self { items, count: AtomicUsize::new(0), capacity }
        }

        pub(in crate::port) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().expect("no model panics with the lock held");
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            self.count.store(items.len(), Ordering::Relaxed);
            Ok(())
        }

        pub(in crate::port) fn pop(&self) -> Option<T> {
            if self.count.load(Ordering::Relaxed) == 0 {
                return None;
            }
            let mut items = self.items.lock().expect("no model panics with the lock held");
            let item = items.pop_front();
            self.count.store(items.len(), Ordering::Relaxed);
            item
        }

        pub(in crate::port) fn len(&self) -> usize {
            self.count.load(Ordering::Relaxed)
        }

        pub(in crate::port) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }
}
