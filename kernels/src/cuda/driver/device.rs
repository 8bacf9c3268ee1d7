//! A GPU and its primary context.

use super::error::{DriverFault, Named};
use cudarc::driver::{result, sys};
use std::sync::Arc;

/// What there is of CUDA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// So many GPUs.
    Devices(u32),
    /// None, and why.
    Absent(String),
}

/// Looks for the driver and its devices, without a panic and without a context.
pub fn probe() -> Probe {
    // SAFETY: the function opens libraries by name and calls nothing in them.
    if !unsafe { sys::is_culib_present() } {
        return Probe::Absent("no libcuda.so.1: there is no NVIDIA driver here".into());
    }
    let count = result::init().named("cuInit", || "look for GPUs".into());
    let count = count.and_then(|()| result::device::get_count().named("cuDeviceGetCount", || "count GPUs".into()));
    match count {
        Ok(count) if count > 0 => Probe::Devices(count as u32),
        Ok(_) => Probe::Absent("the driver is there and has no GPU".into()),
        Err(fault) => Probe::Absent(fault.to_string()),
    }
}

/// One GPU: its primary context, held.
#[derive(Debug)]
pub struct Device {
    number: u32,
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: the driver's functions on a context may be called from any thread; a thread binds it first (Device::bind).
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// Takes GPU `number`, and binds it to the calling thread.
    ///
    /// # Errors
    /// No driver, no such GPU, or what the driver says.
    pub fn open(number: u32) -> Result<Arc<Self>, DriverFault> {
        let doing = || format!("open cuda:{number}");
        let device = result::device::get(number as i32).named("cuDeviceGet", doing)?;
        // SAFETY: `device` was just given by the driver.
        let context = unsafe { result::primary_ctx::retain(device) }.named("cuDevicePrimaryCtxRetain", doing)?;
        let this = Self { number, device, context };
        this.bind()?;
        Ok(Arc::new(this))
    }

    /// Makes it the device of the calling thread.
    pub(crate) fn bind(&self) -> Result<(), DriverFault> {
        // SAFETY: the context is held until `self` is dropped.
        unsafe { result::ctx::set_current(self.context) }.named("cuCtxSetCurrent", || format!("bind {}", self.name()))
    }

    /// Waits for all of its work, whatever the stream.
    pub(super) fn wait(&self) -> Result<(), DriverFault> {
        self.bind()?;
        result::ctx::synchronize().named("cuCtxSynchronize", || format!("wait for {}", self.name()))
    }

    /// `cuda:0`.
    pub fn name(&self) -> String {
        format!("cuda:{}", self.number)
    }

    /// What the maker calls it.
    pub fn model(&self) -> String {
        result::device::get_name(self.device).unwrap_or_else(|_| "unknown GPU".into())
    }

    fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<u32, DriverFault> {
        // SAFETY: `device` was given by the driver.
        let value = unsafe { result::device::get_attribute(self.device, attribute) };
        Ok(value.named("cuDeviceGetAttribute", || format!("ask {} for {attribute:?}", self.name()))? as u32)
    }

    /// Compute capability, major and minor.
    pub fn capability(&self) -> Result<(u32, u32), DriverFault> {
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
        };
        Ok((self.attribute(MAJOR)?, self.attribute(MINOR)?))
    }

    /// Bytes of memory that are free, and of all.
    pub fn memory(&self) -> Result<(u64, u64), DriverFault> {
        self.bind()?;
        let (free, all) = result::mem_get_info().named("cuMemGetInfo", || format!("ask {} for memory", self.name()))?;
        Ok((free as u64, all as u64))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: retained once, in Device::open. A failing driver has nothing left to be released.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}
