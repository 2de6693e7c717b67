//! What is wrong with a load-test result, and where in the file.

use std::io;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("failed to read `{file}`")]
    Io { file: String, source: io::Error },
    #[error("`{file}` is no load-test result: {fault}")]
    Content { file: String, fault: ContentError },
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    #[error("it is empty")]
    Empty,
    #[error("it has more than {limit} bytes")]
    TooLong { limit: u64 },
    #[error("byte {at} is not UTF-8")]
    NotText { at: usize },
    #[error("line {line}, column {column}: {message}")]
    Json {
        line: usize,
        column: usize,
        message: String,
    },
    #[error("line {line}: {message}")]
    Line { line: usize, message: String },
    /// A figure that is not there, or is no sensible number; `at` is its place in the document.
    #[error("`{at}` {message}")]
    Figure { at: String, message: &'static str },
    /// What a tool writes beside its results.
    #[error("{0}")]
    Beside(&'static str),
    #[error(
        "line 1: none of the formats that are known begins like this (k6, Locust, JMeter, Artillery, hey, oha, wrk, \
         perfprof.load-test)"
    )]
    Unknown,
}

impl ContentError {
    pub(super) fn figure(at: impl Into<String>, message: &'static str) -> ContentError {
        ContentError::Figure {
            at: at.into(),
            message,
        }
    }

    /// Whether it is no damage, but a file that holds something else.
    pub fn is_beside(&self) -> bool {
        matches!(self, ContentError::Beside(_))
    }

    pub(super) fn line(line: usize, message: impl Into<String>) -> ContentError {
        ContentError::Line {
            line,
            message: message.into(),
        }
    }

    pub(super) fn of(self, path: &Path) -> ReadError {
        ReadError::Content {
            file: path.display().to_string(),
            fault: self,
        }
    }
}
