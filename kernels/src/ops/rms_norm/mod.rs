//! y = x · w / √(mean(x²) + eps) over each run of w's length; and the same of a sum of two operands.
//!
//! Shapes: x, y `[rows, width]`, w `[n]` with n dividing the width; y may be x. With a sum: a, b, sum, y `[rows, n]`; sum may be a or b.
//! Maths: the mean square in f32 over 32 lanes, element i in lane i mod 32, lanes added in one order; then y = (x · s) · w.
//! Bytes: 4 read, 4 written an element (with a sum 8 and 8). Error: within (n/32 + 8) · 6e-8 of the exact value, relative.
//! Source: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.

mod cpu;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub(crate) use cpu::{Sum, add_run, run};
