//! What keeps evidence from being gathered or checked.

use std::io;

use crate::artifacts::{ArtifactError, InsideError};

#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error("failed to list `{path}`")]
    List { path: String, source: io::Error },
    #[error("failed to read `{path}`: it {source}")]
    Read { path: String, source: InsideError },
    #[error("failed to read `{path}`")]
    Content { path: String, source: io::Error },
    #[error("`{path}`: {message}")]
    Manifest { path: String, message: String },
    #[error("{what} in `{path}`, more than the {limit} that are taken")]
    TooMuch {
        what: String,
        path: String,
        limit: u64,
    },
    #[error("`{path}` has changed while it was bundled")]
    Changed { path: String },
    #[error(transparent)]
    Write(#[from] ArtifactError),
}

impl EvidenceError {
    /// Whether the output is at fault, not the input.
    pub fn is_output(&self) -> bool {
        matches!(self, EvidenceError::Write(_))
    }
}
