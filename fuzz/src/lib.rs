//! What a reader may take for an input: a tenth of a second and 16 MiB and eight times its length.

#[path = "../targets.rs"]
mod targets;

use cpu_time::ThreadTime;
use peak_alloc::PeakAlloc;
use std::panic::{catch_unwind, set_hook};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Time of one input. The fuzzer's instrumentation and the overflow checks are in it.
const TIME_MAX: Duration = Duration::from_millis(100);
/// Bytes that any input may take.
const BYTES_FREE: usize = 16 << 20;
/// Bytes for each byte of the input.
const BYTES_EACH: usize = 8;

/// Where and why the last panic was, whether or not somebody caught it.
static PANIC: Mutex<String> = Mutex::new(String::new());
static HOOK: Once = Once::new();

/// Feeds `input` to the reader of this name, and ends the process where a panic comes out of it or it takes more time or memory than it may.
///
/// A library's panic that the reader catches and refuses is no finding; the fuzzer's own hook would end the process there.
pub fn held(target: &str, input: &[u8]) {
    HOOK.call_once(|| set_hook(Box::new(|panic| *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string())));
    if catch_unwind(|| measured(target, input)).is_err() {
        eprintln!("{}", PANIC.lock().unwrap_or_else(PoisonError::into_inner));
        std::process::abort();
    }
}

fn measured(target: &str, input: &[u8]) {
    let read = targets::TARGETS.iter().find(|(name, _)| *name == target).expect("a target of this name").1;
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let started = ThreadTime::now();
    read(input);
    let (time, bytes) = (started.elapsed(), ALLOCATOR.peak_usage().saturating_sub(before));
    assert!(time <= TIME_MAX, "{target}: {time:?} for {} bytes", input.len());
    let allowed = BYTES_FREE + BYTES_EACH * input.len();
    assert!(bytes <= allowed, "{target}: {bytes} bytes held for {} bytes, allowed {allowed}", input.len());
}
