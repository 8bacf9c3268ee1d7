//! What the experts that a row chose make of it.
//!
//! Shapes: gates `[rows, experts]`, zero where an expert is not chosen; a row's choices are the experts of its other gates, by number.
//! - [`contract`]: x `[rows, k]` or `[rows, choices, k]`, of each part w `[experts, n, k]` in panels, y `[rows, choices, n]`.
//! - [`combine`]: x `[rows, choices, k]`, w `[experts, n, k]` in panels, y `[rows, n]`.
//! - [`contract_each`]: x `[rows, experts, k]`, y `[rows, experts, n]`: every row has all of them.
//! - [`bias`]: x `[rows, choices, n]`, w `[experts, n]`, y as x.
//! - [`weigh`]: x `[rows, choices, n]`, y `[rows, n]`.
//!
//! Where gates are those of all experts and weights those of some, the choices of other experts are zeros in `contract`, and as they
//! are in `bias`.
//!
//! Maths: the sum of an output is that of [`super::contract`]: one accumulator, terms in the order of k. `combine` adds gate · sum to
//! zero, choice by choice; `weigh` does so with results that are there. So the bits of a row depend on its own x and gates and the weights of its experts. A choice that a row does
//! not have is zeros.
//! Bytes: the weights of each chosen expert once up to 6 of its rows, then once a group of 192. Error: as a contraction's; `combine` adds
//! two roundings a choice.
//! Source: Shazeer et al. 2017, arXiv:1701.06538, §2; rows by expert as in Gale et al. 2022, arXiv:2211.15841, §5.

pub(crate) mod cuda;
mod grouped;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub(crate) use grouped::{Room, Shape, combine, contract, contract_each};

use super::Workers;
use crate::isa::{Kernel, Simd};
use crate::slab::Slab;
use std::ops::Range;

/// The experts of a row by number, `choices` at most, with their gates.
fn chosen(gates: &[f32], choices: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
    gates.iter().copied().enumerate().filter(|(_, gate)| *gate != 0.0).take(choices)
}

/// Rows of a bias.
struct Biased<'a> {
    x: Slab<'a>,
    gates: &'a [f32],
    shape: Shape,
    w: &'a [f32],
    y: Slab<'a>,
    rows: Range<usize>,
}

impl Kernel for Biased<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, gates, shape, w, y, rows } = self;
        let len = w.len() / shape.held;
        for row in rows {
            let mut experts = chosen(&gates[row * shape.experts..][..shape.experts], shape.choices);
            for choice in 0..shape.choices {
                let entry = experts.next().and_then(|(expert, _)| shape.entry(expert));
                let w = entry.map(|entry| &w[entry * len..][..len]);
                let from = (row * shape.choices + choice) * len;
                for at in (0..len).step_by(8) {
                    let mut eight = [0.0; 8];
                    if let Some(w) = w {
                        let count = (len - at).min(8);
                        eight[..count].copy_from_slice(&w[at..at + count]);
                    }
                    // SAFETY: this thread alone has these rows (bias() below cuts them); y overlaps x only where it is x, read before it
                    // is written.
                    unsafe { y.store(s, s.add(x.load(s, from + at, len - at), s.load(&eight)), from + at, len - at) };
                }
            }
        }
    }
}

/// y = x + the run of w that belongs to the expert of each choice.
///
/// # Safety
/// The slabs are this call's alone until it returns; `y` is `x` or overlaps neither it nor `gates`.
pub(crate) unsafe fn bias(workers: Workers<'_>, (x, gates): (Slab<'_>, &[f32]), shape: Shape, w: &[f32], y: Slab<'_>) {
    let rows = gates.len() / shape.experts;
    workers.cut(rows, 1, x.len(), &|rows| workers.isa.run(Biased { x, gates, shape, w, y, rows }));
}

/// y = Σ gate · x over the choices of each row, in their order: a multiplication and an addition each, of one rounding each.
///
/// # Safety
/// `y` is this call's alone until it returns, and overlaps neither `x` nor `gates`.
pub(crate) unsafe fn weigh(workers: Workers<'_>, (x, gates): (&[f32], &[f32]), shape: Shape, y: Slab<'_>) {
    let rows = gates.len() / shape.experts;
    let width = y.len().checked_div(rows).unwrap_or(0);
    workers.cut(rows, 1, x.len(), &|rows| {
        for row in rows {
            // SAFETY: this thread alone has these rows of y.
            let y = unsafe { y.write(row * width, width) };
            y.fill(0.0);
            let chosen = chosen(&gates[row * shape.experts..][..shape.experts], shape.choices);
            for (choice, (_, gate)) in chosen.enumerate() {
                let x = &x[(row * shape.choices + choice) * width..][..width];
                y.iter_mut().zip(x).for_each(|(y, x)| *y += gate * x);
            }
        }
    });
}
