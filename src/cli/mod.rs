//! The command line: one file a command. Nothing here computes; it reads arguments, calls the library and prints.

mod args;
mod bench;
mod generate;
mod parity;
mod plan;
mod run;
mod shard_check;
mod trace;

use crate::error::{Error, ExitCode, read_exit_code};
use crate::job::Pause;
use actors::trace::ChromeFault;
use args::{Cli, Command};
use clap::Parser;
use std::ffi::OsString;

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
    #[error("paused: {pause}. {done}{} lines are done; the same command with --resume goes on", .total.map(|total| format!(" of {total}")).unwrap_or_default())]
    Paused {
        /// Lines with a record.
        done: u64,
        /// Lines of the job.
        total: Option<u64>,
        /// Why.
        pause: Pause,
    },
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
            Failure::Paused { .. } => ExitCode::Paused.code(),
        }
    }

    fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |source| Failure::Io { what, source }
    }
}

/// Runs the command that `argv` names; returns its exit code.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args::normalise(argv)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors; nothing can be done when the terminal is gone.
            drop(error.print());
            return if error.use_stderr() { ExitCode::Usage.code() } else { 0 };
        }
    };
    if let Err(error) = crate::checkpoint::report_lost_pages() {
        eprintln!("note: a file that is lost while it is mapped ends the process without a word: {error}");
    }
    let done = match cli.command {
        Command::Run(args) => trace::record(&args.tracing, |trace| run::run(&args, trace)),
        Command::Generate(args) => trace::record(&args.tracing, |trace| generate::generate(&args, trace)),
        Command::Parity(args) => trace::record(&args.tracing, |trace| parity::parity(&args, trace)),
        Command::ShardCheck(args) => trace::record(&args.tracing, |trace| shard_check::shard_check(&args, trace)),
        Command::Bench(args) => trace::record(&args.tracing, |trace| bench::bench(&args, trace)),
        Command::Trace(args) => trace::trace(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Models(args) => plan::models(&args),
    };
    match done {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("millstream: {failure}");
            failure.exit_code()
        }
    }
}
