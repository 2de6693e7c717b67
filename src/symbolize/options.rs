//! What naming may use: folders, servers, memory. Made by `cli` from what was typed; plain data.

use std::path::PathBuf;
use std::time::Duration;

/// Default of [`SymbolOptions::memory_bytes`].
pub const DEFAULT_MEMORY_BYTES: u64 = 512 << 20;

/// Default of [`SymbolOptions::worker_timeout`]: ten times what the largest binaries known to us take.
pub const DEFAULT_WORKER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where names may come from, and what finding them may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolOptions {
    /// Folders with separate debug information, in the profiler's own view of the file system; they were folders when
    /// they were named.
    pub debug_dirs: Vec<PathBuf>,
    /// `None`: no server is asked.
    pub debuginfod: Option<DebuginfodOptions>,
    /// What parsed debug information may take up at one time.
    pub memory_bytes: u64,
    /// Longest time without a word from a worker that reads a binary.
    pub worker_timeout: Duration,
    /// Whether names that were found are kept on disk for the next recording of the same build.
    pub use_cache: bool,
}

impl Default for SymbolOptions {
    fn default() -> SymbolOptions {
        SymbolOptions {
            debug_dirs: Vec::new(),
            debuginfod: None,
            memory_bytes: DEFAULT_MEMORY_BYTES,
            worker_timeout: DEFAULT_WORKER_TIMEOUT,
            use_cache: true,
        }
    }
}

/// Servers that may be asked, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebuginfodOptions {
    /// `http://` or `https://`, without a slash at the end. Never empty.
    pub urls: Vec<String>,
    /// For one file from one server, from the request to the last byte.
    pub timeout: Duration,
}
