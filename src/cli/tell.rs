//! What a command was asked for, on standard output. Who has read enough and closes it, as `head` does, ends the command without a fault.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Writes a line.
macro_rules! tell {
    ($($what:tt)*) => { $crate::cli::tell::part(format_args!("{}\n", format_args!($($what)*))) };
}
pub(super) use tell;

/// Writes; ends the process where nobody reads it any more, or it cannot be written.
pub(super) fn part(what: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(what).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            super::say(format!("millstream: standard output: {error}"));
            std::process::exit(crate::error::ExitCode::Io.code().into());
        }
    }
}
