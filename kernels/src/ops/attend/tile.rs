//! One item and head: tiles of up to six queries against one key block after another.

use super::BLOCK;
use super::cpu::Task;
use super::scores::{Softmax, scores};
use super::values::{merge, tail, values};
use crate::cache::PAGE;
use crate::isa::{Kernel, Simd, math};
use crate::panel::{BLOCK_ROWS, Blocks, Format, LANES};
use std::ops::Range;

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
pub(super) fn attend<S: Simd, F: Format>(s: S, mut task: Task<'_>) {
    let tiles = Blocks::new(task.rows * task.heads.group);
    pack(&mut task, tiles);
    let last = task.position + task.rows - 1;
    for block in first(&task, task.position) / BLOCK..=last / BLOCK {
        for number in 0..tiles.count {
            let (first, rows) = tiles.at(number);
            tile::<S, F>(s, &mut task, Tile { block, first, rows, alone: tiles.count == 1 });
        }
    }
    s.call(Finish(&task));
}

/// The first position that a query at `position` sees.
#[inline(always)]
fn first(task: &Task<'_>, position: usize) -> usize {
    task.heads.how.first(position as u32) as usize
}

/// Where a query's elements are in q and y.
#[inline(always)]
fn column(task: &Task<'_>, query: usize) -> usize {
    let heads = task.heads;
    let row = task.row + query / heads.group;
    ((row * heads.kv_heads + task.head) * heads.group + query % heads.group) * heads.head_dim
}

/// Packs the queries into tiles.
#[inline(always)]
fn pack(task: &mut Task<'_>, tiles: Blocks) {
    let dim = task.heads.head_dim;
    for number in 0..tiles.count {
        let (first, rows) = tiles.at(number);
        for r in 0..rows {
            // SAFETY: q is only read while the call runs.
            let q = unsafe { task.operands.q.read(column(task, first + r), dim) };
            let to = &mut task.desk.q[first * dim + r..];
            for (to, q) in to.iter_mut().step_by(rows).zip(q) {
                *to = q * task.heads.how.scale;
            }
        }
    }
}

/// What each query of a tile sees of a block: its positions in the block, the query's first block or a later one.
struct Sight {
    seen: [Range<usize>; BLOCK_ROWS],
    begins: [bool; BLOCK_ROWS],
    rows: usize,
}

impl Sight {
    #[inline(always)]
    fn of(task: &Task<'_>, Tile { block, first: from, rows, .. }: Tile) -> Self {
        let (mut seen, mut begins) = ([const { 0..0 }; BLOCK_ROWS], [false; BLOCK_ROWS]);
        for r in 0..rows {
            let position = task.position + (from + r) / task.heads.group;
            let first = first(task, position);
            let within = |position: usize| position.saturating_sub(block * BLOCK).min(BLOCK);
            seen[r] = within(first)..within(position + 1);
            begins[r] = first / BLOCK == block;
        }
        Self { seen, begins, rows }
    }

    /// The queries that see something.
    #[inline(always)]
    fn queries(&self) -> impl Iterator<Item = usize> {
        (0..self.rows).filter(|&r| !self.seen[r].is_empty())
    }

    /// The pages of which some query sees something.
    #[inline(always)]
    fn touched(&self) -> Range<usize> {
        let from = self.queries().map(|r| self.seen[r].start).min().unwrap_or(0);
        let to = self.queries().map(|r| self.seen[r].end).max().unwrap_or(0);
        from / PAGE..to.div_ceil(PAGE)
    }

    /// The pages that every query sees whole.
    #[inline(always)]
    fn whole(&self) -> Range<usize> {
        // Rows of a tile ascend, and with them both ends of what they see.
        let (from, to) = (self.seen[self.rows - 1].start.div_ceil(PAGE), self.seen[0].end / PAGE);
        if from < to { from..to } else { 0..0 }
    }
}

/// One tile against its block.
#[inline(always)]
fn tile<S: Simd, F: Format>(s: S, task: &mut Task<'_>, tile: Tile) {
    let Tile { block, first, rows, .. } = tile;
    let sight = Sight::of(task, tile);
    let (touched, whole) = (sight.touched(), sight.whole());
    if touched.is_empty() {
        return;
    }
    let pages = &task.pages[block * (BLOCK / PAGE)..][..touched.end];
    by_panels(tile.panels(), touched.len(), |page, count| {
        scores::<S, F>(s, task, tile, (pages, touched.start), touched.start + page, count);
    });
    let mut found = [(0.0, 0.0); BLOCK_ROWS];
    for r in sight.queries() {
        let (seen, softcap) = (sight.seen[r].clone(), task.heads.how.softcap);
        found[r] = s.call(Softmax { scores: &mut task.desk.scores[r], seen, softcap });
    }
    let common = whole.start * PAGE..whole.end * PAGE;
    for r in 0..rows {
        let own = &task.desk.scores[r][common.clone()];
        for (to, from) in task.desk.weights[r..].iter_mut().step_by(rows).zip(own) {
            *to = *from;
        }
    }
    let panels = task.cache.dims / LANES;
    // What a query sees before the pages that all of them see whole comes first in its sums.
    let before = |r: usize| sight.seen[r].start..common.start.min(sight.seen[r].end);
    let begun = sight.queries().any(|r| !before(r).is_empty());
    if begun {
        task.desk.block[..rows * task.cache.dims].fill(0.0);
        for r in sight.queries() {
            tail::<S, F>(s, task, pages, r, before(r));
        }
    }
    by_panels(tile.panels(), panels, |panel, count| {
        values::<S, F>(s, task, tile, (&pages[whole.clone()], begun), panel, count);
    });
    for r in sight.queries() {
        tail::<S, F>(s, task, pages, r, common.end.max(sight.seen[r].start)..sight.seen[r].end);
        merge(s, task, sight.begins[r], (first + r, r), found[r]);
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
pub(super) fn lines<'a, F: Format>(task: &Task<'a>, page: u32) -> (&'a [F::Line], &'a [F::Line]) {
    // SAFETY: all rows were appended before the team began to attend.
    unsafe { task.cache.read::<F>(page, task.head) }
}

/// y = o / l, with the sink in l.
struct Finish<'a, 'b>(&'a Task<'b>);

impl Kernel for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let task = self.0;
        let (dims, dim) = (task.cache.dims, task.heads.head_dim);
        for query in 0..task.rows * task.heads.group {
            let (mut l, mut share) = (task.desk.l[query], 1.0);
            if let Some(sinks) = task.operands.sinks {
                let sink = sinks[task.head * task.heads.group + query % task.heads.group];
                let m = task.desk.m[query];
                let top = m.max(sink);
                let shares = math::exp(s, s.load(&[m - top, sink - top, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
                let [own, lost, ..] = s.lanes(shares);
                (l, share) = (l * own + lost, own);
            }
            let (l, share) = (s.splat(l), s.splat(share));
            let (o, _) = task.desk.o[query * dims..][..dims].as_chunks::<8>();
            for (at, o) in (0..dim).step_by(8).zip(o) {
                // SAFETY: this thread alone has this item's rows and head of y.
                unsafe {
                    task.operands.y.store(s, s.div(s.mul(s.load(o), share), l), column(task, query) + at, dim - at)
                };
            }
        }
    }
}
