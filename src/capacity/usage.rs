//! From cumulative readings to use: intervals, percentiles over time, throttling, pressure, memory, steadiness.
//!
//! In: [`CapacityPoint`]s in the order of time. Out: plain figures; `None` where the readings do not hold them.
//! A counter that goes back, or a reading out of order, is skipped, never a panic or a huge number.

use crate::profile::{CapacityFacts, CapacityPoint, MemoryEvents};

/// Means of the halves may differ by this share of the whole's mean and still count as steady …
const STEADY_DRIFT: f64 = 0.10;
/// … and by this many standard errors of their difference.
const STEADY_ERRORS: f64 = 2.0;

/// Use between two readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) length_ns: u64,
    pub(super) service_cores: f64,
    pub(super) node_cores: f64,
}

/// Of a quantity over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    /// `None` with fewer than [`super::MIN_INTERVALS_P99`] intervals.
    pub p99: Option<f64>,
    pub max: f64,
}

/// How often the quota stopped the service, within the recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttling {
    /// Enforcement periods in which the service ran at all; those in which it was stopped; 0 to 1.
    pub periods: u64,
    pub throttled_periods: u64,
    pub share: f64,
    /// Sum over CPUs of the time stopped, nanoseconds; and per second of the recording.
    pub throttled_ns: u64,
    pub per_second: f64,
}

/// Share of the time in which at least one task was stalled on the resource, and in which only stalled ones were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pressure {
    /// `cgroup` or `node`.
    pub scope: String,
    pub cpu: Option<f64>,
    pub memory: Option<f64>,
    pub io: Option<f64>,
    pub cpu_full: Option<f64>,
    pub memory_full: Option<f64>,
    pub io_full: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Last and highest reading, without inactive page cache; bytes.
    pub last_bytes: Option<u64>,
    pub max_bytes: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub node_bytes: Option<u64>,
    /// Limit (else the node's memory) less the highest reading.
    pub headroom_bytes: Option<u64>,
    /// Over the cgroup's life, page cache included.
    pub peak_bytes: Option<u64>,
    pub oom_kills: Option<u64>,
    pub swap_bytes: Option<u64>,
    /// Within the recording: hits of the limit, failed allocations, processes killed.
    pub events: MemoryEvents,
}

