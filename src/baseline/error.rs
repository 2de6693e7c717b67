//! What is wrong with a baseline, or with a document it is taken from, and where.

use std::io;
use std::path::Path;

use crate::load_test::ContentError;

#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    #[error("failed to read `{file}`")]
    Io { file: String, source: io::Error },
    #[error("`{file}` has more than {limit} bytes")]
    TooLong { file: String, limit: u64 },
    #[error("`{file}` is no {what}: {fault}")]
    Content {
        file: String,
        what: &'static str,
        fault: ContentError,
    },
}

impl BaselineError {
    pub(super) fn content(path: &Path, what: &'static str) -> impl FnOnce(ContentError) -> Self {
        let file = path.display().to_string();
        move |fault| BaselineError::Content { file, what, fault }
    }
}
