//! A finding per capability that matters.

use super::super::capabilities::Capability;
use super::super::host::Host;
use super::{Area, Finding, Rights, Status, has_split_caps, holds};

/// What is lost without a capability, and whether that stops a recording or only narrows it.
struct Rule {
    id: &'static str,
    capability: Capability,
    lost: &'static str,
    /// CAP_SYS_ADMIN does as well.
    admin_covers: bool,
}

const RULES: [Rule; 7] = [
    Rule {
        id: "cap_perfmon",
        capability: Capability::Perfmon,
        lost: "only your own processes, no kernel frames, no system-wide recording (--all), no BPF sampler",
        admin_covers: true,
    },
    Rule {
        id: "cap_bpf",
        capability: Capability::Bpf,
        lost: "no BPF sampler: the perf sampler is used, which follows forks by reading records and costs more",
        admin_covers: true,
    },
    Rule {
        id: "cap_sys_ptrace",
        capability: Capability::SysPtrace,
        lost: "no mappings and binaries of other users' processes and of other containers: their frames stay without names",
        admin_covers: false,
    },
    Rule {
        id: "cap_syslog",
        capability: Capability::Syslog,
        lost: "no symbols for kernel frames",
        admin_covers: false,
    },
    Rule {
        id: "cap_checkpoint_restore",
        capability: Capability::CheckpointRestore,
        lost: "no symbols for binaries that were deleted or replaced while running (/proc/PID/map_files; of other users than root with DAC_READ_SEARCH only)",
        admin_covers: true,
    },
    Rule {
        id: "cap_dac_read_search",
        capability: Capability::DacReadSearch,
        lost: "no symbols from binaries and debug files that only their owner may read",
        admin_covers: false,
    },
    Rule {
        id: "cap_ipc_lock",
        capability: Capability::IpcLock,
        lost: "ring buffers are limited to perf_event_mlock_kb per CPU: samples may be lost at high rates",
        admin_covers: false,
    },
];

pub(super) fn all(host: &Host, rights: &Rights, program: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES
        .iter()
        .map(|rule| judge(rule, host, rights, program))
        .collect();
    findings.extend(sys_resource(host, program));
    findings.extend(sys_admin(host, rights));
    findings
}

fn judge(rule: &Rule, host: &Host, rights: &Rights, program: &str) -> Finding {
    if holds(host, rule.capability) {
        return finding(rule.id, "held");
    }
    if rights.admin && rule.admin_covers {
        return finding(rule.id, "covered by CAP_SYS_ADMIN");
    }
    if host.capabilities.has(rule.capability) {
        return finding(rule.id, "held in a child user namespace only")
            .lost(Status::Missing, rule.lost);
    }
    if unneeded(rule.capability, host, rights) {
        return finding(rule.id, "not held, not needed here");
    }
    let grant = grantable(rule.capability, host);
    finding(rule.id, "not held")
        .lost(Status::Missing, rule.lost)
        .shell(setcap(&[grant], program))
        .kubernetes(add(&[grant]))
}

/// Before 5.8 the kernel knows none of the three and asks for CAP_SYS_ADMIN instead.
fn grantable(capability: Capability, host: &Host) -> Capability {
    match capability {
        Capability::Perfmon | Capability::Bpf | Capability::CheckpointRestore
            if !has_split_caps(host) =>
        {
            Capability::SysAdmin
        }
        other => other,
    }
}

/// Cases in which a sysctl grants the same to everyone.
fn unneeded(capability: Capability, host: &Host, rights: &Rights) -> bool {
    match capability {
        Capability::Syslog => rights.kernel_symbols,
        // -1 lifts the mlock limit, too.
        Capability::IpcLock => host
            .sysctls
            .perf_event_paranoid
            .is_some_and(|level| level < 0),
        _ => false,
    }
}

/// Needed by BPF maps before Linux 5.11, which were charged to RLIMIT_MEMLOCK.
fn sys_resource(host: &Host, program: &str) -> Option<Finding> {
    if host.kernel_version >= (5, 11, 0) || host.kernel_version == (0, 0, 0) {
        return None;
    }
    if holds(host, Capability::SysResource) {
        return Some(finding("cap_sys_resource", "held"));
    }
    Some(
        finding("cap_sys_resource", "not held")
            .lost(Status::Missing, "BPF maps count against `ulimit -l` on kernels before 5.11: the BPF sampler may not start")
            .shell(setcap(&[Capability::SysResource], program))
            .kubernetes(add(&[Capability::SysResource])),
    )
}

/// Asked for only where nothing smaller helps.
fn sys_admin(host: &Host, rights: &Rights) -> Option<Finding> {
    let refused = host
        .sysctls
        .perf_event_paranoid
        .is_some_and(|level| level >= 3)
        && !rights.perf;
    if rights.admin || !refused {
        return None;
    }
    Some(
        finding("cap_sys_admin", "not held")
            .lost(
                Status::Missing,
                "nothing can be recorded: with perf_event_paranoid at 3 or more this distribution's kernel refuses \
                 even CAP_PERFMON",
            )
            .shell("sysctl -w kernel.perf_event_paranoid=2")
            .kubernetes("securityContext: {privileged: true}"),
    )
}

fn finding(id: &'static str, value: &str) -> Finding {
    Finding::new(id, Area::Capability, value)
}

/// The capabilities that findings ask for, each once, in the order of the table. The finding `cap_sys_admin` asks for
/// a sysctl, which is the smaller remedy.
pub(super) fn wanted(findings: &[Finding], host: &Host) -> Vec<Capability> {
    let missing = |id: &str| {
        findings
            .iter()
            .any(|f| f.id == id && f.status == Status::Missing && f.fix.shell.is_some())
    };
    let mut wanted: Vec<Capability> = Vec::new();
    for rule in RULES.iter().filter(|rule| missing(rule.id)) {
        let capability = grantable(rule.capability, host);
        if !wanted.contains(&capability) {
            wanted.push(capability);
        }
    }
    if missing("cap_sys_resource") {
        wanted.push(Capability::SysResource);
    }
    wanted
}

/// `setcap cap_perfmon,cap_bpf+ep /usr/bin/perfprof`.
pub(super) fn setcap(capabilities: &[Capability], program: &str) -> String {
    let names: Vec<String> = capabilities.iter().map(|c| c.setcap_name()).collect();
    format!("setcap {}+ep {}", names.join(","), shell_word(program))
}

/// `securityContext: {capabilities: {add: [PERFMON, BPF]}}`.
pub(super) fn add(capabilities: &[Capability]) -> String {
    format!(
        "securityContext: {{capabilities: {{add: [{}]}}}}",
        names(capabilities)
    )
}

pub(super) fn names(capabilities: &[Capability]) -> String {
    let names: Vec<&str> = capabilities.iter().map(|c| c.name()).collect();
    names.join(", ")
}

/// The text as one word for a shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
