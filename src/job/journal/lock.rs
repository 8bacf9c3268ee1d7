//! One holder a job: a lock on the journal, which ends with the process that has it, and a note beside it of who that is.

use super::error::{Action, JournalError};
use super::files::{Files, Handle, Mode, read_all_at, write_all_at};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of a note that are read.
const NOTE_BYTES_MAX: u64 = 4096;
/// How long what a holder that is gone has left behind may take to end.
const ENDING_MAX: Duration = Duration::from_secs(5);
/// How often that is looked at.
const ENDING_LOOK: Duration = Duration::from_millis(10);

/// Who works on a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// Which boot of the machine.
    pub boot: String,
    /// Seconds since 1970 when it began.
    pub since: u64,
}

impl Holder {
    /// This process.
    pub fn own() -> Self {
        let kernel = |name: &str| {
            let text = std::fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).unwrap_or_default();
            text.trim().chars().take(128).collect::<String>()
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { pid: std::process::id(), host: kernel("hostname"), boot: kernel("random/boot_id"), since }
    }

    /// Whether it was a process of this machine, and is none any more.
    fn is_gone(&self) -> bool {
        let own = Self::own();
        if (&self.host, &self.boot) != (&own.host, &own.boot) || self.pid == 0 {
            return false;
        }
        // Behind the name in brackets stands the state; a zombie has ended and is only remembered.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        state.is_none_or(|state| matches!(state, 'Z' | 'X'))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("one that has not said who it is");
        }
        // The name was read from a file, and no file commands a terminal.
        let host = self.host.replace(char::is_control, "\u{fffd}");
        write!(f, "process {} on {host}, since {}", self.pid, Moment(self.since))
    }
}

/// A time as people read it, in UTC.
pub(crate) struct Moment(pub(crate) u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Days since 1 March of the year 0, in eras of 400 years: Howard Hinnant's `civil_from_days`.
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = era * 400 + year + next;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// The lock of a job, held until this is dropped.
#[derive(Debug)]
pub struct Hold {
    _locked: Box<dyn Handle>,
    /// Who left a note without ending in order, if anybody.
    left: Option<Holder>,
}

impl Hold {
    /// Takes the lock of the journal at `journal`, which is made where it is missing, and notes this process at `note`.
    ///
    /// # Errors
    /// [`JournalError::Held`] where another process has it; else what the system refused.
    pub fn take(files: &dyn Files, journal: &Path, note: &Path) -> Result<Self, JournalError> {
        Self::take_as(files, journal, note, &Holder::own())
    }

    /// As [`Hold::take`], and notes `holder` as the process to turn to.
    ///
    /// A holder that was killed may leave a process of its own behind that is still ending: that is waited for, five seconds at most.
    ///
    /// # Errors
    /// As [`Hold::take`].
    pub fn take_as(files: &dyn Files, journal: &Path, note: &Path, holder: &Holder) -> Result<Self, JournalError> {
        let locked = files.open(journal, Mode::Create).map_err(JournalError::io(journal, Action::Create))?;
        let left = read_note(files, note);
        let mut taken = locked.try_lock();
        if left.as_ref().is_some_and(Holder::is_gone) {
            let tries = (ENDING_MAX.as_millis() / ENDING_LOOK.as_millis()) as u32;
            for _ in 0..tries {
                if !matches!(taken, Ok(false)) {
                    break;
                }
                // Nobody sends: what is waited for is the time.
                let _ = crossbeam::channel::never::<()>().recv_timeout(ENDING_LOOK);
                taken = locked.try_lock();
            }
        }
        match taken {
            Ok(true) => {}
            Ok(false) => {
                let unknown = Holder { pid: 0, host: String::new(), boot: String::new(), since: 0 };
                return Err(JournalError::Held { file: journal.into(), holder: left.unwrap_or(unknown) });
            }
            Err(source) => return Err(JournalError::NoLocks { file: journal.into(), source }),
        }
        let text = serde_json::to_vec(holder).expect("numbers and strings are JSON");
        let handle = files.open(note, Mode::Create).map_err(JournalError::io(note, Action::Create))?;
        handle.truncate(0).map_err(JournalError::io(note, Action::Cut))?;
        write_all_at(handle.as_ref(), &text, 0).map_err(JournalError::io(note, Action::Write))?;
        Ok(Self { _locked: locked, left })
    }

    /// Who had the job before and ended without a word.
    pub fn left(&self) -> Option<&Holder> {
        self.left.as_ref()
    }

    /// Takes the note away and then the lock.
    pub fn release(self, files: &dyn Files, note: &Path) {
        // A note that stays is only a note.
        drop(files.remove(note));
    }
}

/// The note of a holder; one that cannot be read is none.
fn read_note(files: &dyn Files, note: &Path) -> Option<Holder> {
    let handle = files.open(note, Mode::Read).ok()?;
    let bytes = handle.bytes().ok().filter(|&bytes| bytes <= NOTE_BYTES_MAX)?;
    let mut text = vec![0; bytes as usize];
    read_all_at(handle.as_ref(), &mut text, 0).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The files of a job, beside its output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// Where results go.
    pub output: PathBuf,
    /// `OUTPUT.journal`.
    pub journal: PathBuf,
    /// `OUTPUT.lock`: who works on it.
    pub note: PathBuf,
}

impl Places {
    /// The files of the job whose results go to `output`.
    pub fn of(output: &Path) -> Self {
        let beside = |ending: &str| {
            let mut name = output.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Self { output: output.into(), journal: beside(".journal"), note: beside(".lock") }
    }

    /// The folder they are in.
    pub(crate) fn folder(&self) -> &Path {
        match self.output.parent() {
            Some(folder) if folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        }
    }
}

/// Whether a file is there, by opening it.
pub(crate) fn exists(files: &dyn Files, path: &Path) -> Result<bool, JournalError> {
    match files.open(path, Mode::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(JournalError::io(path, Action::Open)(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn moments_are_read_as_dates() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_496_645, "2026-11-24 05:04:05 UTC"),
        ];
        for (seconds, expect) in cases {
            assert_eq!(Moment(seconds).to_string(), expect);
        }
    }
}
