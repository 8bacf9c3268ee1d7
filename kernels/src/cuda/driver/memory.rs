//! Memory of a GPU, and memory of the host that it copies from and to.

use super::Device;
use super::error::{DriverFault, Named};
use cudarc::driver::{result, sys};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

/// Where something lies in a GPU's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Address(u64);

impl Address {
    /// Nothing.
    pub(crate) const NULL: Self = Self(0);

    /// So many bytes on.
    pub(crate) fn offset(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

/// Bytes of a GPU's memory, zeroed; on a boundary of at least 256.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    device: Arc<Device>,
    start: u64,
    bytes: u64,
}

impl DeviceMemory {
    pub(crate) fn zeroed(device: &Arc<Device>, bytes: u64, what: &str) -> Result<Self, DriverFault> {
        let doing = || format!("take {bytes} bytes of {} for {what}", device.name());
        device.bind()?;
        // SAFETY: a context is bound; the range is ours until it is freed in `drop`.
        let start = unsafe { result::malloc_sync(bytes.max(256) as usize) }.named("cuMemAlloc", doing)?;
        let this = Self { device: device.clone(), start, bytes };
        // SAFETY: `bytes` bytes begin at `start`.
        unsafe { result::memset_d8_sync(start, 0, bytes.max(256) as usize) }.named("cuMemsetD8", doing)?;
        // It goes on behind the call, and streams that do not block do not wait for it.
        device.wait()?;
        Ok(this)
    }

    /// Writes its first bytes, and waits until they are there.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), DriverFault> {
        assert!(bytes.len() as u64 <= self.bytes, "what is written has room");
        self.device.bind()?;
        // SAFETY: so many bytes begin at `start`.
        unsafe { result::memcpy_htod_sync(self.start, bytes) }
            .named("cuMemcpyHtoD", || format!("copy {} bytes to {}", bytes.len(), self.device.name()))?;
        // The last bytes may still be on their way from the driver's own buffer.
        self.device.wait()
    }

    pub(crate) fn address(&self) -> Address {
        Address(self.start)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: allocated in `zeroed`, freed once. What fails here has no caller to be told; the driver says it to the next one.
            let _ = unsafe { result::free_sync(self.start) };
        }
    }
}

/// Bytes of the host's memory that do not move, zeroed, so that copies go on by themselves. Cached: the host reads them at full speed.
#[derive(Debug)]
pub(crate) struct Pinned {
    device: Arc<Device>,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its bytes alone, like a Vec<u8>.
unsafe impl Send for Pinned {}
// SAFETY: a shared one gives shared views only.
unsafe impl Sync for Pinned {}

impl Pinned {
    pub(crate) fn zeroed(device: &Arc<Device>, bytes: usize) -> Result<Self, DriverFault> {
        let doing = || format!("take {bytes} bytes of pinned memory for {}", device.name());
        device.bind()?;
        // SAFETY: a context is bound; the range is ours until it is freed in `drop`.
        let start = unsafe { result::malloc_host(bytes.max(64), sys::CU_MEMHOSTALLOC_PORTABLE) };
        let start = start.named("cuMemHostAlloc", doing)?.cast::<u8>();
        let start = NonNull::new(start).expect("the driver gives memory or an error");
        // SAFETY: `bytes` bytes begin here and are ours.
        unsafe { start.write_bytes(0, bytes.max(64)) };
        Ok(Self { device: device.clone(), start, bytes })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: `bytes` initialised bytes begin here and are ours.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in as_bytes, and &mut self is the only view.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    pub(crate) fn as_i32_mut(&mut self) -> &mut [i32] {
        let whole = self.bytes / 4 * 4;
        bytemuck::cast_slice_mut(&mut self.as_bytes_mut()[..whole])
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: allocated in `zeroed`, freed once.
            let _ = unsafe { result::free_host(self.start.as_ptr().cast::<c_void>()) };
        }
    }
}
