//! k6's two summaries.
//!
//! `--summary-export` has a metric's statistics flat beside its thresholds, and a threshold's truth says that it was
//! *crossed*. `handleSummary` has them below `values`, and a threshold says `{ok: …}`, the opposite. Both tag parts of a
//! metric by name (`http_reqs{scenario:checkout}`), but only those parts that a threshold asks for; a scenario can be
//! told apart when its requests are among them. Of how many users a scenario had k6 says nothing.

use super::field::Field;
use super::{ContentError, Latency, LoadTest, Split};

/// Each is compared with each scenario.
const MAX_THRESHOLDS: usize = 10_000;
const MAX_SCENARIOS: usize = 1_000;

/// Tags by which a test is told apart, the better first.
const TAGS: [&str; 2] = ["scenario", "group"];

/// What `k6 run --out json` and `--out csv` write: each sample, without any summary.
pub(super) fn is_points(first_line: &str) -> bool {
    let json = first_line.starts_with('{')
        && ["Metric", "Point"]
            .iter()
            .any(|kind| first_line.contains(&format!(r#""type":"{kind}""#)));
    json || first_line.starts_with("metric_name,timestamp,metric_value")
}

pub(super) fn points() -> ContentError {
    ContentError::line(
        1,
        "these are k6's single points (`--out json` or `--out csv`); run k6 with `--summary-export FILE`, and give that file",
    )
}

pub(super) fn read(root: &Field<'_>, split: Split) -> Result<Vec<LoadTest>, ContentError> {
    let crossed = crossed(&root.at("metrics"))?;
    let whole = one(root, None, &crossed)?;
    if split == Split::Whole {
        return Ok(vec![whole]);
    }
    let metrics = root.at("metrics").members()?;
    for tag in TAGS {
        let begin = format!("http_reqs{{{tag}:");
        let names = metrics.iter().filter_map(|(name, _)| {
            let name = name.strip_prefix(&begin)?.strip_suffix('}')?;
            // Of several tags, and of what lies outside all groups, no scenario is made.
            (!name.is_empty() && !name.contains(',')).then_some(name)
        });
        let names: Vec<&str> = names.take(MAX_SCENARIOS).collect();
        if !names.is_empty() {
            let tagged = names
                .iter()
                .map(|name| one(root, Some((tag, name)), &crossed));
            return tagged.collect();
        }
    }
    Ok(vec![whole])
}

/// The whole test, or the part with a tag. A part has the thresholds of its tag and those of the whole test.
fn one(
    root: &Field<'_>,
    part: Option<(&str, &str)>,
    crossed: &[(String, String)],
) -> Result<LoadTest, ContentError> {
    let suffix = part.map_or(String::new(), |(tag, name)| format!("{{{tag}:{name}}}"));
    let metrics = root.at("metrics");
    let metric = |name: &str| {
        let metric = metrics.at(&format!("{name}{suffix}"));
        match metric.at("values").is_absent() {
            true => metric,
            false => metric.at("values"),
        }
    };
    // A test of another protocol than HTTP counts iterations only.
    let http = !metric("http_reqs").is_absent() || metric("iterations").is_absent();
    let (what, took) = match http {
        true => ("http_reqs", "http_req_duration"),
        false => ("iterations", "iteration_duration"),
    };
    let (requests, latency) = (metric(what), metric(took));
    let failed = metric("http_req_failed");
    let milliseconds = root.at("state").at("testRunDurationMs").number()?;
    let rate = requests.at("rate");
    Ok(LoadTest {
        tool: "k6".into(),
        scenario: part.map(|(_, name)| name.trim_start_matches("::").to_owned()),
        duration_seconds: milliseconds.map(|ms| ms / 1e3),
        peak_concurrency: match part {
            None => metric("vus_max").at("max").count()?,
            Some(_) => None,
        },
        requests: requests.at("count").count()?,
        throughput_per_second: rate.required(rate.number())?,
        latency: Latency {
            p50_ms: latency.at("med").number()?,
            p95_ms: latency.at("p(95)").number()?,
            p99_ms: latency.at("p(99)").number()?,
            max_ms: latency.at("max").number()?,
        },
        // Of this rate, `passes` are the failed requests.
        errors: failed.at("passes").count()?,
        error_rate: failed.any(&["value", "rate"]).number()?,
        thresholds_failed: crossed
            .iter()
            .filter(|(name, _)| suffix.is_empty() || name.ends_with(&suffix) || !name.contains('{'))
            .map(|(name, expression)| format!("{name}: {expression}"))
            .collect(),
        ..LoadTest::default()
    })
}

/// Metrics and expressions of the thresholds that were crossed.
fn crossed(metrics: &Field<'_>) -> Result<Vec<(String, String)>, ContentError> {
    let mut found = Vec::new();
    for (name, metric) in metrics.members()? {
        for (expression, threshold) in metric.at("thresholds").members()? {
            let ok = threshold.at("ok").value().as_bool();
            let failed = match (threshold.value().as_bool(), ok) {
                (Some(crossed), _) => crossed,
                (None, Some(ok)) => !ok,
                (None, None) => return Err(threshold.fault("is neither true, false nor `{ok: …}`")),
            };
            if failed && found.len() < MAX_THRESHOLDS {
                found.push((name.to_owned(), expression.to_owned()));
            }
        }
    }
    Ok(found)
}
