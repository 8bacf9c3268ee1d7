//! Pass 6: how many buffers each channel has.
//!
//! Tickets and samples travel the whole round from batcher to batcher, so they have a credit for every step in flight; every
//! other channel has two: one being written while the other is read.

use super::raw::{Carries, Channel, RawPlan};

/// Steps in flight for `stages` stages: one a stage, and one that waits for its tokens at the feed.
pub(super) fn in_flight(stages: u32) -> u32 {
    stages + 1
}

/// Credits of a channel.
pub(super) fn credits(carries: &Carries, in_flight: u32) -> u32 {
    match carries {
        Carries::Ticket | Carries::Samples => in_flight,
        Carries::Ids | Carries::Tensor { .. } => 2,
    }
}

/// Gives every channel its credits.
pub(super) fn grant(plan: &mut RawPlan) {
    let in_flight = plan.settings.in_flight;
    plan.channels.iter_mut().for_each(|c: &mut Channel| c.credits = credits(&c.carries, in_flight));
}
