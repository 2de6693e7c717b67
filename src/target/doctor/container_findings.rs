//! Findings about the box this process runs in: namespaces, seccomp, cgroup.

use super::super::capabilities::Capability;
use super::super::cgroup::Mode;
use super::super::host::Host;
use super::capability_findings::names;
use super::{Area, Finding, Status};

/// What runs as PID 1 of a Pod whose containers share one PID namespace.
const PAUSE_COMMANDS: [&str; 3] = ["pause", "catatonit", "podman-pause"];

pub(super) fn all(host: &Host) -> Vec<Finding> {
    vec![
        pid_namespace(host),
        user_namespace(host),
        seccomp(host),
        cgroup(host),
    ]
}

fn finding(id: &'static str, value: impl Into<String>) -> Finding {
    Finding::new(id, Area::Container, value)
}

fn pid_namespace(host: &Host) -> Finding {
    let init = host.init_comm.as_deref().unwrap_or("");
    match host.initial_pid_namespace {
        Some(true) => finding("pid_namespace", "the machine's own"),
        Some(false) if PAUSE_COMMANDS.contains(&init) => {
            finding("pid_namespace", format!("shared by the Pod (PID 1 is `{init}`)"))
        }
        Some(false) => finding("pid_namespace", "a container's own")
            .lost(
                Status::Limited,
                "only processes of this container can be profiled",
            )
            .kubernetes("shareProcessNamespace: true  # in the Pod's spec; or hostPID: true for every process of the node"),
        None => finding("pid_namespace", "not known"),
    }
}

fn user_namespace(host: &Host) -> Finding {
    match host.initial_user_namespace {
        Some(true) => finding("user_namespace", "the machine's own"),
        Some(false) => finding("user_namespace", "a child")
            .lost(
                Status::Limited,
                "capabilities held here do not count for the kernel: only your own processes, no kernel frames, no BPF sampler",
            )
            .kubernetes("hostUsers: true  # in the Pod's spec"),
        None => finding("user_namespace", "not known"),
    }
}

fn seccomp(host: &Host) -> Finding {
    let refused =
        host.probes.bpf_program == Some(false) || host.probes.software_event == Some(false);
    match host.seccomp {
        Some(2) if host.probes.bpf_program == Some(true) && !refused => {
            finding("seccomp", "filter (lets bpf and perf_event_open through)")
        }
        Some(2) => finding("seccomp", "filter")
            .lost(
                Status::Limited,
                "the filter may refuse bpf() and perf_event_open(), whatever the capabilities",
            )
            .kubernetes("securityContext: {seccompProfile: {type: Unconfined}}"),
        Some(0) => finding("seccomp", "off"),
        Some(mode) => finding("seccomp", mode.to_string()),
        None => finding("seccomp", "not known"),
    }
}

fn cgroup(host: &Host) -> Finding {
    match host.cgroup_mode {
        Mode::None => finding("cgroup", "not mounted")
            .lost(
                Status::Limited,
                "no limits, no throttling, no service-wide CPU time in the report",
            )
            .shell("mount -t cgroup2 none /sys/fs/cgroup"),
        mode => finding("cgroup", mode.name()),
    }
}

/// One snippet with everything that findings ask of a Pod, one setting a line.
pub(super) fn manifest(findings: &[Finding], wanted: &[Capability]) -> Option<String> {
    let asks = |id: &str| {
        findings
            .iter()
            .any(|f| f.id == id && f.fix.kubernetes.is_some())
    };
    let mut pod = Vec::new();
    if asks("pid_namespace") {
        pod.push("  shareProcessNamespace: true".to_owned());
    }
    if asks("user_namespace") {
        pod.push("  hostUsers: true".to_owned());
    }
    let mut security = Vec::new();
    if asks("cap_sys_admin") {
        security.push("      privileged: true".to_owned());
    } else if !wanted.is_empty() {
        security.push(format!("      capabilities: {{add: [{}]}}", names(wanted)));
    }
    if asks("seccomp") {
        security.push("      seccompProfile: {type: Unconfined}".to_owned());
    }
    if pod.is_empty() && security.is_empty() {
        return None;
    }
    let mut lines = vec!["spec:".to_owned()];
    lines.extend(pod);
    if !security.is_empty() {
        lines.push("  containers:".to_owned());
        lines.push("  - name: perfprof".to_owned());
        lines.push("    securityContext:".to_owned());
        lines.extend(security);
    }
    Some(lines.join("\n"))
}
