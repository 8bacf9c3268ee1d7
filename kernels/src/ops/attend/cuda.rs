//! Launches of attention: keys and values into pages, then prompt rows by tiles, and generated rows by splits.

use crate::cuda::arguments::{Append, Generated, MergeSplits, Prompt, Variant};
use crate::cuda::driver::Address;
use crate::cuda::{Count, Extent, Site, Wanted};
use crate::error::KernelError;
use graph::plan::{Operand, WeightId};
use graph::{Attention, DType};

/// How many heads, of how many elements.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) kv_heads: u32,
    pub(crate) group: u32,
    pub(crate) head_dim: u32,
}

/// A window that every sequence is within.
const WHOLE: i32 = i32::MAX / 2;

/// The least variant whose heads are as long, of pages of this type, with scores capped or not.
fn variant(
    kernel: &'static str,
    typed: Option<(&'static str, DType)>,
    head_dim: u32,
    capped: bool,
) -> Option<&'static Variant> {
    let fixed = [("CAPPED", i64::from(capped))];
    let wanted = Wanted { kernel, typed, fixed: &fixed, numbers: &[("head_dim", head_dim)] };
    let long = |variant: &&Variant| variant.constant("D") + variant.constant("TAIL");
    let variants = wanted.variants().into_iter().filter(|variant| long(variant) >= i64::from(head_dim));
    variants.min_by_key(long)
}

/// Prompt rows that are taken at once.
pub(crate) fn tile_rows(head_dim: u32, dtype: DType) -> Option<u32> {
    variant("prompt", Some(("keys", dtype)), head_dim, false).map(|variant| variant.constant("BLOCK_M") as u32)
}

/// Where a layer's pages are, and how it attends.
struct Layer {
    heads: Heads,
    dtype: DType,
    keys: Address,
    values: Address,
    table: Address,
    window: i32,
    scale: f32,
    cap: Option<f32>,
    sinks: Option<Address>,
}

/// Appends k and v, then attends.
pub(crate) fn attend(
    site: &mut Site<'_>,
    [q, k, v, y]: [&Operand; 4],
    (cache, sinks): (u32, Option<WeightId>),
    heads: Heads,
    how: &Attention,
) -> Result<(), KernelError> {
    let pages = &site.pages[cache as usize];
    let layer = Layer {
        heads,
        dtype: pages.spec.dtype,
        keys: pages.keys.address(),
        values: pages.values.address(),
        table: site.meta.table(pages.is_windowed),
        window: how.window.map_or(WHOLE, |window| window.min(WHOLE as u32) as i32),
        scale: how.scale,
        cap: how.softcap,
        sinks: sinks.map(|w| site.weight(w).address()),
    };
    append(site, [k, v], &layer)?;
    prompt(site, [q, y], &layer)?;
    generated(site, [q, y], &layer)
}

fn append(site: &mut Site<'_>, [k, v]: [&Operand; 2], layer: &Layer) -> Result<(), KernelError> {
    let Heads { kv_heads, head_dim, .. } = layer.heads;
    let arguments = Append {
        rows: site.meta.rows(),
        row_position: site.meta.row_position(),
        row_span: site.meta.row_span(),
        span_first_page: site.meta.span_first_page(),
        table: layer.table,
        k: site.address(k),
        v: site.address(v),
        keys: layer.keys,
        values: layer.values,
        kv_heads: kv_heads as i32,
        head_dim: head_dim as i32,
    };
    let typed = Some(("keys", layer.dtype));
    let wanted = Wanted { kernel: "append", typed, fixed: &[], numbers: &[("head_dim", head_dim)] };
    let width = kv_heads * head_dim;
    let variant = wanted.blocks("BLOCK", width).ok_or_else(|| site.missing(layer.dtype.name()))?;
    let blocks = Extent::columns(width, variant.constant("BLOCK") as u32);
    site.launches.push(variant, &arguments, Count::Rows, [Extent::ONE_EACH, blocks, Extent::Fixed(1)])
}

