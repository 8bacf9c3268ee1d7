//! One item and head: tiles of up to six queries against one key block after another.

use super::BLOCK;
use super::cpu::Attention;
use crate::cache::PAGE;
use crate::isa::{Simd, math, sum_lanes};
use crate::panel::{Ahead, BLOCK_ROWS, Blocks, Format, LANES, Sums, load_sums, store_sums, sweep};

/// A thread's memory, laid out for one item.
pub(super) struct Desk<'a> {
    /// Queries, times the scale, in tiles of `[dim][query of the tile]`.
    q: &'a mut [f32],
    /// Running o of each query.
    o: &'a mut [f32],
    /// Running m and l of each query.
    m: &'a mut [f32],
    l: &'a mut [f32],
    /// Scores of a tile, `[query][position]`, then their exponentials.
    scores: &'a mut [[f32; BLOCK]],
    /// The exponentials again, `[position][query]`.
    weights: &'a mut [f32],
    /// o of a tile over one block.
    block: &'a mut [f32],
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

/// Attends with all queries of the item.
#[inline(always)]
pub(super) fn attend<S: Simd, F: Format>(s: S, mut task: Attention<'_>) {
    let tiles = Blocks::new(task.rows * task.heads.group);
    pack(&mut task, tiles);
    let last = task.position + task.rows - 1;
    for block in 0..=last / BLOCK {
        for number in 0..tiles.count {
            let (first, rows) = tiles.at(number);
            // A single tile streams its pages from memory; several find them in the cache.
            match (rows, tiles.count) {
                (1, 1) => tile::<S, F, 1, 4, true>(s, &mut task, block, first),
                (2, 1) => tile::<S, F, 2, 2, true>(s, &mut task, block, first),
                (3, 1) => tile::<S, F, 3, 1, true>(s, &mut task, block, first),
                (4, 1) => tile::<S, F, 4, 1, true>(s, &mut task, block, first),
                (5, 1) => tile::<S, F, 5, 1, true>(s, &mut task, block, first),
                (6, 1) => tile::<S, F, 6, 1, true>(s, &mut task, block, first),
                (3, _) => tile::<S, F, 3, 1, false>(s, &mut task, block, first),
                (4, _) => tile::<S, F, 4, 1, false>(s, &mut task, block, first),
                (5, _) => tile::<S, F, 5, 1, false>(s, &mut task, block, first),
                (6, _) => tile::<S, F, 6, 1, false>(s, &mut task, block, first),
                (other, _) => unreachable!("even tiles have three to six queries, not {other}"),
            }
        }
    }
    finish(s, &task);
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

/// R queries, from `first` on, against one block. NP: panels at a time. STREAM: pages come from memory, so prefetch.
#[inline(always)]
fn tile<S: Simd, F: Format, const R: usize, const NP: usize, const STREAM: bool>(
    s: S,
    task: &mut Attention<'_>,
    block: usize,
    first: usize,
) {
    let group = task.heads.group;
    let seen = |r: usize| (task.position + (first + r) / group + 1).saturating_sub(block * BLOCK).min(BLOCK);
    let visible: [usize; R] = std::array::from_fn(seen);
    // Rows of a tile ascend, so its last query sees most and its first one least.
    let (least, most) = (visible[0], visible[R - 1]);
    if most == 0 {
        return;
    }
    let pages = &task.pages[block * (BLOCK / PAGE)..][..most.div_ceil(PAGE)];
    let mut page = 0;
    while page + NP <= pages.len() {
        scores::<S, F, R, NP, STREAM>(s, task, pages, page, first);
        page += NP;
    }
    while page < pages.len() {
        scores::<S, F, R, 1, STREAM>(s, task, pages, page, first);
        page += 1;
    }
    let mut found = [(0.0, 0.0); R];
    for r in 0..R {
        if visible[r] > 0 {
            found[r] = softmax(s, &mut task.desk.scores[r], visible[r]);
        }
    }
    let full = least / PAGE;
    for r in 0..R {
        for (to, from) in task.desk.weights[r..].iter_mut().step_by(R).zip(&task.desk.scores[r][..full * PAGE]) {
            *to = *from;
        }
    }
    let panels = task.cache.dims / LANES;
    let mut panel = 0;
    while panel + NP <= panels {
        values::<S, F, R, NP, STREAM>(s, task, &pages[..full], panel);
        panel += NP;
    }
    while panel < panels {
        values::<S, F, R, 1, STREAM>(s, task, &pages[..full], panel);
        panel += 1;
    }
    for r in 0..R {
        if visible[r] > 0 {
            tail::<S, F>(s, task, pages, r, full * PAGE..visible[r]);
            merge(s, task, block, (first + r, r), found[r]);
        }
    }
}

/// Cache lines of a line of pages that are prefetched.
#[inline(always)]
fn touched<S: Simd, F: Format, const R: usize, const P: usize, const STREAM: bool>(
    s: S,
    lines: [&[F::Line]; P],
    x: &[f32],
    sums: Sums<S::V, R, P>,
    next: [*const F::Line; P],
) -> Sums<S::V, R, P> {
    let ahead = Ahead { from: next.map(|next| next.cast()), step: size_of::<F::Line>() };
    if !STREAM {
        sweep::<S, F, R, P, 0>(s, lines, x, sums, Ahead::NOTHING)
    } else if size_of::<F::Line>() > 64 {
        sweep::<S, F, R, P, 2>(s, lines, x, sums, ahead)
    } else {
        sweep::<S, F, R, P, 1>(s, lines, x, sums, ahead)
    }
}

/// Keys and values of a page.
#[inline(always)]
fn lines<'a, F: Format>(task: &Attention<'a>, page: u32) -> (&'a [F::Line], &'a [F::Line]) {
    // SAFETY: all rows were appended before the team began to attend.
    unsafe { task.cache.read::<F>(page, task.head) }
}

