//! y[r] = table[ids[r] - first] where this rank holds that entry, else zeros.
//!
//! Shapes: ids `[rows]` of u32, table `[n, k]`, y `[rows, k]`. Bytes: k elements of the table read, 4k written a row.
//! Error: none, widening is exact; so a tied head's panels give the same bits as a table. Source: a copy.

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use super::Workers;
use crate::slab::Slab;
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
