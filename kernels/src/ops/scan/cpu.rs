//! Who does what: each span and head of values by itself, its rows in chunks and steps.

use super::desk::{Desk, Line};
use super::{CHUNK, chunk, single};
use crate::cache::padded;
use crate::isa::{Kernel, Simd, sum_lanes};
use crate::memory::Memory;
use crate::ops::Workers;
use crate::slab::Slab;
use crate::states::{States, StatesView};
use crate::step::{Span, SpanState, Step};
use graph::Recurrence;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements of a step's values below which one thread does it all.
const ALONE: usize = 1 << 10;

/// Added to the sum of squares that brings a query or key to length 1.
const LENGTH_EPS: f32 = 1e-6;

/// How many heads of which kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Heads of queries and keys.
    pub(crate) heads: usize,
    /// Heads of values for each.
    pub(crate) group: usize,
    /// Elements of a query or key.
    pub(crate) key_dim: usize,
    /// Elements of a head of values.
    pub(crate) value_dim: usize,
}

/// The operands of one call.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// Queries.
    pub(crate) q: Slab<'a>,
    /// Keys.
    pub(crate) k: Slab<'a>,
    /// Values.
    pub(crate) v: Slab<'a>,
    /// Time steps, before the softplus.
    pub(crate) dt: Slab<'a>,
    /// Rates of the delta rule, before the logistic function.
    pub(crate) beta: Option<Slab<'a>>,
    /// log of the decay rate of each head of values.
    pub(crate) a_log: &'a [f32],
    /// How much of v is added to each head of results.
    pub(crate) skip: Option<&'a [f32]>,
    /// Result.
    pub(crate) y: Slab<'a>,
}

/// Memory that scans work in, made once for the largest of their calls.
pub(crate) struct Room {
    threads: Memory,
    thread_len: usize,
}

impl Room {
    /// Room for heads of at most these dims.
    pub(crate) fn new(key_dim: usize, value_dim: usize, threads: usize) -> Self {
        let thread_len = Desk::len(key_dim, value_dim).next_multiple_of(CHUNK);
        Self { threads: Memory::zeroed(threads * thread_len * 4), thread_len }
    }
}

/// Where the parts of a slot begin: states of all heads of values, then what a chunk that is not full leaves.
#[derive(Clone, Copy)]
struct Layout {
    state: usize,
    keys: usize,
    updates: usize,
    decays: usize,
}

impl Heads {
    /// The parts of head of values `head`.
    fn layout(self, head: usize) -> Layout {
        let (values, width) = (self.heads * self.group, padded(self.value_dim));
        let keys = values * self.key_dim * width;
        let updates = keys + self.heads * CHUNK * self.key_dim;
        let decays = updates + values * CHUNK * width;
        Layout {
            state: head * self.key_dim * width,
            keys: keys + head / self.group * CHUNK * self.key_dim,
            updates: updates + head * CHUNK * width,
            decays: decays + head * CHUNK,
        }
    }
}

/// One head of values of one span.
struct Item<'a> {
    step: &'a Step,
    span: Span,
    place: SpanState,
    heads: Heads,
    how: Recurrence,
    operands: Operands<'a>,
    states: StatesView<'a>,
    head: usize,
    desk: Desk<'a>,
}

impl Kernel for Item<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (start, end) = (self.span.start as usize, (self.span.start + self.span.rows) as usize);
        let prompt = (self.span.prompt as usize).min(end);
        let is_delta = self.is_delta();
        let mut position = start;
        let mut held = if start < prompt { start % CHUNK } else { 0 };
        self.load_state(held);
        while position < prompt {
            let border = (position - held + CHUNK).min(prompt);
            let count = border - position + held;
            for row in held..count {
                self.load_row(s, row, position - start + row - held);
            }
            self.desk.transpose(0..count);
            chunk::results(s, &mut self.desk, held..count, is_delta);
            for row in held..count {
                self.store_row(s, row, position - start + row - held);
            }
            position = border;
            if border.is_multiple_of(CHUNK) || border == self.span.prompt as usize {
                chunk::close(s, &mut self.desk, count);
                self.keep_snapshots(border);
            } else {
                self.keep_rows(count);
            }
            held = 0;
        }
        while position < end {
            self.load_row(s, 0, position - start);
            single::advance(s, &mut self.desk, is_delta);
            self.store_row(s, 0, position - start);
            position += 1;
        }
        self.keep_state(self.place.to);
    }
}

