//! A finding per sysctl and per kernel feature.

use super::super::host::Host;
use super::{Area, Finding, Rights, Status, is_restrictive_build};

/// Below this many ticks a second the default rate of 99 Hz times a few events no longer fits.
const LOW_SAMPLE_RATE_HZ: i64 = 1000;
/// The kernel's default depth; chains deeper than this are cut by the perf sampler.
const USUAL_MAX_STACK: i64 = 127;
/// The kernel's default is 516 KiB: one ring of 128 pages and its header.
const USUAL_MLOCK_KB: i64 = 516;

pub(super) fn sysctls(host: &Host, rights: &Rights) -> Vec<Finding> {
    let sysctls = &host.sysctls;
    vec![
        paranoid(host, rights),
        kptr_restrict(host, rights),
        at_least(
            "perf_event_mlock_kb",
            sysctls.perf_event_mlock_kb,
            USUAL_MLOCK_KB,
            "ring buffers without CAP_IPC_LOCK are smaller: samples may be lost at high rates",
        ),
        at_least(
            "perf_event_max_sample_rate",
            sysctls.perf_event_max_sample_rate,
            LOW_SAMPLE_RATE_HZ,
            "higher frequencies are refused or throttled by the kernel",
        ),
        at_least(
            "perf_event_max_stack",
            sysctls.perf_event_max_stack,
            USUAL_MAX_STACK,
            "stacks deeper than this are cut when frame pointers are followed",
        ),
        cpu_time_max_percent(sysctls.perf_cpu_time_max_percent),
        unprivileged_bpf(host, rights),
        bpf_stats(sysctls.bpf_stats_enabled),
    ]
}

pub(super) fn features(host: &Host) -> Vec<Finding> {
    vec![
        version(host),
        btf(host),
        hardware_pmu(host),
        present(
            "uprobe_pmu",
            host.uprobe_pmu,
            "no probes on functions of user programs",
        ),
        present(
            "kprobe_pmu",
            host.kprobe_pmu,
            "no probes on kernel functions; perfprof's own programs attach to tracepoints and do not need them",
        ),
        tracefs(host),
        lockdown(host),
    ]
}

fn sysctl(id: &'static str, value: Option<i64>) -> Finding {
    let text = value.map_or_else(|| "not there".to_owned(), |v| v.to_string());
    Finding::new(id, Area::Sysctl, text)
}

fn paranoid(host: &Host, rights: &Rights) -> Finding {
    let value = host.sysctls.perf_event_paranoid;
    let finding = sysctl("perf_event_paranoid", value);
    let Some(level) = value else {
        return finding.lost(
            Status::Missing,
            "the kernel is built without perf events: nothing can be recorded",
        );
    };
    if !rights.perf {
        let lost = if level >= 3 {
            "nothing can be recorded without CAP_SYS_ADMIN: on Debian and Ubuntu kernels 3 and more refuse even CAP_PERFMON"
        } else {
            "nothing can be recorded: the kernel refused a plain event; a seccomp filter may forbid perf_event_open"
        };
        return finding
            .lost(Status::Missing, lost)
            .shell("sysctl -w kernel.perf_event_paranoid=2");
    }
    if rights.perf_system && rights.perf_kernel {
        return finding;
    }
    let lost = match level {
        2.. => "without CAP_PERFMON: only your own processes, no kernel frames",
        1 => "without CAP_PERFMON: only your own processes",
        _ => return finding,
    };
    let lasting = if is_restrictive_build(host) && level >= 3 {
        2
    } else {
        -1
    };
    finding
        .lost(Status::Limited, lost)
        .shell(format!("sysctl -w kernel.perf_event_paranoid={lasting}"))
}

fn kptr_restrict(host: &Host, rights: &Rights) -> Finding {
    let finding = sysctl("kptr_restrict", host.sysctls.kptr_restrict);
    if rights.kernel_symbols {
        return finding;
    }
    let status = if host.sysctls.kptr_restrict == Some(0) {
        Status::Ok
    } else {
        Status::Limited
    };
    match status {
        // 0 itself hides nothing: CAP_SYSLOG or the paranoid level is what is missing.
        Status::Ok => finding,
        _ => finding
            .lost(
                status,
                "no symbols for kernel frames (addresses in /proc/kallsyms read zero)",
            )
            .shell("sysctl -w kernel.kptr_restrict=0"),
    }
}

fn at_least(id: &'static str, value: Option<i64>, enough: i64, lost: &'static str) -> Finding {
    let finding = sysctl(id, value);
    match value {
        Some(v) if v < enough => finding
            .lost(Status::Limited, lost)
            .shell(format!("sysctl -w kernel.{id}={enough}")),
        _ => finding,
    }
}

