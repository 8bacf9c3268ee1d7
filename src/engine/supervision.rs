//! Supervision of the actors on lanes, as Erlang/OTP has it: one that panics acts its step again, within limits of intensity.
//!
//! A fault leaves an actor's inputs held and nothing sent, so the same step acts again and gives the same bits. A refusal of the kernels
//! would only come again, so it is final. The clock is the caller's.

use crate::supervise::{Intensity, RESTARTS_MAX, WINDOW};
use actors::lane::{Down, Fault, LaneOrders};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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

    /// Restarts the actor that is down, or says why the engine has to give up. Times are since any one origin.
    pub(super) fn on_down(&mut self, down: &Down, now: Duration) -> Result<(), String> {
        let said = format!("{}: {}", down.lane, down.fault);
        if matches!(down.fault, Fault::Refused { .. }) {
            return Err(said);
        }
        if self.intensity.allows(now).is_none() {
            let seconds = WINDOW.as_secs();
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
    fn a_refusal_is_final_and_a_lane_that_is_not_there_cannot_restart() {
        let mut supervisor = Supervisor::new(Lanes::default());
        let refused = Fault::Refused { actor: "stage 1".into(), step: 7, cause: "too many rows".into() };
        let down = Down { lane: "cpu:1".into(), seat: 0, fault: refused };
        assert_eq!(supervisor.on_down(&down, Duration::ZERO), Err("cpu:1: stage 1: step 7: too many rows".into()));
        let panicked = Fault::PanickedIdle { actor: "feed".into(), message: "oh".into() };
        let down = Down { lane: "cpu:0".into(), seat: 0, fault: panicked };
        let said = "cpu:0: feed: panicked before its first step: oh, before all lanes ran";
        assert_eq!(supervisor.on_down(&down, Duration::ZERO), Err(said.into()));
    }
}
