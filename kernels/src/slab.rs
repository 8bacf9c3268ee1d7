//! A matrix that the threads of a team share: who reads and writes which part is settled by the op, not by the borrow checker.
//!
//! Every access checks its range, so that a wrong share is a panic and not a stray write; that shares of different threads do not
//! overlap is what the `unsafe` of each access promises.

use crate::isa::Simd;
use std::marker::PhantomData;

/// f32 elements shared among the threads and operands of one call.
#[derive(Clone, Copy)]
pub(crate) struct Slab<'a> {
    start: *mut f32,
    len: usize,
    life: PhantomData<&'a [std::cell::Cell<f32>]>,
}

// SAFETY: a Slab reads and writes only through its unsafe functions, whose callers promise that threads do not collide.
unsafe impl Send for Slab<'_> {}
// SAFETY: as above.
unsafe impl Sync for Slab<'_> {}

impl<'a> Slab<'a> {
    /// Elements that are borrowed whole.
    pub(crate) fn new(elements: &'a mut [f32]) -> Self {
        Self { start: elements.as_mut_ptr(), len: elements.len(), life: PhantomData }
    }

    /// Elements at an address.
    ///
    /// # Safety
    /// `len` f32 lie at `start` for as long as `'a`, and nothing but slabs touches them meanwhile. If they came from a shared
    /// borrow, they are only read.
    pub(crate) unsafe fn from_raw(start: *mut f32, len: usize) -> Self {
        Self { start, len, life: PhantomData }
    }

    /// Whether both begin at one place.
    pub(crate) fn same(self, other: Slab<'_>) -> bool {
        std::ptr::eq(self.start, other.start)
    }

    /// How many.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The elements `from..from + len`, to be read.
    ///
    /// # Safety
    /// Nobody writes them while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn read(self, from: usize, len: usize) -> &'a [f32] {
        assert!(from <= self.len && len <= self.len - from, "a read lies inside its slab");
        // SAFETY: the range was checked on the line above; the caller promises that nobody writes it.
        unsafe { std::slice::from_raw_parts(self.start.add(from), len) }
    }

    /// The elements `from..from + len`, to be written.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn write(self, from: usize, len: usize) -> &'a mut [f32] {
        assert!(from <= self.len && len <= self.len - from, "a write lies inside its slab");
        // SAFETY: the range was checked on the line above; the caller promises that nobody else touches it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }

    /// Up to eight elements from `from` on; zero in the lanes past `count`.
    ///
    /// # Safety
    /// No other thread writes them meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(self, s: S, from: usize, count: usize) -> S::V {
        // SAFETY: the slice ends with this function; the caller keeps other threads away.
        let elements = unsafe { self.read(from, count.min(8)) };
        match elements.first_chunk() {
            Some(eight) => s.load(eight),
            None => {
                let mut part = [0.0; 8];
                part[..elements.len()].copy_from_slice(elements);
                s.load(&part)
            }
        }
    }

    /// Writes the first `count` lanes, at most eight.
    ///
    /// # Safety
    /// No other thread touches them meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(self, s: S, value: S::V, from: usize, count: usize) {
        // SAFETY: the slice ends with this function; the caller keeps other threads away.
        let elements = unsafe { self.write(from, count.min(8)) };
        match elements.first_chunk_mut() {
            Some(eight) => s.store(value, eight),
            None => {
                let (lanes, count) = (s.lanes(value), elements.len());
                elements.copy_from_slice(&lanes[..count]);
            }
        }
    }
}
