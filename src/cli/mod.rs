//! The command line: one file a command. Nothing here computes; it reads arguments, calls the library and prints.

mod args;
mod argv;
mod bench;
mod generate;
mod kinds;
mod limits;
mod parity;
mod plan;
mod reference;
mod run;
mod score;
mod shard_check;
mod tell;
mod trace;

use crate::error::{Error, ExitCode, read_exit_code};
use crate::supervise::Child;
use actors::trace::ChromeFault;
use args::{Cli, Command};
use clap::Parser;
use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::path::Path;
use trace::Unwritten;

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The library refused or failed.
    #[error(transparent)]
    Library(#[from] Error),
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// The file.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be made.
    #[error("{what}: cannot be made: {source}")]
    Create {
        /// The file.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A reference that cannot be read.
    #[error("{what}: {why}")]
    Reference {
        /// The file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// An input could not be read.
    #[error("{what}: {source}")]
    Read {
        /// The file.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is no trace.
    #[error("{file}: {fault}")]
    Trace {
        /// The file.
        file: String,
        /// Where it differs, and how.
        fault: ChromeFault,
    },
    /// A check did not hold; the figures have been printed.
    #[error("{0}")]
    Check(String),
    /// Work remains.
    #[error("paused: {pause}. {done}{} lines are done; {}", .total.map(|total| format!(" of {total}")).unwrap_or_default(), onward(.command))]
    Paused {
        /// Lines with a record.
        done: u64,
        /// Lines of the job.
        total: Option<u64>,
        /// Why.
        pause: String,
        /// What goes on with it; nothing can where the input is a pipe.
        command: Option<String>,
    },
    /// Fewer files may be open than a run opens.
    #[error("open files are limited to {limit} (ulimit -n), a run needs {wanted}; raise the limit")]
    OpenFiles {
        /// The limit.
        limit: u64,
        /// What is needed.
        wanted: u64,
    },
}

/// How a job goes on.
fn onward(command: &Option<String>) -> String {
    match command {
        Some(command) => format!("the same command with --resume goes on:\n  {command}"),
        None => "a pipe cannot be read again, so that the rest of them is not".into(),
    }
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Library(error) => error.exit_code().code(),
            Failure::Io { .. } => ExitCode::Io.code(),
            Failure::Create { .. } => ExitCode::CannotCreate.code(),
            Failure::Read { source, .. } => read_exit_code(source).code(),
            Failure::Reference { .. } | Failure::Trace { .. } => ExitCode::Data.code(),
            Failure::Check(_) => 1,
            Failure::Paused { .. } | Failure::OpenFiles { .. } => ExitCode::Paused.code(),
        }
    }

    fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |source| Failure::Io { what, source }
    }
}

/// Runs the command that `argv` names, as the whole of a program whose executable takes the same words: a job runs in a child
/// that is started with them. Returns its exit code.
pub fn program(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let cli = match parsed(&argv) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let supervised = match &cli.command {
        Command::Run(args) => run::supervise(args, &argv),
        Command::Score(_)
        | Command::Generate(_)
        | Command::Parity(_)
        | Command::ShardCheck(_)
        | Command::Bench(_)
        | Command::Trace(_)
        | Command::Plan(_)
        | Command::Models(_) => None,
    };
    supervised.unwrap_or_else(|| command(cli, &argv))
}

/// Runs the command that `argv` names in this process; returns its exit code.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let argv: Vec<OsString> = argv.into_iter().collect();
    parsed(&argv).map_or_else(|code| code, |cli| command(cli, &argv))
}

/// What the words ask for, or the exit code of words that have been answered.
fn parsed(argv: &[OsString]) -> Result<Cli, u8> {
    Cli::try_parse_from(argv::normalise(argv.iter().cloned())).map_err(|error| {
        // Help and version are not errors; nothing can be done when the terminal is gone.
        drop(error.print());
        if error.use_stderr() { ExitCode::Usage.code() } else { 0 }
    })
}

fn command(cli: Cli, argv: &[OsString]) -> u8 {
    if let Err(error) = crate::checkpoint::report_lost_pages() {
        say(format!("note: a file that is lost while it is mapped ends the process without a word: {error}"));
    }
    let done = |done: Result<(), Failure>| done.map(|()| 0);
    let ended = match cli.command {
        Command::Run(args) => run_here(&args, argv),
        Command::Score(args) => done(trace::record(&args.tracing, |trace| score::score(&args, argv, trace))),
        Command::Generate(args) => done(trace::record(&args.tracing, |trace| generate::generate(&args, trace))),
        Command::Parity(args) => done(trace::record(&args.tracing, |trace| parity::parity(&args, trace))),
        Command::ShardCheck(args) => done(trace::record(&args.tracing, |trace| shard_check::shard_check(&args, trace))),
        Command::Bench(args) => done(trace::record(&args.tracing, |trace| bench::bench(&args, trace))),
        Command::Trace(args) => done(trace::trace(&args)),
        Command::Plan(args) => done(plan::plan(&args)),
        Command::Models(args) => done(plan::models(&args)),
    };
    ended.unwrap_or_else(|failure| {
        say(format!("millstream: {failure}"));
        failure.exit_code()
    })
}

/// Runs a job in this process, which may have a parent.
fn run_here(args: &args::Run, argv: &[OsString]) -> Result<u8, Failure> {
    let child =
        args.supervised.map(Child::new).transpose().map_err(Failure::io("what the parent process left open"))?;
    let board = child.as_ref().map(Child::board).unwrap_or_default();
    trace::record_on(board, Unwritten::Noted, &args.tracing, |trace| run::run(args, argv, trace, child))
}

/// Says something on standard error. Whoever listened may have gone, which is no reason to end a job.
fn say(words: impl AsRef<str>) {
    drop(writeln!(std::io::stderr().lock(), "{}", words.as_ref()));
}

/// Clears the line that a progress bar of another process has left on the terminal.
fn clear_line() {
    let mut out = std::io::stderr().lock();
    if out.is_terminal() {
        drop(write!(out, "\r\x1b[2K"));
    }
}

/// The command that goes on with the job of this one; none where its input is a pipe.
fn resume_command(argv: &[OsString], job: &Path) -> Option<String> {
    if crate::job::is_pipe(job).unwrap_or(false) {
        return None;
    }
    let own = |word: &&OsString| !word.to_string_lossy().starts_with("--supervised=");
    let mut words: Vec<&OsStr> = argv.iter().filter(own).map(OsString::as_os_str).collect();
    let resume = OsStr::new("--resume");
    if !words.contains(&resume) {
        words.insert(2.min(words.len()), resume);
    }
    Some(words.into_iter().map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_goes_on_can_be_pasted() {
        let cases = [
            (&["millstream", "run", "a.jsonl", "-o", "b"][..], "millstream run --resume a.jsonl -o b"),
            (
                &["/x/millstream", "run", "--supervised=3,4", "it's", "-o", "b", "--resume"],
                "/x/millstream run 'it'\\''s' -o b --resume",
            ),
            (&["m", "run", "-o", "", "--", "-a"], "m run --resume -o '' -- -a"),
        ];
        for (argv, expect) in cases {
            let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
            assert_eq!(resume_command(&argv, Path::new("a.jsonl")).as_deref(), Some(expect));
        }
        assert_eq!(resume_command(&["m".into(), "run".into()], Path::new("-")), None);
    }
}
