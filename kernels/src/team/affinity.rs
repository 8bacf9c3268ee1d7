//! Which core a thread runs on.

/// Pins the calling thread to one core.
pub fn pin_current(core: usize) -> std::io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
    }
    // SAFETY: cpu_set_t is a plain bit set, for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is below CPU_SETSIZE, checked at the top.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is ours, and its size is given.
    let status = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