impl Item<'_> {
    fn is_delta(&self) -> bool {
        matches!(self.how, Recurrence::Delta)
    }

    /// Row of the step of the span's row `at`, counted in heads of values.
    fn value_row(&self, at: usize) -> usize {
        (self.span.first_row as usize + at) * self.heads.heads * self.heads.group + self.head
    }

    /// The state before the span, and the first `held` rows of its chunk.
    fn load_state(&mut self, held: usize) {
        let Some(slot) = self.place.from else {
            self.desk.state.fill([0.0; 8]);
            return;
        };
        let (at, key_dim, lines) = (self.heads.layout(self.head), self.desk.key_dim, self.desk.lines);
        // SAFETY: no span of a step writes a slot that one reads (states::check).
        let read = |from, len| unsafe { self.states.read(slot, from, len) };
        let state = self.desk.state.as_flattened_mut();
        state.copy_from_slice(read(at.state, state.len()));
        self.desk.k[..held * key_dim].copy_from_slice(read(at.keys, held * key_dim));
        let updates = self.desk.u[..held * lines].as_flattened_mut();
        updates.copy_from_slice(read(at.updates, held * lines * 8));
        self.desk.decay[..held].copy_from_slice(read(at.decays, held));
    }

    /// Puts the span's row `at` on the desk, as row `row`.
    #[inline(always)]
    fn load_row<S: Simd>(&mut self, s: S, row: usize, at: usize) {
        let Heads { heads, group, key_dim, value_dim } = self.heads;
        let (values, operands) = (self.value_row(at), self.operands);
        let keys = ((self.span.first_row as usize + at) * heads + self.head / group) * key_dim;
        // SAFETY: operands are only read while a call runs.
        let (q, k) = unsafe { (operands.q.read(keys, key_dim), operands.k.read(keys, key_dim)) };
        self.desk.query(row).copy_from_slice(q);
        self.desk.key(row).copy_from_slice(k);
        // SAFETY: as above.
        let scalar = |slab: Slab<'_>| unsafe { slab.read(values, 1) }[0];
        let (low, high) = match self.how {
            Recurrence::Selective { low, high } => (low, high.unwrap_or(f32::INFINITY)),
            Recurrence::Delta => (0.0, f32::INFINITY),
        };
        let delta = softplus(scalar(operands.dt)).max(low).min(high);
        self.desk.decay[row] = -operands.a_log[self.head].exp() * delta;
        self.desk.step[row] = operands.beta.map_or(delta, |beta| logistic(scalar(beta)));
        if self.is_delta() {
            let scale = 1.0 / (key_dim as f32).sqrt();
            normalise(s, self.desk.key(row), 1.0);
            normalise(s, self.desk.query(row), scale);
        }
        let factor = s.splat(if self.is_delta() { 1.0 } else { delta });
        for (line, u) in self.desk.update(row).iter_mut().enumerate() {
            let (from, count) = (values * value_dim + line * 8, value_dim.saturating_sub(line * 8).min(8));
            // SAFETY: as above. A line that only pads begins at the row's end.
            let v = unsafe { operands.v.load(s, from.min((values + 1) * value_dim), count) };
            s.store(s.mul(factor, v), u);
        }
    }

    /// Writes the result of the desk's row `row` as the span's row `at`.
    #[inline(always)]
    fn store_row<S: Simd>(&mut self, s: S, row: usize, at: usize) {
        let (from, value_dim) = (self.value_row(at) * self.heads.value_dim, self.heads.value_dim);
        let skip = self.operands.skip.map(|skip| s.splat(skip[self.head]));
        let out = &self.desk.out[row * self.desk.lines..][..value_dim.div_ceil(8)];
        for (line, out) in out.iter().enumerate() {
            let (at, count) = (from + line * 8, (value_dim - line * 8).min(8));
            let mut y = s.load(out);
            if let Some(skip) = skip {
                // SAFETY: operands are only read while a call runs.
                y = s.fma(skip, unsafe { self.operands.v.load(s, at, count) }, y);
            }
            // SAFETY: this item alone has this head of these rows of y.
            unsafe { self.operands.y.store(s, y, at, count) };
        }
    }

    /// Writes the desk's state into a slot.
    fn keep_state(&self, slot: u32) {
        let (from, state) = (self.heads.layout(self.head).state, self.desk.state.as_flattened());
        // SAFETY: this item alone has this head of the slots that a step writes.
        unsafe { self.states.write(slot, from, state.len()) }.copy_from_slice(state);
    }

    fn keep_snapshots(&self, end: usize) {
        let snapshots = self.step.snapshots_of(&self.place);
        snapshots.iter().filter(|s| s.end as usize == end).for_each(|s| self.keep_state(s.slot));
    }

    /// Keeps the first `count` rows of a chunk that goes on in a later step.
    fn keep_rows(&self, count: usize) {
        let (at, slot) = (self.heads.layout(self.head), self.place.to);
        // SAFETY: this item alone has this head of the slots that a step writes; of heads of values that share keys the first
        // writes them.
        let write = |from, elements: &[f32]| unsafe {
            self.states.write(slot, from, elements.len()).copy_from_slice(elements);
        };
        if self.head.is_multiple_of(self.heads.group) {
            write(at.keys, &self.desk.k[..count * self.desk.key_dim]);
        }
        let updates: &[Line] = &self.desk.u[..count * self.desk.lines];
        write(at.updates, updates.as_flattened());
        write(at.decays, &self.desk.decay[..count]);
    }
}

