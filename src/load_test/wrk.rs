//! wrk's and wrk2's text. Percentiles are there with `--latency`; neither knows a 95th.
//!
//! A connection that could not be opened, was cut off, or timed out is a request and an error.

use super::{ContentError, Latency, LoadTest};

pub(super) fn is_summary(first_line: &str) -> bool {
    first_line.starts_with("Running ") && first_line.contains(" test @ ")
}

pub(super) fn read_summary(text: &str) -> Result<LoadTest, ContentError> {
    // `  65264 requests in 5.05s, 139.36MB read`
    let whole = text.lines().find_map(|line| {
        let (requests, rest) = line.trim().split_once(" requests in ")?;
        let (duration, _) = rest.split_once(',')?;
        Some((requests.parse::<u64>().ok()?, duration_ms(duration)?))
    });
    let (completed, ms) =
        whole.ok_or_else(|| ContentError::figure("requests in", "is missing or no number"))?;
    // `  1 threads and 8 connections`
    let connections = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(" threads and ")?;
        rest.split_whitespace().next()?.parse().ok()
    });
    // wrk writes `50%`, wrk2 `50.000%`.
    let percentile = |labels: [&str; 2]| {
        let found = labels.iter().find_map(|label| after(text, label));
        found.and_then(duration_ms)
    };
    let max = text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("Latency ")?;
        duration_ms(rest.split_whitespace().nth(2)?)
    });
    let rate = after(text, "Requests/sec:").and_then(|n| n.parse().ok());
    let broken = socket_errors(text)?;
    // `  Non-2xx or 3xx responses: 7`
    let refused = after(text, "Non-2xx or 3xx responses:").and_then(|n| n.parse::<u64>().ok());
    let requests = completed.saturating_add(broken);
    let errors = refused.unwrap_or(0).saturating_add(broken).min(requests);
    Ok(LoadTest {
        tool: "wrk".into(),
        duration_seconds: Some(ms / 1e3),
        peak_concurrency: connections,
        requests: Some(requests),
        throughput_per_second: rate
            .ok_or_else(|| ContentError::figure("Requests/sec", "is missing or no number"))?,
        latency: Latency {
            p50_ms: percentile(["50%", "50.000%"]),
            p95_ms: None,
            p99_ms: percentile(["99%", "99.000%"]),
            max_ms: max,
        },
        errors: Some(errors),
        error_rate: (requests > 0).then(|| errors as f64 / requests as f64),
        ..LoadTest::default()
    })
}

/// `  Socket errors: connect 0, read 12, write 0, timeout 3`; none when there is no such line.
fn socket_errors(text: &str) -> Result<u64, ContentError> {
    let label = "Socket errors:";
    let Some(rest) = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(label))
    else {
        return Ok(0);
    };
    let counts = rest.split(',').map(|part| {
        let count = part
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse::<u64>().ok());
        count.ok_or_else(|| ContentError::figure("Socket errors", "is no list of counts"))
    });
    counts.sum()
}

/// The word after a label that begins a line.
fn after<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| {
        let rest = line.trim().strip_prefix(label)?;
        rest.split_whitespace().next()
    })
}

/// `213.00us`, `2.22ms`, `5.05s`, `1.50m`, `2.00h`.
fn duration_ms(text: &str) -> Option<f64> {
    let units = [
        ("us", 1e-3),
        ("ms", 1.0),
        ("s", 1e3),
        ("m", 60e3),
        ("h", 3600e3),
    ];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.parse::<f64>().ok().map(|n| n * factor)
}
