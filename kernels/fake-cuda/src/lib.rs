//! A stand-in for `libcuda.so.1`, for tests on machines without a GPU: the functions of the driver that the engine calls, over memory of
//! the host, with kernels found by the bytes of their cubin and computed program by program in plain Rust.
//!
//! It is strict where a driver is lax. Work is done when somebody waits for it, and not before, so a buffer that is changed or read too
//! early is seen. Every address is held against the allocations; every launch against the manifest: threads, shared memory, promised
//! alignment, scratch memory that must be null, sides of the grid. While a graph is captured nothing may be allocated or waited for. New
//! memory is full of NaN. What is wrong is said on standard error, and ends the process.
//!
//! `FAKE_CUDA_BYTES` is the memory of the device, `FAKE_CUDA_REPORT` a file that gets what was launched when the context is released.

mod arguments;
pub mod catalogue;
pub mod driver;
mod kernels;
mod state;

/// Says what is wrong with a call, and ends the process: a driver would have gone on, somewhere.
fn wrong(what: &str) -> ! {
    eprintln!("fake cuda: {what}");
    std::process::abort();
}
