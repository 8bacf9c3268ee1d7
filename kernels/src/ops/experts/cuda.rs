//! Launches of experts: the choices of all rows are listed by expert once for each set of gates, in tiles of one size for few rows and of
//! another for many; then each weight goes over the tiles.

use crate::cuda::arguments::Variant;
use crate::cuda::arguments::{Choose, ContractEach, Count as CountEntries, ExpertBias, Experts, Place, Weigh};
use crate::cuda::driver::Address;
use crate::cuda::{CountAt, Extent, Site, Wanted};
use crate::error::KernelError;
use crate::executor::shape;
use graph::DType;
use graph::plan::{Call, Operand, Program, WeightId, WeightSpec};

/// The choices of a step's rows, listed by expert.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    gates: Operand,
    choices: u32,
    begin: u32,
    held: u32,
}

impl Chosen {
    /// What the choices were made from.
    pub(crate) fn gates(&self) -> &Operand {
        &self.gates
    }
}

/// Where the lists lie, of one set of gates after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lists {
    entry: Address,
    gate: Address,
    counts: Address,
    at: Address,
    tile_entry: Address,
    tiles: Address,
    /// What experts make before it is weighed.
    made: Address,
    /// Slots of a tile: for few rows, and for many where all of the program's weights have that.
    sizes: &'static [u32],
}

/// Slots of the smaller and of the larger tile.
static TILES: [u32; 2] = [16, 64];

/// The variant for a weight and tiles of this many slots.
fn variant(spec: &WeightSpec, tile: u32) -> Option<&'static Variant> {
    let typed = Some(("w", spec.dtype.plain()?));
    let wanted = Wanted { kernel: "experts", typed, fixed: &[("BLOCK_R", tile.into())], numbers: &[("k", spec.k)] };
    wanted.variants().first().copied()
}

/// The sizes of tiles that every weight of a program's experts has.
fn sizes(program: &Program, specs: &[&WeightSpec]) -> &'static [u32] {
    let weights = program.calls.iter().flat_map(|call| {
        if let Call::Experts { parts, .. } = call {
            parts.iter().map(|(w, _)| *w).collect()
        } else if let Call::Combine { w, .. } = call {
            vec![*w]
        } else {
            vec![]
        }
    });
    let mut specs = weights.filter_map(|w| specs.get(w.0 as usize));
    let large = specs.all(|spec| variant(spec, TILES[1]).is_some());
    if large { &TILES } else { &TILES[..1] }
}

/// Bytes of each list for a program's largest call, and of what its experts make.
fn lengths(program: &Program, specs: &[&WeightSpec], rows_max: u32) -> [u64; 7] {
    let (mut slots, mut held, mut made) = (0u64, 0u64, 0u64);
    for call in &program.calls {
        let (choices, experts, n) = if let Call::Combine { gates, choices, w, .. } = call {
            (*choices, gates.width, specs.get(w.0 as usize).map_or(0, |spec| spec.n))
        } else if let Call::Experts { gates, choices, .. }
        | Call::ExpertBias { gates, choices, .. }
        | Call::Weigh { gates, choices, .. } = call
        {
            (*choices, gates.width, 0)
        } else {
            continue;
        };
        slots = slots.max(u64::from(rows_max) * u64::from(choices));
        held = held.max(experts.into());
        made = made.max(u64::from(rows_max) * u64::from(choices) * u64::from(n) * 4);
    }
    let tile = u64::from(TILES[1]);
    let at = slots + (held + 1) * tile;
    [slots * 4, slots * 4, (held + 1) * 4, at * 4, at / u64::from(TILES[0]) * 4 + 64, 4, made]
}

/// Takes memory for the lists of a program.
pub(crate) fn take(
    program: &Program,
    specs: &[&WeightSpec],
    rows_max: u32,
    mut take: impl FnMut(u64) -> Result<Address, KernelError>,
) -> Result<Lists, KernelError> {
    let [entry, gate, counts, at, tile_entry, tiles, made] = lengths(program, specs, rows_max).map(&mut take);
    Ok(Lists {
        entry: entry?,
        gate: gate?,
        counts: counts?,
        at: at?,
        tile_entry: tile_entry?,
        tiles: tiles?,
        made: made?,
        sizes: sizes(program, specs),
    })
}

