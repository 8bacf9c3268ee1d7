//! Runs of a row, each with a run of another row behind it.
//!
//! Shapes: a `[rows, runs, m]`, b `[rows, runs, n]` → y `[rows, runs, m + n]`.
//! Bytes: 4 read and 4 written an element of y. Error: none. Source: a copy.

pub(crate) mod cuda;
#[cfg(test)]
mod tests;

use super::Workers;
use crate::slab::Slab;

/// Runs of a operand: its elements, and those of a run.
#[derive(Clone, Copy)]
pub(crate) struct Runs<'a> {
    /// All of them.
    pub(crate) x: &'a [f32],
    /// Elements of one.
    pub(crate) run: usize,
}

/// y = each run of `a` with its run of `b` behind it.
///
/// # Safety
/// `y` is this call's alone until it returns, and overlaps neither operand.
pub(crate) unsafe fn concat(workers: Workers<'_>, [a, b]: [Runs<'_>; 2], y: Slab<'_>) {
    let run = a.run + b.run;
    workers.cut(y.len() / run, 1, y.len(), &|runs| {
        for number in runs {
            // SAFETY: this thread alone has these runs of y.
            let (front, back) = unsafe { y.write(number * run, run) }.split_at_mut(a.run);
            front.copy_from_slice(&a.x[number * a.run..][..a.run]);
            back.copy_from_slice(&b.x[number * b.run..][..b.run]);
        }
    });
}
