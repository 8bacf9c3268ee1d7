//! The launch of a gate.

use crate::cuda::Site;
use crate::cuda::arguments::Gated;
use crate::error::KernelError;
use crate::ops::unary::cuda::numbered;
use graph::Unary;
use graph::plan::Operand;

/// y = f(gate) · up.
pub(crate) fn gated(
    site: &mut Site<'_>,
    gate: &Operand,
    up: &Operand,
    f: &Unary,
    y: &Operand,
) -> Result<(), KernelError> {
    let (rows, (f, first, second)) = (site.counted(gate), numbered(f));
    let [gate_at, up_at, y_at] = [gate, up, y].map(|operand| site.address(operand));
    let width = gate.width as i32;
    let arguments = Gated { rows: rows.at, gate: gate_at, up: up_at, y: y_at, width, f, first, second };
    let (variant, grid) = site.columns("gated", ("width", gate.width), &[])?;
    site.launches.push(variant, &arguments, rows.count, grid)
}
