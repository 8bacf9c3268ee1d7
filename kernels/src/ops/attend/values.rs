//! The weighted sum of a block's values: pages that a whole tile sees together, the rest query by query; then the merge.

use super::cpu::Task;
use super::tile::{Tile, by_panels, lines};
use crate::cache::{CacheView, PAGE};
use crate::isa::{Kernel, Simd, math};
use crate::panel::{Ahead, Format, LANES, Sums, add_terms, load_lanes, store_lanes, sweep};
use std::marker::PhantomData;
use std::ops::Range;

/// Pages that prefetches run ahead: one is over too soon, since only some of its dims are read at a time.
const AHEAD_PAGES: usize = 3;

/// o of a tile over the pages that all its queries see whole, for `count` panels of dims; on top of what the block holds where it has
/// begun.
#[inline(always)]
pub(super) fn values<S: Simd, F: Format>(
    s: S,
    task: &mut Task<'_>,
    tile: Tile,
    (pages, begun): (&[u32], bool),
    panel: usize,
    count: usize,
) {
    let (cache, head, weights) = (task.cache, task.head, &*task.desk.weights);
    let values = Values { cache, head, pages, begun, panel, weights, block: &mut *task.desk.block };
    match (tile.rows, count, tile.alone) {
        (1, 4, _) => values.call::<S, F, 1, 4, true>(s),
        (1, _, _) => values.call::<S, F, 1, 1, true>(s),
        (2, 2, _) => values.call::<S, F, 2, 2, true>(s),
        (2, _, _) => values.call::<S, F, 2, 1, true>(s),
        (3, _, true) => values.call::<S, F, 3, 1, true>(s),
        (4, _, true) => values.call::<S, F, 4, 1, true>(s),
        (5, _, true) => values.call::<S, F, 5, 1, true>(s),
        (6, _, true) => values.call::<S, F, 6, 1, true>(s),
        (3, _, false) => values.call::<S, F, 3, 1, false>(s),
        (4, _, false) => values.call::<S, F, 4, 1, false>(s),
        (5, _, false) => values.call::<S, F, 5, 1, false>(s),
        (6, _, false) => values.call::<S, F, 6, 1, false>(s),
        (other, _, _) => unreachable!("a tile has one to six queries, not {other}"),
    }
}

/// The average of values over whole pages, not yet divided.
struct Values<'a> {
    cache: CacheView<'a>,
    head: usize,
    pages: &'a [u32],
    begun: bool,
    panel: usize,
    /// `[position][query]`.
    weights: &'a [f32],
    /// `[query][dim]`.
    block: &'a mut [f32],
}

/// The same for R queries and P panels of dims.
struct ValuePanels<'a, F, const R: usize, const P: usize, const STREAM: bool>(Values<'a>, PhantomData<F>);

impl Values<'_> {
    #[inline(always)]
    fn call<S: Simd, F: Format, const R: usize, const P: usize, const STREAM: bool>(self, s: S) {
        s.call(ValuePanels::<F, R, P, STREAM>(self, PhantomData));
    }
}

impl<F: Format, const R: usize, const P: usize, const STREAM: bool> Kernel for ValuePanels<'_, F, R, P, STREAM> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const LINES: usize = PAGE / 2;
        let Values { cache, head, pages, begun, panel, weights, block } = self.0;
        // SAFETY: all rows were appended before the team began to attend.
        let values = |page: u32| unsafe { cache.read::<F>(page, head) }.1;
        let at = |page: u32, panel: usize| &values(page)[panel * LINES..][..LINES];
        let mut sums = [[[s.zero(); 2]; P]; R];
        if begun {
            for (sums, block) in sums.iter_mut().zip(block.chunks_exact(cache.dims)) {
                for (sums, from) in sums.iter_mut().zip(block[panel * LANES..].as_chunks::<LANES>().0) {
                    *sums = load_lanes(s, from);
                }
            }
        }
        for (i, &page) in pages.iter().enumerate() {
            let lines = std::array::from_fn(|p| at(page, panel + p));
            let weights = &weights[i * PAGE * R..][..PAGE * R];
            if STREAM {
                let next = match pages.get(i + AHEAD_PAGES) {
                    Some(&next) => std::array::from_fn(|p| at(next, panel + p).as_ptr()),
                    // The first pages' next panels; past the last panel the addresses are merely useless.
                    None => {
                        let first = pages[(i + AHEAD_PAGES - pages.len()).min(pages.len() - 1)];
                        std::array::from_fn(|p| at(first, panel + p).as_ptr().wrapping_add(P * LINES))
                    }
                };
                let next = Ahead::lines::<F>(next);
                if size_of::<F::Line>() > 64 {
                    add_terms::<S, F, R, P, 2>(s, lines, weights, &mut sums, next);
                } else {
                    add_terms::<S, F, R, P, 1>(s, lines, weights, &mut sums, next);
                }
            } else {
                add_terms::<S, F, R, P, 0>(s, lines, weights, &mut sums, Ahead::NOTHING);
            }
        }
        for (sums, block) in sums.into_iter().zip(block.chunks_exact_mut(cache.dims)) {
            for (sums, to) in sums.into_iter().zip(block[panel * LANES..].as_chunks_mut::<LANES>().0) {
                store_lanes(s, sums, to);
            }
        }
    }
}

