//! How a profile was made: enough to judge it, to repeat it, and to refuse comparing it with one made differently.

use serde::{Deserialize, Serialize};

use super::PackageFact;

/// Which tool made the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    #[default]
    Perfprof,
    /// A profile of another tool, read from a file: format and file name.
    Foreign { format: String, file: String },
}

/// What perfprof itself used while recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelfCost {
    /// User and system CPU time of the profiler process, nanoseconds.
    pub cpu_ns: u64,
    /// Peak resident memory, bytes.
    pub max_rss_bytes: u64,
    /// Time spent inside BPF programs, nanoseconds, and their runs; `None` without BPF or without its statistics.
    pub bpf_run_ns: Option<u64>,
    pub bpf_runs: Option<u64>,
    /// From the last sample to the profile being named and ready to write, nanoseconds.
    pub finish_ns: u64,
}

/// The limits a service runs under, at the end of the recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitFacts {
    /// Cgroup path the limits were read from.
    pub cgroup: String,
    /// 1 or 2; 0 where no cgroup file could be read.
    pub cgroup_version: u8,
    /// CPUs the quota allows (quota over period), the tightest up the tree; `None` without a quota.
    pub cpu_limit_cores: Option<f64>,
    /// How often that quota is refilled, nanoseconds.
    pub cpu_period_ns: Option<u64>,
    /// `cpu.weight` (v2) or `cpu.shares` (v1).
    pub cpu_weight: Option<u64>,
    /// v1's `cpu.shares`, or v2's weight turned back into it.
    pub cpu_shares: Option<u64>,
    /// Share of the node's CPU time that the weights guarantee when every cgroup beside it wants all it can get.
    pub cpu_guaranteed_share: Option<f64>,
    pub memory_limit_bytes: Option<u64>,
    /// CPUs the service may run on (cpuset and affinity); `None` where not known.
    pub allowed_cpus: Option<u32>,
    /// CPUs online on the node.
    pub node_cpus: u32,
    pub node_memory_bytes: u64,
}

/// One reading of the gauges, about every 100 ms. Counters are as read (cumulative).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapacityPoint {
    /// When the service's CPU time was read, nanoseconds since the gauges were opened.
    pub at_ns: u64,
    /// When the node's was; 0 in old profiles: at the same time.
    pub node_at_ns: u64,
    /// CPU time used so far by the service: by its cgroup where it has its own, else by its processes; nanoseconds.
    pub service_cpu_ns: u64,
    /// Non-idle CPU time of the node so far, nanoseconds; and steal.
    pub node_busy_ns: u64,
    pub node_steal_ns: u64,
    pub nr_periods: Option<u64>,
    pub nr_throttled: Option<u64>,
    pub throttled_ns: Option<u64>,
    /// Memory in use that cannot simply be taken back (without inactive page cache); read once a second.
    pub memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    pub threads: Option<u32>,
    /// PSI `some` totals, microseconds stalled so far.
    pub psi_cpu_some_us: Option<u64>,
    pub psi_memory_some_us: Option<u64>,
    pub psi_io_some_us: Option<u64>,
    /// PSI `full` totals: nothing but stalled tasks.
    pub psi_cpu_full_us: Option<u64>,
    pub psi_memory_full_us: Option<u64>,
    pub psi_io_full_us: Option<u64>,
    /// Time spent waiting on a run queue so far by the service's threads (schedstat), nanoseconds.
    pub run_delay_ns: Option<u64>,
}

/// How often a cgroup came to the end of its memory, over its life; `None` where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryEvents {
    /// Allocations that hit the limit (v2 `max`, v1 `failcnt`); most of them succeed once cache was given up.
    pub limit_hits: Option<u64>,
    /// Allocations that failed for good (v2 `oom`), and processes killed for them.
    pub ooms: Option<u64>,
    pub oom_kills: Option<u64>,
}

/// CPU time on one CPU between the first and the last reading, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuBusy {
    pub cpu: u32,
    /// Of all that ran there; and of the service, where its cgroup says so (v1).
    pub node_ns: u64,
    pub service_ns: Option<u64>,
}

