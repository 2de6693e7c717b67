//! How much of what it may use does the service use, and what runs out first?
//!
//! In: the gauges' readings ([`CapacityFacts`]) and what is to be planned ([`Planning`]). Out: a [`Capacity`], computed
//! once, and its Markdown, JSON and chart. It reads no file; a load test's throughput and hot paths are handed in.
//!
//! Readings are counters; use in an interval is a difference over its length. Percentiles are over time: p95 is the
//! use that was not exceeded for 95 % of the recording. CPU use is held against its *ceiling*: the quota, else the CPUs
//! the service may run on, else the node's. A quota is refilled once per period (100 ms), so a shorter interval can
//! show more than the quota allows; with a quota, readings are joined to at least [`QUOTA_INTERVAL_NS`].
#![forbid(unsafe_code)]

use crate::profile::CapacityFacts;

mod chart;
mod conclusions;
mod headroom;
mod json;
mod markdown;
mod planning;
mod quota;
mod uncertainty;
mod usage;

pub use chart::chart;
pub use headroom::{Headroom, RunsOut};
pub use json::{SCHEMA, SCHEMA_VERSION, document, json_entry, json_entry_at};
pub use markdown::{markdown_section, summary_markdown};
pub use planning::{Cost, HotPath, Load, PathCores, Planning, Replicas, replicas_needed};
pub use quota::{QuotaAdvice, QuotaVerdict};
pub use uncertainty::Range;
pub use usage::{Balance, Memory, Percentiles, Pressure, Steadiness, Throttling};

/// With a quota, an interval spans at least five periods, so that cutting one in two changes it by a fifth at most.
pub const QUOTA_INTERVAL_NS: u64 = 500_000_000;

/// The node counts its CPU time in ticks of 10 ms a CPU: over a second that rounds by a percent at most.
pub const NODE_INTERVAL_NS: u64 = 1_000_000_000;

/// Fewer intervals say nothing about a 95th percentile; a 10 s recording has 19 with a quota and 100 without.
pub const MIN_INTERVALS: usize = 15;

/// A recording shorter by more than an interval may lie between two bursts of load.
pub const MIN_WINDOW_NS: u64 = 5_000_000_000;

/// A 99th percentile of fewer intervals would be the largest one.
pub const MIN_INTERVALS_P99: usize = 100;

/// The use at p95 that leaves room for bursts and for a lost replica; a usual planning figure.
pub const TARGET_UTILIZATION: f64 = 0.65;

/// What the CPU ceiling is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CeilingKind {
    Quota,
    /// Cpuset or affinity.
    AllowedCpus,
    NodeCpus,
}

impl CeilingKind {
    /// Stable, as in the JSON.
    pub fn id(self) -> &'static str {
        match self {
            CeilingKind::Quota => "quota",
            CeilingKind::AllowedCpus => "allowed_cpus",
            CeilingKind::NodeCpus => "node_cpus",
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            CeilingKind::Quota => "CPU quota",
            CeilingKind::AllowedCpus => "CPUs it may run on",
            CeilingKind::NodeCpus => "CPUs of the node",
        }
    }
}

