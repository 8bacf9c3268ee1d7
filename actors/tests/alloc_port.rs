//! Nothing allocates in steady state: ten thousand messages through ports, cells and a pipeline of two lanes.
#![cfg(not(loom))]

use actors::lane::{Lane, LaneSpec, Simulator};
use actors::port::{Bell, Inbox, Outbox, channel};
use actors::stage::{Cell, Firing, Input, Output, Refusal, Stage};
use actors::ticket::Ticket;
use actors::trace::Trace;
use std::alloc::{GlobalAlloc, Layout, System};

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MESSAGES: u64 = 10_000;

/// Counts what the test's thread and its lanes ask for; the file therefore holds one test.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is counted: those of the test's own harness are not.
    static COUNTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn count() {
    // A thread that ends has no such mark any more.
    if COUNTED.try_with(std::cell::Cell::get).unwrap_or(false) {
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

struct AddOne;

impl Stage<Vec<u64>> for AddOne {
    fn act(&mut self, firing: Firing<'_, Vec<u64>>) -> Result<(), Refusal> {
        for (to, from) in firing.outputs[0].iter_mut().zip(firing.inputs[0].iter()) {
            *to = from + 1;
        }
        Ok(())
    }
}

/// Two cells one after the other, with the ends that feed them and take the result.
struct Pipeline {
    tickets: Outbox<Ticket>,
    feed: Outbox<Vec<u64>>,
    cells: Vec<Cell<AddOne, Vec<u64>>>,
    result: Inbox<Vec<u64>>,
}

fn pipeline(trace: &Trace) -> Pipeline {
    let buffers = || vec![vec![0u64; 8]; 2];
    let tracks = [trace.track("cpu:0", "stage 0"), trace.track("cpu:1", "stage 1")];
    let (tickets, mut ticket_inboxes) = channel(vec![Ticket::default(); 4], 2);
    let (feed, mut inboxes) = channel(buffers(), 1);
    let mut cells = Vec::new();
    for (number, track) in tracks.into_iter().enumerate() {
        let (outbox, next) = channel(buffers(), 1);
        cells.push(Cell::new(
            "stage",
            track,
            AddOne,
            Input { inbox: ticket_inboxes.remove(0), edge: trace.edge("ticket", tracks[0], track) },
            vec![Input { inbox: inboxes.remove(0), edge: trace.edge("hidden", tracks[0], track) }],
            vec![Output { outbox, edges: vec![trace.edge("hidden", track, tracks[1 - number])] }],
        ));
        inboxes = next;
    }
    Pipeline { tickets, feed, cells, result: inboxes.remove(0) }
}

/// Sends one step if there is room for it.
fn feed(tickets: &mut Outbox<Ticket>, rows: &mut Outbox<Vec<u64>>, step: u64) -> bool {
    if tickets.free() == 0 || rows.free() == 0 {
        return false;
    }
    let mut ticket = tickets.try_slot().expect("checked above");
    (ticket.step.id, ticket.step.rows) = (step, 1);
    ticket.send();
    let mut row = rows.try_slot().expect("checked above");
    row.fill(step);
    row.send();
    true
}

fn bare_port() {
    let (mut outbox, mut inboxes) = channel(vec![0u64; 4], 2);
    for value in 0..MESSAGES {
        let mut slot = outbox.try_slot().expect("the channel is idle");
        *slot = value;
        slot.send();
        for inbox in &mut inboxes {
            let delivery = inbox.try_recv().expect("just sent");
            assert_eq!(*delivery.clone(), value);
        }
    }
}

fn by_hand(ends: &mut Pipeline, simulator: &mut Simulator, steps: std::ops::Range<u64>) {
    for step in steps {
        assert!(feed(&mut ends.tickets, &mut ends.feed, step));
        simulator.run_until_idle(100);
        assert_eq!(ends.result.try_recv().expect("both stages fired")[0], step + 2);
    }
}

fn by_lanes(ends: &mut Pipeline, bell: &Bell, steps: std::ops::Range<u64>) {
    let (mut sent, mut received) = (steps.start, steps.start);
    while received < steps.end {
        while sent < steps.end && feed(&mut ends.tickets, &mut ends.feed, sent) {
            sent += 1;
        }
        while let Some(delivery) = ends.result.try_recv() {
            assert_eq!(delivery[0], received + 2);
            received += 1;
        }
        let Pipeline { tickets, feed, result, .. } = &*ends;
        if received < steps.end {
            bell.sleep_unless(|| result.depth() > 0 || (sent < steps.end && tickets.free() > 0 && feed.free() > 0));
        }
    }
}

/// What `work` allocates, on all counted threads together.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn ports_cells_and_lanes_allocate_nothing_in_steady_state() {
    COUNTED.set(true);
    let mut setup = 0;
    let all = allocations(|| {
        bare_port();
        setup = allocations(|| drop(channel(vec![0u64; 4], 2)));
    });
    assert_eq!(all, 2 * setup, "a bare port allocates when it is made and never again");

    // The rings hold far fewer records than are written, so giving up the oldest is covered too.
    let trace = Trace::new();
    let mut ends = pipeline(&trace);
    let cells = std::mem::take(&mut ends.cells).into_iter().map(|cell| Box::new(cell) as _).collect();
    let mut simulator = Simulator::new(cells, 1, trace.recorder(256));
    by_hand(&mut ends, &mut simulator, 0..100);
    assert_eq!(allocations(|| by_hand(&mut ends, &mut simulator, 100..MESSAGES)), 0, "cells by hand");

    let mut ends = pipeline(&trace);
    let mut lanes = Vec::new();
    for (number, cell) in std::mem::take(&mut ends.cells).into_iter().enumerate() {
        let spec = LaneSpec {
            name: format!("lane {number}"),
            prepare: Some(Box::new(|| COUNTED.set(true))),
            spin: Duration::ZERO,
            recorder: trace.recorder(256),
            on_down: Box::new(|down| panic!("{}", down.fault)),
        };
        lanes.push(Lane::spawn(spec, vec![Box::new(cell)]).expect("threads can be started"));
    }
    let bell = Bell::thread();
    bell.attach();
    ends.tickets.bind_writer(bell.clone());
    ends.feed.bind_writer(bell.clone());
    ends.result.bind_reader(bell.clone());
    by_lanes(&mut ends, &bell, 0..1_000);
    assert_eq!(allocations(|| by_lanes(&mut ends, &bell, 1_000..MESSAGES)), 0, "two lanes");
    for lane in lanes {
        lane.stop();
        lane.join();
    }
}
