//! What the driver knows: memory, work that waits, modules, and what was done.

use crate::arguments::Arguments;
use crate::catalogue::Variant;
use crate::kernels;
use crate::wrong;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

/// Memory of the device, by where it begins: the host's, and how many bytes of it were asked for.
pub(crate) struct Allocations {
    blocks: BTreeMap<u64, (Vec<u64>, u64)>,
    pub(crate) used: u64,
}

impl Allocations {
    /// New memory, full of NaN.
    pub(crate) fn take(&mut self, bytes: u64) -> u64 {
        // Room to begin on a boundary of 256 bytes.
        let block = vec![u64::MAX; bytes.div_ceil(8) as usize + 32];
        let start = (block.as_ptr() as u64).next_multiple_of(256);
        self.used += bytes;
        self.blocks.insert(start, (block, bytes));
        start
    }

    /// Gives memory back; `false` where none begins.
    pub(crate) fn give_back(&mut self, start: u64) -> bool {
        let block = self.blocks.remove(&start);
        self.used -= block.as_ref().map_or(0, |(_, bytes)| *bytes);
        block.is_some()
    }

    /// Bytes from an address to the end of its allocation.
    pub(crate) fn behind(&self, at: u64) -> Option<u64> {
        let (start, (_, bytes)) = self.blocks.range(..=at).next_back()?;
        (start + bytes).checked_sub(at)
    }

    /// Ends the process unless so many bytes begin there.
    pub(crate) fn hold(&self, at: u64, bytes: u64, what: &str) {
        if self.behind(at).is_none_or(|behind| behind < bytes) {
            wrong(&format!("{what}: {bytes} bytes at {at:#x}, where there are {:?}", self.behind(at)));
        }
    }
}

/// A launch, with the values of its parameters.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) variant: &'static Variant,
    pub(crate) grid: [u32; 3],
    pub(crate) values: Vec<u64>,
}

/// Work that waits.
pub(crate) enum Work {
    Upload { from: u64, to: u64, bytes: usize },
    Download { from: u64, to: u64, bytes: usize },
    Launch(Launch),
    Graph(usize),
}

/// All that the driver knows.
pub(crate) struct State {
    pub(crate) memory: Allocations,
    pub(crate) pinned: BTreeMap<u64, Vec<u64>>,
    waiting: Vec<Work>,
    /// The stream that is captured and the thread that captures, with what was.
    pub(crate) capturing: Option<(u64, ThreadId, Vec<Launch>)>,
    pub(crate) graphs: Vec<Option<Vec<Launch>>>,
    launched: BTreeMap<String, u64>,
    /// Streams that were made.
    pub(crate) streams: u64,
    /// Shared memory that functions asked for, by where their variant lies.
    pub(crate) shared: BTreeMap<usize, u32>,
    pub(crate) replays: u64,
}

/// The driver's state, of this thread's for as long as it is held.
pub(crate) fn state() -> MutexGuard<'static, State> {
    static STATE: Mutex<State> = Mutex::new(State::new());
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    const fn new() -> Self {
        Self {
            memory: Allocations { blocks: BTreeMap::new(), used: 0 },
            pinned: BTreeMap::new(),
            waiting: vec![],
            capturing: None,
            graphs: vec![],
            launched: BTreeMap::new(),
            streams: 0,
            shared: BTreeMap::new(),
            replays: 0,
        }
    }

    /// Whether the calling thread captures: then it may neither allocate nor wait. Others may.
    pub(crate) fn captures(&self) -> bool {
        self.capturing.as_ref().is_some_and(|(_, thread, _)| *thread == std::thread::current().id())
    }

    /// Work for later, in order.
    pub(crate) fn enqueue(&mut self, work: Work) {
        self.waiting.push(work);
    }

    /// Does all that waits.
    pub(crate) fn catch_up(&mut self) {
        for work in std::mem::take(&mut self.waiting) {
            match work {
                Work::Upload { from, to, bytes } | Work::Download { from, to, bytes } => {
                    // SAFETY: the device's side was held against its allocations; the host's is the caller's promise, until it waited.
                    unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
                }
                Work::Launch(launch) => self.run(&launch),
                Work::Graph(number) => {
                    let Some(launches) = self.graphs[number].clone() else {
                        wrong("a graph was destroyed before it ran")
                    };
                    launches.iter().for_each(|launch| self.run(launch));
                }
            }
        }
    }

    fn run(&mut self, launch: &Launch) {
        *self.launched.entry(launch.variant.kernel.clone()).or_default() += 1;
        let arguments = Arguments { variant: launch.variant, values: &launch.values, memory: &self.memory };
        let program = kernels::by_name(&launch.variant.kernel)
            .unwrap_or_else(|| wrong(&format!("nobody computes {}", launch.variant.kernel)));
        let [x, y, z] = launch.grid;
        for number in 0..x * y * z {
            program(&arguments, [number % x, number / x % y, number / (x * y)].map(|id| id as usize), [x, y, z]);
        }
    }

    /// What was done, for tests to read.
    pub(crate) fn report(&self) -> String {
        let launched = serde_json::to_string(&self.launched).unwrap_or_default();
        format!("{{\"replays\":{},\"launched\":{launched}}}", self.replays)
    }
}
