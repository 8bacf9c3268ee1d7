//! The functions of the driver. What each does stands in NVIDIA's CUDA driver API reference under its name.

use crate::catalogue::{Variant, by_image};
use crate::state::{Launch, State, Work, state};
use crate::wrong;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// What the functions return: a `CUresult`.
type Code = c_int;

const SUCCESS: Code = 0;
const INVALID_VALUE: Code = 1;
const OUT_OF_MEMORY: Code = 2;
const INVALID_DEVICE: Code = 101;
const INVALID_IMAGE: Code = 200;
const NOT_FOUND: Code = 500;
const CAPTURE_UNSUPPORTED: Code = 900;
const CAPTURE_INVALIDATED: Code = 901;

const NAMES: &[(Code, &CStr, &CStr)] = &[
    (INVALID_VALUE, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
    (OUT_OF_MEMORY, c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
    (INVALID_DEVICE, c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal"),
    (INVALID_IMAGE, c"CUDA_ERROR_INVALID_IMAGE", c"device kernel image is invalid"),
    (NOT_FOUND, c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"),
    (
        CAPTURE_UNSUPPORTED,
        c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        c"operation not permitted when stream is capturing",
    ),
    (
        CAPTURE_INVALIDATED,
        c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
        c"operation failed due to a previous error during capture",
    ),
];

/// Dynamic shared memory that a block of this device may have, as sm_90 has it.
const SHARED_MAX: u32 = 227 << 10;
/// What a block has without asking.
const SHARED_FREE: u32 = 48 << 10;
/// The only context, stream handles from which on, and so on: numbers that are no addresses.
const CONTEXT: usize = 0x11;

fn device_bytes() -> u64 {
    std::env::var("FAKE_CUDA_BYTES").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(4 << 30)
}

/// What is not allowed while a stream is captured.
fn free_of_capture(state: &State) -> Code {
    if state.captures() { CAPTURE_UNSUPPORTED } else { SUCCESS }
}

/// Exports functions of the driver: each gives a code and writes through its pointers.
macro_rules! exported {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty),*) $body:block)*) => {
        $($(#[$doc])*
        ///
        /// # Safety
        /// As the driver asks: pointers are to what their names say.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "the driver's names")]
        pub unsafe extern "C" fn $name($($arg: $kind),*) -> Code $body)*
    };
}

/// Writes a result.
///
/// # Safety
/// `to` is a place for it.
unsafe fn put<T>(to: *mut T, value: T) -> Code {
    // SAFETY: the caller's promise.
    unsafe { to.write(value) };
    SUCCESS
}

exported! {
    /// Nothing to do.
    fn cuInit(_flags: c_uint) { SUCCESS }

    /// One device.
    fn cuDeviceGetCount(count: *mut c_int) {
        // SAFETY: the driver's contract.
        unsafe { put(count, 1) }
    }

    /// Device 0.
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        if ordinal != 0 {
            return INVALID_DEVICE;
        }
        // SAFETY: the driver's contract.
        unsafe { put(device, 0) }
    }

    /// Its name.
    fn cuDeviceGetName(name: *mut c_char, length: c_int, _device: c_int) {
        let text = c"Fake H200".to_bytes_with_nul();
        if (length as usize) < text.len() {
            return INVALID_VALUE;
        }
        // SAFETY: `length` bytes begin at `name`.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.len()) };
        SUCCESS
    }

    /// Compute capability 9.0, 132 multiprocessors.
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        let found = match attribute {
            16 => 132,
            75 => 9,
            97 => SHARED_MAX as c_int,
            _ => 0,
        };
        // SAFETY: the driver's contract.
        unsafe { put(value, found) }
    }

    /// The only context.
    fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, _device: c_int) {
        // SAFETY: the driver's contract.
        unsafe { put(context, std::ptr::without_provenance_mut(CONTEXT)) }
    }

    /// Writes what was done, where somebody wants to know.
    fn cuDevicePrimaryCtxRelease_v2(_device: c_int) {
        let mut state = state();
        state.catch_up();
        if let Some(file) = std::env::var_os("FAKE_CUDA_REPORT")
            && std::fs::write(file, state.report()).is_err()
        {
            wrong("the report cannot be written");
        }
        SUCCESS
    }

    /// Any thread.
    fn cuCtxSetCurrent(_context: *mut c_void) { SUCCESS }

    /// Does what waits.
    fn cuCtxSynchronize() {
        let mut state = state();
        if state.captures() {
            return CAPTURE_UNSUPPORTED;
        }
        state.catch_up();
        SUCCESS
    }

    /// Two priorities.
    fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) {
        // SAFETY: the driver's contract.
        unsafe { put(least, 0) + put(greatest, -5) }
    }

    /// What is left of the device's memory.
    fn cuMemGetInfo_v2(free: *mut usize, all: *mut usize) {
        let bytes = device_bytes();
        let left = bytes.saturating_sub(state().memory.used);
        // SAFETY: the driver's contract.
        unsafe { put(free, left as usize) + put(all, bytes as usize) }
    }

    /// Memory full of NaN.
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) {
        let mut state = state();
        if state.captures() {
            return CAPTURE_UNSUPPORTED;
        }
        if bytes == 0 {
            return INVALID_VALUE;
        }
        if state.memory.used + bytes as u64 > device_bytes() {
            return OUT_OF_MEMORY;
        }
        let start = state.memory.take(bytes as u64);
        // SAFETY: the driver's contract.
        unsafe { put(address, start) }
    }

    /// Memory that came from above, once.
    fn cuMemFree_v2(address: u64) {
        let mut state = state();
        state.catch_up();
        if state.memory.give_back(address) { SUCCESS } else { INVALID_VALUE }
    }

    /// At once.
    fn cuMemsetD8_v2(address: u64, value: u8, bytes: usize) {
        let mut state = state();
        state.catch_up();
        state.memory.hold(address, bytes as u64, "cuMemsetD8");
        // SAFETY: so many bytes begin there.
        unsafe { std::ptr::write_bytes(address as *mut u8, value, bytes) };
        free_of_capture(&state)
    }

    /// Memory of the host.
    fn cuMemHostAlloc(start: *mut *mut c_void, bytes: usize, _flags: c_uint) {
        let mut state = state();
        let mut block = vec![u64::MAX; bytes.div_ceil(8).max(1)];
        let at = block.as_mut_ptr();
        state.pinned.insert(at as u64, block);
        // SAFETY: the driver's contract.
        unsafe { put(start, at.cast()) }
    }

    /// The same, back.
    fn cuMemFreeHost(start: *mut c_void) {
        let mut state = state();
        state.catch_up();
        if state.pinned.remove(&(start as u64)).is_some() { SUCCESS } else { INVALID_VALUE }
    }

    /// At once.
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) {
        let mut state = state();
        state.memory.hold(to, bytes as u64, "cuMemcpyHtoD");
        state.enqueue(Work::Upload { from: from as u64, to, bytes });
        state.catch_up();
        free_of_capture(&state)
    }

    /// When somebody waits.
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, _stream: u64) {
        let mut state = state();
        state.memory.hold(to, bytes as u64, "cuMemcpyHtoDAsync");
        state.enqueue(Work::Upload { from: from as u64, to, bytes });
        free_of_capture(&state)
    }

    /// When somebody waits.
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, _stream: u64) {
        let mut state = state();
        state.memory.hold(from, bytes as u64, "cuMemcpyDtoHAsync");
        state.enqueue(Work::Download { from, to: to as u64, bytes });
        free_of_capture(&state)
    }

    /// A number.
    fn cuStreamCreateWithPriority(stream: *mut u64, _flags: c_uint, _priority: c_int) {
        let mut state = state();
        state.streams += 1;
        // SAFETY: the driver's contract.
        unsafe { put(stream, state.streams) }
    }

    /// Does what waits.
    fn cuStreamDestroy_v2(_stream: u64) {
        state().catch_up();
        SUCCESS
    }

    /// Does what waits.
    fn cuStreamSynchronize(_stream: u64) {
        let mut state = state();
        if state.captures() {
            return CAPTURE_UNSUPPORTED;
        }
        state.catch_up();
        SUCCESS
    }

    /// All work is done in the order in which it was enqueued, whatever the stream.
    fn cuStreamWaitEvent(_stream: u64, _event: u64, _flags: c_uint) { SUCCESS }

    /// From here on launches are kept and not done.
    fn cuStreamBeginCapture_v2(stream: u64, _mode: c_int) {
        let mut state = state();
        if state.capturing.is_some() {
            return CAPTURE_UNSUPPORTED;
        }
        state.capturing = Some((stream, std::thread::current().id(), vec![]));
        SUCCESS
    }

    /// What was kept.
    fn cuStreamEndCapture(stream: u64, graph: *mut u64) {
        let mut state = state();
        let Some((captured, _, launches)) = state.capturing.take() else { return CAPTURE_INVALIDATED };
        if captured != stream {
            return CAPTURE_INVALIDATED;
        }
        state.graphs.push(Some(launches));
        // SAFETY: the driver's contract.
        unsafe { put(graph, state.graphs.len() as u64) }
    }

    /// The same, ready.
    fn cuGraphInstantiateWithFlags(ready: *mut u64, graph: u64, _flags: u64) {
        let mut state = state();
        let Some(launches) = state.graphs.get(graph as usize - 1).cloned() else { return INVALID_VALUE };
        state.graphs.push(launches);
        // SAFETY: the driver's contract.
        unsafe { put(ready, state.graphs.len() as u64) }
    }

    /// All of it, when somebody waits.
    fn cuGraphLaunch(ready: u64, _stream: u64) {
        let mut state = state();
        state.replays += 1;
        state.enqueue(Work::Graph(ready as usize - 1));
        free_of_capture(&state)
    }

    /// Gone.
    fn cuGraphExecDestroy(ready: u64) {
        let mut state = state();
        state.catch_up();
        state.graphs[ready as usize - 1] = None;
        SUCCESS
    }

    /// Gone.
    fn cuGraphDestroy(graph: u64) {
        state().graphs[graph as usize - 1] = None;
        SUCCESS
    }

    /// A number.
    fn cuEventCreate(event: *mut u64, _flags: c_uint) {
        // SAFETY: the driver's contract.
        unsafe { put(event, 1) }
    }

    /// Work is done in one order: nothing to keep.
    fn cuEventRecord(_event: u64, _stream: u64) { SUCCESS }

    /// Does what waits.
    fn cuEventSynchronize(_event: u64) {
        let mut state = state();
        if state.captures() {
            return CAPTURE_UNSUPPORTED;
        }
        state.catch_up();
        SUCCESS
    }

    /// Nothing to keep.
    fn cuEventDestroy_v2(_event: u64) { SUCCESS }

    /// The variant whose cubin it is.
    fn cuModuleLoadData(module: *mut *const Variant, image: *const c_void) {
        if state().captures() {
            return CAPTURE_UNSUPPORTED;
        }
        // SAFETY: the driver's contract.
        let Some(variant) = (unsafe { by_image(image.cast()) }) else { return INVALID_IMAGE };
        // SAFETY: the driver's contract.
        unsafe { put(module, std::ptr::from_ref(variant)) }
    }

    /// Variants live as long as the process.
    fn cuModuleUnload(_module: *const Variant) { SUCCESS }

    /// Its only function.
    fn cuModuleGetFunction(function: *mut *const Variant, module: *const Variant, name: *const c_char) {
        // SAFETY: given by cuModuleLoadData, and a text.
        let (variant, name) = unsafe { (&*module, CStr::from_ptr(name)) };
        if name.to_bytes() != variant.kernel.as_bytes() {
            return NOT_FOUND;
        }
        // SAFETY: the driver's contract.
        unsafe { put(function, module) }
    }

    /// More shared memory.
    fn cuFuncSetAttribute(function: *const Variant, attribute: c_int, value: c_int) {
        if attribute != 8 || value as u32 > SHARED_MAX {
            return INVALID_VALUE;
        }
        state().shared.insert(function as usize, value as u32);
        SUCCESS
    }
}

