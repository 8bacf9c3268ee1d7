//! Launches of contractions: one tile of terms for every number of rows, tiles of rows by how many there are, up to three weights at once.
//!
//! Weights of few outputs would leave most of a GPU idle, so their terms are summed in runs, which the shapes of the weights decide and
//! nothing else: of few rows each run by a program of its own, of which the last adds them all in order, of many rows one run after the
//! other in one program. The additions are the same.

use crate::cuda::arguments::{Contract, RoundRows, Variant};
use crate::cuda::{DeviceWeight, Extent, Site, Wanted};
use crate::error::KernelError;
use crate::ops::quantised;
use graph::plan::{Call, Operand, Program, WeightId, WeightSpec};
use graph::{DType, WeightType};

/// Programs that keep a GPU's memory busy: two for each of its multiprocessors, as many as an H100 and an H200 have.
const PROGRAMS: u32 = 264;
/// Programs over a weight in blocks, which wait for arithmetic as well.
const PROGRAMS_IN_BLOCKS: u32 = 2 * PROGRAMS;
/// Terms of a run, at least, and a divisor of their number.
const RUN: u32 = 256;
/// Outputs of a program that sums a run.
const OUTPUTS: u32 = 64;
/// Rows up to which runs have programs of their own.
const PARTED_ROWS: u32 = 128;
/// Rows up to which x is rounded as it is read; beyond, once before.
const FEW_ROWS: u32 = 32;
/// The largest tile of rows whose runs have programs of their own.
const PARTED_TILE: u32 = 64;
/// Rows from which a tile has 256 of them.
const MANY_ROWS: u32 = 1024;
/// Terms of each output that a launch of few rows asks for before the kernel ahead of it is done.
const EARLY: i64 = 512;
/// Terms that are many for a program.
const LONG: u32 = 4096;
/// The constant of kernels that have a program for each run.
pub(crate) const APART: i64 = 2;
/// Weights that a launch can have.
const TOGETHER: usize = 3;

/// Weights that share x and a launch, with where their results go.
pub(crate) struct Together<'a> {
    parts: &'a [(WeightId, Operand)],
}

impl Together<'_> {
    /// What `of` says of each, of those that are not there `absent`.
    pub(crate) fn each<T: Copy>(&self, absent: Option<T>, of: impl Fn(WeightId, &Operand) -> T) -> [T; TOGETHER] {
        let first = of(self.parts[0].0, &self.parts[0].1);
        let at = |number: usize| self.parts.get(number).map_or(absent.unwrap_or(first), |(w, y)| of(*w, y));
        [at(0), at(1), at(2)]
    }

    /// Outputs of each.
    pub(crate) fn widths(&self, site: &Site<'_>) -> [u32; TOGETHER] {
        self.each(Some(0), |w, _| site.weight(w).spec().n)
    }

    /// The first weight, with whose type and terms all agree.
    pub(crate) fn first<'s>(&self, site: &'s Site<'_>) -> &'s DeviceWeight {
        site.weight(self.parts[0].0)
    }
}

/// How the terms of some weights are summed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Runs {
    /// Terms of a run.
    pub(crate) part: u32,
    /// How many runs.
    pub(crate) count: u32,
}

impl Runs {
    /// Those of weights of a type, of these widths and so many terms, which are parted if kernels without masks can be taken.
    pub(crate) fn of(dtype: WeightType, widths: [u32; TOGETHER], k: u32) -> Self {
        let can_part = is_even(dtype, widths, k);
        let programs = if dtype.plain().is_some() { PROGRAMS } else { PROGRAMS_IN_BLOCKS };
        let tiles: u32 = widths.iter().map(|n| n.div_ceil(OUTPUTS)).sum();
        let runs = (programs / tiles.max(1)).clamp(1, (k / RUN).max(1));
        let part = if can_part && runs > 1 { k.div_ceil(runs).next_multiple_of(RUN) } else { k };
        Self { part, count: k.div_ceil(part.max(1)).max(1) }
    }

    /// How a launch for at most so many rows takes them: 0 all terms at once, 1 run by run, or apart.
    pub(crate) fn parted(self, k: u32, rows: u32) -> i64 {
        // A tile of many rows keeps a multiprocessor busy by itself, unless its sums are long.
        let apart = rows <= FEW_ROWS || (rows <= PARTED_ROWS && k > LONG);
        if self.count == 1 {
            0
        } else if apart {
            APART
        } else {
            1
        }
    }

