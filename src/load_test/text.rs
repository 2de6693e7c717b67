//! Text made for people: wrk's and hey's summaries.
//!
//! In: the text. Out: a [`LoadTest`]. A figure is what follows its label.

use super::{ContentError, Latency, LoadTest, checked};

pub(super) fn is_wrk(first_line: &str) -> bool {
    first_line.starts_with("Running ") && first_line.contains(" test @ ")
}

pub(super) fn is_hey(first_line: &str) -> bool {
    first_line == "Summary:"
}

/// Percentiles are there with `--latency`; it knows no 95th.
pub(super) fn read_wrk(text: &str) -> Result<LoadTest, ContentError> {
    // `  65264 requests in 5.05s, 139.36MB read`
    let whole = text.lines().find_map(|line| {
        let (requests, rest) = line.trim().split_once(" requests in ")?;
        let (duration, _) = rest.split_once(',')?;
        Some((requests.parse::<u64>().ok()?, duration_ms(duration)?))
    });
    // `  1 threads and 8 connections`
    let connections = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(" threads and ")?;
        rest.split_whitespace().next()?.parse().ok()
    });
    let percentile = |label: &str| after(text, label).and_then(duration_ms);
    // `  Non-2xx or 3xx responses: 7`
    let refused = after(text, "Non-2xx or 3xx responses:").and_then(|n| n.parse::<u64>().ok());
    let max = text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("Latency ")?;
        duration_ms(rest.split_whitespace().nth(2)?)
    });
    let requests = whole.map(|(requests, _)| requests);
    let errors = whole.map(|_| refused.unwrap_or(0));
    checked(LoadTest {
        tool: "wrk",
        duration_seconds: whole.map(|(_, ms)| ms / 1e3),
        peak_concurrency: connections,
        requests,
        throughput_per_second: rate(text, "Requests/sec:")?,
        latency: Latency {
            p50_ms: percentile("50%"),
            p95_ms: None,
            p99_ms: percentile("99%"),
            max_ms: max,
        },
        errors,
        error_rate: errors
            .zip(requests.filter(|n| *n > 0))
            .map(|(errors, requests)| errors as f64 / requests as f64),
        ..LoadTest::default()
    })
}

pub(super) fn read_hey(text: &str) -> Result<LoadTest, ContentError> {
    let seconds = |label: &str| after(text, label).and_then(|n| n.parse::<f64>().ok());
    let ms = |label: &str| seconds(label).map(|seconds| seconds * 1e3);
    // `  [200]	1975 responses`
    let statuses: Vec<(u32, u64)> = text
        .lines()
        .filter_map(|line| {
            let (status, rest) = line.trim().strip_prefix('[')?.split_once(']')?;
            let count = rest.trim().strip_suffix(" responses")?;
            Some((status.parse().ok()?, count.parse().ok()?))
        })
        .collect();
    let requests: u64 = statuses.iter().map(|(_, count)| count).sum();
    let bad = statuses.iter().filter(|(status, _)| *status >= 400);
    let errors: u64 = bad.map(|(_, count)| count).sum();
    checked(LoadTest {
        tool: "hey",
        duration_seconds: seconds("Total:"),
        requests: (requests > 0).then_some(requests),
        throughput_per_second: rate(text, "Requests/sec:")?,
        latency: Latency {
            p50_ms: ms("50% in"),
            p95_ms: ms("95% in"),
            p99_ms: ms("99% in"),
            max_ms: ms("Slowest:"),
        },
        errors: (requests > 0).then_some(errors),
        error_rate: (requests > 0).then(|| errors as f64 / requests as f64),
        ..LoadTest::default()
    })
}

fn rate(text: &str, label: &str) -> Result<f64, ContentError> {
    let found = after(text, label).and_then(|n| n.parse().ok());
    found.ok_or_else(|| ContentError::Figure {
        at: label.trim_end_matches(':').into(),
        message: "is missing or no number",
    })
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
