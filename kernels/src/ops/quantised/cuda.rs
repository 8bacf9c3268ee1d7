//! Launches of kernels that read quantised weights: as plain contractions, whose order of terms does not depend on the rows.

use crate::cuda::arguments::{ContractBlocks, GatherInt4, GatherInt8};
use crate::cuda::driver::Address;
use crate::cuda::{Site, Wanted};
use crate::error::KernelError;
use crate::ops::contract::cuda::{APART, Runs, Together, grid, tiled};
use graph::WeightType;
use graph::plan::{Operand, WeightId};

/// Terms that the kernels read at once of rows without a rest.
pub(crate) const AT_ONCE: u32 = 128;
/// Rows up to which a launch takes the least tile of rows.
const FEW_ROWS: u32 = 16;

fn bits(dtype: WeightType) -> i64 {
    if dtype == WeightType::Q4_0 { 4 } else { 8 }
}

/// For each weight, y = x · wᵀ.
pub(crate) fn contract(site: &mut Site<'_>, x: &Operand, group: &Together<'_>) -> Result<(), KernelError> {
    let (rows, widths, spec) = (site.counted(x), group.widths(site), group.first(site).spec().clone());
    let (k, name) = (spec.k, spec.dtype.name());
    if group.first(site).scales().is_none() {
        return Err(site.missing(name));
    }
    let runs = Runs::of(spec.dtype, widths, k);
    let [n0, n1, n2] = widths.map(|n| n as i32);
    let [w0, w1, w2] = group.each(None, |w, _| site.weight(w).address());
    let [scales0, scales1, scales2] =
        group.each(None, |w, _| site.weight(w).scales().map_or(Address::NULL, |scales| scales.address()));
    let [y0, y1, y2] = group.each(None, |_, y| site.address(y));
    for (range, tile) in [((1, FEW_ROWS), 16), ((FEW_ROWS + 1, u32::MAX), 64)] {
        let parted = runs.parted(k, range.1).max(1);
        let fixed = [("GROUP", graph::BLOCK.into()), ("BITS", bits(spec.dtype)), ("PARTED", parted)];
        let numbers = [("k", k), ("part", runs.part), ("n0", widths[0]), ("n1", widths[1]), ("n2", widths[2])];
        let wanted = Wanted { kernel: "contract_blocks", typed: None, fixed: &fixed, numbers: &numbers };
        let fits = wanted.fitting(|variant| k.is_multiple_of(variant.constant("AT_ONCE") as u32));
        let variant = tiled(fits, tile).ok_or_else(|| site.missing(name))?;
        let arguments = ContractBlocks {
            rows: rows.at,
            x: site.address(x),
            w0,
            w1,
            w2,
            scales0,
            scales1,
            scales2,
            y0,
            y1,
            y2,
            parts: site.parts,
            arrived: site.arrived,
            n0,
            n1,
            n2,
            k: k as i32,
            part: runs.part as i32,
        };
        let grid = grid(variant, widths, if parted == APART { runs.count } else { 1 });
        site.launches.push_for(variant, &arguments, (rows.count, range), grid)?;
    }
    Ok(())
}

/// y = the entries of ids, of which `first` is the weight's first.
pub(crate) fn lookup(
    site: &mut Site<'_>,
    table: WeightId,
    (first, ids): (u32, Address),
    y: &Operand,
) -> Result<(), KernelError> {
    let (weight, rows) = (site.weight(table), site.counted(y));
    let (n, k, dtype) = (weight.spec().n as i32, y.width, weight.spec().dtype);
    let Some(scales) = weight.scales() else { return Err(site.missing(dtype.name())) };
    let (w, scales, y, at, first) = (weight.address(), scales.address(), site.address(y), rows.at, first as i32);
    let kernel = if bits(dtype) == 4 { "gather_int4" } else { "gather_int8" };
    let (variant, grid) = site.columns(kernel, ("k", k), &[])?;
    let k = k as i32;
    if bits(dtype) == 4 {
        let arguments = GatherInt4 { rows: at, ids, w, scales, y, first, n, k };
        site.launches.push(variant, &arguments, rows.count, grid)
    } else {
        let arguments = GatherInt8 { rows: at, ids, w, scales, y, first, n, k };
        site.launches.push(variant, &arguments, rows.count, grid)
    }
}
