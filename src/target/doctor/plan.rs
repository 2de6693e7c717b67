//! What a recording started now would use.

use super::super::host::Host;
use super::Rights;

/// What `perfprof record` would choose on this machine with nothing but defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub can_record: bool,
    pub sampler: &'static str,
    pub unwind: &'static str,
    pub event: &'static str,
    /// Whether `--sampler bpf` would start.
    pub bpf: bool,
    pub kernel_frames: bool,
    pub kernel_symbols: bool,
    /// Whose processes can be recorded, in words.
    pub reach: &'static str,
    pub system_wide: bool,
}

impl Plan {
    pub(super) fn of(host: &Host, rights: &Rights) -> Plan {
        let cycles = host
            .probes
            .hardware_cycles
            .unwrap_or(!host.cpu_pmus.is_empty());
        Plan {
            can_record: rights.perf && host.sysctls.perf_event_paranoid.is_some(),
            // Where BPF is not permitted, stacks are copied by the perf sampler.
            sampler: if rights.bpf { "bpf" } else { "perf" },
            unwind: if rights.bpf { "dwarf" } else { "dwarf-copy" },
            event: if cycles { "cycles" } else { "cpu-clock" },
            bpf: rights.bpf,
            kernel_frames: rights.perf_kernel,
            kernel_symbols: rights.perf_kernel && rights.kernel_symbols,
            reach: reach(host, rights),
            system_wide: rights.perf_system,
        }
    }
}

fn reach(host: &Host, rights: &Rights) -> &'static str {
    let boxed = host.initial_pid_namespace == Some(false);
    match (rights.perf, rights.perf_others, boxed) {
        (false, _, _) => "no process",
        (true, true, false) => "every process",
        (true, true, true) => "every process of this PID namespace",
        (true, false, _) => "only your own processes",
    }
}
