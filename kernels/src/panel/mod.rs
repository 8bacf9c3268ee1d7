//! Panels: 16 outputs over a run of terms, stored so that one pass reads them front to back.
//!
//! A panel is a run of lines; a line holds consecutive terms of all 16 outputs: two, or a block of quantised ones. Weights are panels over K; the keys of a cache
//! page are a panel whose outputs are positions, its values panels whose outputs are dims. [`sweep`] is the one inner loop over
//! all of them: an output has one accumulator, to which its terms are added in order, whatever is computed beside it.

mod blocks;
mod formats;
mod integer;

pub(crate) use blocks::{Q4_0, Q8_0, Quantized};
pub(crate) use formats::{Bf16, F16, F32, Format, Plain};
pub(crate) use integer::{Integer, add_block};

use crate::isa::{Kernel, Simd};
use formats::halves;

/// Outputs of a panel.
pub(crate) const LANES: usize = 16;

/// Rows of a register block: 6 rows by 16 outputs are 12 accumulators of the 16 registers there are.
pub(crate) const BLOCK_ROWS: usize = 6;

/// Even row blocks of at most six rows.
#[derive(Clone, Copy)]
pub(crate) struct Blocks {
    /// Rows in all.
    pub(crate) rows: usize,
    /// Blocks.
    pub(crate) count: usize,
}

impl Blocks {
    /// Blocks of this many rows.
    pub(crate) fn new(rows: usize) -> Self {
        Self { rows, count: rows.div_ceil(BLOCK_ROWS) }
    }

    /// First row and rows of a block. Sizes differ by at most one, larger ones first.
    pub(crate) fn at(self, block: usize) -> (usize, usize) {
        let (small, larger) = (self.rows / self.count, self.rows % self.count);
        (block * small + block.min(larger), small + usize::from(block < larger))
    }
}

/// Sums of R rows by P panels, as they lie in memory between sweeps.
pub(crate) type Sums<const R: usize, const P: usize> = [[[f32; LANES]; P]; R];

/// The same in registers.
type Accumulators<V, const R: usize, const P: usize> = [[[V; 2]; P]; R];

/// What to prefetch while a sweep runs: for each panel an address that moves by `step` bytes a line.
#[derive(Clone, Copy)]
pub(crate) struct Ahead<const P: usize> {
    /// First address of each panel's stream.
    pub(crate) from: [*const u8; P],
    /// Bytes a line.
    pub(crate) step: usize,
}

impl<const P: usize> Ahead<P> {
    /// For sweeps that prefetch nothing.
    pub(crate) const NOTHING: Self = Self { from: [std::ptr::null(); P], step: 0 };

    /// A format's own lines, from these on.
    pub(crate) fn lines<F: Format>(from: [*const F::Line; P]) -> Self {
        Self { from: from.map(|line| line.cast()), step: size_of::<F::Line>() }
    }
}

/// R rows by P panels.
struct Sweep<'a, F: Format, const R: usize, const P: usize, const TOUCH: usize> {
    lines: [&'a [F::Line]; P],
    x: &'a [f32],
    sums: &'a mut Sums<R, P>,
    ahead: Ahead<P>,
}

impl<F: Format, const R: usize, const P: usize, const TOUCH: usize> Kernel for Sweep<'_, F, R, P, TOUCH> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut sums = load_sums(s, self.sums);
        add_terms::<S, F, R, P, TOUCH>(s, self.lines, self.x, &mut sums, self.ahead);
        store_sums(s, &sums, self.sums);
    }
}

/// Adds the terms of `x` (`[term][row]`) times those of P panels to the sums, term by term. An odd number of terms uses the first
/// half of the last line. `TOUCH` cache lines are prefetched a line for each panel. Compiled once for its parameters, since
/// whatever computes with panels ends here.
#[inline(always)]
pub(crate) fn sweep<S: Simd, F: Format, const R: usize, const P: usize, const TOUCH: usize>(
    s: S,
    lines: [&[F::Line]; P],
    x: &[f32],
    sums: &mut Sums<R, P>,
    ahead: Ahead<P>,
) {
    s.call(Sweep::<F, R, P, TOUCH> { lines, x, sums, ahead });
}

