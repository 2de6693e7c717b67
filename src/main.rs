//! The program: runs the command and ends with its exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    perfprof::cli::main().into()
}
