//! Launches of sums and products.

use crate::cuda::Site;
use crate::cuda::arguments::{Add, Multiply};
use crate::error::KernelError;
use graph::Binary;
use graph::plan::Operand;

/// y = f(a, b).
pub(crate) fn binary(site: &mut Site<'_>, [a, b]: [&Operand; 2], f: Binary, y: &Operand) -> Result<(), KernelError> {
    let (rows, width) = (site.counted(a), a.width as i32);
    let [a_at, b_at, y_at] = [a, b, y].map(|operand| site.address(operand));
    let kernel = match f {
        Binary::Add => "add",
        Binary::Mul => "multiply",
    };
    let (variant, grid) = site.columns(kernel, ("width", a.width), &[])?;
    match f {
        Binary::Add => {
            let arguments = Add { rows: rows.at, a: a_at, b: b_at, y: y_at, width };
            site.launches.push(variant, &arguments, rows.count, grid)
        }
        Binary::Mul => {
            let arguments = Multiply { rows: rows.at, a: a_at, b: b_at, y: y_at, width };
            site.launches.push(variant, &arguments, rows.count, grid)
        }
    }
}
