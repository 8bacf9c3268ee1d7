//! Who does what: appending by heads, attending by runs of query rows and heads.

use super::BLOCK;
use super::tile::{self, Desk};
use crate::cache::{Cache, CacheView, PAGE, padded};
use crate::isa::{Kernel, Simd};
use crate::memory::Memory;
use crate::ops::Workers;
use crate::panel::{Bf16, F16, F32, Plain};
use crate::slab::Slab;
use crate::step::{Span, Step};
use graph::{Attention, DType};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Queries that share a pass over the pages.
const QUERIES: usize = 48;

/// How many heads of which kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Heads of keys and values.
    pub(crate) kv_heads: usize,
    /// Queries a head.
    pub(crate) group: usize,
    /// Elements of a head.
    pub(crate) head_dim: usize,
    /// Scale, window and cap.
    pub(crate) how: Attention,
}

/// What is attended with.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// Queries.
    pub(crate) q: Slab<'a>,
    /// Keys of the step's rows.
    pub(crate) k: Slab<'a>,
    /// Values of the step's rows.
    pub(crate) v: Slab<'a>,
    /// A score of each query head that has no value.
    pub(crate) sinks: Option<&'a [f32]>,
    /// Result.
    pub(crate) y: Slab<'a>,
}

/// Consecutive rows of a span whose queries go over the pages together.
#[derive(Clone, Copy)]
struct Item {
    span: Span,
    first: u32,
    rows: u32,
}

/// Memory that attention works in, made once for the largest of its calls.
pub(crate) struct Room {
    items: Vec<Item>,
    threads: Memory,
    thread_len: usize,
}

impl Room {
    /// Room for calls of at most `rows_max` rows, `group_max` queries a head of `dim_max` elements.
    pub(crate) fn new(rows_max: usize, group_max: usize, dim_max: usize, threads: usize) -> Self {
        let thread_len = Desk::len(QUERIES.max(group_max), padded(dim_max));
        Self { items: Vec::with_capacity(rows_max), threads: Memory::zeroed(threads * thread_len * 4), thread_len }
    }
}

struct Append<'a> {
    step: &'a Step,
    heads: Heads,
    operands: Operands<'a>,
    cache: CacheView<'a>,
    range: std::ops::Range<usize>,
}

impl Append<'_> {
    fn run<F: Plain>(&self) {
        let (dim, width) = (self.heads.head_dim, self.heads.kv_heads * self.heads.head_dim);
        for span in &self.step.spans {
            let pages = self.cache.table(self.step, span);
            for row in 0..span.rows as usize {
                let position = span.start as usize + row;
                for head in self.range.clone() {
                    let from = (span.first_row as usize + row) * width + head * dim;
                    // SAFETY: k and v are only read while a call runs.
                    let (k, v) = unsafe { (self.operands.k.read(from, dim), self.operands.v.read(from, dim)) };
                    // SAFETY: this thread alone has these heads, and nobody attends before the team is done.
                    unsafe { self.cache.append::<F>(pages[position / PAGE], head, position % PAGE, (k, v)) };
                }
            }
        }
    }
}

/// One item and head.
pub(super) struct Task<'a> {
    pub(super) heads: Heads,
    pub(super) operands: Operands<'a>,
    pub(super) cache: CacheView<'a>,
    pub(super) pages: &'a [u32],
    pub(super) head: usize,
    /// Row of the step, position in its sequence, and number of its query rows.
    pub(super) row: usize,
    pub(super) position: usize,
    pub(super) rows: usize,
    pub(super) desk: Desk<'a>,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.cache.dtype {
            DType::F32 => tile::attend::<S, F32>(s, self),
            DType::Bf16 => tile::attend::<S, Bf16>(s, self),
            DType::F16 => tile::attend::<S, F16>(s, self),
            DType::U32 => unreachable!("Cache::new refuses u32"),
        }
    }
}

/// Appends, then attends.
///
/// # Safety
/// The operands are this call's alone until it returns; `y` overlaps no other. The step's pages lie in the cache.
pub(crate) unsafe fn run(
    workers: Workers<'_>,
    step: &Step,
    heads: Heads,
    operands: Operands<'_>,
    cache: &mut Cache,
    room: &mut Room,
) {
    let cache = cache.view();
    let elements = operands.k.len();
    workers.cut(heads.kv_heads, 1, elements * 4, &|range| {
        let append = Append { step, heads, operands, cache, range };
        match cache.dtype {
            DType::F32 => append.run::<F32>(),
            DType::Bf16 => append.run::<Bf16>(),
            DType::F16 => append.run::<F16>(),
            DType::U32 => unreachable!("Cache::new refuses u32"),
        }
    });
    cut_items(step, (QUERIES / heads.group).max(1) as u32, &mut room.items);
    let (items, own, own_len) = (&room.items, Slab::new(room.threads.as_f32_mut()), room.thread_len);
    let next = AtomicUsize::new(0);
    let work = |thread: usize| {
        // SAFETY: each thread has its own part of the memory.
        let memory = unsafe { own.write(thread * own_len, own_len) };
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number / heads.kv_heads) else { return };
            let queries = item.rows as usize * heads.group;
            workers.isa.run(Task {
                heads,
                operands,
                cache,
                pages: cache.table(step, &item.span),
                head: number % heads.kv_heads,
                row: (item.span.first_row + item.first) as usize,
                position: (item.span.start + item.first) as usize,
                rows: item.rows as usize,
                desk: Desk::new(memory, queries, cache.dims),
            });
        }
    };
    let keys: usize = items.iter().map(|item| (item.span.start + item.first + item.rows) as usize).sum();
    // Below a block of keys there is too little to wake a team for.
    if keys * heads.kv_heads < BLOCK { work(0) } else { workers.team.run(&work) }
}

/// Cuts every span into items of at most `rows` rows. There are no more items than rows.
fn cut_items(step: &Step, rows: u32, items: &mut Vec<Item>) {
    items.clear();
    for span in &step.spans {
        for first in (0..span.rows).step_by(rows as usize) {
            items.push(Item { span: *span, first, rows: rows.min(span.rows - first) });
        }
    }
}
