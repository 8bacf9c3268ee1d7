//! The weighted sum of a block's values: pages that a whole tile sees together, the rest query by query; then the merge.

use super::cpu::Attention;
use super::tile::{Tile, by_panels, lines};
use crate::cache::{CacheView, PAGE};
use crate::isa::{Kernel, Simd, math};
use crate::panel::{Ahead, Format, LANES, Sums, add_terms, store_lanes, sweep};
use std::marker::PhantomData;

/// Pages that prefetches run ahead: one is over too soon, since only some of its dims are read at a time.
const AHEAD_PAGES: usize = 3;

/// o of a tile over the pages that all its queries see whole, for `count` panels of dims.
#[inline(always)]
pub(super) fn values<S: Simd, F: Format>(
    s: S,
    task: &mut Attention<'_>,
    tile: Tile,
    pages: &[u32],
    panel: usize,
    count: usize,
) {
    let (cache, head, weights) = (task.cache, task.head, &*task.desk.weights);
    let values = Values { cache, head, pages, panel, weights, block: &mut *task.desk.block };
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
        let Values { cache, head, pages, panel, weights, block } = self.0;
        // SAFETY: all rows were appended before the team began to attend.
        let values = |page: u32| unsafe { cache.read::<F>(page, head) }.1;
        let at = |page: u32, panel: usize| &values(page)[panel * LINES..][..LINES];
        let mut sums = [[[s.zero(); 2]; P]; R];
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
pub(super) fn tail<S: Simd, F: Format>(
    s: S,
    task: &mut Attention<'_>,
    pages: &[u32],
    r: usize,
    range: std::ops::Range<usize>,
) {
    let panels = task.cache.dims / LANES;
    for from in range.clone().step_by(PAGE) {
        let to = range.end.min(from + PAGE);
        let values = lines::<F>(task, pages[from / PAGE]).1;
        by_panels(4, panels, |panel, count| match count {
            4 => tail_page::<S, F, 4>(s, task, values, (r, panel), from..to),
            _ => tail_page::<S, F, 1>(s, task, values, (r, panel), from..to),
        });
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
    let block = &mut task.desk.block[r * task.cache.dims + panel * LANES..];
    let sums: &mut Sums<1, P> =
        block.as_chunks_mut().0.as_chunks_mut().0.first_chunk_mut().expect("the block has these panels");
    let lines = std::array::from_fn(|p| &values[(panel + p) * LINES..][..LINES]);
    sweep::<S, F, 1, P, 0>(s, lines, &task.desk.scores[r][range], sums, Ahead::NOTHING);
}

/// Folds a block's result for one query into its running one.
#[inline(always)]
pub(super) fn merge<S: Simd>(
    s: S,
    task: &mut Attention<'_>,
    block: usize,
    (query, r): (usize, usize),
    (m, l): (f32, f32),
) {
    let dims = task.cache.dims;
    let from = &task.desk.block[r * dims..][..dims];
    let to = &mut task.desk.o[query * dims..][..dims];
    let (running_m, running_l) = (&mut task.desk.m[query], &mut task.desk.l[query]);
    if block == 0 {
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
