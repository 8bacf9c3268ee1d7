//! The command line of Millstream; everything it does is in the library.

fn main() -> std::process::ExitCode {
    millstream::cli::main(std::env::args_os()).into()
}
