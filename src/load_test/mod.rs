//! Results of load tests, in the words of whichever tool ran them, brought into one form.
//!
//! In: a file's bytes. Out: a [`LoadTest`]; what a tool does not say is `None`. The format is told by the content, never
//! by the name. Sizes are bounded, and an error says where in the file it is. Read so far: k6 (`--summary-export` and
//! `handleSummary`), Locust (`_stats.csv`), hey (text, and CSV), oha (JSON), wrk (text), and perfprof's own normalized form.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

mod csv;
mod json;
mod text;

/// Longer than any summary; a million requests of hey's CSV.
pub const MAX_BYTES: u64 = 64 << 20;

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

/// One load test, normalized.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadTest {
    /// `k6`, `wrk`, …, `normalized`.
    pub tool: &'static str,
    pub scenario: Option<String>,
    /// As the tool wrote it.
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
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("failed to read `{file}`")]
    Io { file: String, source: io::Error },
    #[error("`{file}` is no load-test result: {source}")]
    Content { file: String, source: ContentError },
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    #[error("it is empty")]
    Empty,
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
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
    #[error("line 1: none of the formats that are known begins like this")]
    Unknown,
}

/// Reads a file.
pub fn read(path: &Path) -> Result<LoadTest, ReadError> {
    let file = || path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|opened| opened.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| ReadError::Io {
            file: file(),
            source,
        })?;
    from_bytes(&bytes).map_err(|source| ReadError::Content {
        file: file(),
        source,
    })
}

/// Reads a file's bytes.
pub fn from_bytes(bytes: &[u8]) -> Result<LoadTest, ContentError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ContentError::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| ContentError::NotText {
        at: error.valid_up_to(),
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().find(|line| !line.trim().is_empty());
    let first = first.ok_or(ContentError::Empty)?.trim();
    match first {
        _ if first.starts_with(['{', '[']) => json::read(text),
        _ if csv::is_locust(first) => csv::read_locust(text),
        _ if csv::is_hey(first) => csv::read_hey(text),
        _ if text::is_wrk(first) => text::read_wrk(text),
        _ if text::is_hey(first) => text::read_hey(text),
        _ => Err(ContentError::Unknown),
    }
}

/// Refuses what is no rate: a test without requests cannot price one.
fn checked(test: LoadTest) -> Result<LoadTest, ContentError> {
    let rate = test.throughput_per_second;
    if rate.is_finite() && rate > 0.0 {
        return Ok(test);
    }
    Err(ContentError::Figure {
        at: "throughput".into(),
        message: "is not above 0",
    })
}

#[cfg(test)]
mod tests;
