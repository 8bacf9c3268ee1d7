//! Plain loops.

use graph::Binary;

/// f(a, b).
pub(super) fn binary(f: Binary, a: f32, b: f32) -> f32 {
    match f {
        Binary::Add => a + b,
        Binary::Mul => a * b,
    }
}
