//! Zeroed, aligned bytes: what weights, caches, scratch and messages are made of.
//!
//! Invariant: the first byte lies on a 64-byte boundary, and all bytes are initialised from the start. From 1 MiB on the memory is
//! a mapping of its own on a 2 MiB boundary that asks for huge pages: a prefetch does not wait for a page walk as a load does,
//! so streaming through small pages loses bandwidth.

use std::alloc::Layout;
use std::ptr::NonNull;

const LINE: usize = 64;
const HUGE_PAGE: usize = 2 << 20;
const MAPPED_FROM: usize = 1 << 20;

/// Zeroed bytes on a 64-byte boundary, viewed as bytes or as elements.
pub struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    /// The mapping it lies in, if it has one of its own: first byte and length.
    mapping: Option<(NonNull<u8>, usize)>,
}

// SAFETY: Memory owns its bytes alone, like a Vec<u8>.
unsafe impl Send for Memory {}
// SAFETY: a shared Memory gives only shared views.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed memory of this many bytes. Aborts as a `Vec` does when there is none.
    pub fn zeroed(bytes: usize) -> Self {
        if bytes >= MAPPED_FROM
            && let Some(mapped) = Self::mapped(bytes)
        {
            return mapped;
        }
        let layout = Self::layout(bytes);
        // SAFETY: `layout` has at least one line of bytes (Self::layout).
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { std::alloc::handle_alloc_error(layout) };
        Self { start, bytes, mapping: None }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes.max(LINE), LINE).expect("sizes of buffers are below isize::MAX")
    }

    fn mapped(bytes: usize) -> Option<Self> {
        let length = bytes.next_multiple_of(HUGE_PAGE).checked_add(HUGE_PAGE)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
        if base == libc::MAP_FAILED {
            return None;
        }
        let base = NonNull::new(base.cast::<u8>())?;
        let skip = base.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: skip < HUGE_PAGE, and the mapping is HUGE_PAGE longer than what is used of it.
        let start = unsafe { base.add(skip) };
        // SAFETY: the range lies in the mapping just made; the advice changes no contents. Refusal is harmless.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes.next_multiple_of(HUGE_PAGE), libc::MADV_HUGEPAGE) };
        Some(Self { start, bytes, mapping: Some((base, length)) })
    }

    /// Bytes there are.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The first byte, for kernels that cut memory among threads.
    pub(crate) fn base(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// All bytes.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `bytes` initialised bytes start here and are ours (see the type's invariant).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// All bytes, to be changed.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in as_bytes, and &mut self is the only view.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// As f32; bytes past the last whole element are left out.
    pub fn as_f32(&self) -> &[f32] {
        bytemuck::cast_slice(&self.as_bytes()[..self.bytes / 4 * 4])
    }

    /// As f32, to be changed.
    pub fn as_f32_mut(&mut self) -> &mut [f32] {
        let whole = self.bytes / 4 * 4;
        bytemuck::cast_slice_mut(&mut self.as_bytes_mut()[..whole])
    }

    /// As u32; bytes past the last whole element are left out.
    pub fn as_u32(&self) -> &[u32] {
        bytemuck::cast_slice(&self.as_bytes()[..self.bytes / 4 * 4])
    }

    /// As u32, to be changed.
    pub fn as_u32_mut(&mut self) -> &mut [u32] {
        let whole = self.bytes / 4 * 4;
        bytemuck::cast_slice_mut(&mut self.as_bytes_mut()[..whole])
    }

    /// As u16; bytes past the last whole element are left out.
    pub fn as_u16(&self) -> &[u16] {
        bytemuck::cast_slice(&self.as_bytes()[..self.bytes / 2 * 2])
    }

    /// As u16, to be changed.
    pub fn as_u16_mut(&mut self) -> &mut [u16] {
        let whole = self.bytes / 2 * 2;
        bytemuck::cast_slice_mut(&mut self.as_bytes_mut()[..whole])
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.mapping {
            // SAFETY: the mapping was made by Self::mapped with this base and length, and no view outlives self.
            Some((base, length)) => unsafe {
                libc::munmap(base.as_ptr().cast(), length);
            },
            // SAFETY: allocated by Self::zeroed with the same layout.
            None => unsafe { std::alloc::dealloc(self.start.as_ptr(), Self::layout(self.bytes)) },
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_aligned_and_of_the_asked_length() {
        for bytes in [0, 1, 3, 63, 64, 4096, MAPPED_FROM - 1, MAPPED_FROM, MAPPED_FROM + 5] {
            let mut memory = Memory::zeroed(bytes);
            assert_eq!(memory.len(), bytes);
            assert!(memory.base().addr().is_multiple_of(LINE));
            assert!(memory.as_bytes().iter().all(|&b| b == 0));
            assert_eq!(memory.as_f32().len(), bytes / 4);
            assert_eq!(memory.as_u16().len(), bytes / 2);
            memory.as_bytes_mut().fill(255);
        }
    }
}
