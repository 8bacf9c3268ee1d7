//! The threads inside one device: a region of work runs on all of them at once, the caller being the first.
//!
//! Protocol. The caller writes the job, then raises `epoch`; a worker that sees a new epoch runs the job and lowers `running`; the
//! caller returns when `running` is zero, so the job's borrow outlives every use. A worker spins for a while, then announces
//! `parked` and looks at the epoch once more before it parks; the caller raises the epoch before it looks at `parked`. Both sides are
//! SeqCst: without one total order each could miss the other's write, and the worker would sleep through its job.
//! One region runs at a time; a second caller waits. A region must not start another on the same team.

mod affinity;

pub use affinity::pin_current;

use crossbeam::utils::CachePadded;
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// How a team is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TeamSpec {
    /// Threads, the caller counted; 0 counts as 1.
    pub threads: usize,
    /// The core of each thread. Workers pin themselves; the caller pins itself with [`Team::pin_caller`].
    pub cores: Option<Vec<usize>>,
    /// Whether waiting threads spin a while before they sleep. False where there are more threads than cores.
    pub spin: bool,
}

/// Turns of a waiting loop before a worker parks: about 100 µs, longer than the ops between two regions of a step take.
const SPIN_TURNS: u32 = 4000;
/// The same where threads share cores.
const SHARED_TURNS: u32 = 20;

type Job<'a> = &'a (dyn Fn(usize) + Sync);

struct Shared {
    job: UnsafeCell<Option<Job<'static>>>,
    epoch: CachePadded<AtomicU32>,
    running: CachePadded<AtomicUsize>,
    parked: Vec<CachePadded<AtomicBool>>,
    ending: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    turns: u32,
}

// SAFETY: `job` is written by the one caller that holds `Team::region` while no worker runs, and read by workers only between the
// epoch that published it and their lowering of `running`.
unsafe impl Sync for Shared {}
// SAFETY: the job is Sync and is not owned.
unsafe impl Send for Shared {}

/// A caller and its worker threads.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    region: Mutex<()>,
    cores: Option<Vec<usize>>,
}

/// Address space of a thread that runs kernels. They keep tiles on the stack, and many more of them where nothing is optimised; only
/// what is touched becomes memory.
pub const STACK_BYTES: usize = 64 << 20;

impl Team {
    /// As [`Team::start`]. Panics if the system has no more threads to give.
    pub fn new(spec: TeamSpec) -> Self {
        Self::start(spec).expect("the system starts a worker thread")
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// The system has no more threads to give, or no address space for their stacks.
    pub fn start(spec: TeamSpec) -> std::io::Result<Self> {
        let workers = spec.threads.max(1) - 1;
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            epoch: CachePadded::new(AtomicU32::new(0)),
            running: CachePadded::new(AtomicUsize::new(0)),
            parked: (0..workers).map(|_| CachePadded::new(AtomicBool::new(false))).collect(),
            ending: AtomicBool::new(false),
            panic: Mutex::new(None),
            turns: if spec.spin { SPIN_TURNS } else { SHARED_TURNS },
        });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let core = spec.cores.as_ref().and_then(|cores| cores.get(index + 1)).copied();
            let work = move || {
                if let Some(core) = core {
                    // A core that is not ours to use is no reason to stop: the thread runs where it may.
                    let _ = pin_current(core);
                }
                shared.work(index);
            };
            std::thread::Builder::new().name(format!("team-{}", index + 1)).stack_size(STACK_BYTES).spawn(work)
        };
        let mut team =
            Self { shared: shared.clone(), workers: vec![], region: Mutex::new(()), cores: spec.cores.clone() };
        for index in 0..workers {
            // Those that were started end with the team.
            team.workers.push(start(index)?);
        }
        Ok(team)
    }

    /// Threads, the caller counted.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Pins the calling thread to the core of thread 0, if the team has cores.
    pub fn pin_caller(&self) -> std::io::Result<()> {
        match self.cores.as_ref().and_then(|cores| cores.first()) {
            Some(&core) => pin_current(core),
            None => Ok(()),
        }
    }

    /// Runs `job(0)` here and `job(1..threads)` on the workers; returns when all are done. A panic of any of them is raised here.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return job(0);
        }
        // A region that panicked left nothing half done: all its threads had finished.
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. This function does not return or unwind before `running` is zero, after which no
        // worker holds the job.
        let kept = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: `region` is held and `running` is zero, so no worker reads the cell.
        unsafe { *shared.job.get() = Some(kept) };
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        self.raise();
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut turns = 0;
        // Acquire: what the workers wrote is seen by whoever reads the results.
        while shared.running.load(Ordering::Acquire) != 0 {
            pause(&mut turns, shared.turns);
        }
        let worker = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(region);
        if let Err(payload) = own {
            resume_unwind(payload);
        }
        if let Some(payload) = worker {
            resume_unwind(payload);
        }
    }

    /// Publishes a new epoch and wakes who sleeps.
    fn raise(&self) {
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (parked, worker) in self.shared.parked.iter().zip(&self.workers) {
            if parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        // The epoch's SeqCst raise publishes the flag.
        self.shared.ending.store(true, Ordering::Relaxed);
        self.raise();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs; there is nothing left to report.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Shared {
    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            seen = self.next(index, seen);
            if self.ending.load(Ordering::Relaxed) {
                return;
            }
            // SAFETY: the epoch that was just seen published the job, and the caller waits for `running` before it ends.
            let job = unsafe { (*self.job.get()).expect("an epoch is raised behind its job") };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(index + 1))) {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
            }
            // Release: the job's writes come before the caller's return.
            self.running.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an epoch other than `seen`.
    fn next(&self, index: usize, seen: u32) -> u32 {
        for _ in 0..self.turns {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        let parked = &self.parked[index];
        parked.store(true, Ordering::SeqCst);
        let epoch = loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            if epoch != seen {
                break epoch;
            }
            std::thread::park();
        };
        parked.store(false, Ordering::Relaxed);
        epoch
    }
}

/// One turn of the caller's wait: it spins first, then lends its core, since the worker it waits for may need it.
fn pause(turns: &mut u32, limit: u32) {
    *turns = turns.saturating_add(1);
    if *turns < limit { std::hint::spin_loop() } else { std::thread::yield_now() }
}

/// Share `index` of `parts` of `0..total`, in multiples of `unit` but for the last.
pub(crate) fn share(total: usize, parts: usize, index: usize, unit: usize) -> std::ops::Range<usize> {
    let units = total.div_ceil(unit);
    let at = |i: usize| (units * i / parts * unit).min(total);
    at(index)..at(index + 1)
}

#[cfg(test)]
mod tests;
