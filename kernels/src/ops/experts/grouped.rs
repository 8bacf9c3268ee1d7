//! Rows gathered by expert, so that the panels of an expert pass once for all of its rows.
//!
//! A call is cut into waves of experts in order, of no more rows together than there is room for packed. In a wave the rows of each
//! expert are packed, then threads take panels: of `contract` those of all experts and weights one after the other; of `combine` some
//! panels of every expert, in the order of experts, since a result's terms have one order.

use super::chosen;
use crate::memory::Memory;
use crate::ops::Workers;
use crate::ops::contract::{self, Form, Part, Parts, STRIP_MAX, Strip, Target, Task, WIDE_LEN, pack};
use crate::panel::Blocks;
use crate::slab::Slab;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Gates of a row.
    pub(crate) experts: usize,
    /// The first expert whose weights are held here.
    pub(crate) first: usize,
    /// How many are.
    pub(crate) held: usize,
    /// Experts that a row chooses, at most.
    pub(crate) choices: usize,
    /// Parts of a row of x: one for each choice, or one for all of them.
    pub(crate) parts: usize,
}

impl Shape {
    /// All experts are held here.
    pub(crate) fn whole(experts: usize, choices: usize, parts: usize) -> Self {
        Self { experts, first: 0, held: experts, choices, parts }
    }

    /// The entry of an expert among those held here.
    pub(crate) fn entry(self, expert: usize) -> Option<usize> {
        expert.checked_sub(self.first).filter(|entry| *entry < self.held)
    }
}

/// Who chose whom: made again in each call.
pub(crate) struct Room {
    /// Where the choices of each expert begin in `at`; one more for the end.
    first: Vec<u32>,
    /// Choices by expert, then by row: row · choices + number of the choice.
    at: Vec<u32>,
    /// Their gates.
    by: Vec<f32>,
    /// Experts with rows.
    active: Vec<u32>,
    /// Rows that fit the packed memory of contractions.
    rows_max: usize,
}

impl Room {
    /// Room for calls of at most so many rows, choices a row, and experts.
    pub(crate) fn new(rows_max: usize, choices_max: usize, experts_max: usize) -> Self {
        Self {
            first: Vec::with_capacity(experts_max + 1),
            at: vec![0; rows_max * choices_max],
            by: vec![0.0; rows_max * choices_max],
            active: Vec::with_capacity(experts_max),
            rows_max,
        }
    }

    /// Sorts the choices of all rows by expert.
    fn index(&mut self, gates: &[f32], shape: Shape) {
        let Shape { experts, choices, held, .. } = shape;
        self.first.clear();
        self.first.resize(held + 1, 0);
        for gates in gates.chunks_exact(experts) {
            let held = chosen(gates, choices).filter_map(|(expert, _)| shape.entry(expert));
            held.for_each(|expert| self.first[expert + 1] += 1);
        }
        self.active.clear();
        for expert in 0..held {
            if self.first[expert + 1] > 0 {
                self.active.push(expert as u32);
            }
            self.first[expert + 1] += self.first[expert];
        }
        // Each start moves to its end while the choices are filled in, and back by taking the one before.
        for (row, gates) in gates.chunks_exact(experts).enumerate() {
            for (choice, (expert, gate)) in chosen(gates, choices).enumerate() {
                let Some(expert) = shape.entry(expert) else { continue };
                let place = &mut self.first[expert];
                (self.at[*place as usize], self.by[*place as usize]) = ((row * choices + choice) as u32, gate);
                *place += 1;
            }
        }
        self.first.rotate_right(1);
        self.first[0] = 0;
    }

    /// Lets every row choose every expert, in order.
    fn index_all(&mut self, rows: usize, experts: usize) {
        self.first.clear();
        self.first.extend((0..=experts).map(|expert| (expert * rows) as u32));
        self.active.clear();
        self.active.extend(0..if rows > 0 { experts as u32 } else { 0 });
        let places = self.at.iter_mut().enumerate().take(rows * experts);
        places.for_each(|(place, at)| *at = (place % rows * experts + place / rows) as u32);
    }

    /// The choices of an expert.
    fn of(&self, expert: u32) -> Range<usize> {
        self.first[expert as usize] as usize..self.first[expert as usize + 1] as usize
    }

    /// The active experts from `from` on whose rows fit the packed memory together; an expert alone always fits.
    fn wave(&self, from: usize) -> Range<usize> {
        let mut rows = 0;
        let fits = |expert: &&u32| {
            rows += self.of(**expert).len();
            rows <= self.rows_max
        };
        from..from + self.active[from..].iter().take_while(fits).count().max(1)
    }
}

