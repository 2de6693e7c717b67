//! Is the CPU quota the problem, and what would help?
//!
//! In: readings of a service under a quota. Out: a verdict with arithmetic. Two things look alike from outside, requests
//! that are held up until the next period. A service whose *mean* use is at its quota needs more of it, or more
//! instances. One that is stopped with a low mean use is bursty: many threads run at once and use the period's quota up
//! in its first milliseconds. More instances leave each burst as it is.
//!
//! What it would have used at most: CPU time used and time stopped, in slices of 100 ms. The kernel counts stopped time for
//! each CPU on which threads of the service were ready, whether these had still much to do or little.

use super::usage::{Percentiles, percentiles};
use super::{Capacity, CeilingKind};
use crate::profile::CapacityPoint;

/// Stopped in fewer periods than this: nothing that a request would notice.
const RARELY: f64 = 0.01;

/// Mean use above this share of the quota: utilization is the problem.
const NEARLY_ALL: f64 = 0.8;

/// What the kernel takes when nobody says otherwise.
const USUAL_PERIOD_NS: u64 = 100_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaVerdict {
    NotThrottled,
    /// Used up on average, too.
    TooSmall,
    /// Stopped although the mean is well below.
    Bursty,
}

impl QuotaVerdict {
    /// Stable, as in the JSON.
    pub fn id(self) -> &'static str {
        match self {
            QuotaVerdict::NotThrottled => "not_throttled",
            QuotaVerdict::TooSmall => "quota_too_small",
            QuotaVerdict::Bursty => "bursty",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct QuotaAdvice {
    pub verdict: QuotaVerdict,
    /// Used and stopped, in cores per 100-ms slice.
    pub demand_cores: Option<Percentiles>,
    /// The limit under which the recorded demand would not have been stopped in 99 of 100 slices; in 95 where there are fewer.
    pub proposed_limit_cores: Option<f64>,
    pub sentence: String,
}

/// `None` without a quota or its counters.
pub(super) fn advice(capacity: &Capacity, points: &[CapacityPoint]) -> Option<QuotaAdvice> {
    let throttling = capacity.throttling.as_ref()?;
    let limit = capacity
        .ceiling_cores
        .filter(|_| capacity.ceiling_kind == CeilingKind::Quota)?;
    let mean = capacity.cpu_cores.as_ref()?.mean;
    let period_ns = capacity.cpu_period_ns.unwrap_or(USUAL_PERIOD_NS);
    let demand = demand(points, period_ns);
    let stopped_pct = throttling.share * 100.0;
    let verdict = match throttling.share {
        share if share <= RARELY => QuotaVerdict::NotThrottled,
        _ if mean >= NEARLY_ALL * limit => QuotaVerdict::TooSmall,
        _ => QuotaVerdict::Bursty,
    };
    let proposed = demand.as_ref().map(|d| round_up(d.p99.unwrap_or(d.p95)));
    let proposed = proposed.filter(|cores| *cores > limit && verdict != QuotaVerdict::NotThrottled);
    // Of fewer slices than a hundred the largest would be the 99th percentile, and that is a late booking at times.
    let has_p99 = demand.as_ref().is_some_and(|d| d.p99.is_some());
    let which = if has_p99 { "p99" } else { "p95" };
    let raise = proposed.map_or(String::new(), |cores| {
        format!(
            "a limit of {cores:.1} cores covers all that it used and at most was kept from using ({which} of 100-ms slices, \
             rounded up)"
        )
    });
    let use_of = format!(
        "{mean:.3} ÷ {limit:.2} cores = {:.0} % used on average",
        mean / limit * 100.0
    );
    let sentence = match verdict {
        QuotaVerdict::NotThrottled => format!(
            "The quota is not the problem: the service was stopped in {stopped_pct:.1} % of the periods ({use_of})."
        ),
        QuotaVerdict::TooSmall => format!(
            "The quota is too small for this load: stopped in {stopped_pct:.0} % of the periods, {use_of}. Raise the \
             limit or add replicas{}.",
            joined("; ", &raise)
        ),
        QuotaVerdict::Bursty => {
            let period_ms = period_ns as f64 / 1e6;
            format!(
                "Throttling, not utilization, is the problem: stopped in {stopped_pct:.0} % of the periods, but {use_of}. \
                 Threads that run at once use the {:.0} ms of CPU time of a {period_ms:.0}-ms period up before it ends{}; \
                 more replicas leave that as it is. {}{}.",
                limit * period_ms,
                used_up_in(capacity, limit * period_ms),
                fewer_threads(limit),
                joined(". Or raise the limit: ", &raise)
            )
        }
    };
    Some(QuotaAdvice {
        verdict,
        demand_cores: demand,
        proposed_limit_cores: proposed,
        sentence,
    })
}

/// How soon all threads together are through with a period's quota.
fn used_up_in(capacity: &Capacity, quota_ms: f64) -> String {
    let threads = capacity.threads.unwrap_or(1);
    let at_once = match capacity.node_cpus {
        0 => threads,
        cpus => threads.min(cpus),
    };
    match at_once {
        0 | 1 => String::new(),
        n => format!(
            ": {n} of its {threads} threads at once do so in {quota_ms:.0} ÷ {n} = {:.1} ms",
            quota_ms / f64::from(n)
        ),
    }
}

/// As many threads as the quota has whole cores can run all the time.
fn fewer_threads(limit: f64) -> String {
    const HOW: &str = "(GOMAXPROCS, `-XX:ActiveProcessorCount`, the size of the pool)";
    match limit.floor() as u32 {
        0 => format!("Fewer threads at once {HOW} are stopped less often, though even one can be"),
        1 => format!("One thread at once {HOW} is never stopped"),
        n => format!("{n} threads at once {HOW} are never stopped"),
    }
}

fn joined(by: &str, text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("{by}{text}"),
    }
}

/// To a tenth of a core.
fn round_up(cores: f64) -> f64 {
    (cores * 10.0 - 1e-6).ceil() / 10.0
}

/// Stopped time is booked when the period ends, all of it at once, and use comes in bursts at its beginning: a slice that
/// holds two of each stands for two periods, however short it was.
fn demand(points: &[CapacityPoint], period_ns: u64) -> Option<Percentiles> {
    let slices = points.windows(2).filter_map(|pair| {
        let (from, to) = (&pair[0], &pair[1]);
        let length_ns = to.at_ns.checked_sub(from.at_ns).filter(|ns| *ns > 0)?;
        let used = to.service_cpu_ns.checked_sub(from.service_cpu_ns)?;
        let stopped = to.throttled_ns?.checked_sub(from.throttled_ns?)?;
        let periods = to.nr_periods?.checked_sub(from.nr_periods?)?;
        let stands_for_ns = length_ns.max(periods.saturating_mul(period_ns));
        let cores = used.saturating_add(stopped) as f64 / stands_for_ns as f64;
        Some((cores, length_ns))
    });
    percentiles(slices.collect())
}
