//! The launch of a bias.

use crate::cuda::Site;
use crate::cuda::arguments::Bias;
use crate::error::KernelError;
use graph::plan::{Operand, WeightId};

/// y = x + w.
pub(crate) fn bias(site: &mut Site<'_>, x: &Operand, w: WeightId, y: &Operand) -> Result<(), KernelError> {
    let (rows, width, n) = (site.counted(x), x.width, site.weight(w).spec().n);
    let arguments = Bias {
        rows: rows.at,
        x: site.address(x),
        w: site.weight(w).address(),
        y: site.address(y),
        width: width as i32,
        n: n as i32,
    };
    let (variant, grid) = site.columns("bias", ("width", width), &[("n", n)])?;
    site.launches.push(variant, &arguments, rows.count, grid)
}
