//! Lanes: one thread a device runs all the actors of that device, none of which ever waits.
//!
//! Invariants: an actor is polled by one thread at a time; a lane sleeps only after every actor has said what it waits for
//! and its bell has been armed in between; a fault ends the actor, not the lane. A lane does not know what its actors do.

mod actor;
mod seat;
mod simulator;
mod thread;

#[cfg(all(test, not(loom)))]
mod tests;

pub use actor::{Actor, Down, Fault, LaneContext, Turn};
pub use simulator::{Idle, Simulator};
pub use thread::{Lane, LaneGauge, LaneHandle, LaneOrders, LaneSpec, ORDERS_MAX, OrderError};
