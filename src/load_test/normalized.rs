//! perfprof's own form: `load-test-results.json`, schema `perfprof.load-test` (`schemas/load-test-results.schema.json`),
//! with any number of scenarios; and what people write by hand: one object, or an array of them, with the same fields.

use serde_json::{Value, json};

use super::field::Field;
use super::{ContentError, Latency, LoadTest, MAX_RESULTS, Source};

pub const SCHEMA: &str = "perfprof.load-test";
pub const SCHEMA_VERSION: u64 = 1;

/// The whole file.
pub fn document(tests: &[LoadTest]) -> Value {
    let scenarios: Vec<Value> = tests.iter().map(entry).collect();
    json!({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "scenarios": scenarios})
}

fn entry(test: &LoadTest) -> Value {
    let source = test.source.as_ref();
    json!({
        "scenario": test.scenario,
        "service": test.service,
        "tool": test.tool,
        "start": test.start,
        "duration_seconds": test.duration_seconds,
        "peak_concurrency": test.peak_concurrency,
        "requests": test.requests,
        "throughput_per_second": test.throughput_per_second,
        "latency": {
            "p50_ms": test.latency.p50_ms,
            "p95_ms": test.latency.p95_ms,
            "p99_ms": test.latency.p99_ms,
            "max_ms": test.latency.max_ms,
        },
        "errors": test.errors,
        "error_rate": test.error_rate,
        "thresholds_failed": test.thresholds_failed,
        "source": source.map(|source| json!({
            "file": source.file,
            "written_at": source.written_at,
        })),
    })
}

/// With `scenarios`; a `schema` must be ours.
pub(super) fn read_document(root: &Field<'_>) -> Result<Vec<LoadTest>, ContentError> {
    if let Some(schema) = root.at("schema").text()? {
        if schema != SCHEMA {
            return Err(root.at("schema").fault("is not `perfprof.load-test`"));
        }
        if root.at("schema_version").count()? != Some(SCHEMA_VERSION) {
            return Err(root.at("schema_version").fault("is not 1"));
        }
    }
    let scenarios = root.at("scenarios");
    if scenarios.is_absent() {
        return Err(scenarios.fault("is missing"));
    }
    several(&scenarios)
}

/// One object, or an array.
pub(super) fn read_bare(root: &Field<'_>) -> Result<Vec<LoadTest>, ContentError> {
    match root.value() {
        Value::Array(items) if !items.is_empty() => several(root),
        _ => Ok(vec![one(root)?]),
    }
}

fn several(scenarios: &Field<'_>) -> Result<Vec<LoadTest>, ContentError> {
    let items = scenarios.items()?;
    if items.len() > MAX_RESULTS {
        return Err(scenarios.fault("holds too many scenarios"));
    }
    let tests = items.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<_> = tests.iter().map(|test| test.scenario.as_deref()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(scenarios.fault("holds two scenarios of one name"));
    }
    Ok(tests)
}

/// Some fields have a second name, and what is missing is worked out where others allow it.
fn one(field: &Field<'_>) -> Result<LoadTest, ContentError> {
    let requests = field.at("requests").count()?;
    let duration_seconds = field.any(&["duration_seconds", "duration"]).number()?;
    let stated = field.any(&["throughput_per_second", "throughput"]);
    let worked_out = || {
        let seconds = duration_seconds.filter(|seconds| *seconds > 0.0)?;
        Some(requests? as f64 / seconds)
    };
    let rate = stated.number()?.or_else(worked_out);
    let errors = field.at("errors").count()?;
    let worked_out = errors
        .zip(requests.filter(|requests| *requests > 0))
        .map(|(errors, requests)| errors as f64 / requests as f64);
    let thresholds = field.at("thresholds_failed").items()?;
    let thresholds = thresholds.iter().map(|item| item.required(item.text()));
    Ok(LoadTest {
        tool: field.at("tool").text()?.unwrap_or("normalized".into()),
        scenario: field.at("scenario").text()?,
        service: field.at("service").text()?,
        start: field.at("start").text()?,
        duration_seconds,
        peak_concurrency: field.any(&["peak_concurrency", "concurrency"]).count()?,
        requests,
        throughput_per_second: stated.required(Ok(rate))?,
        latency: latency(field)?,
        errors,
        error_rate: field.at("error_rate").number()?.or(worked_out),
        thresholds_failed: thresholds.collect::<Result<_, _>>()?,
        source: source(&field.at("source"))?,
    })
}

/// `latency: {p95_ms}` or `{p95}`, `latency_ms: {p95}`, or `latency_p95_ms`.
fn latency(field: &Field<'_>) -> Result<Latency, ContentError> {
    let nested = field.any(&["latency", "latency_ms"]);
    if !nested.is_absent() && !nested.value().is_object() {
        return Err(nested.fault("is no object"));
    }
    let figure = |name: &str| {
        let inner = nested.any(&[&format!("{name}_ms"), name]).number()?;
        let flat = field.at(&format!("latency_{name}_ms")).number()?;
        Ok(inner.or(flat))
    };
    Ok(Latency {
        p50_ms: figure("p50")?,
        p95_ms: figure("p95")?,
        p99_ms: figure("p99")?,
        max_ms: figure("max")?,
    })
}

fn source(field: &Field<'_>) -> Result<Option<Source>, ContentError> {
    if field.is_absent() {
        return Ok(None);
    }
    Ok(Some(Source {
        file: field.at("file").required(field.at("file").text())?,
        written_at: field.at("written_at").text()?,
    }))
}
