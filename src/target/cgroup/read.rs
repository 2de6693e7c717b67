//! The figures of a cgroup: CPU time, limits, throttling, memory, pressure; v1 and v2 in the same units.
//!
//! In: a [`Place`] or the text of one of its files. Out: numbers in ns, µs (pressure) and bytes; `None` where the file
//! is missing, as on the root or without the controller. Source: the kernel's cgroup-v2.rst, cgroup-v1/*.rst, psi.rst.

use std::path::{Path, PathBuf};

use super::{Place, Version};
use crate::profile::MemoryEvents;
use crate::target::small_file::{field_number, read_number, read_text};

/// v1 writes "no limit" as the largest multiple of the page size below 2^63 (9223372036854771712 with 4 KiB pages);
/// nothing near it is a real limit.
const NO_MEMORY_LIMIT_BYTES: u64 = 1 << 62;

/// A CPU quota and the directory that imposes it.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuLimit {
    /// Quota over period: how many CPUs may be used on average.
    pub cores: f64,
    pub period_ns: u64,
    /// Throttling is counted here, which can be a parent of the cgroup.
    pub dir: PathBuf,
}

/// Counters of `cpu.stat`, v1 or v2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// CPU time; v2 only.
    pub usage_ns: Option<u64>,
    pub nr_periods: Option<u64>,
    pub nr_throttled: Option<u64>,
    pub throttled_ns: Option<u64>,
}

/// Memory of a cgroup over its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Highest use ever, page cache included; `memory.peak` is there from Linux 5.19.
    pub peak_bytes: Option<u64>,
    pub events: MemoryEvents,
}

/// A memory limit and the directory that imposes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    pub bytes: u64,
    pub dir: PathBuf,
}

/// `20000 100000` is 0.2 cores, refilled each 100 ms; `max 100000` is no limit.
pub fn parse_cpu_max(text: &str) -> Option<(f64, u64)> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok()?;
    quota_over(quota, period)
}

/// Cores and nanoseconds, from microseconds.
fn quota_over(quota_us: u64, period_us: u64) -> Option<(f64, u64)> {
    let cores = quota_us as f64 / period_us as f64;
    (period_us > 0).then(|| (cores, period_us.saturating_mul(1000)))
}

pub fn parse_cpu_stat(text: &str) -> CpuStat {
    let us = |key| field_number(text, key).map(|us: u64| us.saturating_mul(1000));
    CpuStat {
        usage_ns: us("usage_usec"),
        nr_periods: field_number(text, "nr_periods"),
        nr_throttled: field_number(text, "nr_throttled"),
        throttled_ns: us("throttled_usec").or_else(|| field_number(text, "throttled_time")),
    }
}

/// `some avg10=… avg60=… avg300=… total=123`: the total, µs in which at least one task was stalled.
pub fn parse_psi_some_us(text: &str) -> Option<u64> {
    psi_total_us(text, "some ")
}

/// The same of `full`: µs in which tasks were stalled and none ran. For CPU, cgroups have it from Linux 5.13.
pub fn parse_psi_full_us(text: &str) -> Option<u64> {
    psi_total_us(text, "full ")
}

fn psi_total_us(text: &str, kind: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(kind))?;
    line.split(' ')
        .find_map(|word| word.strip_prefix("total="))?
        .trim()
        .parse()
        .ok()
}

impl Place {
    /// The tightest CPU quota of this cgroup and its visible parents.
    pub fn cpu_limit(&self) -> Option<CpuLimit> {
        let limits = self.upwards().filter_map(|dir| {
            let (cores, period_ns) = self.quota(dir)?;
            Some(CpuLimit {
                cores,
                period_ns,
                dir: dir.to_owned(),
            })
        });
        limits.min_by(|a, b| a.cores.total_cmp(&b.cores))
    }

    fn quota(&self, dir: &Path) -> Option<(f64, u64)> {
        match self.version {
            Version::V1 => {
                // A quota of -1 is no limit and no `u64`.
                let quota: u64 = read_number(&dir.join("cpu.cfs_quota_us"))?;
                let period: u64 = read_number(&dir.join("cpu.cfs_period_us"))?;
                quota_over(quota, period)
            }
            Version::V2 => parse_cpu_max(&read_text(&dir.join("cpu.max")).ok()?),
        }
    }

    /// The tightest memory limit of this cgroup and its visible parents.
    pub fn memory_limit(&self) -> Option<MemoryLimit> {
        let name = match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        let limits = self.upwards().filter_map(|dir| {
            let bytes = read_number::<u64>(&dir.join(name))?;
            let dir = dir.to_owned();
            (bytes < NO_MEMORY_LIMIT_BYTES).then_some(MemoryLimit { bytes, dir })
        });
        limits.min_by_key(|limit| limit.bytes)
    }

    /// Peak and kills of this cgroup; hits of the limit are counted where the limit is.
    pub fn memory(&self) -> Memory {
        let (peak, events) = match self.version {
            Version::V1 => ("memory.max_usage_in_bytes", "memory.oom_control"),
            Version::V2 => ("memory.peak", "memory.events"),
        };
        let events = read_text(&self.file(events)).unwrap_or_default();
        let limit = self.memory_limit();
        let limited = limit.map_or_else(|| self.dir.clone(), |limit| limit.dir);
        let limit_hits = match self.version {
            Version::V1 => read_number(&limited.join("memory.failcnt")),
            Version::V2 => {
                let events = read_text(&limited.join("memory.events")).unwrap_or_default();
                field_number(&events, "max")
            }
        };
        Memory {
            peak_bytes: read_number(&self.file(peak)),
            events: MemoryEvents {
                limit_hits,
                ooms: field_number(&events, "oom"),
                oom_kills: field_number(&events, "oom_kill"),
            },
        }
    }

    /// Bytes swapped out. v1 counts memory and swap together.
    pub fn swap_bytes(&self) -> Option<u64> {
        match self.version {
            Version::V1 => {
                let both: u64 = read_number(&self.file("memory.memsw.usage_in_bytes"))?;
                let memory: u64 = read_number(&self.memory_usage_file())?;
                Some(both.saturating_sub(memory))
            }
            Version::V2 => read_number(&self.file("memory.swap.current")),
        }
    }

    /// CPU time by CPU, nanoseconds; v1 only.
    pub fn cpu_usage_by_cpu_ns(&self) -> Option<Vec<u64>> {
        let text = match self.version {
            Version::V1 => read_text(&self.file("cpuacct.usage_percpu")).ok()?,
            Version::V2 => return None,
        };
        text.split_whitespace().map(|n| n.parse().ok()).collect()
    }

    /// The file holding the memory in use, bytes, page cache included.
    pub fn memory_usage_file(&self) -> PathBuf {
        self.file(match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        })
    }

    /// The file holding the CPU time used, see [`Place::parse_cpu_usage_ns`].
    pub fn cpu_usage_file(&self) -> PathBuf {
        self.file(match self.version {
            Version::V1 => "cpuacct.usage",
            Version::V2 => "cpu.stat",
        })
    }

    pub fn parse_cpu_usage_ns(&self, text: &str) -> Option<u64> {
        match self.version {
            Version::V1 => text.trim().parse().ok(),
            Version::V2 => parse_cpu_stat(text).usage_ns,
        }
    }
}
