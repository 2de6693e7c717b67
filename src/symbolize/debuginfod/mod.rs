//! Debug files and programs by build ID, from servers that speak debuginfod's protocol.
//!
//! In: a build ID. Out: an open file with exactly that build ID, from the cache that is shared with gdb, perf and
//! `debuginfod-find`, or from the first server that has it; or a [`FetchError`], which is counted. Nothing is asked
//! unless the user said so, since a build ID tells a stranger what runs here.
//!
//! What a server sends is not trusted: it is bounded in size and time, kept aside until it is whole, and used only
//! when its build ID is the one that was asked for. That tells a mistake from the right file, not a forgery: whoever
//! can forge a file with the right ID can lend wrong names, which https prevents.
//!
//! Source: <https://sourceware.org/elfutils/Debuginfod.html>, debuginfod(8), debuginfod-find(1).
#![forbid(unsafe_code)]

pub(super) mod cache;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Seek;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::options::DebuginfodOptions;
use crate::profile::BuildId;
use crate::target::identity;

use cache::{Aside, Cache, Cached};
use server::Server;

/// Chromium's debug file, the largest known to us, has about 4 GB.
const MAX_BYTES: u64 = 8 << 30;

/// Which file of a build is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Artifact {
    /// Symbols and DWARF that were split off; the program itself where it was never stripped.
    DebugInfo,
    /// The program or library as it was installed.
    Executable,
}

impl Artifact {
    /// Last part of the request's path, and the file's name in the cache.
    fn name(self) -> &'static str {
        match self {
            Artifact::DebugInfo => "debuginfo",
            Artifact::Executable => "executable",
        }
    }
}

/// Why a file did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("no debuginfod server has it")]
    NotFound,
    #[error("{server} was not done within {within:?}")]
    TimedOut { server: String, within: Duration },
    #[error("{server} cannot be reached: {why}")]
    Unreachable { server: String, why: String },
    #[error("{server} has it, but it is larger than {limit_bytes} bytes")]
    TooLarge { server: String, limit_bytes: u64 },
    #[error("{server} answered what is no file: {why}")]
    BadResponse { server: String, why: String },
    #[error("{server} sent a file without that build ID")]
    WrongBuildId { server: String },
    #[error("it could not be stored: {0}")]
    NotStored(String),
}

impl FetchError {
    /// Stable identifier, to count by.
    pub fn id(&self) -> &'static str {
        match self {
            FetchError::NotFound => "not-found",
            FetchError::TimedOut { .. } => "timed-out",
            FetchError::Unreachable { .. } => "unreachable",
            FetchError::TooLarge { .. } => "too-large",
            FetchError::BadResponse { .. } => "bad-response",
            FetchError::WrongBuildId { .. } => "wrong-build-id",
            FetchError::NotStored(_) => "not-stored",
        }
    }
}

/// Whom to ask, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `http://` or `https://`, without a slash at the end; asked in this order.
    pub urls: Vec<String>,
    /// For one file from one server, from the request to the last byte.
    pub timeout: Duration,
    /// A larger file is refused.
    pub max_bytes: u64,
    /// `None`: what is fetched serves this run only.
    pub cache_dir: Option<PathBuf>,
}

impl Config {
    /// With the cache that elfutils' own client uses in this environment.
    pub fn of(options: &DebuginfodOptions) -> Config {
        Config {
            urls: options.urls.clone(),
            timeout: options.timeout,
            max_bytes: MAX_BYTES,
            cache_dir: cache::default_folder(|name| std::env::var_os(name)),
        }
    }
}

/// What has come so far, for the status line and the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files that were in the cache.
    pub from_cache: u64,
    /// Files that servers sent, and their bytes.
    pub from_servers: u64,
    pub bytes: u64,
    /// Files in the cache that were another build, or none.
    pub refused_in_cache: u64,
    /// By [`FetchError::id`], with the first of each in words.
    pub failed: BTreeMap<&'static str, (u64, String)>,
    /// Why the cache is not used.
    pub cache_refused: Option<String>,
}