/// [`sweep`] in the function it is called from, for runs so short that a call would show.
#[inline(always)]
pub(crate) fn add_terms<S: Simd, F: Format, const R: usize, const P: usize, const TOUCH: usize>(
    s: S,
    lines: [&[F::Line]; P],
    x: &[f32],
    sums: &mut [[[S::V; 2]; P]; R],
    ahead: Ahead<P>,
) {
    if F::TERMS > 2 {
        return blocks::add_terms::<S, F, R, P, TOUCH>(s, lines, x, sums, ahead);
    }
    let (terms, _) = x.as_chunks::<R>();
    let (pairs, odd) = terms.as_chunks::<2>();
    let lines = lines.map(|lines| &lines[..pairs.len() + odd.len()]);
    for (i, pair) in pairs.iter().enumerate() {
        for p in 0..P {
            for touch in 0..TOUCH {
                s.prefetch(ahead.from[p].wrapping_add(i * ahead.step + touch * 64));
            }
        }
        for (which, x) in pair.iter().enumerate() {
            let mut w = [[s.zero(); 2]; P];
            for p in 0..P {
                w[p] = F::term(s, &lines[p][i], 0, which);
            }
            step(s, &w, x, sums);
        }
    }
    if let [x] = odd {
        let mut w = [[s.zero(); 2]; P];
        for p in 0..P {
            w[p] = F::term(s, &lines[p][pairs.len()], 0, 0);
        }
        step(s, &w, x, sums);
    }
}

/// Widens lines into rows of 16 f32, a row a term.
#[inline(always)]
pub(crate) fn widen<S: Simd, F: Format>(s: S, lines: &[F::Line], wide: &mut [[f32; LANES]]) {
    if F::TERMS > 2 {
        return blocks::widen::<S, F>(s, lines, wide);
    }
    for (line, wide) in lines.iter().zip(wide.as_chunks_mut::<2>().0) {
        store_lanes(s, F::term(s, line, 0, 0), &mut wide[0]);
        store_lanes(s, F::term(s, line, 0, 1), &mut wide[1]);
    }
}

/// One term.
#[inline(always)]
fn step<S: Simd, const R: usize, const P: usize>(
    s: S,
    w: &[[S::V; 2]; P],
    x: &[f32; R],
    sums: &mut Accumulators<S::V, R, P>,
) {
    for r in 0..R {
        let x = s.splat(x[r]);
        for p in 0..P {
            for half in 0..2 {
                sums[r][p][half] = s.fma(w[p][half], x, sums[r][p][half]);
            }
        }
    }
}

/// Writes sums to memory.
#[inline(always)]
fn store_sums<S: Simd, const R: usize, const P: usize>(s: S, sums: &Accumulators<S::V, R, P>, to: &mut Sums<R, P>) {
    for r in 0..R {
        for p in 0..P {
            store_lanes(s, sums[r][p], &mut to[r][p]);
        }
    }
}

/// Reads sums from memory.
#[inline(always)]
fn load_sums<S: Simd, const R: usize, const P: usize>(s: S, from: &Sums<R, P>) -> Accumulators<S::V, R, P> {
    let mut sums = [[[s.zero(); 2]; P]; R];
    for r in 0..R {
        for p in 0..P {
            sums[r][p] = load_lanes(s, &from[r][p]);
        }
    }
    sums
}

/// Reads 16 lanes.
#[inline(always)]
pub(crate) fn load_lanes<S: Simd>(s: S, from: &[f32; LANES]) -> [S::V; 2] {
    let [low, high] = halves(from);
    [s.load(low), s.load(high)]
}

/// Writes 16 lanes.
#[inline(always)]
pub(crate) fn store_lanes<S: Simd>(s: S, lanes: [S::V; 2], to: &mut [f32; LANES]) {
    let (eights, _) = to.as_chunks_mut::<8>();
    s.store(lanes[0], &mut eights[0]);
    s.store(lanes[1], &mut eights[1]);
}
