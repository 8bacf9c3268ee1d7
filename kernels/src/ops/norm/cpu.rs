//! One run at a time, eight lanes by four accumulators.

use crate::isa::{Kernel, Simd, sum_lanes};
use crate::ops::Workers;
use crate::slab::Slab;
use graph::{Norm, NormKind};
use std::ops::Range;

/// What a run is multiplied by, and how.
#[derive(Clone, Copy)]
pub(crate) struct Scale<'a> {
    /// The weight of a run, or of several runs in turn.
    pub(crate) w: &'a [f32],
    /// Which norm.
    pub(crate) norm: Norm,
}

impl Scale<'_> {
    /// Elements of a run.
    #[inline(always)]
    fn run(&self) -> usize {
        self.norm.run.map_or(self.w.len(), |run| run as usize)
    }
}

/// The operands of a norm behind a sum.
#[derive(Clone, Copy)]
pub(crate) struct Sum<'a> {
    /// First term.
    pub(crate) a: Slab<'a>,
    /// Second term.
    pub(crate) b: Slab<'a>,
    /// Where the sum goes.
    pub(crate) sum: Slab<'a>,
}

struct Runs<'a> {
    sum: Option<Sum<'a>>,
    x: Slab<'a>,
    scale: Scale<'a>,
    y: Slab<'a>,
    runs: Range<usize>,
}

impl Kernel for Runs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Scale { w, norm } = self.scale;
        let (n, offset) = (self.scale.run(), s.splat(norm.offset));
        let in_turn = w.len() / n;
        for run in self.runs.clone() {
            let from = run * n;
            let w = &w[run % in_turn * n..][..n];
            if let Some(sum) = self.sum {
                add(s, sum, from, n);
            }
            let mean = match norm.kind {
                NormKind::Rms => 0.0,
                NormKind::Layer => total(s, self.x, from, n) / n as f32,
            };
            let square = squares(s, self.x, (from, n), mean) / n as f32;
            let (mean, scale) = (s.splat(mean), s.splat(1.0 / (square + norm.eps).sqrt()));
            for at in (0..n).step_by(8) {
                let w = &w[at..n.min(at + 8)];
                let w = match w.first_chunk() {
                    Some(eight) => s.load(eight),
                    None => {
                        let mut part = [0.0; 8];
                        part[..w.len()].copy_from_slice(w);
                        s.load(&part)
                    }
                };
                // SAFETY: this thread alone has this run of x and y; y overlaps x only where it is x, read before it is written.
                unsafe {
                    let x = s.sub(self.x.load(s, from + at, n - at), mean);
                    self.y.store(s, s.mul(s.mul(x, scale), s.add(w, offset)), from + at, n - at);
                }
            }
        }
    }
}

/// sum = a + b over one run.
#[inline(always)]
fn add<S: Simd>(s: S, sum: Sum<'_>, from: usize, n: usize) {
    for at in (0..n).step_by(8) {
        // SAFETY: this thread alone has this run; what overlaps the sum is read at the same place, before.
        unsafe {
            let (a, b) = (sum.a.load(s, from + at, n - at), sum.b.load(s, from + at, n - at));
            sum.sum.store(s, s.add(a, b), from + at, n - at);
        }
    }
}

/// The sum of one run.
#[inline(always)]
fn total<S: Simd>(s: S, x: Slab<'_>, from: usize, n: usize) -> f32 {
    fold(s, n, |sum, at| {
        // SAFETY: this thread alone has this run.
        s.add(unsafe { x.load(s, from + at, n - at) }, sum)
    })
}

/// The sum of squared distances from `mean` of one run.
#[inline(always)]
fn squares<S: Simd>(s: S, x: Slab<'_>, (from, n): (usize, usize), mean: f32) -> f32 {
    // The lanes past a run's end read as zero, and must not count as far from the mean.
    let tail = s.load(&std::array::from_fn(|lane| if lane < n % 8 { mean } else { 0.0 }));
    let means = s.splat(mean);
    fold(s, n, |sum, at| {
        // SAFETY: this thread alone has this run.
        let x = s.sub(unsafe { x.load(s, from + at, n - at) }, if n - at < 8 { tail } else { means });
        s.fma(x, x, sum)
    })
}

/// Folds a run into 32 lanes, eight at a time, and adds those up.
#[inline(always)]
fn fold<S: Simd>(s: S, n: usize, add: impl Fn(S::V, usize) -> S::V) -> f32 {
    let mut sums = [s.zero(); 4];
    for at in (0..n).step_by(32) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let offset = at + lane * 8;
            if offset < n {
                *sum = add(*sum, offset);
            }
        }
    }
    sum_lanes(s.lanes(s.add(s.add(sums[0], sums[2]), s.add(sums[1], sums[3]))))
}

/// y = norm(x) of each run.
///
/// # Safety
/// The slabs are this call's alone until it returns; `y` is `x` or does not overlap it.
pub(crate) unsafe fn run(workers: Workers<'_>, x: Slab<'_>, scale: Scale<'_>, y: Slab<'_>) {
    all(workers, None, x, scale, y);
}

/// sum = a + b, then y = norm(sum).
///
/// # Safety
/// The slabs are this call's alone until it returns; `sum` is `a` or `b` or overlaps neither, and `y` overlaps none of them.
pub(crate) unsafe fn add_run(workers: Workers<'_>, sum: Sum<'_>, scale: Scale<'_>, y: Slab<'_>) {
    assert!(sum.a.len() == y.len() && sum.b.len() == y.len(), "terms have the length of the result");
    all(workers, Some(sum), sum.sum, scale, y);
}

fn all(workers: Workers<'_>, sum: Option<Sum<'_>>, x: Slab<'_>, scale: Scale<'_>, y: Slab<'_>) {
    assert_eq!(x.len(), y.len(), "operand and result have equal lengths");
    let runs = y.len().checked_div(scale.run()).unwrap_or(0);
    workers.cut(runs, 1, y.len(), &|runs| workers.isa.run(Runs { sum, x, scale, y, runs }));
}
