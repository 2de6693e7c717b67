//! Why a history cannot be used.

use std::io;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("failed to open the history `{file}`")]
    Io { file: String, source: io::Error },
    /// It is left as it is.
    #[error("`{file}` is no history of perfprof: {why}")]
    NotHistory { file: String, why: String },
    #[error("the history `{file}` is in use by others for too long")]
    Busy { file: String },
    /// Space, permission.
    #[error("failed to write the history `{file}`")]
    Write {
        file: String,
        source: rusqlite::Error,
    },
}

impl HistoryError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> HistoryError {
        let file = path.display().to_string();
        move |source| HistoryError::Io { file, source }
    }

    pub(super) fn not_history(path: &Path, why: impl Into<String>) -> HistoryError {
        HistoryError::NotHistory {
            file: path.display().to_string(),
            why: why.into(),
        }
    }

    /// What SQLite says: most of it means that the file is not what it should be.
    pub(super) fn of(path: &Path, error: rusqlite::Error) -> HistoryError {
        use rusqlite::ErrorCode::*;
        let file = path.display().to_string();
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => HistoryError::Busy { file },
            Some(
                DiskFull
                | ReadOnly
                | SystemIoFailure
                | PermissionDenied
                | CannotOpen
                | FileLockingProtocolFailed
                | OutOfMemory,
            ) => HistoryError::Write {
                file,
                source: error,
            },
            _ => HistoryError::NotHistory {
                file,
                why: error.to_string(),
            },
        }
    }

    /// Whether the input is at fault, and not the place where it should be written.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, HistoryError::NotHistory { .. })
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            HistoryError::NotHistory { .. } => {
                "nothing of it was changed; restore a copy, move it away, or choose another file with `--history FILE`"
            }
            HistoryError::Busy { .. } => "try again when the other run has ended",
            HistoryError::Io { .. } | HistoryError::Write { .. } => {
                "choose a place you may write to with `--history FILE`"
            }
        }
    }
}
