//! The launch of a pointwise function.

use crate::cuda::Site;
use crate::cuda::arguments::Unary as Arguments;
use crate::error::KernelError;
use graph::Unary;
use graph::plan::Operand;

/// The number of a function in `triton.py`, and its constants.
pub(crate) fn numbered(f: &Unary) -> (i32, f32, f32) {
    match *f {
        Unary::Silu => (0, 0.0, 0.0),
        Unary::Gelu => (1, 0.0, 0.0),
        Unary::GeluTanh => (2, 0.0, 0.0),
        Unary::Relu => (3, 0.0, 0.0),
        Unary::Relu2 => (4, 0.0, 0.0),
        Unary::Sigmoid => (5, 0.0, 0.0),
        Unary::Scale(c) => (6, c, 0.0),
        Unary::Softcap(c) => (7, c, 0.0),
        Unary::ClampedSwish { alpha, limit } => (8, alpha, limit),
        Unary::ClampedPlusOne(limit) => (9, limit, 0.0),
    }
}

/// y = f(x).
pub(crate) fn unary(site: &mut Site<'_>, x: &Operand, f: &Unary, y: &Operand) -> Result<(), KernelError> {
    let (rows, (f, first, second)) = (site.counted(x), numbered(f));
    let (x_at, y_at) = (site.address(x), site.address(y));
    let arguments = Arguments { rows: rows.at, x: x_at, y: y_at, width: x.width as i32, f, first, second };
    let (variant, grid) = site.columns("unary", ("width", x.width), &[])?;
    site.launches.push(variant, &arguments, rows.count, grid)
}
