//! What runs where, as data.

pub mod call;

pub use call::{CacheSpec, Call, Cut, Operand, Place, Program, RowSet, WeightId, WeightSpec, WeightUse};

/// Positions of one page of key/value memory.
pub const PAGE_ROWS: u32 = 16;
