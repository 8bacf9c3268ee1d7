//! A queue of a GPU's work, and marks in it.

use super::error::{DriverFault, Named};
use super::{Address, Device, Function, Graph, Pinned};
use cudarc::driver::result::stream::StreamKind;
use cudarc::driver::{result, sys};
use std::ffi::c_void;
use std::sync::Arc;

/// Work in order. What is enqueued runs later: memory that it names lives until the stream was waited for.
#[derive(Debug)]
pub(crate) struct Stream {
    device: Arc<Device>,
    stream: sys::CUstream,
}

// SAFETY: the driver's functions on a stream may be called from any thread that has its context bound.
unsafe impl Send for Stream {}

impl Stream {
    /// A stream before all others of its device, or behind them.
    pub(crate) fn new(device: &Arc<Device>, first: bool) -> Result<Self, DriverFault> {
        let doing = || format!("make a stream of {}", device.name());
        device.bind()?;
        let (least, greatest) = result::stream::get_priority_range().named("cuCtxGetStreamPriorityRange", doing)?;
        let priority = if first { greatest } else { least };
        let stream = result::stream::create_with_priority(StreamKind::NonBlocking, priority);
        Ok(Self { device: device.clone(), stream: stream.named("cuStreamCreateWithPriority", doing)? })
    }

    /// The device it is of.
    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Copies `from`, which must not change until the stream has been waited for, to `to`.
    ///
    /// # Safety
    /// As many bytes begin at `to`, and nothing else that runs now uses them.
    pub(crate) unsafe fn upload(&self, from: &[u8], to: Address) -> Result<(), DriverFault> {
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_htod_async(to.bits(), from, self.stream) }
            .named("cuMemcpyHtoDAsync", || format!("copy {} bytes to {}", from.len(), self.device.name()))
    }

    /// Copies `bytes` bytes from `from` to the beginning of `to`, which is read after the stream was waited for.
    ///
    /// # Safety
    /// So many bytes begin at `from`.
    pub(crate) unsafe fn download(&self, from: Address, to: &mut Pinned, bytes: usize) -> Result<(), DriverFault> {
        // SAFETY: the caller's promise; `to` is sliced.
        unsafe { result::memcpy_dtoh_async(&mut to.as_bytes_mut()[..bytes], from.bits(), self.stream) }
            .named("cuMemcpyDtoHAsync", || format!("copy {bytes} bytes from {}", self.device.name()))
    }

    /// Enqueues a kernel: `grid` blocks of `threads`, with pointers to its parameters. It may be set up while the kernel before it still runs,
    /// for which its code then waits (`HEAD` in kernels/gpu/catalogue.py).
    ///
    /// # Safety
    /// The parameters are those that the kernel has, and what they name lives until the stream was waited for. The kernel begins with that wait.
    pub(crate) unsafe fn launch(
        &self,
        function: &Function,
        grid: [u32; 3],
        parameters: &mut [*mut c_void],
    ) -> Result<(), DriverFault> {
        let [x, y, z] = grid;
        let mut beside = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        };
        let config = sys::CUlaunchConfig {
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: function.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: function.shared,
            hStream: self.stream,
            attrs: &raw mut beside,
            numAttrs: 1,
        };
        // SAFETY: the caller's promise; the configuration lives for the call.
        let code = unsafe {
            sys::cuLaunchKernelEx(&raw const config, function.handle, parameters.as_mut_ptr(), std::ptr::null_mut())
        };
        code.result().named("cuLaunchKernelEx", || format!("launch {} over {x} x {y} x {z} blocks", function.name))
    }

    /// Waits until all that was enqueued is done.
    pub(crate) fn wait(&self) -> Result<(), DriverFault> {
        // SAFETY: the stream lives as long as self.
        unsafe { result::stream::synchronize(self.stream) }
            .named("cuStreamSynchronize", || format!("wait for {}", self.device.name()))
    }

    /// What `enqueue` enqueues, as a graph, without running it.
    pub(crate) fn capture<E: From<DriverFault>>(&self, enqueue: impl FnOnce() -> Result<(), E>) -> Result<Graph, E> {
        let doing = || format!("capture a graph of {}", self.device.name());
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives; it is ended below, whatever happens between.
        unsafe { result::stream::begin_capture(self.stream, mode) }.named("cuStreamBeginCapture", doing)?;
        let enqueued = enqueue();
        // SAFETY: as above.
        let graph = unsafe { result::stream::end_capture(self.stream) }.named("cuStreamEndCapture", doing);
        enqueued?;
        Ok(Graph::new(&self.device, graph?)?)
    }

    /// Enqueues all of a graph.
    pub(crate) fn replay(&self, graph: &Graph) -> Result<(), DriverFault> {
        // SAFETY: both live, and what the graph's kernels name lives as long as what captured them.
        unsafe { result::graph::launch(graph.ready, self.stream) }
            .named("cuGraphLaunch", || format!("replay a graph of {}", self.device.name()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made in `new`, destroyed once, after what it runs: buffers may be freed behind it.
            let _ = unsafe { result::stream::synchronize(self.stream) };
            // SAFETY: as above.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
    }
}

/// A mark in a stream, which others wait for.
#[derive(Debug)]
pub struct Event {
    device: Arc<Device>,
    event: sys::CUevent,
}

// SAFETY: the driver's functions on an event may be called from any thread that has its context bound.
unsafe impl Send for Event {}
// SAFETY: as above; shared, it can be asked and waited for only.
unsafe impl Sync for Event {}

impl Event {
    /// A mark that is not set, without a time.
    pub(crate) fn new(device: &Arc<Device>) -> Result<Self, DriverFault> {
        device.bind()?;
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        let event = event.named("cuEventCreate", || format!("make an event of {}", device.name()))?;
        Ok(Self { device: device.clone(), event })
    }

    /// Sets the mark behind all that `stream` has been given.
    pub(crate) fn record(&self, stream: &Stream) -> Result<(), DriverFault> {
        // SAFETY: both live.
        unsafe { result::event::record(self.event, stream.stream) }
            .named("cuEventRecord", || format!("mark a stream of {}", self.device.name()))
    }

    /// Waits until the stream has come to the mark.
    pub fn wait(&self) -> Result<(), DriverFault> {
        self.device.bind()?;
        // SAFETY: the event lives.
        unsafe { result::event::synchronize(self.event) }
            .named("cuEventSynchronize", || format!("wait for {}", self.device.name()))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made in `new`, destroyed once.
            let _ = unsafe { result::event::destroy(self.event) };
        }
    }
}