/// Everything the capacity analysis is computed from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapacityFacts {
    /// `cgroup`, `processes` or `node`: what `service_cpu_ns` covers.
    pub scope: String,
    /// `cgroup` or `node`: whose pressure the points hold.
    #[serde(default)]
    pub psi_scope: String,
    pub limits: LimitFacts,
    pub points: Vec<CapacityPoint>,
    /// Peak memory and OOM kills over the cgroup's life, where it says so.
    pub memory_peak_bytes: Option<u64>,
    pub oom_kills: Option<u64>,
    /// At the first and at the last reading.
    pub memory_events_before: MemoryEvents,
    pub memory_events: MemoryEvents,
    /// In the order of the CPUs.
    pub cpu_busy: Vec<CpuBusy>,
    /// What could not be read, and why.
    pub gaps: Vec<String>,
}

/// How, where and when the profile was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recording {
    pub origin: Origin,
    /// Name of the report's section.
    pub service: String,
    /// Version of perfprof.
    pub version: String,
    /// The command line that repeats the recording, shell-quoted.
    pub command: String,
    /// What was profiled, in words: `PID 42 and its 7 descendants`.
    pub target: String,
    pub hostname: String,
    pub kernel: String,
    pub arch: String,
    pub cpus: u32,
    /// `cycles`, `cpu-clock`, …, and why this one.
    pub event: String,
    pub event_reason: String,
    /// `bpf` or `perf`, and why.
    pub sampler: String,
    pub sampler_reason: String,
    /// `fp`, `dwarf` or `dwarf-copy`, and why.
    pub unwind: String,
    pub unwind_reason: String,
    /// Why what threads wait for was recorded, or was not.
    pub waits_reason: String,
    /// Ticks per second of CPU time.
    pub frequency_hz: f64,
    /// Whether kernel frames were recorded.
    pub kernel_stacks: bool,
    /// Wall-clock time of the start, nanoseconds since the Unix epoch; 0 where unknown.
    pub started_unix_ns: u64,
    pub duration_ns: u64,
    /// Length of a time slice; 0 when the profile has none (another tool's).
    pub slice_ns: u64,
    /// What ended the recording: `duration`, `interrupted`, `target exited`.
    pub stopped_by: String,
    /// Threads and processes seen.
    pub processes_seen: u32,
    pub threads_seen: u32,
    pub self_cost: SelfCost,
    /// Half-width of the hottest path's 95 % interval that was asked for, as a share (0.01 is one point).
    pub precision: f64,
    pub capacity: Option<CapacityFacts>,
    /// Where binaries came from whose frames lack names or lines.
    pub packages: Vec<PackageFact>,
    /// What the reader must know, in whole sentences.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_an_older_profile_are_read() {
        let old = r#"{"scope": "cgroup", "psi_scope": "node",
            "limits": {"cgroup": "/a", "cgroup_version": 2, "cpu_limit_cores": 0.2, "cpu_weight": 100,
                "memory_limit_bytes": 64, "allowed_cpus": 2, "node_cpus": 2, "node_memory_bytes": 128},
            "points": [{"at_ns": 5, "service_cpu_ns": 7, "node_busy_ns": 9, "node_steal_ns": 0, "nr_periods": 1,
                "nr_throttled": 0, "throttled_ns": 0, "memory_bytes": 3, "threads": 1, "psi_cpu_some_us": 4,
                "psi_memory_some_us": null, "psi_io_some_us": null, "run_delay_ns": null}],
            "memory_peak_bytes": 4, "oom_kills": 0, "gaps": ["x"]}"#;
        let facts: CapacityFacts =
            serde_json::from_str(old).expect("every new figure may be absent");
        assert_eq!((facts.points[0].at_ns, facts.points[0].node_at_ns), (5, 0));
        assert_eq!(facts.memory_events, MemoryEvents::default());
        let again = serde_json::to_string(&facts).expect("plain data");
        assert_eq!(
            serde_json::from_str::<CapacityFacts>(&again).expect("its own"),
            facts
        );
    }
}
