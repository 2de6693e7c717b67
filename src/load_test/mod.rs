//! Results of load tests, in the words of whichever tool ran them, brought into one form.
//!
//! In: a file's bytes. Out: [`LoadTest`]s; what a tool does not say is `None`. The format is told by the content, never
//! by the name. Sizes are bounded, and an error says where in the file it is, by field or line.
//!
//! | tool | read |
//! |---|---|
//! | k6 | `--summary-export`, and what `handleSummary` is given; scenarios or groups where thresholds tag them |
//! | Locust | `_stats.csv`, `_stats_history.csv`, `--json` |
//! | JMeter | JTL as CSV (any delimiter, any columns, header or none) and as XML |
//! | Artillery | JSON report, version 2 and 1 |
//! | hey, oha, wrk | text and CSV; JSON; text with `--latency` |
//! | perfprof | `load-test-results.json`, several scenarios ([`document`]) |
//!
//! A failed request is one without a response or with a status of 400 or more, in all tools that let us tell.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;

use crate::artifacts::{InsideError, read_named};

mod artillery;
pub(crate) mod check;
mod error;
pub(crate) mod field;
mod hey;
mod jmeter;
mod json;
mod k6;
mod locust;
mod normalized;
mod oha;
mod samples;
pub(crate) mod table;
mod wrk;

pub use error::{ContentError, ReadError};
pub(crate) use json::value as json_value;
pub use locust::complete as complete_by_history;
pub use normalized::{SCHEMA, SCHEMA_VERSION, document};

/// Four million samples of JMeter: an hour of a thousand a second.
pub const MAX_BYTES: u64 = 512 << 20;
/// Longer than any summary. A document takes many times its size in memory, rows do not.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// Scenarios, endpoints or labels in one file.
const MAX_RESULTS: usize = 10_000;

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

/// One load test, or one scenario of it, normalized.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadTest {
    /// `k6`, `wrk`, …; `normalized` when nobody said.
    pub tool: String,
    pub scenario: Option<String>,
    /// Who was tested; only the normalized form says so.
    pub service: Option<String>,
    /// RFC 3339; as it stands there in the normalized form.
    pub start: Option<String>,
    pub duration_seconds: Option<f64>,
    pub peak_concurrency: Option<u64>,
    /// All of them, failed ones included.
    pub requests: Option<u64>,
    pub throughput_per_second: f64,
    pub latency: Latency,
    pub errors: Option<u64>,
    /// 0 to 1.
    pub error_rate: Option<f64>,
    /// Thresholds of the tool's own that were crossed, `METRIC: EXPRESSION`. Tools write their truth in opposite ways;
    /// here a threshold is listed when it failed.
    pub thresholds_failed: Vec<String>,
    /// Where it was read from; only the normalized form keeps it.
    pub source: Option<Source>,
}

/// The file that a tool wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub file: String,
    /// RFC 3339.
    pub written_at: Option<String>,
}

/// What of a file becomes a result of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The whole test.
    Whole,
    /// Each scenario, where the file tells them apart.
    Scenarios,
    /// Each endpoint or label (Locust, JMeter); else as `Scenarios`.
    Endpoints,
}

/// Reads a file as one test.
pub fn read(path: &Path) -> Result<LoadTest, ReadError> {
    let bytes = bytes_of(path)?;
    from_bytes(&bytes).map_err(|error| error.of(path))
}

/// Reads a file with a result for each of its scenarios; at least one.
pub fn read_all(path: &Path) -> Result<Vec<LoadTest>, ReadError> {
    read_split(path, Split::Scenarios)
}

/// Reads a file's results, at least one.
pub fn read_split(path: &Path, split: Split) -> Result<Vec<LoadTest>, ReadError> {
    let bytes = bytes_of(path)?;
    all_from_bytes(&bytes, split).map_err(|error| error.of(path))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, ReadError> {
    let failed = |source| ReadError::Io {
        file: path.display().to_string(),
        source,
    };
    match read_named(path, MAX_BYTES) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(failed(nix::errno::Errno::ENOENT.into())),
        Err(InsideError::TooLarge { limit }) => Err(ContentError::TooLong { limit }.of(path)),
        Err(InsideError::Io(source)) => Err(failed(source)),
        // A FIFO would make us wait for ever.
        Err(error) => Err(failed(io::Error::other(error))),
    }
}

/// Reads a file's bytes as one test.
pub fn from_bytes(bytes: &[u8]) -> Result<LoadTest, ContentError> {
    let mut all = all_from_bytes(bytes, Split::Whole)?;
    if all.len() > 1 {
        return Err(ContentError::figure(
            "scenarios",
            "holds several scenarios, and one load test is needed",
        ));
    }
    all.pop().ok_or(ContentError::Empty)
}

/// Reads a file's bytes; at least one result.
pub fn all_from_bytes(bytes: &[u8], split: Split) -> Result<Vec<LoadTest>, ContentError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ContentError::TooLong { limit: MAX_BYTES });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| ContentError::NotText {
        at: error.valid_up_to(),
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().find(|line| !line.trim().is_empty());
    let first = first.ok_or(ContentError::Empty)?.trim();
    let tests = match first {
        _ if k6::is_points(first) => return Err(k6::points()),
        _ if let Some(beside) = locust::beside(first) => return Err(beside),
        _ if first.starts_with(['{', '[']) => json::read(text, split)?,
        _ if first.starts_with('<') => jmeter::read_xml(text, split)?,
        _ if locust::is_statistics(first) => locust::read_statistics(text, split)?,
        _ if locust::is_history(first) => vec![locust::read_history(text)?],
        _ if hey::is_rows(first) => vec![hey::read_rows(text)?],
        _ if hey::is_summary(first) => vec![hey::read_summary(text)?],
        _ if wrk::is_summary(first) => vec![wrk::read_summary(text)?],
        _ if jmeter::is_rows(first) => jmeter::read_rows(text, split)?,
        _ => return Err(ContentError::Unknown),
    };
    if tests.is_empty() {
        return Err(ContentError::figure("scenarios", "holds no scenario"));
    }
    tests.iter().try_for_each(check::plausible)?;
    Ok(tests)
}

#[cfg(test)]
mod tests;
