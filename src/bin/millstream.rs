//! The command line of Millstream; everything it does is in the library.

fn main() -> std::process::ExitCode {
    // Does nothing in a program: only a build for tests has places where faults can be made.
    let _faults = fail::FailScenario::setup();
    millstream::cli::program(std::env::args_os()).into()
}
