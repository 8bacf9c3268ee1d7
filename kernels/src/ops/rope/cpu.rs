//! Cosines and sines once a step, then one pass over the heads.

use crate::isa::{Kernel, Simd};
use crate::ops::Workers;
use crate::slab::Slab;
use crate::step::Step;
use graph::{Pairing, Rope};
use std::ops::Range;

/// The cosines and sines of every row of a step, for one kind of rotation.
pub(crate) struct Angles {
    rope: Rope,
    frequencies: Vec<f32>,
    amplitude: f32,
    /// Of each row first all cosines, then all sines.
    table: Vec<f32>,
}

impl Angles {
    /// Room for the largest step.
    pub(crate) fn new(rope: &Rope, rows_max: usize) -> Self {
        let frequencies = rope.frequencies();
        let table = vec![0.0; rows_max * 2 * frequencies.len()];
        Self { rope: rope.clone(), amplitude: rope.amplitude(), frequencies, table }
    }

    /// The rotation it is for.
    pub(crate) fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Computes the table of a step.
    pub(crate) fn fill(&mut self, workers: Workers<'_>, step: &Step) {
        let pairs = self.frequencies.len();
        let table = Slab::new(&mut self.table);
        let (frequencies, amplitude) = (&self.frequencies, self.amplitude);
        // A cosine and a sine cost about as much as 32 pointwise elements.
        workers.cut(step.rows as usize, 1, step.rows as usize * pairs * 32, &|rows| {
            for span in &step.spans {
                let (first, end) = (span.first_row as usize, (span.first_row + span.rows) as usize);
                for row in rows.start.max(first)..rows.end.min(end) {
                    let position = (span.start as usize + row - first) as f32;
                    // SAFETY: this thread alone has these rows of the table.
                    let turns = unsafe { table.write(row * 2 * pairs, 2 * pairs) };
                    let (cosines, sines) = turns.split_at_mut(pairs);
                    for (i, frequency) in frequencies.iter().enumerate() {
                        let (sine, cosine) = f64::from(position * frequency).sin_cos();
                        cosines[i] = cosine as f32 * amplitude;
                        sines[i] = sine as f32 * amplitude;
                    }
                }
            }
        });
    }
}

struct Rows<'a> {
    x: Slab<'a>,
    y: Slab<'a>,
    width: usize,
    head_dim: usize,
    angles: &'a Angles,
    rows: Range<usize>,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let pairs = self.angles.frequencies.len();
        for row in self.rows.by_ref() {
            let (cosines, sines) = self.angles.table[row * 2 * pairs..][..2 * pairs].split_at(pairs);
            if !self.x.same(self.y) {
                // SAFETY: this thread alone has these rows, and x is not y.
                let (from, to) =
                    unsafe { (self.x.read(row * self.width, self.width), self.y.write(row * self.width, self.width)) };
                to.copy_from_slice(from);
            }
            for head in 0..self.width / self.head_dim {
                // SAFETY: this thread alone has these rows of y.
                let head = unsafe { self.y.write(row * self.width + head * self.head_dim, 2 * pairs) };
                match self.angles.rope.pairing {
                    Pairing::Halves => {
                        let (first, second) = head.split_at_mut(pairs);
                        rotate(s, first, second, cosines, sines);
                    }
                    Pairing::Neighbours => rotate_neighbours(s, head, cosines, sines),
                }
            }
        }
    }
}

/// Turns one head. Whole vectors first; a tail goes through padded vectors, with the same operations.
#[inline(always)]
fn rotate<S: Simd>(s: S, first: &mut [f32], second: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let (a, a_tail) = first.as_chunks_mut::<8>();
    let (b, b_tail) = second.as_chunks_mut::<8>();
    let (c, c_tail) = cosines.as_chunks::<8>();
    let (d, d_tail) = sines.as_chunks::<8>();
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        turn(s, a, b, c, d);
    }
    if !a_tail.is_empty() {
        let padded = |tail: &[f32]| {
            let mut part = [0.0; 8];
            part[..tail.len()].copy_from_slice(tail);
            part
        };
        let (mut a, mut b) = (padded(a_tail), padded(b_tail));
        turn(s, &mut a, &mut b, &padded(c_tail), &padded(d_tail));
        let count = a_tail.len();
        a_tail.copy_from_slice(&a[..count]);
        b_tail.copy_from_slice(&b[..count]);
    }
}

/// Turns one head whose pairs are neighbours: eight pairs are taken apart, turned as halves are, and put back.
#[inline(always)]
fn rotate_neighbours<S: Simd>(s: S, head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    for ((pairs, cosines), sines) in head.chunks_mut(16).zip(cosines.chunks(8)).zip(sines.chunks(8)) {
        let mut eight = [[0.0; 8]; 4];
        for (i, pair) in pairs.chunks(2).enumerate() {
            (eight[0][i], eight[1][i], eight[2][i], eight[3][i]) = (pair[0], pair[1], cosines[i], sines[i]);
        }
        let [mut a, mut b, c, d] = eight;
        turn(s, &mut a, &mut b, &c, &d);
        for (i, pair) in pairs.chunks_mut(2).enumerate() {
            (pair[0], pair[1]) = (a[i], b[i]);
        }
    }
}

/// Turns eight pairs.
#[inline(always)]
fn turn<S: Simd>(s: S, a: &mut [f32; 8], b: &mut [f32; 8], cosines: &[f32; 8], sines: &[f32; 8]) {
    let (x, y, cosine, sine) = (s.load(a), s.load(b), s.load(cosines), s.load(sines));
    let minus = s.sub(s.zero(), s.mul(y, sine));
    s.store(s.fma(x, cosine, minus), a);
    s.store(s.fma(y, cosine, s.mul(x, sine)), b);
}

/// Rotates every head of every row, `width` elements of `head_dim` each.
///
/// # Safety
/// The slabs are this call's alone until it returns; `y` is `x` or does not overlap it.
pub(crate) unsafe fn run(
    workers: Workers<'_>,
    x: Slab<'_>,
    (width, head_dim): (usize, usize),
    angles: &Angles,
    y: Slab<'_>,
) {
    assert_eq!(x.len(), y.len(), "operand and result have equal lengths");
    assert!(2 * angles.frequencies.len() <= head_dim, "a rotation turns no more than a head");
    let rows = x.len() / width;
    workers.cut(rows, 1, x.len(), &|rows| workers.isa.run(Rows { x, y, width, head_dim, angles, rows }));
}
