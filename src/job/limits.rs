//! What a job holds at most.

use super::journal::GroupPolicy;
use super::reader::LINE_BYTES_MAX;
use super::run::INDEX_BYTES_A_LINE;
use crate::engine::window;
use crate::limits::Limit;
use graph::plan::Plan;

/// Every queue and buffer of a job on an engine with this plan. `piped`: the input is read only once.
pub fn limits(plan: &Plan, piped: bool) -> Vec<Limit> {
    let group = GroupPolicy::default();
    let line = LINE_BYTES_MAX;
    let window = window(plan) as u64;
    // Of a pipe the names met so far are kept as well, which hash tables hold with room to spare.
    let index = if piped { INDEX_BYTES_A_LINE + 20 } else { INDEX_BYTES_A_LINE };
    vec![
        Limit::new("a line of the job", (1, "line"), line),
        Limit::new(
            "requests of the job in flight, a replica",
            (window, "sequences"),
            u64::from(plan.data().settings.max_model_len) * 8,
        ),
        Limit {
            what: "results that wait for their sync".into(),
            count: group.results_max.into(),
            of: "results, or one that is larger",
            bytes: group.bytes_max as u64,
        },
        Limit::new("index of the job", (1, "line, each"), index),
    ]
}
