//! Launches of contractions: one tile of terms for every number of rows, tiles of rows by how many there are.
//!
//! A weight of few outputs would leave most of a GPU idle, so its terms are summed in runs, which the shape of the weight decides and
//! nothing else: of few rows each run by programs of its own, whose sums are merged in order, of many rows one run after the other in one
//! program. The additions are the same.

use crate::cuda::arguments::{Contract, ContractPart, MergeParts, RoundRows, Variant};
use crate::cuda::driver::Address;
use crate::cuda::{CountAt, DeviceWeight, Extent, Site, Wanted};
use crate::error::KernelError;
use crate::ops::quantised;
use graph::plan::{Call, Operand, Program, WeightId, WeightSpec};
use graph::{DType, WeightType};

/// Programs that keep a GPU's memory busy: two for each of its multiprocessors, as many as an H200 has.
const PROGRAMS: u32 = 264;
/// Terms of a run, at least, and a divisor of their number.
const RUN: u32 = 256;
/// Outputs of a program that sums a run.
const OUTPUTS: u32 = 64;
/// Rows up to which runs have programs of their own: the largest tile of rows that such programs have.
const PARTED_ROWS: u32 = 32;

/// Terms of a run of a weight's sums: all of them where it has outputs enough, or where its type has one way only.
fn run(spec: &WeightSpec) -> u32 {
    let tiles = spec.n.div_ceil(OUTPUTS);
    let parts = (PROGRAMS / tiles.max(1)).clamp(1, (spec.k / RUN).max(1));
    let one = parts == 1
        || !matches!(spec.dtype, WeightType::Bf16 | WeightType::F16)
        || !spec.k.is_multiple_of(16)
        || !spec.n.is_multiple_of(16);
    if one { spec.k } else { spec.k.div_ceil(parts).next_multiple_of(RUN) }
}

/// Bytes that all contractions of a program share: for the sums of runs, and for rounded activations.
pub(crate) fn room(program: &Program, specs: &[&WeightSpec], rows_max: u32) -> [u64; 2] {
    let contracted = program
        .calls
        .iter()
        .filter_map(|call| if let Call::Contract { parts, .. } = call { Some(parts) } else { None });
    let mut room = [0, 0];
    for spec in contracted.flatten().filter_map(|(w, _)| specs.get(w.0 as usize)).filter(|spec| run(spec) < spec.k) {
        let parts = u64::from(spec.k.div_ceil(run(spec)));
        room[0] = room[0].max(parts * u64::from(PARTED_ROWS * spec.n) * 4);
        room[1] = room[1].max(u64::from(rows_max) * u64::from(spec.k) * 2);
    }
    room
}

/// For each part, y = x · wᵀ.
pub(crate) fn contract(site: &mut Site<'_>, x: &Operand, parts: &[(WeightId, Operand)]) -> Result<(), KernelError> {
    let mut rounded = None;
    for (w, y) in parts {
        let weight = site.weight(*w);
        let spec = weight.spec().clone();
        let Some(dtype) = weight.plain() else {
            quantised::cuda::contract(site, x, (*w, y))?;
            continue;
        };
        if run(&spec) == spec.k {
            whole(site, x, (*w, y))?;
            continue;
        }
        in_parts(site, x, (*w, y))?;
        if rounded != Some(dtype) {
            round(site, x, dtype)?;
            rounded = Some(dtype);
        }
        runs_in_turn(site, dtype, x, (*w, y))?;
    }
    Ok(())
}

/// The variants of a kernel for a weight, by ascending tiles of rows.
fn by_rows(
    site: &Site<'_>,
    kernel: &'static str,
    weight: &DeviceWeight,
    fits: impl Fn(&Variant) -> bool,
) -> Result<Vec<&'static Variant>, KernelError> {
    let spec = weight.spec();
    let numbers = [("k", spec.k), ("part", run(spec)), ("apart", PARTED_ROWS * spec.n)];
    let typed = weight.plain().map(|dtype| ("w", dtype));
    let wanted = Wanted { kernel, typed, fixed: &[], numbers: &numbers };
    let mut variants = wanted.fitting(fits);
    variants.sort_by_key(|variant| variant.constant("BLOCK_R"));
    if variants.is_empty() { Err(site.missing(spec.dtype.name())) } else { Ok(variants) }
}