/// The analysis of one service. Shares are 0 to 1, CPU is in cores (CPU seconds per second).
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    pub service: String,
    /// What was measured: `cgroup`, `processes`, `node`.
    pub scope: String,
    pub cgroup: String,
    pub window_ns: u64,
    pub intervals: usize,
    /// Mean length of an interval.
    pub interval_ns: u64,
    pub cpu_cores: Option<Percentiles>,
    /// 95 % interval of its p95.
    pub p95_range: Option<Range>,
    /// The same use reading by reading, and how far these were apart on average. Under a quota more than the quota can
    /// lie in one of these, and conclusions are drawn from `cpu_cores`.
    pub fine_cores: Option<Percentiles>,
    pub fine_interval_ns: u64,
    /// How much CPU can be had at all; `None` when not even the node's CPUs are known.
    pub ceiling_cores: Option<f64>,
    pub ceiling_kind: CeilingKind,
    pub cpu_period_ns: Option<u64>,
    pub cpu_weight: Option<u64>,
    /// What Kubernetes was asked for where it set the weight, thousandths of a core.
    pub request_millicores: Option<f64>,
    /// Cores that the weights guarantee on a node where everybody wants all.
    pub guaranteed_cores: Option<f64>,
    pub target_utilization: f64,
    pub node_cpus: u32,
    pub node_cores: Option<Percentiles>,
    /// Share of the node's CPU time taken by the hypervisor.
    pub steal_share: Option<f64>,
    /// `None` without a quota.
    pub throttling: Option<Throttling>,
    pub pressure: Pressure,
    pub memory: Memory,
    /// Time runnable threads waited for a CPU, in seconds per second.
    pub run_delay: Option<f64>,
    /// Most threads seen.
    pub threads: Option<u32>,
    pub balance: Option<Balance>,
    pub steadiness: Option<Steadiness>,
    pub quota: Option<QuotaAdvice>,
    pub replicas: Option<Replicas>,
    pub cost: Option<Cost>,
    /// The throughput's source, when there is one.
    pub load_source: Option<String>,
    pub path_cores: Vec<PathCores>,
    pub headroom: Option<Headroom>,
    /// The most used resources, the fullest first.
    pub runs_out: Vec<RunsOut>,
    /// Why no conclusion should be drawn; empty when one may.
    pub inconclusive: Vec<String>,
    /// What could not be read.
    pub gaps: Vec<String>,
}

impl Capacity {
    pub fn of(service: &str, facts: &CapacityFacts) -> Capacity {
        Capacity::planned(service, facts, &Planning::default())
    }

    pub fn planned(service: &str, facts: &CapacityFacts, planning: &Planning) -> Capacity {
        let has_quota = facts
            .limits
            .cpu_limit_cores
            .is_some_and(|cores| cores > 0.0);
        let shortest_ns = if has_quota { QUOTA_INTERVAL_NS } else { 0 };
        let intervals = usage::intervals(&facts.points, shortest_ns);
        let window_ns = intervals.iter().map(|i| i.length_ns).sum();
        let fine = usage::intervals(&facts.points, 0);
        let node_intervals = usage::intervals(&facts.points, NODE_INTERVAL_NS);
        let use_of = |i: &usage::Interval| (i.service_cores, i.length_ns);
        let of_node = |i: &usage::Interval| (i.node_cores, i.length_ns);
        let values: Vec<f64> = intervals.iter().map(|i| i.service_cores).collect();
        let limits = &facts.limits;
        let (ceiling_cores, ceiling_kind) = ceiling(facts);
        let mut capacity = Capacity {
            service: service.to_owned(),
            scope: facts.scope.clone(),
            cgroup: facts.limits.cgroup.clone(),
            window_ns,
            intervals: intervals.len(),
            interval_ns: window_ns / intervals.len().max(1) as u64,
            cpu_cores: usage::percentiles(intervals.iter().map(use_of).collect()),
            p95_range: uncertainty::of_percentile(&values, 0.95),
            fine_cores: usage::percentiles(fine.iter().map(use_of).collect()),
            fine_interval_ns: window_ns / fine.len().max(1) as u64,
            ceiling_cores,
            ceiling_kind,
            cpu_period_ns: limits.cpu_period_ns,
            cpu_weight: limits.cpu_weight,
            request_millicores: limits.cpu_shares.map(|n| n as f64 * 1000.0 / 1024.0),
            guaranteed_cores: limits
                .cpu_guaranteed_share
                .map(|share| share * f64::from(limits.node_cpus)),
            target_utilization: planning.target_utilization,
            node_cpus: limits.node_cpus,
            node_cores: usage::percentiles(node_intervals.iter().map(of_node).collect()),
            steal_share: usage::steal_share(facts),
            throttling: has_quota
                .then(|| usage::throttling(&facts.points))
                .flatten(),
            pressure: usage::pressure(facts),
            memory: usage::memory(facts),
            run_delay: usage::rate(&facts.points, |p| p.run_delay_ns, 1e9),
            threads: facts.points.iter().filter_map(|p| p.threads).max(),
            balance: usage::balance(facts),
            steadiness: usage::steadiness(&intervals),
            quota: None,
            replicas: None,
            cost: None,
            load_source: planning.load.as_ref().map(|load| load.source.clone()),
            path_cores: Vec::new(),
            headroom: None,
            runs_out: Vec::new(),
            inconclusive: Vec::new(),
            gaps: facts.gaps.clone(),
        };
        capacity.quota = quota::advice(&capacity, &facts.points);
        capacity.replicas = planning::replicas(&capacity, planning);
        capacity.cost = planning::cost(&capacity, planning);
        capacity.path_cores = planning::path_cores(&capacity, planning);
        capacity.headroom = headroom::of(&capacity);
        capacity.runs_out = headroom::runs_out(&capacity);
        capacity.inconclusive = doubts(&capacity);
        capacity
    }

