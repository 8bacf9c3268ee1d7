//! A call of the driver that failed.

use cudarc::driver::DriverError;
use std::fmt;

/// Which call of the driver failed, and what it said.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct DriverFault {
    /// The function of the driver.
    pub call: &'static str,
    /// What it was to do.
    pub doing: String,
    /// Its answer: `CUDA_ERROR_OUT_OF_MEMORY`.
    pub code: String,
    /// The driver's explanation.
    pub said: String,
}

impl DriverFault {
    pub(super) fn new(call: &'static str, doing: String, error: DriverError) -> Self {
        let text = |found: Result<&std::ffi::CStr, DriverError>| {
            found.map_or_else(|_| format!("code {}", error.0 as u32), |text| text.to_string_lossy().into_owned())
        };
        Self { call, doing, code: text(error.error_name()), said: text(error.error_string()) }
    }

    /// What to do about it, where that is known.
    fn advice(&self) -> &'static str {
        match self.code.as_str() {
            "CUDA_ERROR_OUT_OF_MEMORY" => "; another process may hold the memory (nvidia-smi), or give the device less",
            "CUDA_ERROR_NO_DEVICE" => "; --device cpu computes on the cores",
            "CUDA_ERROR_NO_BINARY_FOR_GPU" => "; kernels are built for compute capability 9.0: --device cpu",
            "CUDA_ERROR_ILLEGAL_ADDRESS" | "CUDA_ERROR_LAUNCH_FAILED" | "CUDA_ERROR_MISALIGNED_ADDRESS" => {
                "; a kernel went wrong in this call or one before it: run it under compute-sanitizer"
            }
            _ => "",
        }
    }
}

impl fmt::Display for DriverFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, doing, code, said } = self;
        write!(f, "{doing}: {call} says {code} ({said}){}", self.advice())
    }
}

/// Names the call of a result.
pub(super) trait Named<T> {
    /// The same, with what was called and what for.
    fn named(self, call: &'static str, doing: impl FnOnce() -> String) -> Result<T, DriverFault>;
}

impl<T> Named<T> for Result<T, DriverError> {
    fn named(self, call: &'static str, doing: impl FnOnce() -> String) -> Result<T, DriverFault> {
        self.map_err(|error| DriverFault::new(call, doing(), error))
    }
}
