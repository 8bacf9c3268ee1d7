//! x from `[row][term]` to row blocks of `[term][row of the block]`, so that the broadcasts of a block are neighbours.

use super::Form;
use super::integer::Pack;
use crate::isa::Isa;
use crate::ops::Workers;
use crate::panel::{Blocks, Q4_0, Q8_0};
use crate::slab::Slab;
use std::marker::PhantomData;

/// Packs all rows, the blocks cut among the threads.
pub(super) fn rows<'a>(workers: Workers<'_>, x: &[f32], (blocks, form): (Blocks, Form), packed: Slab<'a>) -> &'a [f32] {
    let k = x.len() / blocks.rows;
    let len = form.row_len(k);
    workers.cut(blocks.count, 1, x.len(), &|range| {
        for number in range {
            let (first, rows) = blocks.at(number);
            // SAFETY: this thread alone has this block of the packed memory.
            let to = unsafe { packed.write(first * len, rows * len) };
            block((workers.isa, form), rows, |row| &x[(first + row) * k..][..k], to);
        }
    });
    // SAFETY: the team is done with the packed memory, and it is only read until the contraction ends.
    unsafe { packed.read(0, blocks.rows * len) }
}

/// Packs a block of one to six rows.
#[inline]
pub(in crate::ops) fn block<'a>(how: (Isa, Form), rows: usize, row: impl Fn(usize) -> &'a [f32], to: &mut [f32]) {
    match rows {
        1 => formed::<1>(how, row, to),
        2 => formed::<2>(how, row, to),
        3 => formed::<3>(how, row, to),
        4 => formed::<4>(how, row, to),
        5 => formed::<5>(how, row, to),
        6 => formed::<6>(how, row, to),
        other => unreachable!("a block has at most six rows, not {other}"),
    }
}

fn formed<'a, const R: usize>((isa, form): (Isa, Form), row: impl Fn(usize) -> &'a [f32], to: &mut [f32]) {
    let rows: [&[f32]; R] = std::array::from_fn(row);
    match form {
        Form::Plain => transpose(rows, to),
        Form::Eight => isa.run(Pack::<Q8_0, R> { rows, to, format: PhantomData }),
        Form::Four => isa.run(Pack::<Q4_0, R> { rows, to, format: PhantomData }),
    }
}

fn transpose<const R: usize>(rows: [&[f32]; R], to: &mut [f32]) {
    for (term, to) in to.as_chunks_mut::<R>().0.iter_mut().enumerate() {
        for r in 0..R {
            to[r] = rows[r][term];
        }
    }
}
