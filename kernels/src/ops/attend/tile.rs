//! One item and head: tiles of up to six queries against one key block after another.

use super::BLOCK;
use super::cpu::Attention;
use super::scores::{Softmax, scores};
use super::values::{merge, tail, values};
use crate::cache::PAGE;
use crate::isa::{Kernel, Simd};
use crate::panel::{BLOCK_ROWS, Blocks, Format, LANES};

/// A thread's memory, laid out for one item.
pub(super) struct Desk<'a> {
    /// Queries, times the scale, in tiles of `[dim][query of the tile]`.
    pub(super) q: &'a mut [f32],
    /// Running o of each query.
    pub(super) o: &'a mut [f32],
    /// Running m and l of each query.
    pub(super) m: &'a mut [f32],
    pub(super) l: &'a mut [f32],
    /// Scores of a tile, `[query][position]`, then their exponentials.
    pub(super) scores: &'a mut [[f32; BLOCK]],
    /// The exponentials again, `[position][query]`.
    pub(super) weights: &'a mut [f32],
    /// o of a tile over one block.
    pub(super) block: &'a mut [f32],
}

impl<'a> Desk<'a> {
    /// f32 that an item of this many queries takes.
    pub(super) fn len(queries: usize, dims: usize) -> usize {
        queries * (2 * dims + 2) + BLOCK_ROWS * (2 * BLOCK + dims)
    }

    /// Lays the memory out.
    pub(super) fn new(memory: &'a mut [f32], queries: usize, dims: usize) -> Self {
        let (q, rest) = memory.split_at_mut(queries * dims);
        let (o, rest) = rest.split_at_mut(queries * dims);
        let (m, rest) = rest.split_at_mut(queries);
        let (l, rest) = rest.split_at_mut(queries);
        let (scores, rest) = rest.split_at_mut(BLOCK_ROWS * BLOCK);
        let (weights, rest) = rest.split_at_mut(BLOCK_ROWS * BLOCK);
        let scores = scores.as_chunks_mut::<BLOCK>().0;
        Self { q, o, m, l, scores, weights, block: &mut rest[..BLOCK_ROWS * dims] }
    }
}

/// Consecutive queries of an item that are computed together, against one block.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) block: usize,
    pub(super) first: usize,
    pub(super) rows: usize,
    /// The item's only tile streams its pages from memory; several find them in the cache.
    pub(super) alone: bool,
}

impl Tile {
    /// Panels at a time: as many chains as there are registers for.
    fn panels(self) -> usize {
        match self.rows {
            1 => 4,
            2 => 2,
            _ => 1,
        }
    }
}

/// Attends with all queries of the item.
#[inline(always)]
pub(super) fn attend<S: Simd, F: Format>(s: S, mut task: Attention<'_>) {
    let tiles = Blocks::new(task.rows * task.heads.group);
    pack(&mut task, tiles);
    let last = task.position + task.rows - 1;
    for block in 0..=last / BLOCK {
        for number in 0..tiles.count {
            let (first, rows) = tiles.at(number);
            tile::<S, F>(s, &mut task, Tile { block, first, rows, alone: tiles.count == 1 });
        }
    }
    s.call(Finish(&task));
}

/// Where a query's elements are in q and y.
#[inline(always)]
fn column(task: &Attention<'_>, query: usize) -> usize {
    let heads = task.heads;
    let row = task.row + query / heads.group;
    ((row * heads.kv_heads + task.head) * heads.group + query % heads.group) * heads.head_dim
}

/// Packs the queries into tiles.
#[inline(always)]
fn pack(task: &mut Attention<'_>, tiles: Blocks) {
    let dim = task.heads.head_dim;
    for number in 0..tiles.count {
        let (first, rows) = tiles.at(number);
        for r in 0..rows {
            // SAFETY: q is only read while the call runs.
            let q = unsafe { task.operands.q.read(column(task, first + r), dim) };
            let to = &mut task.desk.q[first * dim + r..];
            for (to, q) in to.iter_mut().step_by(rows).zip(q) {
                *to = q * task.heads.scale;
            }
        }
    }
}

/// One tile against its block.
#[inline(always)]
fn tile<S: Simd, F: Format>(s: S, task: &mut Attention<'_>, tile: Tile) {
    let Tile { block, first, rows, .. } = tile;
    let mut visible = [0; BLOCK_ROWS];
    for (r, visible) in visible[..rows].iter_mut().enumerate() {
        let seen = task.position + (first + r) / task.heads.group + 1;
        *visible = seen.saturating_sub(block * BLOCK).min(BLOCK);
    }
    // Rows of a tile ascend, so its last query sees most and its first one least.
    let (least, most) = (visible[0], visible[rows - 1]);
    if most == 0 {
        return;
    }
    let pages = &task.pages[block * (BLOCK / PAGE)..][..most.div_ceil(PAGE)];
    by_panels(tile.panels(), pages.len(), |page, count| scores::<S, F>(s, task, tile, pages, page, count));
    let mut found = [(0.0, 0.0); BLOCK_ROWS];
    for r in (0..rows).filter(|&r| visible[r] > 0) {
        found[r] = s.call(Softmax { scores: &mut task.desk.scores[r], visible: visible[r] });
    }
    let full = least / PAGE;
    for r in 0..rows {
        for (to, from) in task.desk.weights[r..].iter_mut().step_by(rows).zip(&task.desk.scores[r][..full * PAGE]) {
            *to = *from;
        }
    }
    let panels = task.cache.dims / LANES;
    by_panels(tile.panels(), panels, |panel, count| values::<S, F>(s, task, tile, &pages[..full], panel, count));
    for r in (0..rows).filter(|&r| visible[r] > 0) {
        tail::<S, F>(s, task, pages, r, full * PAGE..visible[r]);
        merge(s, task, block, (first + r, r), found[r]);
    }
}

/// Calls `f(first, count)` for all panels: `wide` at a time, then one by one.
#[inline(always)]
pub(super) fn by_panels(wide: usize, panels: usize, mut f: impl FnMut(usize, usize)) {
    let mut panel = 0;
    while panel < panels {
        let count = if panel + wide <= panels { wide } else { 1 };
        f(panel, count);
        panel += count;
    }
}

/// Keys and values of a page.
#[inline(always)]
pub(super) fn lines<'a, F: Format>(task: &Attention<'a>, page: u32) -> (&'a [F::Line], &'a [F::Line]) {
    // SAFETY: all rows were appended before the team began to attend.
    unsafe { task.cache.read::<F>(page, task.head) }
}

/// y = o / l.
struct Finish<'a, 'b>(&'a Attention<'b>);

impl Kernel for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let task = self.0;
        let (dims, dim) = (task.cache.dims, task.heads.head_dim);
        for query in 0..task.rows * task.heads.group {
            let l = s.splat(task.desk.l[query]);
            let (o, _) = task.desk.o[query * dims..][..dims].as_chunks::<8>();
            for (at, o) in (0..dim).step_by(8).zip(o) {
                // SAFETY: this thread alone has this item's rows and head of y.
                unsafe { task.operands.y.store(s, s.div(s.load(o), l), column(task, query) + at, dim - at) };
            }
        }
    }
}