/// ln(1 + eˣ); x itself where the two are equal in f32.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// x · scale / √(Σx² + eps).
#[inline(always)]
fn normalise<S: Simd>(s: S, x: &mut [f32], scale: f32) {
    let (lines, rest) = x.as_chunks::<8>();
    let squares = lines.iter().fold(s.zero(), |sum, line| s.fma(s.load(line), s.load(line), sum));
    let sum = rest.iter().fold(sum_lanes(s.lanes(squares)), |sum, x| sum + x * x);
    let factor = scale / (sum + LENGTH_EPS).sqrt();
    x.iter_mut().for_each(|x| *x *= factor);
}

/// Scans every span.
///
/// # Safety
/// The operands are this call's alone until it returns; `y` overlaps no other. The step's states were checked
/// ([`crate::states::check`]), and the slots have [`graph::plan::StateSpec::scan`] elements.
pub(crate) unsafe fn run(
    workers: Workers<'_>,
    step: &Step,
    (heads, how): (Heads, Recurrence),
    operands: Operands<'_>,
    states: &mut States,
    room: &mut Room,
) {
    let (values, states) = (heads.heads * heads.group, states.view());
    let (own, own_len) = (Slab::new(room.threads.as_f32_mut()), room.thread_len);
    let next = AtomicUsize::new(0);
    let work = |thread: usize| {
        // SAFETY: each thread has its own part of the memory.
        let memory = unsafe { own.write(thread * own_len, own_len) };
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let at = number / values;
            let (Some(&span), Some(&place)) = (step.spans.get(at), step.states.get(at)) else { return };
            let desk = Desk::new(memory, heads.key_dim, heads.value_dim);
            let head = number % values;
            workers.isa.run(Item { step, span, place, heads, how, operands, states, head, desk });
        }
    };
    if operands.v.len() < ALONE { work(0) } else { workers.team.run(&work) }
}
