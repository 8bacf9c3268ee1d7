//! The same programs on NVIDIA GPUs: kernels compiled ahead of time from the `triton.py` of each op's folder, embedded, and launched through
//! the driver, which is looked for at run time.
//!
//! Layouts. Activations f32 `[rows, width]`; weights as in the checkpoint, `[n, k]`; keys and values of a page
//! `[kv_head][16][head_dim]`, apart. What a step looks like is one buffer of numbers ([`meta`]), so that launches are the same in every
//! step and a graph of them can be replayed.

pub mod driver;
mod executor;
mod kernels;
mod launch;
mod launcher;
mod meta;
mod prepare;
mod site;
mod weights;

pub use crate::ops::draw::cuda::Logits;
pub use driver::{Device, DriverFault, Probe, probe};
pub use executor::CudaExecutor;
pub(crate) use kernels::Wanted;
pub(crate) use launch::{Count, CountAt, Extent};
pub(crate) use launcher::Launcher;
pub(crate) use site::{Site, Turned};
pub use weights::{DeviceWeight, Uploader};

/// The parameters of each kernel.
pub(crate) mod arguments {
    pub(crate) use super::kernels::*;
}