/// The range of rows that the size of tile of this number is for: the larger one where an expert has many slots.
fn range(lists: &Lists, number: usize, chosen: &Chosen) -> (u32, u32) {
    let many = (32 * chosen.held).div_ceil(chosen.choices.max(1)).max(2);
    match (number, lists.sizes.len()) {
        (_, 1) => (1, u32::MAX),
        (0, _) => (1, many - 1),
        _ => (many, u32::MAX),
    }
}

/// Lists the choices of `gates`, unless they are listed already.
fn choose(site: &mut Site<'_>, wanted: Chosen) -> Result<Chosen, KernelError> {
    let same = |known: &Chosen| {
        known.gates == wanted.gates
            && [known.choices, known.begin, known.held] == [wanted.choices, wanted.begin, wanted.held]
    };
    if site.chosen.as_ref().is_some_and(same) {
        return Ok(wanted);
    }
    let (rows, lists) = (site.counted(&wanted.gates), site.lists);
    let experts = wanted.gates.width;
    let [choices, begin, held] = [wanted.choices, wanted.begin, wanted.held].map(|number| number as i32);
    let plain = |kernel| Wanted { kernel, typed: None, fixed: &[], numbers: &[] };
    let variant = plain("choose").covering("EXPERTS", experts).ok_or_else(|| site.missing(DType::F32.name()))?;
    let arguments = Choose {
        rows: rows.at,
        gates: site.address(&wanted.gates),
        entry: lists.entry,
        gate: lists.gate,
        experts: experts as i32,
        choices,
        begin,
        held,
    };
    let one = Extent::Fixed(1);
    site.launches.push(variant, &arguments, rows.count, [Extent::ONE_EACH, one, one])?;
    let [counted, placed] = ["count", "place"].map(|kernel| plain(kernel).variants().first().copied());
    let (counted, placed) = counted.zip(placed).ok_or_else(|| site.missing(DType::F32.name()))?;
    let entries = [Extent::Fixed(wanted.held + 1), one, one];
    let arguments = CountEntries { rows: rows.at, entry: lists.entry, counts: lists.counts, choices, held };
    site.launches.push(counted, &arguments, rows.count, entries)?;
    for (number, &tile) in lists.sizes.iter().enumerate() {
        let arguments = Place {
            rows: rows.at,
            entry: lists.entry,
            counts: lists.counts,
            at: lists.at,
            tile_entry: lists.tile_entry,
            tiles: lists.tiles,
            choices,
            held,
            tile: tile as i32,
        };
        site.launches.push_for(placed, &arguments, (rows.count, range(&lists, number, &wanted)), entries)?;
    }
    site.chosen = Some(wanted.clone());
    Ok(wanted)
}

/// The choices that a weight, or a vector of `len` elements an expert, is for.
fn chosen(site: &Site<'_>, (gates, choices): (&Operand, u32), w: WeightId, len: u32) -> Chosen {
    let shape = shape(gates, (choices, choices), site.weight(w).spec(), len);
    Chosen { gates: *gates, choices, begin: shape.first as u32, held: shape.held as u32 }
}

/// y = x by the weight of each choice's expert; `parts` is 1 where the choices of a row share x.
fn over_tiles(
    site: &mut Site<'_>,
    (x, parts, rows): (Address, u32, CountAt),
    chosen: &Chosen,
    w: WeightId,
    y: Address,
) -> Result<(), KernelError> {
    let (weight, lists) = (site.weight(w), site.lists);
    let (n, k) = (weight.spec().n, weight.spec().k);
    let arguments = Experts {
        tiles: lists.tiles,
        tile_entry: lists.tile_entry,
        at: lists.at,
        x,
        w: weight.address(),
        y,
        choices: chosen.choices as i32,
        parts: parts as i32,
        held: chosen.held as i32,
        n: n as i32,
        k: k as i32,
    };
    let spec = weight.spec().clone();
    for (number, &tile) in lists.sizes.iter().enumerate() {
        let variant = variant(&spec, tile).ok_or_else(|| site.missing(spec.dtype.name()))?;
        let outputs = Extent::columns(n, variant.constant("BLOCK_N") as u32);
        let tiles = Extent::Tiles { each: chosen.choices, per: tile, more: chosen.held + 1 };
        let grid = [outputs, tiles, Extent::Fixed(1)];
        site.launches.push_for(variant, &arguments, (rows.count, range(&lists, number, chosen)), grid)?;
    }
    Ok(())
}