/// Scores of R queries with P pages from `page` on.
#[inline(always)]
fn scores<S: Simd, F: Format, const R: usize, const P: usize, const STREAM: bool>(
    s: S,
    task: &mut Attention<'_>,
    pages: &[u32],
    page: usize,
    first: usize,
) {
    let keys: [&[F::Line]; P] = std::array::from_fn(|p| lines::<F>(task, pages[page + p]).0);
    // The pages that follow, or the first values.
    let next = std::array::from_fn(|p| match pages.get(page + P + p) {
        Some(&page) => lines::<F>(task, page).0.as_ptr(),
        None => lines::<F>(task, pages[p.min(pages.len() - 1)]).1.as_ptr(),
    });
    let q = &task.desk.q[first * task.heads.head_dim..][..R * task.heads.head_dim];
    let sums = touched::<S, F, R, P, STREAM>(s, keys, q, [[[s.zero(); 2]; P]; R], next);
    for (sums, scores) in sums.into_iter().zip(task.desk.scores.iter_mut()) {
        for (sums, to) in sums.into_iter().zip(scores[page * PAGE..].as_chunks_mut::<PAGE>().0) {
            store_sums(s, sums, to);
        }
    }
}

/// Turns the first `visible` scores into e^(s - m); what lies behind them up to a whole vector becomes zero. Returns m and l.
#[inline(always)]
fn softmax<S: Simd>(s: S, scores: &mut [f32; BLOCK], visible: usize) -> (f32, f32) {
    scores[visible..visible.next_multiple_of(8)].fill(f32::NEG_INFINITY);
    let (vectors, _) = scores[..visible.next_multiple_of(8)].as_chunks_mut::<8>();
    let mut m = s.splat(f32::NEG_INFINITY);
    for vector in vectors.iter() {
        m = s.max(m, s.load(vector));
    }
    let m = s.lanes(m).into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut l = s.zero();
    for vector in vectors {
        let e = math::exp(s, s.sub(s.load(vector), s.splat(m)));
        s.store(e, vector);
        l = s.add(l, e);
    }
    (m, sum_lanes(s.lanes(l)))
}

