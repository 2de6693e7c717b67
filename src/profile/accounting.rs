//! What the kernel itself says about the recorded time: the figures samples are held against.

use serde::{Deserialize, Serialize};

/// CPU time one thread used within the recording, by the scheduler's own count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadCpu {
    pub pid: u32,
    pub tid: u32,
    /// Nanoseconds on a CPU between arming and the end of the recording.
    pub cpu_ns: u64,
}

/// CPU time of the cgroup the target lives in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CgroupCpu {
    /// As in `/proc/PID/cgroup`.
    pub path: String,
    /// Nanoseconds the whole cgroup used within the recording.
    pub cpu_ns: u64,
}

/// Kernel-side facts of a recording. A figure that could not be had is `None` with the reason in
/// [`Accounting::gaps`], never zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accounting {
    /// Where `threads` came from, e.g. `schedstat at start and end, exits by BPF`.
    pub source: String,
    /// Threads of the target that used CPU, also those that ended meanwhile.
    pub threads: Vec<ThreadCpu>,
    /// CPU time of target threads that ended unseen, known only as a sum; nanoseconds.
    pub unattributed_cpu_ns: u64,
    /// Samples that the kernel took and could not deliver (ring full).
    pub lost: u64,
    /// Samples not taken because the kernel throttled the sampling event; estimated as throttled time × rate.
    pub throttled: u64,
    /// The service's cgroup; `None` when the target is alone in none (root cgroup) or it cannot be read.
    pub cgroup: Option<CgroupCpu>,
    /// Figures that could not be had, and why.
    pub gaps: Vec<String>,
}

impl Accounting {
    /// All CPU time the kernel accounted to the target, in nanoseconds; `None` when it is not known at all.
    pub fn cpu_ns(&self) -> Option<u64> {
        if self.source.is_empty() {
            return None;
        }
        Some(self.threads.iter().map(|t| t.cpu_ns).sum::<u64>() + self.unattributed_cpu_ns)
    }
}
