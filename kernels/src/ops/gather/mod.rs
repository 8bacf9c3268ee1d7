//! y[r] = table[ids[r] - first] where this rank holds that entry, else zeros; and y[r] = table[position of r].
//!
//! Shapes: ids `[rows]` of u32, table `[n, k]`, y `[rows, k]`. Bytes: k elements of the table read, 4k written a row.
//! Error: none, widening is exact; so a tied head's panels give the same bits as a table. Source: a copy.

pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use crate::slab::Slab;
use crate::step::Step;
use crate::weights::Weight;

/// y[r] = table[ids[r] - first], or zeros.
///
/// # Safety
/// `y` is this call's alone until it returns.
pub(crate) unsafe fn run(workers: Workers<'_>, table: &Weight, first: u32, ids: &[u32], y: Slab<'_>) {
    let (n, width) = (table.spec().n, table.spec().k as usize);
    workers.cut(ids.len(), 1, y.len(), &|rows| {
        for row in rows {
            // SAFETY: this thread alone has these rows of y.
            let into = unsafe { y.write(row * width, width) };
            match ids[row].checked_sub(first).filter(|entry| *entry < n) {
                Some(entry) => table.copy_row(entry as usize, into),
                None => into.fill(0.0),
            }
        }
    });
}

/// y[r] = table[position of r in its sequence].
///
/// # Safety
/// `y` is this call's alone until it returns.
pub(crate) unsafe fn positions(workers: Workers<'_>, table: &Weight, step: &Step, y: Slab<'_>) {
    let width = table.spec().k as usize;
    workers.cut(step.rows as usize, 1, y.len(), &|rows| {
        for span in &step.spans {
            let (first, end) = (span.first_row as usize, (span.first_row + span.rows) as usize);
            for row in rows.start.max(first)..rows.end.min(end) {
                // SAFETY: this thread alone has these rows of y.
                let into = unsafe { y.write(row * width, width) };
                table.copy_row(span.start as usize + row - first, into);
            }
        }
    });
}
