//! hey: its summary for people, and `-o csv`, a row per request that had a response (hey leaves the others out).

use super::samples::{Sample, Samples};
use super::table::Table;
use super::{ContentError, Latency, LoadTest};

pub(super) fn is_summary(first_line: &str) -> bool {
    first_line == "Summary:"
}

pub(super) fn is_rows(first_line: &str) -> bool {
    first_line.starts_with("response-time,")
}

/// `response-time,…,status-code,offset`: seconds, and when the request was sent.
pub(super) fn read_rows(text: &str) -> Result<LoadTest, ContentError> {
    let mut table = Table::new(text, b',', None)?;
    let took = table.column(&["response-time"])?;
    let status = table.column(&["status-code"])?;
    let offset = table.column(&["offset"])?;
    let mut samples = Samples::default();
    while table.advance()? {
        samples.add(Sample {
            begin_ms: table.number(offset)? * 1e3,
            took_ms: table.number(took)? * 1e3,
            failed: table.number(status)? >= 400.0,
            users: None,
        });
    }
    Ok(samples.test("hey", Some(0.0)))
}

/// A figure is what follows its label.
pub(super) fn read_summary(text: &str) -> Result<LoadTest, ContentError> {
    let seconds = |label: &str| after(text, label).and_then(|n| n.parse::<f64>().ok());
    let ms = |label: &str| seconds(label).map(|seconds| seconds * 1e3);
    let (mut requests, mut errors) = (0_u64, 0_u64);
    for (key, rest) in text.lines().filter_map(bracketed) {
        // `  [200]	1975 responses` below `Status code distribution:`
        let responses = rest
            .strip_suffix(" responses")
            .and_then(|n| n.trim().parse::<u64>().ok());
        // `  [5]	Get "http://…": connection refused` below `Error distribution:`
        let count = responses.unwrap_or(u64::from(key));
        requests = requests.saturating_add(count);
        if responses.is_none() || key >= 400 {
            errors = errors.saturating_add(count);
        }
    }
    let rate = seconds("Requests/sec:");
    let rate =
        rate.ok_or_else(|| ContentError::figure("Requests/sec", "is missing or no number"))?;
    if requests == 0 {
        return Err(ContentError::figure(
            "Status code distribution",
            "is missing or counts nothing",
        ));
    }
    Ok(LoadTest {
        tool: "hey".into(),
        duration_seconds: seconds("Total:"),
        requests: Some(requests),
        throughput_per_second: rate,
        latency: Latency {
            p50_ms: ms("50% in"),
            p95_ms: ms("95% in"),
            p99_ms: ms("99% in"),
            max_ms: ms("Slowest:"),
        },
        errors: Some(errors),
        error_rate: Some(errors as f64 / requests as f64),
        ..LoadTest::default()
    })
}

/// `[NUMBER]` at the beginning of a line, and the rest.
fn bracketed(line: &str) -> Option<(u32, &str)> {
    let (key, rest) = line.trim().strip_prefix('[')?.split_once(']')?;
    Some((key.parse().ok()?, rest.trim()))
}

/// The word after a label that begins a line.
fn after<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| {
        let rest = line.trim().strip_prefix(label)?;
        rest.split_whitespace().next()
    })
}
