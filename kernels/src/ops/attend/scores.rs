//! Scores of a tile with the pages of a block, and their exponentials.

use super::BLOCK;
use super::cpu::Task;
use super::tile::{Tile, lines};
use crate::cache::PAGE;
use crate::isa::{Kernel, Simd, math, sum_lanes};
use crate::panel::{Ahead, Format, LANES, sweep};
use std::ops::Range;

/// Scores of a tile with `count` pages from `page` on; pages before `from` are not looked at.
#[inline(always)]
pub(super) fn scores<S: Simd, F: Format>(
    s: S,
    task: &mut Task<'_>,
    tile: Tile,
    (pages, from): (&[u32], usize),
    page: usize,
    count: usize,
) {
    let at = (pages, from, page, tile.first);
    match (tile.rows, count, tile.alone) {
        (1, 4, _) => score_pages::<S, F, 1, 4, true>(s, task, at),
        (1, _, _) => score_pages::<S, F, 1, 1, true>(s, task, at),
        (2, 2, _) => score_pages::<S, F, 2, 2, true>(s, task, at),
        (2, _, _) => score_pages::<S, F, 2, 1, true>(s, task, at),
        (3, _, true) => score_pages::<S, F, 3, 1, true>(s, task, at),
        (4, _, true) => score_pages::<S, F, 4, 1, true>(s, task, at),
        (5, _, true) => score_pages::<S, F, 5, 1, true>(s, task, at),
        (6, _, true) => score_pages::<S, F, 6, 1, true>(s, task, at),
        (3, _, false) => score_pages::<S, F, 3, 1, false>(s, task, at),
        (4, _, false) => score_pages::<S, F, 4, 1, false>(s, task, at),
        (5, _, false) => score_pages::<S, F, 5, 1, false>(s, task, at),
        (6, _, false) => score_pages::<S, F, 6, 1, false>(s, task, at),
        (other, _, _) => unreachable!("a tile has one to six queries, not {other}"),
    }
}

#[inline(always)]
fn score_pages<S: Simd, F: Format, const R: usize, const P: usize, const STREAM: bool>(
    s: S,
    task: &mut Task<'_>,
    (pages, from, page, first): (&[u32], usize, usize, usize),
) {
    let keys: [&[F::Line]; P] = std::array::from_fn(|p| lines::<F>(task, pages[page + p]).0);
    let q = &task.desk.q[first * task.heads.head_dim..][..R * task.heads.head_dim];
    let mut sums = [[[0.0; LANES]; P]; R];
    if STREAM {
        // The pages that follow, or the first values.
        let next = std::array::from_fn(|p| match pages.get(page + P + p) {
            Some(&page) => lines::<F>(task, page).0.as_ptr(),
            None => lines::<F>(task, pages[(from + p).min(pages.len() - 1)]).1.as_ptr(),
        });
        F::stream(s, keys, q, &mut sums, Ahead::lines::<F>(next));
    } else {
        sweep::<S, F, R, P, 0>(s, keys, q, &mut sums, Ahead::NOTHING);
    }
    for (sums, scores) in sums.iter().zip(task.desk.scores.iter_mut()) {
        scores[page * PAGE..].as_chunks_mut::<PAGE>().0[..P].copy_from_slice(sums);
    }
}

/// Caps the scores that are seen and turns them into e^(s - m); what lies beside them in a whole vector becomes zero. Gives m and l.
pub(super) struct Softmax<'a> {
    pub(super) scores: &'a mut [f32; BLOCK],
    pub(super) seen: Range<usize>,
    pub(super) softcap: Option<f32>,
}

impl Kernel for Softmax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f32, f32) {
        let Self { scores, seen, softcap } = self;
        let (from, to) = (seen.start / 8 * 8, seen.end.next_multiple_of(8));
        if let Some(cap) = softcap {
            for vector in scores[from..to].as_chunks_mut::<8>().0 {
                s.store(math::softcap(s, s.load(vector), s.splat(cap)), vector);
            }
        }
        scores[from..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..to].fill(f32::NEG_INFINITY);
        let (vectors, _) = scores[from..to].as_chunks_mut::<8>();
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
}