    /// Bytes for their sums, and for the counts of those that are made, of `tiles` tiles of outputs.
    fn room(self, tiles: u32) -> [u64; 2] {
        let row_tiles = u64::from(PARTED_ROWS.div_ceil(PARTED_TILE)) * u64::from(tiles);
        let sums = row_tiles * u64::from(self.count * OUTPUTS * PARTED_TILE) * 4;
        if self.count > 1 { [sums, row_tiles * 4] } else { [0, 0] }
    }
}

/// Whether kernels without masks for the last terms and outputs can be taken: of weights of four bytes there are none.
fn is_even(dtype: WeightType, widths: [u32; TOGETHER], k: u32) -> bool {
    let terms = match dtype {
        WeightType::F32 => return false,
        WeightType::Bf16 | WeightType::F16 => 64,
        WeightType::Q8_0 | WeightType::Q4_0 => quantised::cuda::AT_ONCE,
    };
    k.is_multiple_of(terms) && widths.iter().all(|n| n.is_multiple_of(16))
}

/// The weights of a call that share launches: up to three of one type.
fn together<'a>(
    parts: &'a [(WeightId, Operand)],
    kind: impl Fn(WeightId) -> WeightType,
) -> impl Iterator<Item = Together<'a>> {
    let alike = parts.chunk_by(move |(a, _), (b, _)| kind(*a) == kind(*b));
    alike.flat_map(|parts| parts.chunks(TOGETHER)).map(|parts| Together { parts })
}

/// Room that all contractions of a program share.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Room {
    /// Bytes for the sums of runs.
    pub(crate) parts: u64,
    /// Bytes for how many of them are made: zeros between launches.
    pub(crate) arrived: u64,
    /// Bytes for rounded activations.
    pub(crate) rounded: u64,
}

impl Room {
    /// That of a program.
    pub(crate) fn of(program: &Program, specs: &[&WeightSpec], rows_max: u32) -> Self {
        let mut room = Self::default();
        for call in &program.calls {
            let Call::Contract { parts, .. } = call else { continue };
            if parts.iter().any(|(w, _)| specs.get(w.0 as usize).is_none()) {
                continue;
            }
            let spec = |w: WeightId| specs[w.0 as usize];
            for group in together(parts, |w| spec(w).dtype) {
                let (widths, first) = (group.each(Some(0), |w, _| spec(w).n), spec(group.parts[0].0));
                let tiles = widths.iter().map(|n| n.div_ceil(OUTPUTS)).sum();
                let [parts, arrived] = Runs::of(first.dtype, widths, first.k).room(tiles);
                room.parts = room.parts.max(parts);
                room.arrived = room.arrived.max(arrived);
                room.rounded = room.rounded.max(u64::from(rows_max) * u64::from(first.k) * 2);
            }
        }
        room
    }
}

/// For each part, y = x · wᵀ.
pub(crate) fn contract(site: &mut Site<'_>, x: &Operand, parts: &[(WeightId, Operand)]) -> Result<(), KernelError> {
    let weights = site.weights;
    let mut rounded = Rounded::default();
    for group in together(parts, |w| weights[w.0 as usize].spec().dtype) {
        match group.first(site).plain() {
            Some(dtype) => plain(site, x, (&group, dtype), &mut rounded)?,
            None => quantised::cuda::contract(site, x, &group)?,
        }
    }
    Ok(())
}

/// The type of x in the room for rounded activations.
#[derive(Default)]
struct Rounded(Option<DType>);

impl Rounded {
    /// Has x there in a type, for launches of many rows: once for all weights that share it.
    fn want(&mut self, site: &mut Site<'_>, x: &Operand, dtype: DType) -> Result<(), KernelError> {
        if self.0 == Some(dtype) {
            return Ok(());
        }
        let rows = site.counted(x);
        let arguments = RoundRows { rows: rows.at, x: site.address(x), y: site.rounded, width: x.width as i32 };
        let (variant, grid) = site.typed_columns("round_rows", Some(("y", dtype)), ("width", x.width), &[])?;
        self.0 = Some(dtype);
        site.launches.push_for(variant, &arguments, (rows.count, (FEW_ROWS + 1, u32::MAX)), grid)
    }
}

