//! What a step and its buffers must hold before the first call.

use super::Limits;
use crate::error::KernelError;
use crate::memory::Memory;
use crate::step::Step;
use graph::plan::{Call, PAGE_ROWS, Place, Program, RowSet, WeightSpec};

/// What the steps of a program are held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    limits: Limits,
    /// The largest window, where layers with one have pages of their own.
    window: Option<u32>,
    /// Entries of the program's shortest table of positions.
    positions_max: u32,
}

impl Gate {
    /// Of a program with these weights.
    pub(crate) fn new(program: &Program, specs: &[&WeightSpec], limits: Limits) -> Self {
        let entries = |call: &Call| {
            let Call::Positions { table, .. } = call else { return u32::MAX };
            specs.get(table.0 as usize).map_or(0, |spec| spec.n)
        };
        let positions_max = program.calls.iter().map(entries).min().unwrap_or(u32::MAX);
        let window = program.windows().into_iter().flatten().max().filter(|_| limits.window_pages > 0);
        Self { limits, window, positions_max }
    }

    /// Whether each cache of the program has pages of its own for a window.
    pub(crate) fn windowed(&self, program: &Program) -> Vec<bool> {
        program.windows().into_iter().map(|own| own.is_some() && self.window.is_some()).collect()
    }

    /// Holds a step and its buffers against all of it.
    pub(crate) fn admit(
        &self,
        program: &Program,
        step: &Step,
        inputs: &[&Memory],
        outputs: &[&mut Memory],
    ) -> Result<(), KernelError> {
        self::step(step, self.limits, (PAGE_ROWS, self.positions_max))?;
        if let Some(window) = self.window {
            windows(step, window, self.limits, PAGE_ROWS)?;
        }
        if !program.states.is_empty() {
            states(step, self.limits)?;
        }
        buffers(program, step, inputs, outputs)
    }
}

/// Holds a step against the limits and against itself.
fn step(step: &Step, limits: Limits, (page_rows, positions_max): (u32, u32)) -> Result<(), KernelError> {
    let beyond = |what, limit: u64, got: u64| Err(KernelError::Step { step: step.id, what, limit, got });
    if step.rows > limits.rows_max {
        return beyond("rows", limits.rows_max.into(), step.rows.into());
    }
    if step.sampled.len() > limits.sampled_max as usize {
        return beyond("sampled rows", limits.sampled_max.into(), step.sampled.len() as u64);
    }
    if let Some(&row) = step.sampled.iter().find(|&&row| row >= step.rows) {
        return beyond("a sampled row", u64::from(step.rows.saturating_sub(1)), row.into());
    }
    let mut next = 0;
    for span in &step.spans {
        if span.first_row != next {
            return beyond("the first row of a span", next.into(), span.first_row.into());
        }
        next = next.saturating_add(span.rows);
        let (held, needed) =
            (u64::from(span.pages) * u64::from(page_rows), u64::from(span.start) + u64::from(span.rows));
        if needed > held {
            return beyond("positions of a span on its pages", held, needed);
        }
        if needed > u64::from(positions_max) {
            return beyond("positions of a span in the table of positions", positions_max.into(), needed);
        }
        let pages = u64::from(span.first_page) + u64::from(span.pages);
        if pages > step.pages.len() as u64 {
            return beyond("pages of a span", step.pages.len() as u64, pages);
        }
        if let Some(&page) = step.pages_of(span).iter().find(|&&page| page >= limits.pages) {
            return beyond("a page", u64::from(limits.pages.saturating_sub(1)), page.into());
        }
    }
    if next != step.rows { beyond("rows of all spans", step.rows.into(), next.into()) } else { Ok(()) }
}

/// Holds the page tables of layers with a window against the pages there are: of every span all pages that its rows see.
fn windows(step: &Step, window: u32, limits: Limits, page_rows: u32) -> Result<(), KernelError> {
    let beyond = |what, limit: u64, got: u64| Err(KernelError::Step { step: step.id, what, limit, got });
    if step.windows.len() != step.pages.len() {
        return beyond("pages of windows", step.pages.len() as u64, step.windows.len() as u64);
    }
    for span in &step.spans {
        let first = (span.start + 1).saturating_sub(window) / page_rows;
        let seen = &step.windows_of(span)[first as usize..(span.start + span.rows).div_ceil(page_rows) as usize];
        if let Some(&page) = seen.iter().find(|&&page| page >= limits.window_pages) {
            return beyond("a page of a window", u64::from(limits.window_pages.saturating_sub(1)), page.into());
        }
    }
    Ok(())
}

/// Holds the page tables of a step against the room that a device has for them.
pub(crate) fn tables(step: &Step, limits: Limits) -> Result<(), KernelError> {
    let beyond = |what, limit: u64, got: u64| Err(KernelError::Step { step: step.id, what, limit, got });
    if step.spans.len() > limits.spans_max as usize {
        return beyond("spans", limits.spans_max.into(), step.spans.len() as u64);
    }
    let most = u64::from(limits.spans_max) * u64::from(limits.span_pages_max);
    if step.pages.len() as u64 > most {
        return beyond("pages of all spans", most, step.pages.len() as u64);
    }
    let pages = step.spans.iter().map(|span| span.pages).max().unwrap_or(0);
    let longest = u64::from(limits.span_pages_max);
    if u64::from(pages) > longest { beyond("pages of a span, of a device", longest, pages.into()) } else { Ok(()) }
}

/// Holds the states of a step against the slots there are.
fn states(step: &Step, limits: Limits) -> Result<(), KernelError> {
    crate::states::check(step, limits.slots).map_err(|(what, limit, got)| KernelError::Step {
        step: step.id,
        what,
        limit,
        got,
    })
}

/// Holds the buffers of a step against the operands that lie in them.
fn buffers(program: &Program, step: &Step, inputs: &[&Memory], outputs: &[&mut Memory]) -> Result<(), KernelError> {
    let mut result = Ok(());
    for call in &program.calls {
        call.visit(&mut |_, operand| {
            let rows = match operand.rows {
                RowSet::All => u64::from(step.rows),
                RowSet::Sampled => step.sampled.len() as u64,
            };
            let wanted = rows * u64::from(operand.width) * 4;
            let (what, index, got) = match operand.place {
                Place::Input(port) => ("input", port as usize, inputs.get(port as usize).map(|m| m.len())),
                Place::Output(port) => ("output", port as usize, outputs.get(port as usize).map(|m| m.len())),
                Place::Scratch(_) => return,
            };
            let fits = got.is_some_and(|got| got as u64 >= wanted);
            if !fits && result.is_ok() {
                result = Err(KernelError::Buffer { step: step.id, what, index, wanted, got: got.unwrap_or(0) as u64 });
            }
        });
    }
    result
}
