//! A chunk of prompt rows: its rows' results, and the state behind it.

use super::CHUNK;
use super::desk::{Desk, Line};
use crate::isa::{Simd, math};
use std::ops::Range;

/// Rows that go through the state together.
const TILE: usize = 4;

/// Two vectors with an element for each row of the chunk.
type Pair<S> = [<S as Simd>::V; 2];

/// log of the decay from the chunk's border up to each row, and the decay itself.
struct Decays {
    sums: [f32; CHUNK],
    factors: [f32; CHUNK],
}

impl Decays {
    #[inline(always)]
    fn new<S: Simd>(s: S, decay: &[f32; CHUNK], count: usize) -> Self {
        let (mut sums, mut sum) = ([0.0; CHUNK], 0.0);
        for (row, decay) in decay.iter().enumerate().take(count) {
            sum += decay;
            sums[row] = sum;
        }
        let factors = each(s, &sums, |half| math::exp(s, half));
        Self { sums, factors }
    }

    /// The decays from each row to `row`; those of later rows mean nothing.
    #[inline(always)]
    fn to<S: Simd>(&self, s: S, row: usize) -> Pair<S> {
        let last = s.splat(self.sums[row]);
        halves(&self.sums).map(|half| math::exp(s, s.sub(last, s.load(half))))
    }
}

#[inline(always)]
fn halves(rows: &[f32; CHUNK]) -> [&Line; 2] {
    let (halves, _) = rows.as_chunks::<8>();
    [&halves[0], &halves[1]]
}

#[inline(always)]
fn each<S: Simd>(s: S, rows: &[f32; CHUNK], f: impl Fn(S::V) -> S::V) -> [f32; CHUNK] {
    array(s, halves(rows).map(|half| f(s.load(half))))
}

#[inline(always)]
fn array<S: Simd>(s: S, pair: Pair<S>) -> [f32; CHUNK] {
    let mut rows = [0.0; CHUNK];
    let (halves, _) = rows.as_chunks_mut::<8>();
    halves.iter_mut().zip(pair).for_each(|(half, lanes)| s.store(lanes, half));
    rows
}

/// The results of `rows`, into the desk's `out`; the updates of the delta rule as well. All of the chunk's rows up to `rows.end` are on
/// the desk, and the state at its border.
#[inline(always)]
pub(super) fn results<S: Simd>(s: S, desk: &mut Desk<'_>, rows: Range<usize>, is_delta: bool) {
    let decays = Decays::new(s, &desk.decay, rows.end);
    if is_delta {
        through_state(s, desk, rows.clone(), false);
        for row in rows.clone() {
            solve(s, desk, &decays, row);
        }
    }
    through_state(s, desk, rows.clone(), true);
    for row in rows {
        let weights = weights(s, desk, &decays, row, true);
        let (lines, factor) = (desk.lines, s.splat(decays.factors[row]));
        for line in 0..lines {
            let at = row * lines + line;
            let mut sum = s.mul(s.load(&desk.out[at]), factor);
            for (earlier, weight) in weights.iter().enumerate().take(row + 1) {
                sum = s.fma(s.splat(*weight), s.load(&desk.u[earlier * lines + line]), sum);
            }
            s.store(sum, &mut desk.out[at]);
        }
    }
}

/// The update of a row by the delta rule, from those before it: v becomes u.
#[inline(always)]
fn solve<S: Simd>(s: S, desk: &mut Desk<'_>, decays: &Decays, row: usize) {
    let weights = weights(s, desk, decays, row, false);
    let (lines, factor, rate) = (desk.lines, s.splat(decays.factors[row]), s.splat(desk.step[row]));
    for line in 0..lines {
        let at = row * lines + line;
        let mut seen = s.mul(s.load(&desk.out[at]), factor);
        for (earlier, weight) in weights.iter().enumerate().take(row) {
            seen = s.fma(s.splat(*weight), s.load(&desk.u[earlier * lines + line]), seen);
        }
        let u = s.mul(rate, s.sub(s.load(&desk.u[at]), seen));
        s.store(u, &mut desk.u[at]);
    }
}