/// The experts of a wave with their rows packed.
struct Wave<'a> {
    room: &'a Room,
    active: &'a [u32],
    /// Packed rows of the wave, expert by expert.
    packed: &'a [f32],
    k: usize,
    form: Form,
}

impl<'a> Wave<'a> {
    /// Packs the rows of x that the experts `active` are to have.
    fn pack(
        workers: Workers<'_>,
        (x, k, shape): (&[f32], usize, Shape),
        form: Form,
        (room, active): (&'a Room, &'a [u32]),
        packed: Slab<'a>,
    ) -> Self {
        let len = form.row_len(k);
        let begin = active.first().map_or(0, |&expert| room.of(expert).start);
        let end = active.last().map_or(begin, |&expert| room.of(expert).end);
        let one = shape.choices / shape.parts;
        workers.cut(active.len(), 1, (end - begin) * k, &|range| {
            for &expert in &active[range] {
                let at = &room.at[room.of(expert)];
                let blocks = Blocks::new(at.len());
                for block in 0..blocks.count {
                    let (first, rows) = blocks.at(block);
                    // SAFETY: this thread alone has this expert's packed rows.
                    let to = unsafe { packed.write((room.of(expert).start - begin + first) * len, rows * len) };
                    pack::block((workers.isa, form), rows, |row| &x[at[first + row] as usize / one * k..][..k], to);
                }
            }
        });
        // SAFETY: the team is done with the packed memory, and it is only read until the wave ends.
        Self { room, active, packed: unsafe { packed.read(0, (end - begin) * len) }, k, form }
    }

    /// One expert and weight.
    fn task(&self, expert: u32, part: Part<'a>, target: impl Fn(Range<usize>) -> Target<'a>) -> Task<'a> {
        let range = self.room.of(expert);
        let begin = range.start - self.room.of(self.active[0]).start;
        assert_eq!(part.weight.spec().k as usize, self.k, "a weight has the terms of its operand");
        assert_eq!(Form::of(part.weight), self.form, "weights of one op have rows of one form");
        let len = self.form.row_len(self.k);
        let x = &self.packed[begin * len..][..range.len() * len];
        Task { x, blocks: Blocks::new(range.len()), part, expert: expert as usize, target: target(range) }
    }
}

/// What is done with a strip, a widened chunk and sums.
type Work<'a> = &'a (dyn Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync);

/// Lets the threads take `strip` of `total` at a time; each has its own widened chunk and sums.
fn take(workers: Workers<'_>, (total, strip): (usize, usize), (memory, len): (&mut Memory, usize), work: Work<'_>) {
    let (next, own) = (AtomicUsize::new(0), Slab::new(memory.as_f32_mut()));
    workers.team.run(&|thread| {
        // SAFETY: each thread has its own part of the memory.
        let (wide, sums) = unsafe { own.write(thread * len, len) }.split_at_mut(WIDE_LEN);
        loop {
            let from = next.fetch_add(strip, Ordering::Relaxed);
            if from >= total {
                return;
            }
            work(from..(from + strip).min(total), &mut *wide, &mut *sums);
        }
    });
}

/// At least four strips a thread; whole pairs of panels.
fn strip_of(panels: usize, threads: usize) -> usize {
    if threads == 1 { STRIP_MAX } else { (panels / (threads * 4)).clamp(1, STRIP_MAX).next_multiple_of(2) }
}

/// For each part and choice, y = x · wᵀ by the weight of the choice's expert.
///
/// # Safety
/// The parts' results are this call's alone until it returns, and overlap neither the operands nor each other.
pub(crate) unsafe fn contract(
    workers: Workers<'_>,
    (x, gates): (&[f32], &[f32]),
    shape: Shape,
    parts: Parts<'_>,
    (index, room): (&mut Room, &mut contract::Room),
) {
    let rows = gates.len() / shape.experts;
    if rows == 0 {
        return;
    }
    index.index(gates, shape);
    for part in (0..parts.count).map(parts.at) {
        // SAFETY: the results are this call's alone.
        unsafe { fill_missing(workers, gates, shape, part.y) };
    }
    // SAFETY: the caller's promise.
    unsafe { by_expert(workers, (x, x.len() / rows / shape.parts), shape, parts, (index, room)) };
}

