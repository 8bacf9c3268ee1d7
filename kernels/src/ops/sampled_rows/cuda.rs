//! The launch that picks the sampled rows.

use crate::cuda::Site;
use crate::cuda::arguments::SampledRows;
use crate::error::KernelError;
use graph::plan::Operand;

/// y = the rows of x that will be sampled.
pub(crate) fn sampled_rows(site: &mut Site<'_>, x: &Operand, y: &Operand) -> Result<(), KernelError> {
    let rows = site.counted(y);
    let arguments = SampledRows {
        count: rows.at,
        sampled: site.meta.sampled(),
        x: site.address(x),
        y: site.address(y),
        width: x.width as i32,
    };
    let (variant, grid) = site.columns("sampled_rows", ("width", x.width), &[])?;
    site.launches.push(variant, &arguments, rows.count, grid)
}
