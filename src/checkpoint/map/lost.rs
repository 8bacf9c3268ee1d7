//! Pages of a mapped file that the system can no longer give: SIGBUS, told in words instead of a crash.
//!
//! A mapped file that is shortened, or whose network disk fails, faults where it is read, long after it was opened and checked. The
//! mappings of the process stand in a fixed table; the handler finds the one at fault and ends the process with its name. Nothing in
//! the handler allocates, locks or formats.

use crate::error::ExitCode;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Mappings that are remembered. A fault in another one has no name.
const MAPPINGS_MAX: usize = 1024;

/// Whether a thread is telling of a lost page already.
static TOLD: AtomicBool = AtomicBool::new(false);

/// One mapping: free while its length is 0.
struct Mapping {
    start: AtomicUsize,
    len: AtomicUsize,
    /// Bytes of the file's name, leaked when first needed and of the length beside it.
    name: AtomicPtr<u8>,
    name_len: AtomicUsize,
}

static MAPPINGS: [Mapping; MAPPINGS_MAX] = [const {
    Mapping {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        name: AtomicPtr::new(std::ptr::null_mut()),
        name_len: AtomicUsize::new(0),
    }
}; MAPPINGS_MAX];

/// The place of a mapping in the table; dropped, it is forgotten.
pub(crate) struct Remembered(usize);

/// Remembers that `bytes` are those of `file`; `None` where the table is full.
pub(super) fn remember(bytes: &[u8], file: &Path) -> Option<Remembered> {
    let free = |mapping: &Mapping| mapping.len.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    let place = MAPPINGS.iter().position(free)?;
    // Leaked, a path a mapping: the handler may read it at any time.
    let name: &'static mut [u8] = Box::leak(file.display().to_string().into_bytes().into_boxed_slice());
    let mapping = &MAPPINGS[place];
    mapping.start.store(bytes.as_ptr() as usize, Ordering::Relaxed);
    mapping.name_len.store(name.len(), Ordering::Relaxed);
    mapping.name.store(name.as_mut_ptr(), Ordering::Relaxed);
    // Last, so that whoever sees the length sees the rest.
    mapping.len.store(bytes.len().max(2), Ordering::Release);
    Some(Remembered(place))
}

impl Drop for Remembered {
    fn drop(&mut self) {
        let mapping = &MAPPINGS[self.0];
        mapping.start.store(0, Ordering::Relaxed);
        mapping.len.store(0, Ordering::Release);
    }
}

/// Ends the process with the name of the file and exit code 74 where a mapped page is lost. For programs: a library leaves signals to
/// the program that it is part of.
pub fn report_lost_pages() -> std::io::Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid value of it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: `action` is a valid handler that only calls what a handler may; the old one is not asked for.
    let result = unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

extern "C" fn handle(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // Several threads read one file, and their words would mix: the first one tells and ends the process, the others wait for that.
    while TOLD.swap(true, Ordering::Relaxed) {
        // SAFETY: `pause` may be called in a handler; it returns at a signal, and the loop goes on.
        unsafe { libc::pause() };
    }
    // SAFETY: the system passes a valid `info` to a handler set with SA_SIGINFO; for SIGBUS its address is set.
    let at = unsafe { (*info).si_addr() } as usize;
    let hit = MAPPINGS.iter().find(|mapping| {
        let len = mapping.len.load(Ordering::Acquire);
        let start = mapping.start.load(Ordering::Relaxed);
        start != 0 && at >= start && at - start < len
    });
    match hit {
        None => say(b"millstream: a mapped file cannot be read any more\n"),
        Some(mapping) => {
            let (name, len) = (mapping.name.load(Ordering::Relaxed), mapping.name_len.load(Ordering::Relaxed));
            say(b"millstream: ");
            // SAFETY: `remember` stored a leaked slice of this length before it set the mapping's length.
            say(unsafe { std::slice::from_raw_parts(name, len) });
            say(b": byte ");
            say_number(at - mapping.start.load(Ordering::Relaxed));
            say(b" cannot be read any more: the file got shorter or its disk failed while it was mapped; \
                  restore it, or use --load-format read\n");
        }
    }
    // SAFETY: `_exit` may be called in a handler and does not return.
    unsafe { libc::_exit(ExitCode::Io.code().into()) }
}

fn say(bytes: &[u8]) {
    // SAFETY: `write` may be called in a handler; the bytes are valid for their length. Nothing can be done if it fails.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

/// Writes a number without formatting machinery.
fn say_number(mut number: usize) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return say(&digits[first..]);
        }
    }
}
