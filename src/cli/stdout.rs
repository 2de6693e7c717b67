//! Data on standard output.

use std::io::{self, Write};

use super::stop::{Exit, Failure};

/// Prints text that is laid out already.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::NotWritten, error))
        }
        _ => Ok(()),
    }
}
