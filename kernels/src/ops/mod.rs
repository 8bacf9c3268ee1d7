//! One folder an op: its contract, a plain reference that is its meaning, the fast version, the tests.

pub(crate) mod attend;
pub(crate) mod bias;
pub(crate) mod binary;
pub mod concat;
pub(crate) mod contract;
pub(crate) mod draw;
pub(crate) mod experts;
pub(crate) mod gated;
pub(crate) mod gather;
pub(crate) mod norm;
pub(crate) mod pointwise;
pub(crate) mod quantised;
pub mod reduce;
pub(crate) mod rope;
pub(crate) mod route;
pub(crate) mod runs;
pub(crate) mod sampled_rows;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod scan;
#[cfg(test)]
pub(crate) mod sequences;
pub(crate) mod short_conv;
pub(crate) mod slice;
pub(crate) mod unary;

use crate::isa::Isa;
use crate::team::{Team, share};
use std::ops::Range;

/// Elements below which a pointwise op stays on the calling thread: waking a team costs about 2 µs, in which one thread does some
/// 16 Ki elements.
const ALONE: usize = 16 << 10;

/// Who computes: a team and the instruction set of its machine.
#[derive(Clone, Copy)]
pub(crate) struct Workers<'a> {
    /// The threads.
    pub(crate) team: &'a Team,
    /// What their kernels are compiled for.
    pub(crate) isa: Isa,
}

impl Workers<'_> {
    /// Cuts `0..total` among the threads in multiples of `unit`, or gives all of it to the caller where `elements` are few.
    pub(crate) fn cut(&self, total: usize, unit: usize, elements: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        if elements < ALONE || self.team.threads() == 1 {
            return work(0..total);
        }
        self.team.run(&|thread| work(share(total, self.team.threads(), thread, unit)));
    }
}