    pub fn is_conclusive(&self) -> bool {
        self.inconclusive.is_empty()
    }

    /// p95 over the ceiling.
    pub fn p95_share(&self) -> Option<f64> {
        let ceiling = self.ceiling_cores.filter(|cores| *cores > 0.0)?;
        Some(self.cpu_cores.as_ref()?.p95 / ceiling)
    }

    /// p95 over what is guaranteed, else over what was requested; above 1 the service lives on what others leave.
    pub fn p95_share_of_request(&self) -> Option<f64> {
        let requested = self.request_millicores.map(|m| m / 1000.0);
        let request = self
            .guaranteed_cores
            .or(requested)
            .filter(|cores| *cores > 0.0)?;
        Some(self.cpu_cores.as_ref()?.p95 / request)
    }
}

fn ceiling(facts: &CapacityFacts) -> (Option<f64>, CeilingKind) {
    let limits = &facts.limits;
    let positive = |cores: f64| (cores > 0.0).then_some(cores);
    let candidates = [
        (
            limits.cpu_limit_cores.and_then(positive),
            CeilingKind::Quota,
        ),
        (
            limits.allowed_cpus.map(f64::from).and_then(positive),
            CeilingKind::AllowedCpus,
        ),
        (positive(f64::from(limits.node_cpus)), CeilingKind::NodeCpus),
    ];
    // At equal size the node's is the plainest name, so later ones win ties.
    let known = candidates
        .into_iter()
        .filter_map(|(cores, kind)| Some((cores?, kind)));
    let tightest = known.rev().min_by(|a, b| a.0.total_cmp(&b.0));
    match tightest {
        Some((cores, kind)) => (Some(cores), kind),
        None => (None, CeilingKind::NodeCpus),
    }
}

/// How long a recording must be for enough intervals of these, and one more for the rest at the end; whole seconds.
fn seconds_needed(capacity: &Capacity) -> u64 {
    let enough_ns = (MIN_INTERVALS as u64 + 1).saturating_mul(capacity.interval_ns);
    enough_ns.max(MIN_WINDOW_NS).div_ceil(1_000_000_000)
}

fn doubts(capacity: &Capacity) -> Vec<String> {
    let mut doubts = Vec::new();
    let needed = seconds_needed(capacity);
    if capacity.intervals < MIN_INTERVALS {
        doubts.push(format!(
            "{} intervals of {:.0} ms were measured, at least {MIN_INTERVALS} are needed: record at least {needed} s",
            capacity.intervals,
            capacity.interval_ns as f64 / 1e6
        ));
    }
    // The first and the last reading lie within the recording, not at its ends.
    if capacity.window_ns.saturating_add(capacity.interval_ns) < MIN_WINDOW_NS {
        doubts.push(format!(
            "{:.1} s were measured, at least {} s are needed: record at least {needed} s",
            capacity.window_ns as f64 / 1e9,
            MIN_WINDOW_NS / 1_000_000_000
        ));
    }
    if let Some(steadiness) = capacity.steadiness.as_ref().filter(|s| !s.steady) {
        doubts.push(format!(
            "the load was not steady: {:.2} cores in the first half, {:.2} in the second; record a plateau",
            steadiness.first_half_cores, steadiness.second_half_cores
        ));
    }
    if capacity.ceiling_cores.is_none() {
        doubts.push("neither a limit nor the node's CPUs are known".to_owned());
    }
    doubts
}

#[cfg(test)]
mod tests;
