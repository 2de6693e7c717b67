//! CPU time of the node as a whole and CPU by CPU, from `/proc/stat`, and its memory.
//!
//! In: nothing. Out: busy time and steal, nanoseconds, counted by the kernel in ticks of 10 ms; bytes.

use std::collections::BTreeSet;
use std::path::Path;

use nix::unistd::{SysconfVar, sysconf};

use super::held;
use crate::profile::CpuBusy;
use crate::target::cgroup::Cgroup;
use crate::target::small_file::{HeldFile, field, read_text};

const STAT: &str = "/proc/stat";

/// The held file; only its first line is read again and again.
#[derive(Debug)]
pub(super) struct NodeStat {
    file: Option<HeldFile>,
    tick_ns: u64,
}

impl NodeStat {
    pub(super) fn open(gaps: &mut BTreeSet<String>) -> NodeStat {
        NodeStat {
            file: held(Path::new(STAT), gaps),
            tick_ns: tick_ns(),
        }
    }

    /// Busy and stolen nanoseconds so far.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Option<(u64, u64)> {
        let text = self.file.as_ref()?.read(buffer)?;
        let (busy, steal) = parse_ticks(text.lines().next()?.strip_prefix("cpu ")?)?;
        Some((
            busy.saturating_mul(self.tick_ns),
            steal.saturating_mul(self.tick_ns),
        ))
    }

    /// Every CPU's busy time so far, with the service's where its cgroup (v1) keeps it.
    pub(super) fn by_cpu(&self, cgroup: Option<&Cgroup>) -> Vec<CpuBusy> {
        let text = read_text(Path::new(STAT)).unwrap_or_default();
        let service = cgroup
            .and_then(|cgroup| cgroup.cpuacct.as_ref()?.cpu_usage_by_cpu_ns())
            .unwrap_or_default();
        let cpus = text.lines().filter_map(parse_cpu_line);
        cpus.map(|(cpu, busy)| CpuBusy {
            cpu,
            node_ns: busy.saturating_mul(self.tick_ns),
            service_ns: service.get(cpu as usize).copied(),
        })
        .collect()
    }
}

/// Memory of the node that cannot simply be taken back, bytes.
pub(super) fn memory_used_bytes() -> Option<u64> {
    let text = read_text(Path::new("/proc/meminfo")).ok()?;
    let kib = |key| field(&text, key)?.split(' ').next()?.parse::<u64>().ok();
    let used = kib("MemTotal:")?.saturating_sub(kib("MemAvailable:")?);
    Some(used.saturating_mul(1024))
}

/// What was used on each CPU since `before`; a CPU that came or went in between is left out.
pub(super) fn by_cpu_since(before: &[CpuBusy], now: Vec<CpuBusy>) -> Vec<CpuBusy> {
    let grown = now.into_iter().filter_map(|now| {
        let before = before.iter().find(|before| before.cpu == now.cpu)?;
        Some(CpuBusy {
            cpu: now.cpu,
            node_ns: now.node_ns.checked_sub(before.node_ns)?,
            service_ns: now
                .service_ns
                .zip(before.service_ns)
                .and_then(|(now, before)| now.checked_sub(before)),
        })
    });
    grown.collect()
}

/// `cpu3 …`: the number and the busy ticks.
fn parse_cpu_line(line: &str) -> Option<(u32, u64)> {
    let (name, ticks) = line.split_once(' ')?;
    let cpu = name.strip_prefix("cpu")?.parse().ok()?;
    Some((cpu, parse_ticks(ticks)?.0))
}

/// Busy and steal ticks of: user nice system idle iowait irq softirq steal. Guest time is already in user.
fn parse_ticks(text: &str) -> Option<(u64, u64)> {
    let ticks: Vec<u64> = text
        .split_whitespace()
        .map_while(|w| w.parse().ok())
        .collect();
    let tick = |ix: usize| ticks.get(ix).copied().unwrap_or(0);
    if ticks.len() < 4 {
        return None;
    }
    let busy = [0, 1, 2, 5, 6]
        .map(tick)
        .iter()
        .fold(0u64, |sum, n| sum.saturating_add(*n));
    Some((busy, tick(7)))
}

fn tick_ns() -> u64 {
    match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(hz)) if hz > 0 => 1_000_000_000 / hz as u64,
        _ => 10_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_time_leaves_out_idle_and_counts_guests_once() {
        assert_eq!(
            parse_ticks("100 20 30 1000 500 4 6 70 90 9"),
            Some((160, 70))
        );
        assert_eq!(parse_ticks("1 2"), None);
        assert_eq!(parse_cpu_line("cpu12 1 2 3 4"), Some((12, 6)));
        for other in ["cpu  1 2 3 4", "intr 1 2 3 4 5", "cpu1"] {
            assert_eq!(parse_cpu_line(other), None, "{other}");
        }
    }

    #[test]
    fn a_cpu_that_comes_later_is_left_out() {
        let busy = |cpu, node_ns, service_ns| CpuBusy {
            cpu,
            node_ns,
            service_ns,
        };
        let before = [busy(0, 10, Some(1)), busy(2, 10, None)];
        let now = vec![busy(0, 15, Some(4)), busy(1, 9, None), busy(2, 30, None)];
        let grown = by_cpu_since(&before, now);
        assert_eq!(grown, [busy(0, 5, Some(3)), busy(2, 20, None)]);
    }
}