fn prompt(site: &mut Site<'_>, [q, y]: [&Operand; 2], layer: &Layer) -> Result<(), KernelError> {
    let Heads { kv_heads, group, head_dim } = layer.heads;
    let variant = variant("prompt", Some(("keys", layer.dtype)), head_dim, layer.cap.is_some());
    let variant = variant.ok_or_else(|| site.missing(layer.dtype.name()))?;
    let meta = site.meta;
    let arguments = Prompt {
        tiles: meta.tiles(),
        tile_span: meta.tile_span(),
        tile_row: meta.tile_row(),
        span_first_row: meta.span_first_row(),
        span_rows: meta.span_rows(),
        span_start: meta.span_start(),
        span_prompt: meta.span_prompt(),
        span_first_page: meta.span_first_page(),
        table: layer.table,
        q: site.address(q),
        keys: layer.keys,
        values: layer.values,
        sinks: layer.sinks.unwrap_or(Address::NULL),
        y: site.address(y),
        kv_heads: kv_heads as i32,
        group: group as i32,
        head_dim: head_dim as i32,
        window: layer.window,
        has_sinks: i32::from(layer.sinks.is_some()),
        scale: layer.scale,
        cap: layer.cap.unwrap_or(0.0),
    };
    let grid = [Extent::ONE_EACH, Extent::Fixed(kv_heads * group), Extent::Fixed(1)];
    site.launches.push(variant, &arguments, Count::Tiles, grid)
}

fn generated(site: &mut Site<'_>, [q, y]: [&Operand; 2], layer: &Layer) -> Result<(), KernelError> {
    let Heads { kv_heads, group, head_dim } = layer.heads;
    let split = variant("generated", Some(("keys", layer.dtype)), head_dim, layer.cap.is_some());
    let split = split.ok_or_else(|| site.missing(layer.dtype.name()))?;
    let merge = variant("merge_splits", None, head_dim, false).ok_or_else(|| site.missing(DType::F32.name()))?;
    let of_group = group.div_ceil(split.constant("GROUP") as u32);
    let (meta, splits) = (site.meta, site.splits);
    for number in 0..site.limits.rows_max.div_ceil(splits.portion) {
        let arguments = Generated {
            count: meta.portion(number),
            generated_rows: meta.generated(number),
            row_position: meta.row_position(),
            row_span: meta.row_span(),
            span_first_page: meta.span_first_page(),
            table: layer.table,
            q: site.address(q),
            keys: layer.keys,
            values: layer.values,
            split_m: splits.largest.address(),
            split_l: splits.sums.address(),
            split_o: splits.values.address(),
            kv_heads: kv_heads as i32,
            group: group as i32,
            head_dim: head_dim as i32,
            window: layer.window,
            scale: layer.scale,
            cap: layer.cap.unwrap_or(0.0),
        };
        let count = Count::Generated(number);
        let grid = [Extent::ONE_EACH, Extent::Fixed(kv_heads * of_group), Extent::Splits];
        site.launches.push(split, &arguments, count, grid)?;
        let arguments = MergeSplits {
            count: meta.portion(number),
            generated_rows: meta.generated(number),
            row_position: meta.row_position(),
            split_m: splits.largest.address(),
            split_l: splits.sums.address(),
            split_o: splits.values.address(),
            sinks: layer.sinks.unwrap_or(Address::NULL),
            y: site.address(y),
            // Told with each launch: as many as the grid of the kernel before has.
            splits: 0,
            head_dim: head_dim as i32,
            window: layer.window,
            has_sinks: i32::from(layer.sinks.is_some()),
        };
        let grid = [Extent::ONE_EACH, Extent::Fixed(kv_heads * group), Extent::Fixed(1)];
        site.launches.push(merge, &arguments, count, grid)?;
    }
    Ok(())
}
