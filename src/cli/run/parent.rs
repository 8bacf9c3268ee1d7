//! The small parent of a job's process.

use super::watch::wishes;
use crate::cli::{Failure, args, clear_line, resume_command, say};
use crate::error::{Error, ExitCode};
use crate::job::{is_pipe, note_fault, standing};
use crate::supervise::{self, Again, Handles, Paused, Setup};
use std::ffi::OsString;

/// Where flags are put in: behind the program and the command.
const FLAGS_AT: usize = 2;

/// Runs the job in a process of its own; `None` where that cannot be, so that it has to be run here.
pub(in crate::cli) fn supervise(args: &args::Run, argv: &[OsString]) -> Option<u8> {
    if args.no_supervise || args.supervised.is_some() {
        return None;
    }
    let resumable = !is_pipe(&args.job).unwrap_or(false);
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            say(format!("note: the job runs without a parent: this program cannot be found: {error}"));
            return None;
        }
    };
    let arguments = |handles, again| arguments(argv, args.lines.resume, handles, again);
    let blame = |what: &str| note_fault(&args.output, what).map_err(Error::from);
    let tell = |words: &str| {
        clear_line();
        say(words);
    };
    let setup =
        Setup { program, arguments: &arguments, resumable, wishes: wishes(args), note_fault: &blame, say: &tell };
    match supervise::supervise(setup) {
        Ok(Paused::Code(code)) => Some(code),
        Ok(Paused::Because(why)) => {
            clear_line();
            say(format!("millstream: {}", paused(args, argv, why)));
            Some(ExitCode::Paused.code())
        }
        Err(error) => {
            say(format!("note: the job runs without a parent: {error}"));
            None
        }
    }
}

/// The arguments of the process.
fn arguments(argv: &[OsString], resume: bool, handles: Handles, again: Again) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = argv.iter().skip(1).cloned().collect();
    let at = (FLAGS_AT - 1).min(arguments.len());
    if again == Again::Again && !resume {
        arguments.insert(at, "--resume".into());
    }
    let Handles { lifeline, sheet } = handles;
    arguments.insert(at, format!("--supervised={lifeline},{sheet}").into());
    arguments
}

/// The pause that ends the parent, with where the job stands.
fn paused(args: &args::Run, argv: &[OsString], pause: String) -> Failure {
    // A journal that cannot be read will be told of by whoever goes on.
    let standing = standing(&args.output).ok().flatten();
    let (done, total) = standing.map_or((0, None), |standing| (standing.done, standing.total));
    Failure::Paused { done, total, pause, command: resume_command(argv, &args.job) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_put_in_behind_the_command() {
        let argv = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let handles = Handles { lifeline: 3, sheet: 4 };
        let given = argv("millstream run -o out -- -job");
        let cases = [
            (false, Again::First, "run --supervised=3,4 -o out -- -job"),
            (false, Again::Again, "run --supervised=3,4 --resume -o out -- -job"),
            (true, Again::Again, "run --supervised=3,4 -o out -- -job"),
        ];
        for (resume, again, expect) in cases {
            assert_eq!(arguments(&given, resume, handles, again), argv(expect));
        }
    }
}
