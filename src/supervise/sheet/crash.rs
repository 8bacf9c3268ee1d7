//! Which thread a fatal signal met: a handler that notes it in shared memory and lets the signal do what it would have done.
//!
//! Nothing in the handler allocates, locks or formats.

use std::io::{Error, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Signals that end a process for what one of its threads did.
const FATAL: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];
/// Bytes of a thread's name, with the 0 behind it (`TASK_COMM_LEN`).
const NAME_BYTES: usize = 16;

/// The name of the thread that was met; all zeros where none was.
#[repr(C)]
pub(super) struct Crash {
    thread: [AtomicU64; NAME_BYTES / 8],
}

/// Where the handler notes it.
static NOTE: AtomicPtr<Crash> = AtomicPtr::new(std::ptr::null_mut());
/// What was done about each signal before, in the order of [`FATAL`].
static BEFORE: OnceLock<[libc::sigaction; FATAL.len()]> = OnceLock::new();

impl Crash {
    /// The thread's name; empty where no signal was met.
    pub(super) fn thread(&self) -> String {
        let bytes: Vec<u8> = self.thread.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    pub(super) fn clear(&self) {
        self.thread.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// Notes on `crash` from now on.
pub(super) fn note_on(crash: &'static Crash) -> Result<()> {
    NOTE.store(std::ptr::from_ref(crash).cast_mut(), Ordering::Release);
    // SAFETY: an all-zero `sigaction` is a valid value of it.
    let zero: libc::sigaction = unsafe { std::mem::zeroed() };
    let mut before = [zero; FATAL.len()];
    for (&signal, before) in FATAL.iter().zip(&mut before) {
        // SAFETY: no new action is given; the old one is written to a place of its type.
        if unsafe { libc::sigaction(signal, std::ptr::null(), before) } != 0 {
            return Err(Error::last_os_error());
        }
    }
    // Known before the first handler is set, which reads it.
    if BEFORE.set(before).is_err() {
        return Ok(());
    }
    let mut action = zero;
    action.sa_sigaction = handle as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for signal in FATAL {
        // SAFETY: `action` is a valid handler that only calls what a handler may; the old one was taken above.
        if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } != 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let mut name = [0u8; NAME_BYTES];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, which `name` has; `prctl` is a plain system call.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    // SAFETY: `note_on` stored a reference that lives as long as the process, before any handler was set.
    if let Some(crash) = unsafe { NOTE.load(Ordering::Acquire).as_ref() } {
        for (word, bytes) in crash.thread.iter().zip(name.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(bytes);
            word.store(u64::from_le_bytes(eight), Ordering::Relaxed);
        }
    }
    // SAFETY: the system passes a valid `info` to a handler set with SA_SIGINFO.
    let of_the_system = unsafe { (*info).si_code } > 0;
    let place = FATAL.iter().position(|&fatal| fatal == signal);
    let before = place.and_then(|place| BEFORE.get()?.get(place));
    if let (true, Some(before)) = (of_the_system, before) {
        // What was there before sees the fault when the instruction runs again.
        // SAFETY: `before` is what `sigaction` gave for this signal.
        unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
        return;
    }
    // A signal that was sent does not come again by itself.
    // SAFETY: both are calls that a handler may make; the signal is delivered when this handler returns.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: as above.
    unsafe { libc::raise(signal) };
}
