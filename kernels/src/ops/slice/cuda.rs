//! The launch of a slice.

use crate::cuda::Site;
use crate::cuda::arguments::SliceBlocks;
use crate::error::KernelError;
use graph::plan::Operand;

/// y = of every block of x, `run` elements from `from` on.
pub(crate) fn slice(
    site: &mut Site<'_>,
    x: &Operand,
    [block, from, run]: [u32; 3],
    y: &Operand,
) -> Result<(), KernelError> {
    let rows = site.counted(x);
    let arguments = SliceBlocks {
        rows: rows.at,
        x: site.address(x),
        y: site.address(y),
        x_width: x.width as i32,
        y_width: y.width as i32,
        block: block as i32,
        begin: from as i32,
        run: run as i32,
    };
    let (variant, grid) = site.columns("slice_blocks", ("y_width", y.width), &[])?;
    site.launches.push(variant, &arguments, rows.count, grid)
}
