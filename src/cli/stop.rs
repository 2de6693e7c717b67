//! How a command ends: exit codes, and errors with advice.

use std::fmt;

/// Exit codes of all commands, as the contract with other tools fixes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success, or the gate passed.
    Success = 0,
    /// The gate failed, or a regression was found; also an internal error.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Not permitted.
    NotPermitted = 3,
    /// The target could not be profiled.
    NoTarget = 4,
    /// Too little data for a verdict.
    Inconclusive = 5,
    /// An input file is not what it should be.
    BadInput = 6,
    /// Output could not be written.
    NotWritten = 7,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

/// An error on its way to the user: what failed and why (the chain), what to do next, and the exit code.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: anyhow::Error,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Failure {
        Failure {
            exit,
            error: error.into(),
            hint: None,
        }
    }

    /// A failure without a deeper cause.
    pub fn message(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure::new(exit, anyhow::anyhow!("{message}"))
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}
