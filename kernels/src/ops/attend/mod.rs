//! Appends k and v to the sequences' pages, then attends: softmax(scale · q kᵀ) v over each row's own past and itself, or the
//! window of it that ends there; with a cap on the scores and a sink of each head, where there are such.
//!
//! Shapes: q, y `[rows, kv_heads · group · head_dim]`, k, v `[rows, kv_heads · head_dim]`, sinks `[kv_heads · group]`; pages of 16
//! positions.
//! Maths: keys are taken in blocks of 256 by absolute position. A block gives, for a query, its largest score m, l = Σ e^(s - m) over
//! 8 lanes (position mod 8) added in one order, and o = Σ e^(s - m) v in the order of positions; scores are summed in the order of
//! dims and capped. Blocks are merged in order by one function, from the first that the row sees; a sink is a last block whose m is its
//! score, whose l is 1 and whose o is 0; then y = o / l. Only positions that a row may see enter its sums;
//! so its bits depend on its query, its position and the cached keys and values, not on chunks, pages, batch or threads.
//! Bytes: each page once a kv head for all queries of a group and up to 48 query rows. Error: within 2e-6 of the exact softmax's
//! average of |v|, given the rounded cache.
//! Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1; blocks as in Dao et al. 2022, arXiv:2205.14135; window: arXiv:2004.05150,
//! §3.1; cap: arXiv:2408.00118, §2; sinks: arXiv:2508.10925, §2.3.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
mod scores;
#[cfg(test)]
mod tests;
mod tile;
mod values;

pub(crate) use cpu::{Heads, Operands, Room, run};

/// Positions of a key block.
const BLOCK: usize = 256;
