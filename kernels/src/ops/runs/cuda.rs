//! The launch of a concatenation.

use crate::cuda::Site;
use crate::cuda::arguments::Concat;
use crate::error::KernelError;
use graph::plan::Operand;

/// y = runs of the first, each with its run of the second behind it.
pub(crate) fn concat(
    site: &mut Site<'_>,
    [(a, a_run), (b, b_run)]: [(&Operand, u32); 2],
    y: &Operand,
) -> Result<(), KernelError> {
    let rows = site.counted(a);
    let arguments = Concat {
        rows: rows.at,
        a: site.address(a),
        b: site.address(b),
        y: site.address(y),
        width: y.width as i32,
        a_run: a_run as i32,
        b_run: b_run as i32,
    };
    let (variant, grid) = site.columns("concat", ("width", y.width), &[])?;
    site.launches.push(variant, &arguments, rows.count, grid)
}