/// CPU time by CPU. 1 is even; as much as there are CPUs is all on one.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// Busy share of the busiest CPU over the mean of all; of the node, and of the service where it is known (v1).
    pub node: Option<f64>,
    pub service: Option<f64>,
    /// Busy share of each CPU.
    pub node_busy: Vec<(u32, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steadiness {
    pub first_half_cores: f64,
    pub second_half_cores: f64,
    /// Second half less first, over the mean of both.
    pub drift: f64,
    pub steady: bool,
}

/// Neighbouring readings, joined until each pair is at least `shortest_ns` apart; a short rest at the end is left out.
pub(super) fn joined(
    points: &[CapacityPoint],
    shortest_ns: u64,
) -> impl Iterator<Item = (&CapacityPoint, &CapacityPoint)> {
    let mut from = points.first();
    points.iter().skip(1).filter_map(move |to| {
        let begin = from?;
        let length_ns = to.at_ns.saturating_sub(begin.at_ns);
        if length_ns == 0 || length_ns < shortest_ns {
            return None;
        }
        from = Some(to);
        Some((begin, to))
    })
}

pub(super) fn intervals(points: &[CapacityPoint], shortest_ns: u64) -> Vec<Interval> {
    let cores = |a: u64, b: u64, ns: u64| b.saturating_sub(a) as f64 / ns.max(1) as f64;
    let pairs = joined(points, shortest_ns);
    pairs
        .map(|(from, to)| {
            let length_ns = to.at_ns - from.at_ns;
            let node_length_ns = node_at_ns(to).saturating_sub(node_at_ns(from));
            Interval {
                length_ns,
                service_cores: cores(from.service_cpu_ns, to.service_cpu_ns, length_ns),
                node_cores: cores(from.node_busy_ns, to.node_busy_ns, node_length_ns),
            }
        })
        .collect()
}

fn node_at_ns(point: &CapacityPoint) -> u64 {
    match point.node_at_ns {
        0 => point.at_ns,
        at_ns => at_ns,
    }
}

/// Percentiles of values weighted by how long each held, nanoseconds; `None` without values.
pub(super) fn percentiles(mut values: Vec<(f64, u64)>) -> Option<Percentiles> {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total_ns: u64 = values.iter().map(|v| v.1).sum();
    let max = values.last()?.0;
    let at = |share: f64| {
        let mut seen_ns = 0;
        let reached = values.iter().find(|(_, length_ns)| {
            seen_ns += length_ns;
            seen_ns as f64 >= share * total_ns as f64
        });
        reached.map_or(max, |(value, _)| *value)
    };
    let sum: f64 = values.iter().map(|(value, ns)| value * *ns as f64).sum();
    Some(Percentiles {
        mean: sum / total_ns as f64,
        p50: at(0.50),
        p95: at(0.95),
        p99: (values.len() >= super::MIN_INTERVALS_P99).then(|| at(0.99)),
        max,
    })
}

/// Growth of a counter that not every reading holds, in `per` units a second.
pub(super) fn rate(
    points: &[CapacityPoint],
    of: impl Fn(&CapacityPoint) -> Option<u64>,
    per: f64,
) -> Option<f64> {
    let first = points.iter().find(|p| of(p).is_some())?;
    let last = points.iter().rfind(|p| of(p).is_some())?;
    let length_ns = last.at_ns.checked_sub(first.at_ns).filter(|ns| *ns > 0)?;
    let grown = of(last)?.checked_sub(of(first)?)?;
    Some(grown as f64 / per / (length_ns as f64 / 1e9))
}

pub(super) fn throttling(points: &[CapacityPoint]) -> Option<Throttling> {
    let (first, last) = (points.first()?, points.last()?);
    let grown = |of: fn(&CapacityPoint) -> Option<u64>| of(last)?.checked_sub(of(first)?);
    let periods = grown(|p| p.nr_periods)?;
    let throttled_periods = grown(|p| p.nr_throttled)?;
    let throttled_ns = grown(|p| p.throttled_ns)?;
    Some(Throttling {
        periods,
        throttled_periods,
        share: if periods == 0 {
            0.0
        } else {
            throttled_periods as f64 / periods as f64
        },
        throttled_ns,
        per_second: rate(points, |p| p.throttled_ns, 1e9)?,
    })
}

pub(super) fn pressure(facts: &CapacityFacts) -> Pressure {
    let share = |of: fn(&CapacityPoint) -> Option<u64>| rate(&facts.points, of, 1e6);
    Pressure {
        scope: facts.psi_scope.clone(),
        cpu: share(|p| p.psi_cpu_some_us),
        memory: share(|p| p.psi_memory_some_us),
        io: share(|p| p.psi_io_some_us),
        cpu_full: share(|p| p.psi_cpu_full_us),
        memory_full: share(|p| p.psi_memory_full_us),
        io_full: share(|p| p.psi_io_full_us),
    }
}

pub(super) fn memory(facts: &CapacityFacts) -> Memory {
    let readings = || facts.points.iter().filter_map(|p| p.memory_bytes);
    let node_bytes = Some(facts.limits.node_memory_bytes).filter(|bytes| *bytes > 0);
    let max_bytes = readings().max();
    let bound = facts.limits.memory_limit_bytes.or(node_bytes);
    Memory {
        last_bytes: readings().next_back(),
        max_bytes,
        limit_bytes: facts.limits.memory_limit_bytes,
        node_bytes,
        headroom_bytes: bound
            .zip(max_bytes)
            .map(|(bound, used)| bound.saturating_sub(used)),
        peak_bytes: facts.memory_peak_bytes,
        oom_kills: facts.oom_kills,
        swap_bytes: facts.points.iter().filter_map(|p| p.swap_bytes).max(),
        events: events_within(facts),
    }
}

fn events_within(facts: &CapacityFacts) -> MemoryEvents {
    let (before, after) = (facts.memory_events_before, facts.memory_events);
    let grown = |before: Option<u64>, after: Option<u64>| after?.checked_sub(before?);
    MemoryEvents {
        limit_hits: grown(before.limit_hits, after.limit_hits),
        ooms: grown(before.ooms, after.ooms),
        oom_kills: grown(before.oom_kills, after.oom_kills),
    }
}

/// How evenly CPU time lies on the CPUs.
pub(super) fn balance(facts: &CapacityFacts) -> Option<Balance> {
    let window_ns = match (facts.points.first(), facts.points.last()) {
        (Some(first), Some(last)) => last.at_ns.saturating_sub(first.at_ns),
        _ => 0,
    };
    if window_ns == 0 || facts.cpu_busy.is_empty() {
        return None;
    }
    let share = |ns: u64| (ns as f64 / window_ns as f64).min(1.0);
    let node: Vec<f64> = facts
        .cpu_busy
        .iter()
        .map(|cpu| share(cpu.node_ns))
        .collect();
    let service: Option<Vec<f64>> = facts
        .cpu_busy
        .iter()
        .map(|cpu| cpu.service_ns.map(share))
        .collect();
    Some(Balance {
        node: max_over_mean(&node),
        service: service.as_deref().and_then(max_over_mean),
        node_busy: facts.cpu_busy.iter().map(|cpu| cpu.cpu).zip(node).collect(),
    })
}

fn max_over_mean(shares: &[f64]) -> Option<f64> {
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    (mean > 0.0).then(|| shares.iter().fold(0.0, |a: f64, b| a.max(*b)) / mean)
}

/// Steal over all CPU time the node could have had.
pub(super) fn steal_share(facts: &CapacityFacts) -> Option<f64> {
    let cpus = Some(f64::from(facts.limits.node_cpus)).filter(|cpus| *cpus > 0.0)?;
    let stolen = rate(&facts.points, |p| Some(p.node_steal_ns), 1e9)?;
    Some(stolen / cpus)
}

/// Compares the means of both halves: they count as different when the difference is both large and larger than
/// chance among these intervals.
pub(super) fn steadiness(intervals: &[Interval]) -> Option<Steadiness> {
    let (first, second) = intervals.split_at(intervals.len() / 2);
    let (a, b) = (mean_and_variance(first)?, mean_and_variance(second)?);
    let mean = (a.0 + b.0) / 2.0;
    let drift = if mean > 0.0 { (b.0 - a.0) / mean } else { 0.0 };
    let error = (a.1 / first.len() as f64 + b.1 / second.len() as f64).sqrt();
    let differs = drift.abs() > STEADY_DRIFT && (b.0 - a.0).abs() > STEADY_ERRORS * error;
    Some(Steadiness {
        first_half_cores: a.0,
        second_half_cores: b.0,
        drift,
        steady: !differs,
    })
}

fn mean_and_variance(intervals: &[Interval]) -> Option<(f64, f64)> {
    let n = intervals.len() as f64;
    if intervals.len() < 2 {
        return None;
    }
    let mean = intervals.iter().map(|i| i.service_cores).sum::<f64>() / n;
    let squares: f64 = intervals
        .iter()
        .map(|i| (i.service_cores - mean).powi(2))
        .sum();
    Some((mean, squares / (n - 1.0)))
}