/// The least and the most rows of x that a launch is for, and the most rows of a tile.
type ForRows = ((u32, u32), u32);

/// Plain weights of two bytes, with all terms in one run.
const WHOLE: [ForRows; 5] = [
    ((1, 16), 16),
    ((17, FEW_ROWS), 32),
    ((FEW_ROWS + 1, PARTED_ROWS), PARTED_TILE),
    ((PARTED_ROWS + 1, MANY_ROWS - 1), 128),
    ((MANY_ROWS, u32::MAX), 256),
];
/// The same in runs: sums of a larger tile would not stay in registers beside those of a run.
const IN_RUNS: [ForRows; 4] = [
    ((1, 16), 16),
    ((17, FEW_ROWS), 32),
    ((FEW_ROWS + 1, PARTED_ROWS), PARTED_TILE),
    ((PARTED_ROWS + 1, u32::MAX), 128),
];
/// Of other widths, and of four bytes.
const ANY: [ForRows; 2] = [((1, 16), 16), ((17, u32::MAX), 64)];

fn plain(
    site: &mut Site<'_>,
    x: &Operand,
    (group, dtype): (&Together<'_>, DType),
    rounded: &mut Rounded,
) -> Result<(), KernelError> {
    let (widths, k, rows) = (group.widths(site), group.first(site).spec().k, site.counted(x));
    let stored = group.first(site).spec().dtype;
    let (even, runs) = (is_even(stored, widths, k), Runs::of(stored, widths, k));
    let [n0, n1, n2] = widths.map(|n| n as i32);
    let [w0, w1, w2] = group.each(None, |w, _| site.weight(w).address());
    let [y0, y1, y2] = group.each(None, |_, y| site.address(y));
    let all: &[ForRows] = match (even, runs.count) {
        (false, _) => &ANY,
        (true, 1) => &WHOLE,
        (true, _) => &IN_RUNS,
    };
    for (range, tile) in all {
        let is_rounded = even && range.1 > FEW_ROWS;
        if is_rounded {
            rounded.want(site, x, dtype)?;
        }
        let parted = runs.parted(k, range.1);
        let early = if even && *tile <= FEW_ROWS { EARLY } else { 0 };
        let fixed = [("PARTED", parted), ("EVEN", i64::from(even)), ("EARLY", early)];
        let numbers = [("k", k), ("part", runs.part), ("n0", widths[0]), ("n1", widths[1]), ("n2", widths[2])];
        let wanted = Wanted { kernel: "contract", typed: Some(("w0", dtype)), fixed: &fixed, numbers: &numbers };
        let x_type = if is_rounded { dtype } else { DType::F32 };
        let fits = |variant: &Variant| {
            variant.is("x", x_type) && (!even || k.is_multiple_of(variant.constant("BLOCK_K") as u32))
        };
        let variant = tiled(wanted.fitting(fits), *tile).ok_or_else(|| site.missing(dtype.name()))?;
        let x = if is_rounded { site.rounded } else { site.address(x) };
        let (k, part, parts, arrived) = (k as i32, runs.part as i32, site.parts, site.arrived);
        let arguments = Contract { rows: rows.at, x, w0, w1, w2, y0, y1, y2, parts, arrived, n0, n1, n2, k, part };
        let grid = grid(variant, widths, if parted == APART { runs.count } else { 1 });
        site.launches.push_for(variant, &arguments, (rows.count, *range), grid)?;
    }
    Ok(())
}

/// Of some variants the one with the largest tile of rows of at most `most`, of these the one that takes most terms at once.
pub(crate) fn tiled(variants: Vec<&'static Variant>, most: u32) -> Option<&'static Variant> {
    let fits = variants.into_iter().filter(|variant| variant.constant("BLOCK_R") <= i64::from(most));
    fits.max_by_key(|variant| (variant.constant("BLOCK_R"), variant.constant("BLOCK_K"), variant.constant("AT_ONCE")))
}

/// A program for each tile of outputs, tile of rows, and run.
pub(crate) fn grid(variant: &Variant, widths: [u32; TOGETHER], runs: u32) -> [Extent; 3] {
    let block = |name| variant.constant(name) as u32;
    let outputs = widths.iter().map(|n| n.div_ceil(block("BLOCK_N"))).sum();
    [Extent::Fixed(outputs), Extent::Counted { each: 1, per: block("BLOCK_R") }, Extent::Fixed(runs)]
}