/// Launches each variant for the rows of its tile, the last for all more than that.
pub(crate) fn by_tiles(
    (n, variants): (u32, Vec<&'static Variant>),
    (least, most): (u32, u32),
    mut push: impl FnMut(&'static Variant, (u32, u32), [Extent; 2]) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    let (mut from, last) = (least, variants.len() - 1);
    for (at, variant) in variants.into_iter().enumerate() {
        let block = |name| variant.constant(name) as u32;
        let to = if at == last { most } else { block("BLOCK_R") };
        let tiles = Extent::Counted { each: 1, per: block("BLOCK_R") };
        if from <= to {
            push(variant, (from, to), [Extent::columns(n, block("BLOCK_N")), tiles])?;
        }
        from = from.max(to.saturating_add(1));
    }
    Ok(())
}

fn arguments(site: &Site<'_>, x: Address, rows: CountAt, (w, y): (WeightId, &Operand)) -> Contract {
    let weight = site.weight(w);
    let [n, k, part] = [weight.spec().n, weight.spec().k, run(weight.spec())].map(|length| length as i32);
    Contract { rows: rows.at, x, w: weight.address(), y: site.address(y), n, k, part }
}

/// All terms in one sum.
fn whole(site: &mut Site<'_>, x: &Operand, (w, y): (WeightId, &Operand)) -> Result<(), KernelError> {
    let rows = site.counted(x);
    let arguments = arguments(site, site.address(x), rows, (w, y));
    let plain = |variant: &Variant| variant.constant("PARTED") == 0 && variant.is("x", DType::F32);
    let variants = by_rows(site, "contract", site.weight(w), plain)?;
    by_tiles((site.weight(w).spec().n, variants), (1, u32::MAX), |variant, range, [outputs, tiles]| {
        let grid = [outputs, tiles, Extent::Fixed(1)];
        site.launches.push_for(variant, &arguments, (rows.count, range), grid)
    })
}

/// Few rows: a program for each run, and one that merges them.
fn in_parts(site: &mut Site<'_>, x: &Operand, (w, y): (WeightId, &Operand)) -> Result<(), KernelError> {
    let (rows, weight) = (site.counted(x), site.weight(w));
    let (n, k, part) = (weight.spec().n, weight.spec().k, run(weight.spec()));
    let (apart, count, parts) = (i64::from(PARTED_ROWS * n), k.div_ceil(part), site.parts);
    let arguments = ContractPart {
        rows: rows.at,
        x: site.address(x),
        w: weight.address(),
        parts,
        apart,
        n: n as i32,
        k: k as i32,
        part: part as i32,
    };
    let variants = by_rows(site, "contract_part", weight, |_| true)?;
    by_tiles((n, variants), (1, PARTED_ROWS), |variant, range, [outputs, tiles]| {
        let grid = [outputs, tiles, Extent::Fixed(count)];
        site.launches.push_for(variant, &arguments, (rows.count, range), grid)
    })?;
    let merge = MergeParts { rows: rows.at, parts, y: site.address(y), apart, count: count as i32, n: n as i32 };
    let (variant, grid) = site.columns("merge_parts", ("n", n), &[("apart", PARTED_ROWS * n)])?;
    site.launches.push_for(variant, &merge, (rows.count, (1, PARTED_ROWS)), grid)
}

/// Many rows: x in the weights' type, once for all of them.
fn round(site: &mut Site<'_>, x: &Operand, dtype: DType) -> Result<(), KernelError> {
    let rows = site.counted(x);
    let arguments = RoundRows { rows: rows.at, x: site.address(x), y: site.rounded, width: x.width as i32 };
    let (variant, grid) = site.typed_columns("round_rows", Some(("y", dtype)), ("width", x.width), &[])?;
    site.launches.push_for(variant, &arguments, (rows.count, (PARTED_ROWS + 1, u32::MAX)), grid)
}

/// Many rows: one run after the other, in one program.
fn runs_in_turn(
    site: &mut Site<'_>,
    dtype: DType,
    x: &Operand,
    (w, y): (WeightId, &Operand),
) -> Result<(), KernelError> {
    let rows = site.counted(x);
    let arguments = arguments(site, site.rounded, rows, (w, y));
    let fits = |variant: &Variant| variant.constant("PARTED") == 1 && variant.is("x", dtype);
    let variants = by_rows(site, "contract", site.weight(w), fits)?;
    by_tiles((site.weight(w).spec().n, variants), (PARTED_ROWS + 1, u32::MAX), |variant, range, [outputs, tiles]| {
        let grid = [outputs, tiles, Extent::Fixed(1)];
        site.launches.push_for(variant, &arguments, (rows.count, range), grid)
    })
}