/// For each of a row's runs, y = x · wᵀ by the entry of the weight that belongs to the run.
///
/// # Safety
/// The part's result is this call's alone until it returns, and does not overlap `x`.
pub(crate) unsafe fn contract_each(
    workers: Workers<'_>,
    (x, rows): (&[f32], usize),
    each: usize,
    part: Part<'_>,
    (index, room): (&mut Room, &mut contract::Room),
) {
    if rows == 0 {
        return;
    }
    index.index_all(rows, each);
    let (shape, at) = (Shape::whole(each, each, each), |_: usize| part);
    let parts = Parts { count: 1, at: &at };
    // SAFETY: the caller's promise.
    unsafe { by_expert(workers, (x, x.len() / rows / each), shape, parts, (index, room)) };
}

/// For each part and each choice that is indexed, y = x · wᵀ by the weight of the choice's expert.
///
/// # Safety
/// As [`contract`].
unsafe fn by_expert(
    workers: Workers<'_>,
    (x, k): (&[f32], usize),
    shape: Shape,
    parts: Parts<'_>,
    (index, room): (&Room, &mut contract::Room),
) {
    let panels: usize = (0..parts.count).map(|i| (parts.at)(i).weight.panels()).sum();
    let mut from = 0;
    while from < index.active.len() {
        let active = index.wave(from);
        from = active.end;
        let packed = Slab::new(room.packed.as_f32_mut());
        let form = Form::of((parts.at)(0).weight);
        let wave = Wave::pack(workers, (x, k, shape), form, (index, &index.active[active]), packed);
        let total = wave.active.len() * panels;
        let strip = strip_of(total, workers.team.threads());
        take(workers, (total, strip), (&mut room.threads, room.thread_len), &|taken, wide, sums| {
            for number in taken.start / panels..taken.end.div_ceil(panels) {
                let (expert, mut before) = (wave.active[number], number * panels);
                for part in (0..parts.count).map(parts.at) {
                    let count = part.weight.panels();
                    let range = taken.start.max(before)..taken.end.min(before + count);
                    if !range.is_empty() {
                        let task = wave.task(expert, part, |range| Target::Scattered(&wave.room.at[range]));
                        let panels = range.start - before..range.end - before;
                        workers.isa.run(Strip { task, panels, wide: &mut *wide, sums: &mut *sums });
                    }
                    before += count;
                }
            }
        });
    }
}

/// Zeros for the choices that a row does not have, or has of experts that are not here.
///
/// # Safety
/// `y` is this call's alone until it returns.
unsafe fn fill_missing(workers: Workers<'_>, gates: &[f32], shape: Shape, y: Slab<'_>) {
    let rows = gates.len() / shape.experts;
    let width = y.len() / rows / shape.choices;
    workers.cut(rows, 1, y.len(), &|rows| {
        for row in rows {
            let mut experts = chosen(&gates[row * shape.experts..][..shape.experts], shape.choices);
            for choice in 0..shape.choices {
                if experts.next().and_then(|(expert, _)| shape.entry(expert)).is_none() {
                    // SAFETY: this thread alone has these rows of y.
                    unsafe { y.write((row * shape.choices + choice) * width, width) }.fill(0.0);
                }
            }
        }
    });
}

/// y = Σ gate · (x · wᵀ) over the choices of each row.
///
/// # Safety
/// The part's result is this call's alone until it returns, and does not overlap the operands.
pub(crate) unsafe fn combine(
    workers: Workers<'_>,
    (x, gates): (&[f32], &[f32]),
    shape: Shape,
    part: Part<'_>,
    (index, room): (&mut Room, &mut contract::Room),
) {
    let rows = gates.len() / shape.experts;
    if rows == 0 {
        return;
    }
    let k = x.len() / rows / shape.parts;
    index.index(gates, shape);
    let width = part.y.len() / rows;
    workers.cut(rows, 1, part.y.len(), &|rows| {
        // SAFETY: this thread alone has these rows of y.
        unsafe { part.y.write(rows.start * width, rows.len() * width) }.fill(0.0);
    });
    let panels = part.weight.panels();
    let strip = strip_of(panels, workers.team.threads());
    let mut from = 0;
    while from < index.active.len() {
        let active = index.wave(from);
        from = active.end;
        let packed = Slab::new(room.packed.as_f32_mut());
        let form = Form::of(part.weight);
        let wave = Wave::pack(workers, (x, k, shape), form, (index, &index.active[active]), packed);
        take(workers, (panels, strip), (&mut room.threads, room.thread_len), &|panels, wide, sums| {
            for &expert in wave.active {
                let of = shape.choices as u32;
                let target = |range: Range<usize>| {
                    let (at, by) = (&wave.room.at[range.clone()], &wave.room.by[range]);
                    Target::Added { at, by, of }
                };
                let task = wave.task(expert, part, target);
                workers.isa.run(Strip { task, panels: panels.clone(), wide: &mut *wide, sums: &mut *sums });
            }
        });
    }
}
