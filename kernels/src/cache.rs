//! Paged keys and values of one layer.
//!
//! A page holds 16 positions of every head. Of one head and page the keys are a panel whose outputs are the positions and whose terms
//! are the dims; the values are panels whose outputs are 16 dims each and whose terms are the positions. So attention is the same
//! sweep as a contraction. Dims are padded to 16; the padding is never used. Keys and values are rounded to the cache's element type as they are
//! appended, before anyone attends: a row of the same step sees what a later step will see.

use crate::error::KernelError;
use crate::memory::Memory;
use crate::panel::{Format, LANES, Plain};
use crate::step::{Span, Step};
use graph::plan::{CacheSpec, PAGE_ROWS};
use graph::{DType, WeightType};

/// Positions of a page.
pub(crate) const PAGE: usize = PAGE_ROWS as usize;
const _: () = assert!(PAGE == LANES, "a page of keys is one panel");

/// Page memory of one layer.
#[derive(Debug)]
pub struct Cache {
    spec: CacheSpec,
    pages: usize,
    is_windowed: bool,
    memory: Memory,
}

impl Cache {
    /// Zeroed pages. The element type is f32, bf16 or f16.
    pub fn new(spec: CacheSpec, pages: usize) -> Result<Self, KernelError> {
        if spec.dtype == DType::U32 {
            return Err(KernelError::Missing { op: "cache", dtype: spec.dtype.name(), device: "cpu" });
        }
        let dims = padded(spec.head_dim as usize);
        let bytes = pages * spec.kv_heads as usize * 2 * dims * PAGE * spec.dtype.bytes();
        Ok(Self { spec, pages, is_windowed: false, memory: Memory::zeroed(bytes) })
    }

    /// The same for a layer with a window, if it is one: its page tables are those of windows.
    pub(crate) fn windowed(self, is_windowed: bool) -> Self {
        Self { is_windowed, ..self }
    }

    /// What it is.
    pub fn spec(&self) -> CacheSpec {
        self.spec
    }

    /// Pages there are.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// Overwrites everything, as an earlier owner of the pages might have.
    #[cfg(test)]
    pub(crate) fn fill_bytes(&mut self, byte: u8) {
        self.memory.as_bytes_mut().fill(byte);
    }

    /// A view that the threads of a team share.
    pub(crate) fn view(&mut self) -> CacheView<'_> {
        let (dims, heads) = (padded(self.spec.head_dim as usize), self.spec.kv_heads as usize);
        CacheView {
            memory: &self.memory,
            is_windowed: self.is_windowed,
            dtype: self.spec.dtype,
            dims,
            heads,
            pages: self.pages,
        }
    }
}

/// Dims of a head as stored.
pub(crate) fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(LANES)
}

/// The pages while a step runs; made from `&mut Cache`, so that it is the only one.
#[derive(Clone, Copy)]
pub(crate) struct CacheView<'a> {
    memory: &'a Memory,
    is_windowed: bool,
    pub(crate) dtype: DType,
    pub(crate) dims: usize,
    pub(crate) heads: usize,
    pages: usize,
}

impl<'a> CacheView<'a> {
    /// The page table of a span.
    pub(crate) fn table<'s>(&self, step: &'s Step, span: &Span) -> &'s [u32] {
        if self.is_windowed { step.windows_of(span) } else { step.pages_of(span) }
    }

    /// Where the lines of one head of a page begin, `dims` of them: first the keys, from the middle on the values.
    #[inline(always)]
    fn lines<F: Format>(self, page: u32, head: usize) -> *mut F::Line {
        assert!(
            Some(F::DTYPE) == WeightType::of(self.dtype) && (page as usize) < self.pages && head < self.heads,
            "a page lies in its cache"
        );
        let first = (page as usize * self.heads + head) * self.dims;
        // SAFETY: Cache::new made pages · heads · dims lines, and page and head were checked on the line above.
        unsafe { self.memory.base().cast::<F::Line>().add(first) }
    }

    /// Keys (`dims / 2` lines) and values (`dims / 16` panels of 8 lines) of one head of a page.
    ///
    /// # Safety
    /// Nobody appends to this head of the page while the slices live.
    #[inline(always)]
    pub(crate) unsafe fn read<F: Format>(self, page: u32, head: usize) -> (&'a [F::Line], &'a [F::Line]) {
        let lines = self.lines::<F>(page, head);
        // SAFETY: `dims` lines start there (lines()); the caller promises that nobody writes them.
        unsafe { std::slice::from_raw_parts(lines, self.dims) }.split_at(self.dims / 2)
    }

    /// Rounds one position's key and value of a head into a page.
    ///
    /// # Safety
    /// Nobody else reads or writes this head of the page meanwhile.
    pub(crate) unsafe fn append<F: Plain>(self, page: u32, head: usize, slot: usize, (k, v): (&[f32], &[f32])) {
        let lines = self.lines::<F>(page, head);
        // SAFETY: `dims` lines start there (lines()); the caller promises that nobody else touches them.
        let lines = unsafe { std::slice::from_raw_parts_mut(lines, self.dims) };
        let (keys, values) = lines.split_at_mut(self.dims / 2);
        for (dim, (k, v)) in k.iter().zip(v).enumerate() {
            F::set(&mut keys[dim / 2], dim % 2, slot, *k);
            F::set(&mut values[dim / LANES * (PAGE / 2) + slot / 2], slot % 2, dim % LANES, *v);
        }
    }
}
