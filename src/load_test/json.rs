//! JSON: k6's two summaries, oha's, and the normalized form.
//!
//! In: the text. Out: a [`LoadTest`]. Which of them it is shows in the keys at the top.

use serde_json::Value;

use super::{ContentError, Latency, LoadTest, checked};

pub(super) fn read(text: &str) -> Result<LoadTest, ContentError> {
    let value: Value = serde_json::from_str(text).map_err(|error| ContentError::Json {
        line: error.line(),
        column: error.column(),
        // The position is told already.
        message: without_position(&error.to_string()),
    })?;
    let has = |key: &str| value.get(key).is_some();
    let test = if has("metrics") && value["metrics"].get("iterations").is_some() {
        k6(&value)
    } else if has("summary") && value["summary"].get("requestsPerSec").is_some() {
        oha(&value)
    } else {
        normalized(&value)
    };
    checked(test?)
}

fn without_position(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
}

/// `--summary-export` has the statistics flat in each metric, `handleSummary` below `values`.
fn k6(value: &Value) -> Result<LoadTest, ContentError> {
    let metric = |name: &str, figure: &str| {
        let metric = &value["metrics"][name];
        let values = metric.get("values").unwrap_or(metric);
        values[figure].as_f64()
    };
    // A test of another protocol than HTTP counts iterations only.
    let what = match metric("http_reqs", "rate") {
        Some(_) => "http_reqs",
        None => "iterations",
    };
    let latency = |figure: &str| metric("http_req_duration", figure);
    Ok(LoadTest {
        tool: "k6",
        duration_seconds: value["state"]["testRunDurationMs"]
            .as_f64()
            .map(|ms| ms / 1e3),
        peak_concurrency: metric("vus_max", "max").map(|n| n as u64),
        requests: metric(what, "count").map(|n| n as u64),
        throughput_per_second: metric(what, "rate")
            .ok_or_else(|| missing("metrics.http_reqs.rate"))?,
        latency: Latency {
            p50_ms: latency("med"),
            p95_ms: latency("p(95)"),
            p99_ms: latency("p(99)"),
            max_ms: latency("max"),
        },
        // Of this rate, `passes` are the failed requests.
        errors: metric("http_req_failed", "passes").map(|n| n as u64),
        error_rate: metric("http_req_failed", "value").or(metric("http_req_failed", "rate")),
        ..LoadTest::default()
    })
}

/// Times in `summary` and `latencyPercentiles` are seconds.
fn oha(value: &Value) -> Result<LoadTest, ContentError> {
    let summary = &value["summary"];
    let ms = |value: &Value| value.as_f64().map(|seconds| seconds * 1e3);
    let percentiles = &value["latencyPercentiles"];
    let seconds = summary["total"].as_f64();
    let rate = summary["requestsPerSec"].as_f64();
    let rate = rate.ok_or_else(|| missing("summary.requestsPerSec"))?;
    let failed = summary["successRate"].as_f64().map(|rate| 1.0 - rate);
    Ok(LoadTest {
        tool: "oha",
        duration_seconds: seconds,
        requests: seconds.map(|seconds| (seconds * rate).round() as u64),
        throughput_per_second: rate,
        latency: Latency {
            p50_ms: ms(&percentiles["p50"]),
            p95_ms: ms(&percentiles["p95"]),
            p99_ms: ms(&percentiles["p99"]),
            max_ms: ms(&summary["slowest"]),
        },
        error_rate: failed,
        ..LoadTest::default()
    })
}

/// `{requests, throughput_per_second | throughput, duration_seconds | duration, …}`; the rate is worked out where only
/// the other two are given.
fn normalized(value: &Value) -> Result<LoadTest, ContentError> {
    let number = |names: &[&str]| names.iter().find_map(|name| value[*name].as_f64());
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let requests = number(&["requests"]);
    let duration_seconds = number(&["duration_seconds", "duration"]);
    let rate = number(&["throughput_per_second", "throughput"]).or_else(|| {
        let seconds = duration_seconds.filter(|seconds| *seconds > 0.0)?;
        Some(requests? / seconds)
    });
    let rate = rate.ok_or_else(|| missing("throughput_per_second"))?;
    let latency = |name: &str| {
        let flat = value[format!("latency_{name}_ms").as_str()].as_f64();
        let nested = ["latency_ms", "latency"];
        flat.or_else(|| nested.iter().find_map(|at| value[*at][name].as_f64()))
    };
    Ok(LoadTest {
        tool: "normalized",
        scenario: text("scenario"),
        start: text("start"),
        duration_seconds,
        peak_concurrency: number(&["peak_concurrency", "concurrency"]).map(|n| n as u64),
        requests: requests.map(|n| n as u64),
        throughput_per_second: rate,
        latency: Latency {
            p50_ms: latency("p50"),
            p95_ms: latency("p95"),
            p99_ms: latency("p99"),
            max_ms: latency("max"),
        },
        errors: number(&["errors"]).map(|n| n as u64),
        error_rate: number(&["error_rate"]),
    })
}

fn missing(at: &str) -> ContentError {
    ContentError::Figure {
        at: at.into(),
        message: "is missing or no number",
    }
}