/// A client for one run. It may be used by several threads at once.
#[derive(Debug)]
pub struct Debuginfod {
    servers: Vec<Server>,
    cache: Option<Cache>,
    max_bytes: u64,
    /// Of the transfers under way and done.
    received_bytes: AtomicU64,
    fetched: Mutex<Fetched>,
}

impl Debuginfod {
    /// Connects to nobody yet. A cache that cannot be used safely is not used; [`Fetched::cache_refused`] says why.
    pub fn new(config: Config) -> Debuginfod {
        let (cache, cache_refused) = match config.cache_dir.as_deref().map(Cache::open) {
            None => (
                None,
                Some("no folder is known for it: $HOME is not set".into()),
            ),
            Some(Ok(cache)) => (Some(cache), None),
            Some(Err(why)) => (None, Some(why)),
        };
        Debuginfod {
            servers: server::servers(&config.urls, config.timeout),
            cache,
            max_bytes: config.max_bytes,
            received_bytes: AtomicU64::new(0),
            fetched: Mutex::new(Fetched {
                cache_refused,
                ..Fetched::default()
            }),
        }
    }

    /// The file with this build ID, opened for reading at its beginning.
    ///
    /// Takes at most the time-out per server that still answers. A server that once let it pass, or that cannot be
    /// reached, is not asked again; its error stands for every further file.
    pub fn fetch(&self, id: BuildId, artifact: Artifact) -> Result<File, FetchError> {
        let result = match self.in_cache(id, artifact) {
            Some(known) => known,
            None => self.ask_all(id, artifact),
        };
        if let Err(error) = &result {
            let mut fetched = self.lock();
            let (count, _) = fetched
                .failed
                .entry(error.id())
                .or_insert_with(|| (0, error.to_string()));
            *count += 1;
        }
        result
    }

    /// What has come, and what has not.
    pub fn fetched(&self) -> Fetched {
        self.lock().clone()
    }

    /// Bytes received so far, also of files that are still on their way.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Fetched> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_cache(&self, id: BuildId, artifact: Artifact) -> Option<Result<File, FetchError>> {
        match self.cache.as_ref()?.look_up(id, artifact) {
            Cached::File(mut file) if identity::build_id(&file) == Some(id) => {
                self.lock().from_cache += 1;
                let rewound = file.rewind();
                Some(
                    rewound
                        .map(|()| file)
                        .map_err(|error| FetchError::NotStored(error.to_string())),
                )
            }
            Cached::File(_) => {
                self.lock().refused_in_cache += 1;
                None
            }
            Cached::KnownMissing => Some(Err(FetchError::NotFound)),
            Cached::Unknown => None,
        }
    }

    /// Asks one server after the other. Only where all say that they do not have it, that is remembered; else the
    /// first other answer is the error.
    fn ask_all(&self, id: BuildId, artifact: Artifact) -> Result<File, FetchError> {
        let mut first_error = None;
        for server in &self.servers {
            match self.ask(server, id, artifact) {
                Ok(file) => return Ok(file),
                Err(FetchError::NotFound) => {}
                Err(stored @ FetchError::NotStored(_)) => return Err(stored),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let Some(error) = first_error else {
            if let Some(cache) = &self.cache {
                cache.remember_missing(id, artifact);
            }
            return Err(FetchError::NotFound);
        };
        Err(error)
    }

    fn ask(&self, server: &Server, id: BuildId, artifact: Artifact) -> Result<File, FetchError> {
        let mut aside = Aside::create(self.cache.as_ref(), id, artifact)
            .map_err(|error| FetchError::NotStored(error.to_string()))?;
        let limit_bytes = self.max_bytes.min(aside.affordable_bytes());
        let path = format!("/buildid/{id}/{}", artifact.name());
        let bytes = server.download(&path, aside.file(), limit_bytes, &self.received_bytes)?;
        if identity::build_id(aside.file()) != Some(id) {
            return Err(FetchError::WrongBuildId {
                server: server.name.clone(),
            });
        }
        let file = aside
            .keep()
            .map_err(|error| FetchError::NotStored(error.to_string()))?;
        let mut fetched = self.lock();
        fetched.from_servers += 1;
        fetched.bytes += bytes;
        Ok(file)
    }
}
