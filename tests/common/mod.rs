//! What several tests of bad inputs share: the binary must say what the library says, and end with its code.

use std::process::{Command, Output, Stdio};

/// Runs the binary with these arguments and no standard input.
pub(crate) fn millstream(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

/// The binary ends with this code, and the last thing it says is this message.
#[track_caller]
pub(crate) fn refuses(arguments: &[&str], code: u8, message: &str) {
    let output = millstream(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(code)), "{arguments:?}: {said}");
    assert!(said.ends_with(&format!("millstream: {message}\n")), "{arguments:?}: wanted {message:?}, got\n{said}");
}