/// How a kernel is launched, as the driver has it.
#[repr(C)]
pub struct LaunchConfig {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    stream: u64,
    /// Whether it may be set up beside the kernel before it, which a launch here never is.
    attributes: *const c_void,
    attributes_count: c_uint,
}

/// A launch, held against the manifest.
///
/// # Safety
/// `parameters` points to a pointer for each parameter of the kernel and the two behind them.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the driver's name")]
pub unsafe extern "C" fn cuLaunchKernelEx(
    config: *const LaunchConfig,
    function: *const Variant,
    parameters: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> Code {
    // SAFETY: the driver's contract: it lives for the call.
    let LaunchConfig { grid, block, shared, stream, .. } = unsafe { config.read() };
    let [_, y, z] = grid;
    // SAFETY: given by cuModuleGetFunction; variants live as long as the process.
    let variant: &'static Variant = unsafe { &*function };
    let mut state = state();
    let allowed = state.shared.get(&(function as usize)).copied().unwrap_or(SHARED_FREE);
    if block != [variant.threads, 1, 1] || shared != variant.shared || shared > allowed {
        wrong(&format!("{}: {block:?} threads with {shared} bytes, of {allowed} allowed", variant.id));
    }
    if grid.contains(&0) || y > 65_535 || z > 65_535 {
        return INVALID_VALUE;
    }
    // SAFETY: the driver's contract: parameters are at least as long as their types.
    let values = unsafe { values(variant, parameters) };
    let launch = Launch { variant, grid, values };
    match &mut state.capturing {
        Some((captured, _, launches)) if *captured == stream => launches.push(launch),
        _ => state.enqueue(Work::Launch(launch)),
    }
    SUCCESS
}

/// Copies the parameters, as the driver does, and holds them against what was promised.
///
/// # Safety
/// As of cuLaunchKernelEx.
unsafe fn values(variant: &Variant, parameters: *mut *mut c_void) -> Vec<u64> {
    let mut values = vec![];
    for (at, param) in variant.params.iter().enumerate() {
        // SAFETY: the caller's promise.
        let from = unsafe { *parameters.add(at) };
        let wide = param.kind.starts_with("ptr:") || param.kind == "i64";
        // SAFETY: as above.
        let value = unsafe { if wide { from.cast::<u64>().read() } else { u64::from(from.cast::<u32>().read()) } };
        if param.aligned && value % 16 != 0 {
            wrong(&format!("{}: {} is {value}, promised to be a multiple of 16", variant.id, param.name));
        }
        values.push(value);
    }
    for behind in 0..2 {
        // SAFETY: as above.
        let scratch = unsafe { (*parameters.add(variant.params.len() + behind)).cast::<u64>().read() };
        if scratch != 0 {
            wrong(&format!("{}: scratch memory at {scratch:#x}, it has none", variant.id));
        }
    }
    values
}

/// The name of a code.
///
/// # Safety
/// `name` is a place for it.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the driver's name")]
pub unsafe extern "C" fn cuGetErrorName(code: Code, name: *mut *const c_char) -> Code {
    let Some((_, found, _)) = NAMES.iter().find(|(known, ..)| *known == code) else { return INVALID_VALUE };
    // SAFETY: the driver's contract.
    unsafe { put(name, found.as_ptr()) }
}

/// What a code means.
///
/// # Safety
/// `text` is a place for it.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the driver's name")]
pub unsafe extern "C" fn cuGetErrorString(code: Code, text: *mut *const c_char) -> Code {
    let Some((.., found)) = NAMES.iter().find(|(known, ..)| *known == code) else { return INVALID_VALUE };
    // SAFETY: the driver's contract.
    unsafe { put(text, found.as_ptr()) }
}
