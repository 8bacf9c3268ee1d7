//! How a process that ran a job ended, and what is to be made of it.

use super::memory::Killer;
use signal_hook::consts::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSYS, SIGTRAP};
use signal_hook::low_level::signal_name;
use std::fmt;
use std::process::ExitStatus;

/// With what a supervised process ends whose engine gave up, after it has noted that in the journal. Seen by its supervisor only.
pub(crate) const ENGINE_FAILED: u8 = 80;
/// With what Rust ends a process whose main thread panicked.
const PANICKED: i32 = 101;

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// In order, with a code that its user is to see.
    Code(u8),
    /// Its engine gave up; the journal knows.
    Engine,
    /// A panic outside the actors.
    Panic {
        /// Who acted, in words; empty where nobody did.
        during: String,
    },
    /// By a signal.
    Signal {
        /// Its number.
        number: i32,
        /// Who acted, in words; empty where nobody did.
        during: String,
        /// Who sent it, as far as memory has to do with it: of SIGKILL and SIGABRT.
        killer: Option<Killer>,
    },
}

impl Ending {
    /// The ending that the system reports, with what is known beside it.
    pub(crate) fn of(status: ExitStatus, during: String, killer: impl FnOnce(i32) -> Option<Killer>) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) if code == i32::from(ENGINE_FAILED) => Ending::Engine,
            (Some(PANICKED), _) => Ending::Panic { during },
            (Some(code), _) => Ending::Code(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, number) => {
                let number = number.unwrap_or_default();
                Ending::Signal { number, during, killer: killer(number) }
            }
        }
    }

    /// Whether what ran is to blame, as far as can be told: nobody knows why a signal came from outside.
    pub(crate) fn is_own_fault(&self) -> bool {
        match self {
            Ending::Code(_) => false,
            // Noted by the process itself.
            Ending::Engine => false,
            Ending::Panic { .. } => true,
            Ending::Signal { number: SIGKILL, killer, .. } => killer.as_ref().is_some_and(Killer::is_memory),
            Ending::Signal { number, .. } => {
                [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP].contains(number)
            }
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Code(code) => write!(f, "exit code {code}"),
            Ending::Engine => f.write_str("the end of its engine"),
            Ending::Panic { during } => write!(f, "a panic{during}"),
            Ending::Signal { number, during, killer } => {
                let meaning = match *number {
                    SIGSEGV => ", an access to memory that it does not have,",
                    SIGBUS => ", memory that the system could not give,",
                    SIGILL => ", an instruction that this machine does not have,",
                    SIGFPE => ", arithmetic that has no result,",
                    SIGABRT => ", which it sent itself,",
                    _ => "",
                };
                let meaning = if during.is_empty() { meaning.trim_end_matches(',') } else { meaning };
                match signal_name(*number) {
                    Some(name) => write!(f, "{name}{meaning}{during}")?,
                    None => write!(f, "signal {number}{meaning}{during}")?,
                }
                killer.as_ref().map_or(Ok(()), |killer| write!(f, " ({killer})"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::memory::MemoryLimit;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn endings_are_told_in_words_and_blamed_with_care() {
        let limit = Some(MemoryLimit { bytes: 2 << 30, of: "the memory cgroup /jobs".into() });
        let (memory, outside) = (Some(Killer::Memory(limit.clone())), Some(Killer::Unknown(limit.clone())));
        let narrow = limit.map(Killer::Narrow);
        let signal = |raw: i32| ExitStatus::from_raw(raw);
        let during = " while stage 1 acted on step 12";
        let cases = [
            (signal(7 << 8), None, false, "exit code 7"),
            (signal(80 << 8), None, false, "the end of its engine"),
            (signal(101 << 8), None, true, "a panic while stage 1 acted on step 12"),
            (
                signal(SIGSEGV),
                None,
                true,
                "SIGSEGV, an access to memory that it does not have, while stage 1 acted on step 12",
            ),
            (signal(SIGABRT), None, true, "SIGABRT, which it sent itself, while stage 1 acted on step 12"),
            (
                signal(SIGABRT),
                narrow,
                true,
                "SIGABRT, which it sent itself, while stage 1 acted on step 12 (the limit of the memory cgroup /jobs is 2.00 GiB)",
            ),
            (
                signal(SIGKILL),
                outside,
                false,
                "SIGKILL while stage 1 acted on step 12 (sent from outside, or for want of memory: the limit of the memory cgroup \
                 /jobs is 2.00 GiB)",
            ),
            (
                signal(SIGKILL),
                memory,
                true,
                "SIGKILL while stage 1 acted on step 12 (out of memory: the limit of the memory cgroup /jobs is 2.00 GiB)",
            ),
        ];
        for (status, killer, own, expect) in cases {
            let ending = Ending::of(status, during.into(), |_| killer);
            assert_eq!((ending.to_string().as_str(), ending.is_own_fault()), (expect, own));
        }
        let idle = Ending::of(signal(SIGBUS), String::new(), |_| None);
        assert_eq!(idle.to_string(), "SIGBUS, memory that the system could not give");
    }
}
