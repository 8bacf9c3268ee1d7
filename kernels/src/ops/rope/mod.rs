//! y = each head of x, turned by its row's position.
//!
//! Shapes: x, y `[rows, heads · head_dim]`; y may be x; the first `dims` elements of a head are turned, i with i + dims/2 or
//! neighbours with each other.
//! Maths: x₁' = x₁ cos φ - x₂ sin φ, x₂' = x₂ cos φ + x₁ sin φ, φ = position · frequency in f32, cosine and sine of φ in f64 rounded to
//! f32 and multiplied by the amplitude. Bytes: 4 read, 4 written an element. Error: 2e-7 · (|x₁| + |x₂|), given φ.
//! Source: Su et al. 2021, arXiv:2104.09864.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub(crate) use cpu::{Angles, run};
