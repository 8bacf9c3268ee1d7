//! Limits of the process: those that the system sets, and those that it sets itself.

use super::Failure;
use crate::engine;
use crate::job;
use graph::plan::Plan;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt::Write;

/// Files, pipes and event queues that a run has open at most, with some to spare.
const OPEN_FILES: u64 = 64;

/// Makes sure that a run can open what it needs.
pub(super) fn raise_open_files() -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    // Without a number there is no limit.
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if soft >= OPEN_FILES {
        return Ok(());
    }
    if hard < OPEN_FILES {
        return Err(Failure::OpenFiles { limit: hard, wanted: OPEN_FILES });
    }
    let raised = Rlimit { current: Some(OPEN_FILES), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| Failure::OpenFiles { limit: soft, wanted: OPEN_FILES })
}

/// Every queue, pool and buffer of a process beside those of its plan: how many entries, and how many bytes at most.
pub(super) fn explain(plan: &Plan, piped: bool) -> String {
    let mut text = String::from("\nqueues and buffers of the process\n");
    for limit in engine::limits(plan).into_iter().chain(job::limits(plan, piped)) {
        writeln!(text, "  {limit}").expect("a String takes any text");
    }
    text
}
