//! What an agent is to do: validated values, made by `cli` from flags and a file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::budget::Limits;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Windows, deep recordings, queues, the token.
    pub data: PathBuf,
    pub window: Duration,
    pub limits: Limits,
    /// What SIGTERM leaves for the last window and the queues.
    pub grace: Duration,
    pub listen: SocketAddr,
    /// Where the token of requests that begin a recording stands; one is made in the data directory where none is named.
    pub token_file: Option<PathBuf>,
    pub max_recording: Duration,
}
