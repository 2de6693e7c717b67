//! k6's two summaries.
//!
//! `--summary-export` has a metric's statistics flat beside its thresholds, and a threshold's truth says that it was
//! *crossed*. `handleSummary` has them below `values`, and a threshold says `{ok: …}`, the opposite. Both tag parts of a
//! metric by name (`http_reqs{scenario:checkout}`), but only those parts that a threshold asks for; a scenario can be
//! told apart when its requests are among them. Of how many users a scenario had k6 says nothing.

use super::field::Field;
use super::{ContentError, Latency, LoadTest, MAX_RESULTS, Split};

/// Tags by which a test is told apart, the better first.
const TAGS: [&str; 2] = ["scenario", "group"];

pub(super) fn read(root: &Field<'_>, split: Split) -> Result<Vec<LoadTest>, ContentError> {
    let whole = one(root, None)?;
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
        let names: Vec<&str> = names.take(MAX_RESULTS).collect();
        if !names.is_empty() {
            let tagged = names.iter().map(|name| one(root, Some((tag, name))));
            return tagged.collect();
        }
    }
    Ok(vec![whole])
}

/// The whole test, or the part with a tag.
fn one(root: &Field<'_>, part: Option<(&str, &str)>) -> Result<LoadTest, ContentError> {
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
        thresholds_failed: crossed(&metrics, &suffix)?,
        ..LoadTest::default()
    })
}

/// Thresholds that were crossed: all of them, or with a tag those of that tag and those of the whole test.
fn crossed(metrics: &Field<'_>, suffix: &str) -> Result<Vec<String>, ContentError> {
    let mut found = Vec::new();
    for (name, metric) in metrics.members()? {
        let concerns = suffix.is_empty() || name.ends_with(suffix) || !name.contains('{');
        for (expression, threshold) in metric.at("thresholds").members()? {
            let failed = match (
                threshold.value().as_bool(),
                threshold.at("ok").value().as_bool(),
            ) {
                (Some(crossed), _) => crossed,
                (None, Some(ok)) => !ok,
                (None, None) => return Err(threshold.fault("is neither true, false nor `{ok: …}`")),
            };
            if failed && concerns {
                found.push(format!("{name}: {expression}"));
            }
        }
    }
    Ok(found)
}
