//! Launches of kernels that read quantised weights: by tiles of rows as plain contractions, whose order of terms does not depend on them.

use crate::cuda::arguments::{GatherInt4, GatherInt8, Int4, Int8};
use crate::cuda::driver::Address;
use crate::cuda::{Extent, Site, Wanted};
use crate::error::KernelError;
use crate::ops::contract::cuda::by_tiles;
use graph::plan::{Operand, WeightId};

/// Terms that share a scale.
const GROUP: (&str, i64) = ("GROUP", graph::BLOCK as i64);

/// y = x · wᵀ.
pub(crate) fn contract(site: &mut Site<'_>, x: &Operand, (w, y): (WeightId, &Operand)) -> Result<(), KernelError> {
    let (rows, weight) = (site.counted(x), site.weight(w));
    let (n, k, name) = (weight.spec().n, weight.spec().k, weight.spec().dtype.name());
    let Some(blocks) = weight.blocks() else { return Err(site.missing(name)) };
    let (scales, zeros) = (blocks.scales.address(), blocks.zeros.as_ref().map(|zeros| zeros.address()));
    let kernel = if zeros.is_some() { "int4" } else { "int8" };
    let wanted = Wanted { kernel, typed: None, fixed: &[GROUP], numbers: &[("n", n), ("k", k)] };
    let mut variants = wanted.variants();
    variants.sort_by_key(|variant| variant.constant("BLOCK_R"));
    if variants.is_empty() {
        return Err(site.missing(name));
    }
    let (count, rows) = (rows.count, rows.at);
    let (x, w, y, k) = (site.address(x), weight.address(), site.address(y), k as i32);
    by_tiles((n, variants), (1, u32::MAX), |variant, range, [outputs, tiles]| {
        let (n, grid) = (n as i32, [outputs, tiles, Extent::Fixed(1)]);
        match zeros {
            Some(zeros) => {
                let arguments = Int4 { rows, x, w, scales, zeros, y, n, k };
                site.launches.push_for(variant, &arguments, (count, range), grid)
            }
            None => site.launches.push_for(variant, &Int8 { rows, x, w, scales, y, n, k }, (count, range), grid),
        }
    })
}

/// y = the entries of ids, of which `first` is the weight's first.
pub(crate) fn lookup(
    site: &mut Site<'_>,
    table: WeightId,
    (first, ids): (u32, Address),
    y: &Operand,
) -> Result<(), KernelError> {
    let (weight, rows) = (site.weight(table), site.counted(y));
    let (n, k, name) = (weight.spec().n as i32, y.width, weight.spec().dtype.name());
    let Some(blocks) = weight.blocks() else { return Err(site.missing(name)) };
    let (scales, zeros) = (blocks.scales.address(), blocks.zeros.as_ref().map(|zeros| zeros.address()));
    let (w, y, at, first) = (weight.address(), site.address(y), rows.at, first as i32);
    let kernel = if zeros.is_some() { "gather_int4" } else { "gather_int8" };
    let (variant, grid) = site.columns(kernel, ("k", k), &[])?;
    let k = k as i32;
    match zeros {
        Some(zeros) => {
            let arguments = GatherInt4 { rows: at, ids, w, scales, zeros, y, first, n, k };
            site.launches.push(variant, &arguments, rows.count, grid)
        }
        None => {
            let arguments = GatherInt8 { rows: at, ids, w, scales, y, first, n, k };
            site.launches.push(variant, &arguments, rows.count, grid)
        }
    }
}
