//! Who is woken when a message arrives or a buffer comes home.
//!
//! Invariant: between a sleeper's [`Bell::arm`] and its next look at its ports no event is missed (see the protocol in
//! `README.md` beside this file). A bell knows nothing of messages.

use super::sync::{Arc, AtomicBool, Ordering, Parker, fence};
use crossbeam::utils::CachePadded;

/// Wakes one sleeper: a lane's thread, or whatever a callback reaches. Clones are the same bell; several ports share one.
#[derive(Clone)]
pub struct Bell {
    core: Arc<Core>,
}

struct Core {
    /// Alone in its cache line: every sender reads it, only a sleeper and its waker write it.
    asleep: CachePadded<AtomicBool>,
    sleeper: Sleeper,
}

enum Sleeper {
    /// A thread.
    Thread(Parker),
    /// Anything else, such as a message to an actix actor.
    Callback(Box<dyn Fn() + Send + Sync>),
}

impl Bell {
    /// A bell for a thread, which names itself with [`Bell::attach`] before it first sleeps.
    pub fn thread() -> Self {
        Self::new(Sleeper::Thread(Parker::default()), false)
    }

    /// A bell that calls `wake`, at most once for each [`Bell::arm`]; it is armed from the start.
    ///
    /// `wake` runs on the sender's thread: it must neither block nor panic.
    pub fn callback(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self::new(Sleeper::Callback(wake), true)
    }

    fn new(sleeper: Sleeper, armed: bool) -> Self {
        let asleep = CachePadded::new(AtomicBool::new(armed));
        Self { core: Arc::new(Core { asleep, sleeper }) }
    }

    /// Makes the calling thread the one that is woken. Does nothing for a callback.
    pub fn attach(&self) {
        match &self.core.sleeper {
            Sleeper::Thread(parker) => parker.attach(),
            Sleeper::Callback(_) => {}
        }
    }

    /// Announces sleep. The caller must look at all its ports once more after this, and [`Bell::disarm`] if one is ready.
    pub fn arm(&self) {
        // A swap rather than a store: it takes its place after any ringer's swap, so a late ringer cannot undo it unseen.
        self.core.asleep.swap(true, Ordering::AcqRel);
        // Race A (README): the swap above must be visible to a sender before our last look at the ports.
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back. A ring that overtook it only costs one spurious wake.
    pub fn disarm(&self) {
        self.core.asleep.store(false, Ordering::Relaxed);
    }

    /// Parks the attached thread until the bell rings. Call only after [`Bell::arm`] and a last look; returns at once if
    /// the bell has rung in between, or if it is a callback's.
    pub fn park(&self) {
        match &self.core.sleeper {
            Sleeper::Thread(parker) => {
                // A loop, because a stale token of an earlier ring may end `park` early.
                while self.core.asleep.load(Ordering::Acquire) {
                    parker.park();
                }
            }
            Sleeper::Callback(_) => {}
        }
    }

    /// Parks like [`Bell::park`], but at most for `limit`: for work that no bell announces, such as MPI's progress.
    pub fn park_at_most(&self, limit: std::time::Duration) {
        match &self.core.sleeper {
            Sleeper::Thread(parker) => {
                if self.core.asleep.load(Ordering::Acquire) {
                    parker.park_at_most(limit);
                }
                self.disarm();
            }
            Sleeper::Callback(_) => {}
        }
    }

    /// Arms, looks once more, and parks unless `ready`. Says whether it slept.
    pub fn sleep_unless(&self, ready: impl FnOnce() -> bool) -> bool {
        self.arm();
        if ready() {
            self.disarm();
            return false;
        }
        self.park();
        true
    }

    /// Wakes the sleeper if it sleeps: for events that are no message, such as a stop.
    pub fn ring(&self) {
        // Race A (README): what the caller published must be visible before we read `asleep`.
        fence(Ordering::SeqCst);
        self.ring_fenced();
    }

    /// Like [`Bell::ring`], for a caller that has fenced since it published.
    #[inline]
    pub(super) fn ring_fenced(&self) {
        // The load alone keeps the line shared while the sleeper is awake; the swap lets one of several ringers through.
        if self.core.asleep.load(Ordering::Relaxed) && self.core.asleep.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        match &self.core.sleeper {
            Sleeper::Thread(parker) => parker.unpark(),
            Sleeper::Callback(wake) => wake(),
        }
    }

    /// Whether both are the same bell.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bell").finish_non_exhaustive()
    }
}