/// The products of a row's query (or key) with the keys of all rows, decayed; those of later rows mean nothing.
#[inline(always)]
fn weights<S: Simd>(s: S, desk: &Desk<'_>, decays: &Decays, row: usize, is_query: bool) -> [f32; CHUNK] {
    let from = if is_query { &desk.q } else { &desk.k };
    let mut products = [s.zero(); 2];
    for (term, factor) in from[row * desk.key_dim..][..desk.key_dim].iter().enumerate() {
        let factor = s.splat(*factor);
        for (half, product) in products.iter_mut().enumerate() {
            *product = s.fma(factor, s.load(&desk.keys[term * 2 + half]), *product);
        }
    }
    let [low, high] = decays.to(s, row);
    array(s, [s.mul(products[0], low), s.mul(products[1], high)])
}

/// out = q S (or k S) of some rows.
#[inline(always)]
fn through_state<S: Simd>(s: S, desk: &mut Desk<'_>, rows: Range<usize>, is_query: bool) {
    let mut row = rows.start;
    while row < rows.end {
        if row + TILE <= rows.end {
            tile::<S, TILE>(s, desk, row, is_query);
            row += TILE;
        } else {
            tile::<S, 1>(s, desk, row, is_query);
            row += 1;
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize>(s: S, desk: &mut Desk<'_>, row: usize, is_query: bool) {
    let (terms, lines) = (desk.key_dim, desk.lines);
    let from = if is_query { &desk.q } else { &desk.k };
    let from = &from[row * terms..][..ROWS * terms];
    for pair in (0..lines).step_by(2) {
        let mut sums = [[s.zero(); 2]; ROWS];
        for term in 0..terms {
            let at = term * lines + pair;
            let state = [s.load(&desk.state[at]), s.load(&desk.state[at + 1])];
            for (row, sums) in sums.iter_mut().enumerate() {
                let factor = s.splat(from[row * terms + term]);
                sums[0] = s.fma(factor, state[0], sums[0]);
                sums[1] = s.fma(factor, state[1], sums[1]);
            }
        }
        for (at, sums) in sums.into_iter().enumerate() {
            let out = &mut desk.out[(row + at) * lines + pair..][..2];
            out.iter_mut().zip(sums).for_each(|(out, sum)| s.store(sum, out));
        }
    }
}

/// The state behind the first `count` rows of the chunk. The desk's `out` is lost.
#[inline(always)]
pub(super) fn close<S: Simd>(s: S, desk: &mut Desk<'_>, count: usize) {
    let decays = Decays::new(s, &desk.decay, count);
    let to_end = array(s, decays.to(s, count - 1));
    let lines = desk.lines;
    for row in 0..count {
        for line in row * lines..(row + 1) * lines {
            let decayed = s.mul(s.splat(to_end[row]), s.load(&desk.u[line]));
            s.store(decayed, &mut desk.out[line]);
        }
    }
    let factor = s.splat(decays.factors[count - 1]);
    let mut term = 0;
    while term < desk.key_dim {
        if term + TILE <= desk.key_dim {
            add::<S, TILE>(s, desk, term, factor, count);
            term += TILE;
        } else {
            add::<S, 1>(s, desk, term, factor, count);
            term += 1;
        }
    }
}

/// S = factor · S + keysᵀ out, for some terms of the keys.
#[inline(always)]
fn add<S: Simd, const TERMS: usize>(s: S, desk: &mut Desk<'_>, term: usize, factor: S::V, count: usize) {
    let lines = desk.lines;
    let keys = &desk.keys.as_flattened()[term * CHUNK..][..TERMS * CHUNK];
    for pair in (0..lines).step_by(2) {
        let mut sums = [[s.zero(); 2]; TERMS];
        for (at, sums) in sums.iter_mut().enumerate() {
            for (half, sum) in sums.iter_mut().enumerate() {
                *sum = s.mul(factor, s.load(&desk.state[(term + at) * lines + pair + half]));
            }
        }
        for row in 0..count {
            let from = row * lines + pair;
            let added = [s.load(&desk.out[from]), s.load(&desk.out[from + 1])];
            for (at, sums) in sums.iter_mut().enumerate() {
                let key = s.splat(keys[at * CHUNK + row]);
                sums[0] = s.fma(key, added[0], sums[0]);
                sums[1] = s.fma(key, added[1], sums[1]);
            }
        }
        for (at, sums) in sums.into_iter().enumerate() {
            let state = &mut desk.state[(term + at) * lines + pair..][..2];
            state.iter_mut().zip(sums).for_each(|(state, sum)| s.store(sum, state));
        }
    }
}