/// o over the pages that all R queries see whole, for P panels of dims.
#[inline(always)]
fn values<S: Simd, F: Format, const R: usize, const P: usize, const STREAM: bool>(
    s: S,
    task: &mut Attention<'_>,
    pages: &[u32],
    panel: usize,
) {
    const LINES: usize = PAGE / 2;
    let at = |page: u32, panel: usize| &lines::<F>(task, page).1[panel * LINES..][..LINES];
    let mut sums = [[[s.zero(); 2]; P]; R];
    for (i, &page) in pages.iter().enumerate() {
        let next = match pages.get(i + 1) {
            Some(&next) => std::array::from_fn(|p| at(next, panel + p).as_ptr()),
            // The first page's next panels; past the last panel the addresses are merely useless.
            None => std::array::from_fn(|p| at(pages[0], panel + p).as_ptr().wrapping_add(P * LINES)),
        };
        let weights = &task.desk.weights[i * PAGE * R..][..PAGE * R];
        sums = touched::<S, F, R, P, STREAM>(s, std::array::from_fn(|p| at(page, panel + p)), weights, sums, next);
    }
    for (sums, block) in sums.into_iter().zip(task.desk.block.chunks_exact_mut(task.cache.dims)) {
        for (sums, to) in sums.into_iter().zip(block[panel * LANES..].as_chunks_mut::<LANES>().0) {
            store_sums(s, sums, to);
        }
    }
}

/// Adds the positions that not all queries of the tile see, for query `r` alone, four panels of dims at a time.
#[inline(always)]
fn tail<S: Simd, F: Format>(s: S, task: &mut Attention<'_>, pages: &[u32], r: usize, range: std::ops::Range<usize>) {
    let panels = task.cache.dims / LANES;
    for from in range.clone().step_by(PAGE) {
        let to = range.end.min(from + PAGE);
        let values = lines::<F>(task, pages[from / PAGE]).1;
        let mut panel = 0;
        while panel + 4 <= panels {
            tail_page::<S, F, 4>(s, task, values, (r, panel), from..to);
            panel += 4;
        }
        while panel < panels {
            tail_page::<S, F, 1>(s, task, values, (r, panel), from..to);
            panel += 1;
        }
    }
}

#[inline(always)]
fn tail_page<S: Simd, F: Format, const P: usize>(
    s: S,
    task: &mut Attention<'_>,
    values: &[F::Line],
    (r, panel): (usize, usize),
    range: std::ops::Range<usize>,
) {
    const LINES: usize = PAGE / 2;
    let dims = task.cache.dims;
    let (block, _) = task.desk.block[r * dims + panel * LANES..].as_chunks_mut::<LANES>();
    let mut sums = [[[s.zero(); 2]; P]; 1];
    for p in 0..P {
        sums[0][p] = load_sums(s, &block[p]);
    }
    let lines = std::array::from_fn(|p| &values[(panel + p) * LINES..][..LINES]);
    let sums = sweep::<S, F, 1, P, 0>(s, lines, &task.desk.scores[r][range], sums, Ahead::NOTHING);
    for p in 0..P {
        store_sums(s, sums[0][p], &mut block[p]);
    }
}

/// Folds a block's result for one query into its running one.
#[inline(always)]
fn merge<S: Simd>(s: S, task: &mut Attention<'_>, block: usize, (query, r): (usize, usize), (m, l): (f32, f32)) {
    let dims = task.cache.dims;
    let from = &task.desk.block[r * dims..][..dims];
    let to = &mut task.desk.o[query * dims..][..dims];
    if block == 0 {
        to.copy_from_slice(from);
        (task.desk.m[query], task.desk.l[query]) = (m, l);
        return;
    }
    let top = task.desk.m[query].max(m);
    let shares = math::exp(s, s.load(&[task.desk.m[query] - top, m - top, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
    let [old, new, ..] = s.lanes(shares);
    task.desk.m[query] = top;
    task.desk.l[query] = task.desk.l[query] * old + l * new;
    let (old, new) = (s.splat(old), s.splat(new));
    for (to, from) in to.as_chunks_mut::<8>().0.iter_mut().zip(from.as_chunks::<8>().0) {
        s.store(s.fma(s.load(to), old, s.mul(s.load(from), new)), to);
    }
}

/// y = o / l.
#[inline(always)]
fn finish<S: Simd>(s: S, task: &Attention<'_>) {
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