fn cpu_time_max_percent(value: Option<i64>) -> Finding {
    let finding = sysctl("perf_cpu_time_max_percent", value);
    match value {
        Some(1..25) => finding
            .lost(
                Status::Limited,
                "the kernel lowers the sampling rate early when samples take long",
            )
            .shell("sysctl -w kernel.perf_cpu_time_max_percent=25"),
        _ => finding,
    }
}

fn unprivileged_bpf(host: &Host, rights: &Rights) -> Finding {
    let value = host.sysctls.unprivileged_bpf_disabled;
    let finding = sysctl("unprivileged_bpf_disabled", value);
    if rights.bpf || value == Some(0) {
        return finding;
    }
    // Not a limit to lift: programs of the perf_event type need the capabilities in any case.
    let text = value.map_or_else(
        || "not there".to_owned(),
        |v| format!("{v} (capabilities decide)"),
    );
    Finding::new("unprivileged_bpf_disabled", Area::Sysctl, text)
}

fn bpf_stats(value: Option<i64>) -> Finding {
    let finding = sysctl("bpf_stats_enabled", value);
    match value {
        Some(0) => finding
            .lost(
                Status::Limited,
                "the report cannot say how much CPU time the BPF programs took",
            )
            .shell("sysctl -w kernel.bpf_stats_enabled=1"),
        _ => finding,
    }
}

fn feature(id: &'static str, value: impl Into<String>) -> Finding {
    Finding::new(id, Area::Kernel, value)
}

fn present(id: &'static str, there: bool, lost: &'static str) -> Finding {
    if there {
        feature(id, "yes")
    } else {
        feature(id, "no").lost(Status::Limited, lost)
    }
}

fn version(host: &Host) -> Finding {
    let finding = feature("kernel_version", host.kernel_release.clone());
    match host.kernel_version {
        (0, 0, 0) => finding.lost(
            Status::Limited,
            "the kernel's version is not known: newer features may fail",
        ),
        v if v < (5, 8, 0) => finding.lost(
            Status::Limited,
            "no BPF ring buffer and no CAP_BPF, CAP_PERFMON before 5.8: only the perf sampler",
        ),
        _ => finding,
    }
}

fn btf(host: &Host) -> Finding {
    if host.btf {
        return feature("btf", "/sys/kernel/btf/vmlinux");
    }
    feature("btf", "no").lost(
        Status::Missing,
        "no BPF sampler: it needs a kernel built with CONFIG_DEBUG_INFO_BTF=y; the perf sampler is used",
    )
}

fn hardware_pmu(host: &Host) -> Finding {
    let names = host.cpu_pmus.join(", ");
    let lost = "no `cycles` event: `cpu-clock` ticks are used; samples of kernel code that runs with interrupts off \
                land where they are enabled again";
    match (host.probes.hardware_cycles, host.cpu_pmus.is_empty()) {
        (Some(true), _) => feature(
            "hardware_pmu",
            if names.is_empty() {
                "yes".into()
            } else {
                names
            },
        ),
        (Some(false), false) => {
            feature("hardware_pmu", format!("{names} (does not open)")).lost(Status::Limited, lost)
        }
        (None, false) => feature("hardware_pmu", names),
        (_, true) => {
            feature("hardware_pmu", "none (usual in virtual machines)").lost(Status::Limited, lost)
        }
    }
}

fn tracefs(host: &Host) -> Finding {
    match &host.tracefs {
        Some(path) => feature("tracefs", path.display().to_string()),
        None => feature("tracefs", "not mounted")
            .lost(
                Status::Limited,
                "no classic tracepoints by name; the BPF programs attach without it",
            )
            .shell("mount -t tracefs nodev /sys/kernel/tracing")
            .kubernetes(
                "volumes: [{name: tracefs, hostPath: {path: /sys/kernel/tracing}}], \
                 volumeMounts: [{name: tracefs, mountPath: /sys/kernel/tracing, readOnly: true}]",
            ),
    }
}

fn lockdown(host: &Host) -> Finding {
    match host.lockdown.as_deref() {
        None => feature("lockdown", "not known or not built in"),
        Some("confidentiality") => feature("lockdown", "confidentiality").lost(
            Status::Limited,
            "no BPF sampler: BPF programs may not read kernel memory; boot without lockdown=confidentiality",
        ),
        Some(mode) => feature("lockdown", mode),
    }
}
