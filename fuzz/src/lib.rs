//! What a reader may take for an input: a tenth of a second and 16 MiB and eight times its length.

#[path = "../targets.rs"]
mod targets;

use cpu_time::ThreadTime;
use peak_alloc::PeakAlloc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Time of one input. The fuzzer's instrumentation and the overflow checks are in it.
const TIME_MAX: Duration = Duration::from_millis(100);
/// Bytes that any input may take.
const BYTES_FREE: usize = 16 << 20;
/// Bytes for each byte of the input.
const BYTES_EACH: usize = 8;

/// Feeds `input` to the reader of this name.
///
/// # Panics
/// Where it takes more time or memory than it may.
pub fn held(target: &str, input: &[u8]) {
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
