//! Names of figures, as they are usual in the field, with their units.

/// A name and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
}

const fn metric(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit }
}

// Of load tests.
pub const P50_LATENCY: Metric = metric("p50_latency", "ms");
pub const P95_LATENCY: Metric = metric("p95_latency", "ms");
pub const P99_LATENCY: Metric = metric("p99_latency", "ms");
pub const THROUGHPUT: Metric = metric("throughput", "requests/s");
/// 0 to 1.
pub const ERROR_RATE: Metric = metric("error_rate", "ratio");
pub const PEAK_CONCURRENCY: Metric = metric("peak_concurrency", "users");

// Of the capacity analysis.
pub const CPU_CORES_MEAN: Metric = metric("cpu_cores_mean", "cores");
pub const CPU_CORES_P95: Metric = metric("cpu_cores_p95", "cores");
/// p95 of the cores, over the limit.
pub const CPU_UTILIZATION_P95: Metric = metric("cpu_utilization_p95", "ratio");
pub const CPU_SECONDS_PER_REQUEST: Metric = metric("cpu_seconds_per_request", "s");
/// The most that was seen while measuring.
pub const MEMORY_PEAK: Metric = metric("memory_peak", "bytes");
/// Periods of the quota in which the service was stopped.
pub const THROTTLED_SHARE: Metric = metric("throttled_share", "ratio");
pub const CPU_PRESSURE: Metric = metric("cpu_pressure", "ratio");

// Of profiles.
pub const CPU_SECONDS: Metric = metric("profiled_cpu_seconds", "s");
/// With the function in brackets: its own share of the CPU time.
pub const HOT_PATH_SHARE: Metric = metric("hot_path_share", "ratio");
/// Followed by the coverage metric: `coverage_stacks`.
pub const COVERAGE: Metric = metric("coverage", "ratio");

/// A metric of a part: `p95_latency[checkout]`.
pub fn of_part(metric: Metric, part: &str) -> String {
    format!("{}[{part}]", metric.name)
}

/// The name without its part.
pub fn base(name: &str) -> &str {
    match name.split_once('[') {
        Some((base, rest)) if rest.ends_with(']') => base,
        _ => name,
    }
}
