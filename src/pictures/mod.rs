//! What people look at: the page of a run, and a plan as a picture. Presentation only: what bounded a run is said by `actors::trace`.
//!
//! Invariant: whatever text comes from outside (names of models, devices, edges, spans) is escaped where it is written.

mod escape;
mod page;
mod sketch;
mod svg;

pub(crate) use page::page;

use actors::trace::{Recording, Summary, Trace};
use graph::plan::Plan;

/// The picture of a plan.
pub(crate) fn plan_svg(plan: &Plan) -> String {
    let trace = Trace::new();
    actors::wiring::name(plan, &trace);
    svg::draw(&sketch::Sketch::of(&trace.collect(), None)).text
}

/// The picture of what was recorded, with the rates that were measured.
fn recorded_svg(recording: &Recording, summary: &Summary) -> String {
    svg::draw(&sketch::Sketch::of(recording, Some(summary))).text
}

#[cfg(test)]
mod tests;
