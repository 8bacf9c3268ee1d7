//! Code on a GPU: one module a cubin, one function a module.

use super::Device;
use super::error::{DriverFault, Named};
use cudarc::driver::{result, sys};
use std::ffi::CString;
use std::sync::Arc;

/// Shared memory that a block may have without asking.
const SHARED_FREE: u32 = 48 << 10;

/// A loaded cubin.
#[derive(Debug)]
pub(crate) struct Module {
    device: Arc<Device>,
    module: sys::CUmodule,
}

// SAFETY: the driver's functions on a module may be called from any thread that has its context bound.
unsafe impl Send for Module {}
// SAFETY: as above; shared, functions are looked up in it only.
unsafe impl Sync for Module {}

/// A kernel of a module, with the shape of its blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    pub(super) handle: sys::CUfunction,
    pub(super) name: &'static str,
    pub(super) threads: u32,
    pub(super) shared: u32,
}

// SAFETY: a handle is a number to the driver; modules live as long as whoever holds functions of them.
unsafe impl Send for Function {}

impl Module {
    /// Loads a cubin; `name` is what messages call it.
    pub(crate) fn load(device: &Arc<Device>, name: &str, cubin: &[u8]) -> Result<Self, DriverFault> {
        device.bind()?;
        // SAFETY: a cubin says itself how long it is, and its hash was checked when it was embedded or read.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) };
        let module = module.named("cuModuleLoadData", || format!("load {name} on {}", device.name()))?;
        Ok(Self { device: device.clone(), module })
    }

    /// Its function `name`, in blocks of `threads` threads with `shared` bytes of dynamic shared memory.
    pub(crate) fn function(&self, name: &'static str, threads: u32, shared: u32) -> Result<Function, DriverFault> {
        let doing = || format!("find {name} on {}", self.device.name());
        let symbol = CString::new(name).expect("names of kernels have no NUL");
        // SAFETY: the module lives.
        let handle =
            unsafe { result::module::get_function(self.module, symbol) }.named("cuModuleGetFunction", doing)?;
        if shared > SHARED_FREE {
            let most = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the handle was just given.
            unsafe { result::function::set_function_attribute(handle, most, shared as i32) }
                .named("cuFuncSetAttribute", || format!("have {shared} bytes of shared memory for {name}"))?;
        }
        Ok(Function { handle, name, threads, shared })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: loaded in `load`, unloaded once; whoever holds functions of it holds the module.
            let _ = unsafe { result::module::unload(self.module) };
        }
    }
}
