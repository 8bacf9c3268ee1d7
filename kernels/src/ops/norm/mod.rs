//! y = (x - mean) / √(… + eps) · (w + offset) over each run of n elements; and the same of a sum of two operands.
//!
//! Shapes: x, y `[rows, width]`, w `[n]`, or `[runs, n]` for runs in turn, its length dividing the width; y may be x. With a sum: a, b, sum, y `[rows, n]`; sum may be a or b.
//! Maths: RMS has mean 0 and the mean square; layer has the mean, then the mean of (x - mean)². Sums are f32 over 32 lanes, element i in
//! lane i mod 32, lanes added in one order; then y = ((x - mean) · s) · (w + offset).
//! Bytes: 4 read, 4 written an element (with a sum 8 and 8). Error: within (n/32 + 8) · 6e-8 of the exact value, relative to |x - mean|
//! and for layer norm to |mean| as well.
//! Source: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4; Ba et al. 2016, arXiv:1607.06450, eq. 3.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub(crate) use cpu::{Scale, Sum, add_run, run};
