//! What a channel between stages carries: rows of one step.

use kernels::{Drawn, Memory};

/// A buffer of a channel, and what is in it.
#[derive(Debug)]
pub struct Tensor {
    /// The elements, row after row; as long as the largest step needs.
    pub memory: Memory,
    /// Rows of this message.
    pub rows: u32,
    /// The step they belong to.
    pub step: u64,
    /// What the sender drew from the rows, if it did: then the rows are there only where some draw needs them.
    pub drawn: Drawn,
}

impl Tensor {
    /// A buffer of `bytes` bytes.
    pub fn zeroed(bytes: u64) -> Self {
        Self { memory: Memory::zeroed(bytes as usize), rows: 0, step: 0, drawn: Drawn::default() }
    }

    /// The rows that are there, `width` elements each.
    pub fn rows(&self, width: usize) -> &[f32] {
        &self.memory.as_f32()[..self.rows as usize * width]
    }
}
