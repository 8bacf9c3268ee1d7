//! Tokens from rows of logits, on devices that draw by themselves.
//!
//! Shapes: logits `[rows, vocab]` f32; one token a row. What a draw means is said by the sampler (`actors/src/sampler`), which draws on the cores;
//! here are its kernels for GPUs and what launches them. Error: sums of weights are f64 in another order than the sampler's, so that a
//! token differs only where a random number lies within their rounding, some 1e-15, of a border.

pub(crate) mod cuda;
