//! Launches of lookups.

use crate::cuda::Site;
use crate::cuda::arguments::Gather;
use crate::cuda::driver::Address;
use crate::error::KernelError;
use crate::ops::quantised;
use graph::plan::{Operand, WeightId};

fn lookup(site: &mut Site<'_>, table: WeightId, (first, ids): (u32, Address), y: &Operand) -> Result<(), KernelError> {
    let (weight, rows) = (site.weight(table), site.counted(y));
    let Some(dtype) = weight.plain() else {
        return quantised::cuda::lookup(site, table, (first, ids), y);
    };
    let (n, k, typed) = (weight.spec().n, y.width, ("table", dtype));
    let arguments = Gather {
        rows: rows.at,
        ids,
        table: weight.address(),
        y: site.address(y),
        first: first as i32,
        n: n as i32,
        k: k as i32,
    };
    let (variant, grid) = site.typed_columns("gather", Some(typed), ("k", k), &[])?;
    site.launches.push(variant, &arguments, rows.count, grid)
}

/// y = the entries of token ids.
pub(crate) fn gather(
    site: &mut Site<'_>,
    table: WeightId,
    first: u32,
    ids: &Operand,
    y: &Operand,
) -> Result<(), KernelError> {
    let ids = site.address(ids);
    lookup(site, table, (first, ids), y)
}

/// y = the entries of positions.
pub(crate) fn positions(site: &mut Site<'_>, table: WeightId, y: &Operand) -> Result<(), KernelError> {
    let positions = site.meta.row_position();
    lookup(site, table, (0, positions), y)
}
