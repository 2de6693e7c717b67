//! oha's JSON. Times in `summary` and `latencyPercentiles` are seconds. Requests that the end of the test cut off are
//! counted as requests, as oha does in its rate, but not as errors.

use super::field::Field;
use super::{ContentError, Latency, LoadTest};

/// What oha calls a request that was under way when the time was over.
const CUT_OFF: &str = "aborted due to deadline";

pub(super) fn read(root: &Field<'_>) -> Result<LoadTest, ContentError> {
    let summary = root.at("summary");
    let ms = |field: Field<'_>| Ok(field.number()?.map(|seconds| seconds * 1e3));
    let percentiles = root.at("latencyPercentiles");
    let rate = summary.at("requestsPerSec");
    let rate = rate.required(rate.number())?;
    let (mut requests, mut errors) = (0, 0);
    for (status, field) in root.at("statusCodeDistribution").members()? {
        let count = field.required(field.count())?;
        let code: u32 = status
            .parse()
            .map_err(|_| field.fault("is no HTTP status"))?;
        requests += count;
        errors += if code >= 400 { count } else { 0 };
    }
    for (reason, field) in root.at("errorDistribution").members()? {
        let count = field.required(field.count())?;
        requests += count;
        errors += if reason == CUT_OFF { 0 } else { count };
    }
    let counted = requests > 0;
    // Versions without distributions say only how many requests had a response.
    let failed = summary
        .at("successRate")
        .number()?
        .map(|rate| (1.0 - rate).max(0.0));
    let share = counted.then(|| errors as f64 / requests as f64);
    Ok(LoadTest {
        tool: "oha".into(),
        duration_seconds: summary.at("total").number()?,
        requests: counted.then_some(requests),
        throughput_per_second: rate,
        latency: Latency {
            p50_ms: ms(percentiles.at("p50"))?,
            p95_ms: ms(percentiles.at("p95"))?,
            p99_ms: ms(percentiles.at("p99"))?,
            max_ms: ms(summary.at("slowest"))?,
        },
        errors: counted.then_some(errors),
        error_rate: share.or(failed),
        ..LoadTest::default()
    })
}
