//! Artillery's JSON report: `aggregate` is the whole test; times are milliseconds.
//!
//! Version 2 counts by name (`http.requests`, `http.codes.503`, `errors.ETIMEDOUT`), version 1 has fields of its own
//! (`requestsCompleted`, `codes`, `errors`). How many users were there at once is in neither.

use jiff::Timestamp;

use super::field::Field;
use super::{ContentError, Latency, LoadTest};

pub(super) fn read(root: &Field<'_>) -> Result<LoadTest, ContentError> {
    let aggregate = root.at("aggregate");
    match aggregate.at("requestsCompleted").is_absent() {
        true => version_2(&aggregate),
        false => version_1(&aggregate),
    }
}

fn version_2(aggregate: &Field<'_>) -> Result<LoadTest, ContentError> {
    let counters = aggregate.at("counters");
    let named = |prefix: &str| -> Result<Vec<(String, u64)>, ContentError> {
        let members = counters.members()?.into_iter().filter_map(|(name, field)| {
            let rest = name.strip_prefix(prefix)?;
            Some(
                field
                    .count()
                    .map(|count| (rest.to_owned(), count.unwrap_or(0))),
            )
        });
        members.collect()
    };
    let requests = counters.at("http.requests");
    let requests = requests.required(requests.count())?;
    let refused = named("http.codes.")?;
    let errors = failed(refused.iter().map(|(code, n)| (code.as_str(), *n)))
        + named("errors.")?.iter().map(|(_, n)| n).sum::<u64>();
    let first = aggregate
        .any(&["firstMetricAt", "firstCounterAt"])
        .number()?;
    let last = aggregate.any(&["lastMetricAt", "lastCounterAt"]).number()?;
    let duration_seconds = first.zip(last).map(|(first, last)| (last - first) / 1e3);
    let mean_rate = aggregate.at("rates").at("http.request_rate").number()?;
    let rate = duration_seconds
        .filter(|seconds| *seconds > 0.0)
        .map(|seconds| requests as f64 / seconds)
        .or(mean_rate);
    let names = named("vusers.created_by_name.")?;
    let scenario = match names.as_slice() {
        [(only, _)] => Some(only.clone()),
        _ => None,
    };
    let start = first.and_then(|ms| Timestamp::from_millisecond(ms as i64).ok());
    let latency = aggregate.at("summaries").at("http.response_time");
    Ok(LoadTest {
        tool: "artillery".into(),
        scenario,
        start: start.map(|start| start.to_string()),
        duration_seconds,
        requests: Some(requests),
        throughput_per_second: rate
            .ok_or_else(|| aggregate.at("lastMetricAt").fault("is missing"))?,
        latency: percentiles(&latency)?,
        errors: Some(errors.min(requests)),
        error_rate: (requests > 0).then(|| errors.min(requests) as f64 / requests as f64),
        ..LoadTest::default()
    })
}

fn version_1(aggregate: &Field<'_>) -> Result<LoadTest, ContentError> {
    let completed = aggregate.at("requestsCompleted");
    let completed = completed.required(completed.count())?;
    let counts = |name: &str| -> Result<Vec<(&str, u64)>, ContentError> {
        let members = aggregate.at(name).members()?.into_iter();
        members
            .map(|(name, field)| Ok((name, field.count()?.unwrap_or(0))))
            .collect()
    };
    let without_response: u64 = counts("errors")?.iter().map(|(_, n)| n).sum();
    let errors = failed(counts("codes")?.into_iter()) + without_response;
    let requests = completed + without_response;
    let rate = aggregate.at("rps").at("mean");
    let rate = rate.required(rate.number())?;
    Ok(LoadTest {
        tool: "artillery".into(),
        duration_seconds: (rate > 0.0).then(|| completed as f64 / rate),
        requests: Some(requests),
        throughput_per_second: rate,
        latency: percentiles(&aggregate.at("latency"))?,
        errors: Some(errors),
        error_rate: (requests > 0).then(|| errors as f64 / requests as f64),
        ..LoadTest::default()
    })
}

fn percentiles(latency: &Field<'_>) -> Result<Latency, ContentError> {
    Ok(Latency {
        p50_ms: latency.any(&["p50", "median"]).number()?,
        p95_ms: latency.at("p95").number()?,
        p99_ms: latency.at("p99").number()?,
        max_ms: latency.at("max").number()?,
    })
}

/// Responses of 400 and above.
fn failed<'a>(codes: impl Iterator<Item = (&'a str, u64)>) -> u64 {
    let bad = codes.filter(|(code, _)| code.parse::<u32>().is_ok_and(|code| code >= 400));
    bad.map(|(_, count)| count).sum()
}
