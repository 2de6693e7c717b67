//! Figures that no load test can have: a rate of nothing, more errors than requests, a median above the 95th percentile.

use super::{ContentError, LoadTest};

/// How far a rate that a tool has rounded may be from what its counts give.
const ROUNDING: f64 = 1e-6;

/// Characters of a name; the longest are URLs of endpoints.
pub(crate) const MAX_NAME: usize = 2000;

pub(super) fn plausible(test: &LoadTest) -> Result<(), ContentError> {
    let names = [
        ("scenario", test.scenario.as_deref()),
        ("service", test.service.as_deref()),
        ("tool", Some(test.tool.as_str())),
    ];
    for (field, name) in names {
        if name.is_some_and(|name| name.chars().count() > MAX_NAME) {
            return Err(ContentError::figure(
                field,
                "has more than 2,000 characters",
            ));
        }
    }
    let rate = test.throughput_per_second;
    if !(rate.is_finite() && rate > 0.0) {
        return Err(fault(test, "throughput", "is not above 0"));
    }
    if test
        .errors
        .zip(test.requests)
        .is_some_and(|(errors, requests)| errors > requests)
    {
        return Err(fault(test, "errors", "are more than the requests"));
    }
    if test
        .error_rate
        .is_some_and(|rate| !(0.0..=1.0 + ROUNDING).contains(&rate))
    {
        return Err(fault(test, "error_rate", "is not between 0 and 1"));
    }
    let figures = [
        ("duration_seconds", test.duration_seconds),
        ("latency.p50_ms", test.latency.p50_ms),
        ("latency.p95_ms", test.latency.p95_ms),
        ("latency.p99_ms", test.latency.p99_ms),
        ("latency.max_ms", test.latency.max_ms),
    ];
    for (name, figure) in figures {
        if figure.is_some_and(|n| !(n.is_finite() && n >= 0.0)) {
            return Err(fault(test, name, "is no number of 0 or more"));
        }
    }
    // The maximum is left out: tools round percentiles, some by a tenth, and write the maximum as it is.
    let above = |a: Option<f64>, b: Option<f64>| a.zip(b).is_some_and(|(a, b)| a > b);
    let latency = &test.latency;
    if above(latency.p50_ms, latency.p95_ms.or(latency.p99_ms)) {
        return Err(fault(
            test,
            "latency.p50_ms",
            "is above a higher percentile",
        ));
    }
    if above(latency.p95_ms, latency.p99_ms) {
        return Err(fault(
            test,
            "latency.p95_ms",
            "is above a higher percentile",
        ));
    }
    Ok(())
}

/// Names the scenario where there is one: a file may hold many.
fn fault(test: &LoadTest, name: &str, message: &'static str) -> ContentError {
    match &test.scenario {
        Some(scenario) => ContentError::figure(format!("{name} of {scenario}"), message),
        None => ContentError::figure(name, message),
    }
}
