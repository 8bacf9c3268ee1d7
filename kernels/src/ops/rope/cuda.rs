//! Launches of rotations: angles once a step for each kind, then heads.

use crate::cuda::arguments::{Angles, Rope as Arguments};
use crate::cuda::{Count, Extent, Site, Turned, Wanted};
use crate::error::KernelError;
use graph::plan::Operand;
use graph::{DType, Pairing, Rope};

/// The table of a kind of rotation, filled by a launch of its own before its first use.
fn turned(site: &mut Site<'_>, rope: &Rope) -> Result<Turned, KernelError> {
    if let Some(known) = site.turned.iter().find(|turned| turned.rope == *rope) {
        return Ok(known.clone());
    }
    let frequencies = rope.frequencies();
    let pairs = frequencies.len() as u32;
    let table = site.keep(u64::from(site.limits.rows_max * 2 * pairs) * 4, "the angles of a step")?;
    let frequencies = site.keep_values(&frequencies, "frequencies")?;
    let (variant, grid) = site.columns("angles", ("pairs", pairs), &[])?;
    let arguments = Angles {
        rows: site.meta.rows(),
        row_position: site.meta.row_position(),
        frequencies,
        table,
        pairs: pairs as i32,
        amplitude: rope.amplitude(),
    };
    site.launches.push(variant, &arguments, Count::Rows, grid)?;
    site.turned.push(Turned { rope: rope.clone(), table, pairs });
    Ok(site.turned[site.turned.len() - 1].clone())
}

/// y = each head of x, turned.
pub(crate) fn rope(
    site: &mut Site<'_>,
    x: &Operand,
    head_dim: u32,
    rope: &Rope,
    y: &Operand,
) -> Result<(), KernelError> {
    let Turned { table, pairs, .. } = turned(site, rope)?;
    let neighbours = match rope.pairing {
        Pairing::Halves => 0,
        Pairing::Neighbours => 1,
    };
    let numbers = [("head_dim", head_dim), ("pairs", pairs)];
    let wanted = Wanted { kernel: "rope", typed: None, fixed: &[("NEIGHBOURS", neighbours)], numbers: &numbers };
    let variant = wanted.covering("D", head_dim).ok_or_else(|| site.missing(DType::F32.name()))?;
    let (rows, heads) = (site.counted(x), x.width / head_dim);
    let arguments = Arguments {
        rows: rows.at,
        x: site.address(x),
        table,
        y: site.address(y),
        heads: heads as i32,
        head_dim: head_dim as i32,
        pairs: pairs as i32,
    };
    let heads = Extent::columns(heads, variant.constant("HEADS") as u32);
    site.launches.push(variant, &arguments, rows.count, [Extent::ONE_EACH, heads, Extent::Fixed(1)])
}
