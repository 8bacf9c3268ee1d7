//! One run at a time, eight lanes by four accumulators.

use crate::isa::{Kernel, Simd, sum_lanes};
use crate::ops::Workers;
use crate::slab::Slab;
use std::ops::Range;

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
    w: &'a [f32],
    eps: f32,
    y: Slab<'a>,
    runs: Range<usize>,
}

impl Kernel for Runs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.w.len();
        for run in self.runs.clone() {
            let from = run * n;
            if let Some(sum) = self.sum {
                add(s, sum, from, n);
            }
            let mean = squares(s, self.x, from, n) / n as f32;
            let scale = s.splat(1.0 / (mean + self.eps).sqrt());
            for at in (0..n).step_by(8) {
                let w = &self.w[at..n.min(at + 8)];
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
                    let x = self.x.load(s, from + at, n - at);
                    self.y.store(s, s.mul(s.mul(x, scale), w), from + at, n - at);
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

/// The sum of squares of one run.
#[inline(always)]
fn squares<S: Simd>(s: S, x: Slab<'_>, from: usize, n: usize) -> f32 {
    let mut sums = [s.zero(); 4];
    for at in (0..n).step_by(32) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let offset = at + lane * 8;
            if offset < n {
                // SAFETY: this thread alone has this run.
                let x = unsafe { x.load(s, from + offset, n - offset) };
                *sum = s.fma(x, x, *sum);
            }
        }
    }
    sum_lanes(s.lanes(s.add(s.add(sums[0], sums[2]), s.add(sums[1], sums[3]))))
}

/// y = norm(x) of each run of w's length.
///
/// # Safety
/// The slabs are this call's alone until it returns; `y` is `x` or does not overlap it.
pub(crate) unsafe fn run(workers: Workers<'_>, x: Slab<'_>, w: &[f32], eps: f32, y: Slab<'_>) {
    all(workers, None, x, (w, eps), y);
}

/// sum = a + b, then y = norm(sum).
///
/// # Safety
/// The slabs are this call's alone until it returns; `sum` is `a` or `b` or overlaps neither, and `y` overlaps none of them.
pub(crate) unsafe fn add_run(workers: Workers<'_>, sum: Sum<'_>, w: &[f32], eps: f32, y: Slab<'_>) {
    assert!(sum.a.len() == y.len() && sum.b.len() == y.len(), "terms have the length of the result");
    all(workers, Some(sum), sum.sum, (w, eps), y);
}

fn all(workers: Workers<'_>, sum: Option<Sum<'_>>, x: Slab<'_>, (w, eps): (&[f32], f32), y: Slab<'_>) {
    assert_eq!(x.len(), y.len(), "operand and result have equal lengths");
    let runs = y.len().checked_div(w.len()).unwrap_or(0);
    workers.cut(runs, 1, y.len(), &|runs| workers.isa.run(Runs { sum, x, w, eps, y, runs }));
}
