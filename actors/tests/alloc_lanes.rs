//! Nothing allocates per step in steady state: every actor of a plan but the batcher's shell, over hundreds of decode steps.
#![cfg(not(loom))]

#[allow(dead_code)]
mod wired;

use actors::lane::{Actor, Fault, LaneContext, Simulator, Turn};
use actors::port::Bell;
use actors::trace::{Trace, Track};
use graph::plan::Bounds;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wired::{plan, request, wired};

/// Counts what the test's thread asks for; the file therefore holds one test.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is counted: those of the test's own harness are not.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that ends has no such mark any more.
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with this layout, as the caller guarantees.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// An actor whose polls are counted, and what they allocate.
struct Counted {
    actor: Box<dyn Actor>,
    fired: Arc<AtomicU64>,
    allocated: Arc<AtomicU64>,
}

impl Actor for Counted {
    fn name(&self) -> &str {
        self.actor.name()
    }

    fn track(&self) -> Track {
        self.actor.track()
    }

    fn bind(&mut self, bell: &Bell) {
        self.actor.bind(bell);
    }

    fn poll(&mut self, context: &mut LaneContext) -> Result<Turn, Fault> {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let turn = self.actor.poll(context);
        self.allocated.fetch_add(ALLOCATIONS.load(Ordering::Relaxed) - before, Ordering::Relaxed);
        if matches!(turn, Ok(Turn::Fired)) {
            self.fired.fetch_add(1, Ordering::Relaxed);
        }
        turn
    }
}

#[test]
fn decode_steps_of_a_tensor_parallel_pipeline_allocate_nothing_in_their_actors() {
    COUNTED.set(true);
    let bounds = Bounds {
        max_num_seqs: Some(4),
        max_num_batched_tokens: Some(16),
        max_model_len: Some(250),
        ..Bounds::default()
    };
    let trace = Trace::simulated();
    let requests = (0..4).map(|id| request(id, 5, 200)).collect();
    let (actors, ledger) = wired(&plan(2, 2, 2, bounds), requests, &trace);
    let (fired, allocated) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let control = actors.len() - 1;
    let count = |(place, actor)| -> Box<dyn Actor> {
        if place == control {
            return actor;
        }
        Box::new(Counted { actor, fired: fired.clone(), allocated: allocated.clone() })
    };
    let actors = actors.into_iter().enumerate().map(count).collect();
    let mut simulator = Simulator::new(actors, 7, trace.recorder(1 << 8));
    // Prompts and the first steps: what is made once is made here.
    while fired.load(Ordering::Relaxed) < 1_000 {
        simulator.step();
    }
    let (fired_before, before) = (fired.load(Ordering::Relaxed), allocated.load(Ordering::Relaxed));
    while fired.load(Ordering::Relaxed) < 5_000 {
        simulator.step();
    }
    let notes = ledger.lock().expect("nobody panicked");
    assert!(notes.heard.values().all(|heard| heard.tokens.len() > 20 && heard.end.is_none()), "still decoding");
    let firings = fired.load(Ordering::Relaxed) - fired_before;
    assert_eq!(allocated.load(Ordering::Relaxed) - before, 0, "in {firings} firings");
}
