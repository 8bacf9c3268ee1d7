//! Plain loops.

use crate::ops::unary::reference::unary;
use graph::Unary;

/// f(gate) · up.
pub(super) fn gated(f: Unary, gate: f32, up: f32) -> f32 {
    unary(f, gate) * up
}