/// For each part, y = x · wᵀ by the weight of each choice's expert.
pub(crate) fn experts(
    site: &mut Site<'_>,
    x: &Operand,
    (gates, choices): (&Operand, u32),
    parts: &[(WeightId, Operand)],
) -> Result<(), KernelError> {
    for (w, y) in parts {
        let chosen = choose(site, chosen(site, (gates, choices), *w, 0))?;
        let shared = x.width / site.weight(*w).spec().k;
        let operand = (site.address(x), shared, site.counted(x));
        over_tiles(site, operand, &chosen, *w, site.address(y))?;
    }
    Ok(())
}

/// y = Σ over the choices of a row of gate · (x · wᵀ).
pub(crate) fn combine(
    site: &mut Site<'_>,
    x: &Operand,
    (gates, choices): (&Operand, u32),
    w: WeightId,
    y: &Operand,
) -> Result<(), KernelError> {
    let chosen = choose(site, chosen(site, (gates, choices), w, 0))?;
    let (made, rows) = (site.lists.made, site.counted(x));
    over_tiles(site, (site.address(x), choices, rows), &chosen, w, made)?;
    weighed(site, (made, rows), choices, y)
}

/// y = Σ over the choices of a row of gate · x.
pub(crate) fn weigh(
    site: &mut Site<'_>,
    x: &Operand,
    (gates, choices): (&Operand, u32),
    y: &Operand,
) -> Result<(), KernelError> {
    choose(site, Chosen { gates: *gates, choices, begin: 0, held: gates.width })?;
    weighed(site, (site.address(x), site.counted(x)), choices, y)
}

fn weighed(site: &mut Site<'_>, (x, rows): (Address, CountAt), choices: u32, y: &Operand) -> Result<(), KernelError> {
    let arguments = Weigh {
        rows: rows.at,
        gate: site.lists.gate,
        x,
        y: site.address(y),
        choices: choices as i32,
        n: y.width as i32,
    };
    let (variant, grid) = site.columns("weigh", ("n", y.width), &[])?;
    site.launches.push(variant, &arguments, rows.count, grid)
}

/// y = x plus the run of w that belongs to each choice's expert.
pub(crate) fn bias(
    site: &mut Site<'_>,
    [x, y]: [&Operand; 2],
    (gates, choices): (&Operand, u32),
    w: WeightId,
) -> Result<(), KernelError> {
    let n = x.width / choices;
    choose(site, chosen(site, (gates, choices), w, n))?;
    let rows = site.counted(x);
    let arguments = ExpertBias {
        rows: rows.at,
        entry: site.lists.entry,
        x: site.address(x),
        w: site.weight(w).address(),
        y: site.address(y),
        choices: choices as i32,
        n: n as i32,
    };
    let (variant, [_, columns, one]) = site.columns("expert_bias", ("n", n), &[])?;
    let slots = Extent::Counted { each: choices, per: 1 };
    site.launches.push(variant, &arguments, rows.count, [slots, columns, one])
}

/// y = x · wᵀ for each run of a row, by the entry of w that belongs to it.
pub(crate) fn contract_each(site: &mut Site<'_>, x: &Operand, w: WeightId, y: &Operand) -> Result<(), KernelError> {
    let (rows, weight) = (site.counted(x), site.weight(w));
    let (n, k) = (weight.spec().n, weight.spec().k);
    let dtype = weight.plain().ok_or_else(|| site.missing(weight.spec().dtype.name()))?;
    let each = x.width / k;
    let arguments = ContractEach {
        rows: rows.at,
        x: site.address(x),
        w: weight.address(),
        y: site.address(y),
        each: each as i32,
        n: n as i32,
        k: k as i32,
    };
    let wanted = Wanted { kernel: "contract_each", typed: Some(("w", dtype)), fixed: &[], numbers: &[("k", k)] };
    let mut variants = wanted.variants();
    variants.sort_by_key(|variant| variant.constant("BLOCK_R"));
    if variants.is_empty() {
        return Err(site.missing(dtype.name()));
    }
    // Each variant is for the rows of its tile, the last for all more than that.
    let (mut from, last) = (1, variants.len() - 1);
    for (at, variant) in variants.into_iter().enumerate() {
        let block = |name| variant.constant(name) as u32;
        let to = if at == last { u32::MAX } else { block("BLOCK_R") };
        let tiles = Extent::Counted { each: 1, per: block("BLOCK_R") };
        let grid = [Extent::columns(n, block("BLOCK_N")), tiles, Extent::Fixed(each)];
        site.launches.push_for(variant, &arguments, (rows.count, (from, to)), grid)?;
        from = to.saturating_add(1);
    }
    Ok(())
}
