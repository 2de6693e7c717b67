//! What can go wrong with the output; all of it is exit code 7 of the contract.

use std::io;
use std::path::{Path, PathBuf};

/// An output that could not be written. Names the path; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("failed to {action} `{}`", crate::render::escape::visible(&path.display().to_string()))]
    Io {
        /// `create`, `write`, `lock`, …
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Something else stands where a directory or a regular file is needed, perhaps a link planted by somebody.
    #[error("`{}` is not a {wanted}", crate::render::escape::visible(&path.display().to_string()))]
    WrongKind { path: PathBuf, wanted: &'static str },
}

impl ArtifactError {
    /// For `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
        let path = path.to_owned();
        move |source| ArtifactError::Io {
            action,
            path,
            source,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ArtifactError::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space, or choose another directory with `--artifacts DIR`"
                }
                _ => "choose a directory you may write to with `--artifacts DIR`",
            },
            ArtifactError::WrongKind { .. } => {
                "move it away, or choose another directory with `--artifacts DIR`"
            }
        }
    }
}
