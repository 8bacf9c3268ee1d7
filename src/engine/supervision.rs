//! Supervision of the actors on lanes, as Erlang/OTP has it: one that panics acts its step again, within limits of intensity.
//!
//! A fault leaves an actor's inputs held and nothing sent, so the same step acts again and gives the same bits. A refusal of the kernels
//! would only come again, so it is final. The clock is the caller's.

use actors::lane::{Down, Fault, LaneOrders};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

/// Restarts within [`WINDOW_NS`] before the engine gives up.
const RESTARTS_MAX: usize = 5;
/// Nanoseconds over which restarts are counted.
const WINDOW_NS: u64 = 60_000_000_000;

/// When actors were restarted lately.
#[derive(Debug, Default)]
struct Intensity {
    restarts: VecDeque<u64>,
}

impl Intensity {
    /// Whether one more restart is within the limits; counts it.
    fn allows(&mut self, now_ns: u64) -> bool {
        while self.restarts.front().is_some_and(|&at| now_ns.saturating_sub(at) > WINDOW_NS) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= RESTARTS_MAX {
            return false;
        }
        self.restarts.push_back(now_ns);
        true
    }
}

/// The lanes by name, known once they all run.
pub(super) type Lanes = Arc<OnceLock<BTreeMap<String, LaneOrders>>>;

/// Decides what comes of a fault.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    lanes: Lanes,
    intensity: Intensity,
}

impl Supervisor {
    pub(super) fn new(lanes: Lanes) -> Self {
        Self { lanes, intensity: Intensity::default() }
    }

    /// Restarts the actor that is down, or says why the engine has to give up.
    pub(super) fn on_down(&mut self, down: &Down, now_ns: u64) -> Result<(), String> {
        let said = format!("{}: {}", down.lane, down.fault);
        if matches!(down.fault, Fault::Refused { .. }) {
            return Err(said);
        }
        if !self.intensity.allows(now_ns) {
            let seconds = WINDOW_NS / 1_000_000_000;
            return Err(format!("{said}; {RESTARTS_MAX} restarts within {seconds} s were not enough"));
        }
        let Some(lane) = self.lanes.get().and_then(|lanes| lanes.get(&down.lane)) else {
            return Err(format!("{said}, before all lanes ran"));
        };
        tracing::warn!(actor = down.fault.actor(), "restarted: {said}");
        lane.replace(down.seat, |actor| actor).map_err(|error| format!("{said}; {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_limited_within_a_window_that_moves() {
        let mut intensity = Intensity::default();
        assert!((0..5).all(|second| intensity.allows(second * 1_000_000_000)));
        assert!(!intensity.allows(30_000_000_000));
        // The first one has left the window.
        assert!(intensity.allows(WINDOW_NS + 1));
        assert!(!intensity.allows(WINDOW_NS + 2));
    }

    #[test]
    fn a_refusal_is_final_and_a_lane_that_is_not_there_cannot_restart() {
        let mut supervisor = Supervisor::new(Lanes::default());
        let refused = Fault::Refused { actor: "stage 1".into(), step: 7, cause: "too many rows".into() };
        let down = Down { lane: "cpu:1".into(), seat: 0, fault: refused };
        assert_eq!(supervisor.on_down(&down, 0), Err("cpu:1: stage 1: step 7: too many rows".into()));
        let panicked = Fault::PanickedIdle { actor: "feed".into(), message: "oh".into() };
        let down = Down { lane: "cpu:0".into(), seat: 0, fault: panicked };
        let said = "cpu:0: feed: panicked before its first step: oh, before all lanes ran";
        assert_eq!(supervisor.on_down(&down, 0), Err(said.into()));
    }
}
