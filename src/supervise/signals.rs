//! Signals as messages: a thread waits for them and hands them on. No handler does anything.

use super::wishes::Ask;
use crossbeam::channel::{Receiver, bounded};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Result;

/// Signals that wait to be looked at. Equal ones that are waiting already are one for the system too.
const WAITING: usize = 64;

/// A signal that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// One that asks for the end.
    Asked(Ask),
    /// SIGQUIT.
    Dump,
    /// SIGCHLD: a process that was started may have ended.
    Child,
}

/// Hears signals from now on. SIGHUP stays ignored where whoever started this process had it ignored, as `nohup` does.
///
/// # Errors
/// What the system refused.
pub(crate) fn listen() -> Result<Receiver<Heard>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut wanted = vec![SIGINT, SIGTERM, SIGQUIT, SIGCHLD];
    if !is_ignored(&status, SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted)?;
    let (sender, heard) = bounded(WAITING);
    let forward = move || {
        for signal in signals.forever() {
            let message = match signal {
                SIGINT => Heard::Asked(Ask::Interrupt),
                SIGTERM => Heard::Asked(Ask::Terminate),
                SIGHUP => Heard::Asked(Ask::HangUp),
                SIGQUIT => Heard::Dump,
                _ => Heard::Child,
            };
            if sender.send(message).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(forward)?;
    Ok(heard)
}

/// Whether a process of this `/proc/PID/status` ignores a signal.
fn is_ignored(status: &str, signal: i32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, SIGHUP));
        assert!(!is_ignored(status, SIGINT));
        assert!(!is_ignored("", SIGHUP));
    }
}