/// Adds the positions that not all queries of the tile see, for query `r` alone, four panels of dims at a time.
#[inline(always)]
pub(super) fn tail<S: Simd, F: Format>(s: S, task: &mut Task<'_>, pages: &[u32], r: usize, range: Range<usize>) {
    let panels = task.cache.dims / LANES;
    let mut from = range.start;
    while from < range.end {
        let to = range.end.min((from / PAGE + 1) * PAGE);
        let values = lines::<F>(task, pages[from / PAGE]).1;
        by_panels(4, panels, |panel, count| match count {
            4 => tail_page::<S, F, 4>(s, task, values, (r, panel), from..to),
            _ => tail_page::<S, F, 1>(s, task, values, (r, panel), from..to),
        });
        from = to;
    }
}

#[inline(always)]
fn tail_page<S: Simd, F: Format, const P: usize>(
    s: S,
    task: &mut Task<'_>,
    values: &[F::Line],
    (r, panel): (usize, usize),
    mut range: Range<usize>,
) {
    const LINES: usize = PAGE / 2;
    let block = &mut task.desk.block[r * task.cache.dims + panel * LANES..];
    let sums: &mut Sums<1, P> =
        block.as_chunks_mut().0.as_chunks_mut().0.first_chunk_mut().expect("the block has these panels");
    let lines: [&[F::Line]; P] =
        std::array::from_fn(|p| &values[(panel + p) * LINES + range.start % PAGE / 2..(panel + p + 1) * LINES]);
    let weights = &task.desk.scores[r];
    let lines = if range.start.is_multiple_of(2) {
        lines
    } else {
        s.call(Second::<F, P> { lines: lines.map(|lines| &lines[0]), weight: weights[range.start], sums });
        range.start += 1;
        lines.map(|lines| &lines[1..])
    };
    sweep::<S, F, 1, P, 0>(s, lines, &weights[range], sums, Ahead::NOTHING);
}

/// Adds the second term of a line: of a query's window that begins within it.
struct Second<'a, F: Format, const P: usize> {
    lines: [&'a F::Line; P],
    weight: f32,
    sums: &'a mut Sums<1, P>,
}

impl<F: Format, const P: usize> Kernel for Second<'_, F, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let weight = s.splat(self.weight);
        for (line, sums) in self.lines.into_iter().zip(&mut self.sums[0]) {
            let ([low, high], [a, b]) = (F::term(s, line, 0, 1), load_lanes(s, sums));
            store_lanes(s, [s.fma(low, weight, a), s.fma(high, weight, b)], sums);
        }
    }
}

/// Folds a block's result for one query into its running one, or begins it.
#[inline(always)]
pub(super) fn merge<S: Simd>(s: S, task: &mut Task<'_>, begins: bool, (query, r): (usize, usize), (m, l): (f32, f32)) {
    let dims = task.cache.dims;
    let from = &task.desk.block[r * dims..][..dims];
    let to = &mut task.desk.o[query * dims..][..dims];
    let (running_m, running_l) = (&mut task.desk.m[query], &mut task.desk.l[query]);
    if begins {
        to.copy_from_slice(from);
        (*running_m, *running_l) = (m, l);
        return;
    }
    s.call(Merge { from, to, running: (running_m, running_l), found: (m, l) });
}

/// A block's o, m and l into the running ones.
struct Merge<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    running: (&'a mut f32, &'a mut f32),
    found: (f32, f32),
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, to, running: (running_m, running_l), found: (m, l) } = self;
        let top = running_m.max(m);
        let shares = math::exp(s, s.load(&[*running_m - top, m - top, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
        let [old, new, ..] = s.lanes(shares);
        *running_m = top;
        *running_l = *running_l * old + l * new;
        let (old, new) = (s.splat(old), s.splat(new));
        for (to, from) in to.as_chunks_mut::<8>().0.iter_mut().zip(from.as_chunks::<8>().0) {
            s.store(s.fma(s.load(to), old, s.mul(s.load(from), new)), to);
        }
    }
}
