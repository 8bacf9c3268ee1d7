//! The CUDA driver as this crate uses it: a context a device, memory, streams, events, graphs and modules that free themselves, and
//! errors that name the call that failed.
//!
//! The library is looked for at run time, so one binary serves machines with and without a GPU. cudarc panics where a library is missing;
//! [`probe`] asks first. Its safe layer is not used: it tracks events on every buffer, which inserts waits and breaks captures.

mod device;
mod error;
mod graph;
mod memory;
mod module;
mod stream;

pub use device::{Device, Probe, probe};
pub use error::DriverFault;
pub(crate) use graph::Graph;
pub(crate) use memory::{Address, DeviceMemory, Pinned};
pub(crate) use module::{Function, Module};
pub use stream::Event;
pub(crate) use stream::Stream;
