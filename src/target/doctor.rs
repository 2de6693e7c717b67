//! What is missing on this machine, what is lost without it, and the exact command or manifest that grants it.
//!
//! In: the facts of a [`Host`]. Out: a [`Diagnosis`], data only; `cli` prints it. The rules come from the kernel's
//! sources and were tried on 5.10 to 6.18; where a distribution deviates, the text says so. Answers of the kernel
//! itself ([`super::host::Probes`]) win over rules.

use super::capabilities::Capability;
use super::host::Host;

mod capability_findings;
mod container_findings;
mod kernel_findings;
mod plan;

pub use plan::Plan;

/// Whether something stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing is lost.
    Ok,
    /// It is there and restricts what can be seen.
    Limited,
    /// It is not there.
    Missing,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Limited => "limited",
            Status::Missing => "missing",
        }
    }
}

/// Where a finding belongs in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    Capability,
    Sysctl,
    Kernel,
    Container,
}

impl Area {
    pub fn name(self) -> &'static str {
        match self {
            Area::Capability => "capability",
            Area::Sysctl => "sysctl",
            Area::Kernel => "kernel",
            Area::Container => "container",
        }
    }
}

/// How to get what is missing; either may be absent when that way does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fix {
    /// A command for a root shell on the node.
    pub shell: Option<String>,
    /// Lines of a Pod manifest.
    pub kubernetes: Option<String>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable: `cap_perfmon`, `perf_event_paranoid`, `btf`, …
    pub id: &'static str,
    pub area: Area,
    pub status: Status,
    /// What it is now: `held`, `2`, `filter`, …
    pub value: String,
    /// What cannot be done without it; empty when nothing is lost.
    pub lost: String,
    pub fix: Fix,
}

impl Finding {
    fn new(id: &'static str, area: Area, value: impl Into<String>) -> Finding {
        Finding {
            id,
            area,
            status: Status::Ok,
            value: value.into(),
            lost: String::new(),
            fix: Fix::default(),
        }
    }

    fn lost(mut self, status: Status, lost: impl Into<String>) -> Finding {
        self.status = status;
        self.lost = lost.into();
        self
    }

    fn shell(mut self, command: impl Into<String>) -> Finding {
        self.fix.shell = Some(command.into());
        self
    }

    fn kubernetes(mut self, yaml: impl Into<String>) -> Finding {
        self.fix.kubernetes = Some(yaml.into());
        self
    }
}

/// Everything doctor has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The machine in one line.
    pub host: String,
    pub findings: Vec<Finding>,
    pub plan: Plan,
    /// One command granting all missing capabilities to the binary, and one manifest; `None` when none is missing.
    pub grant_shell: Option<String>,
    pub grant_kubernetes: Option<String>,
}

impl Diagnosis {
    /// `program`: path of the perfprof binary, for `setcap`.
    pub fn of(host: &Host, program: &str) -> Diagnosis {
        let rights = Rights::of(host);
        let mut findings = capability_findings::all(host, &rights, program);
        findings.extend(kernel_findings::sysctls(host, &rights));
        findings.extend(kernel_findings::features(host));
        findings.extend(container_findings::all(host));
        let wanted = capability_findings::wanted(&findings, host);
        Diagnosis {
            host: describe(host),
            plan: Plan::of(host, &rights),
            grant_shell: (!wanted.is_empty())
                .then(|| capability_findings::setcap(&wanted, program)),
            grant_kubernetes: container_findings::manifest(&findings, &wanted),
            findings,
        }
    }

    /// Whether recording anything at all is possible.
    pub fn can_record(&self) -> bool {
        self.plan.can_record
    }
}

/// What this process may do, once capabilities, sysctls and namespaces are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rights {
    /// CAP_SYS_ADMIN where it counts, that is in the first user namespace.
    admin: bool,
    /// Open an event at all.
    perf: bool,
    /// Sample the kernel; other users' processes; every process on a CPU.
    perf_kernel: bool,
    perf_others: bool,
    perf_system: bool,
    bpf: bool,
    /// See addresses of kernel symbols.
    kernel_symbols: bool,
}

impl Rights {
    fn of(host: &Host) -> Rights {
        let perfmon = holds(host, Capability::Perfmon);
        let admin = holds(host, Capability::SysAdmin);
        let paranoid = host.sysctls.perf_event_paranoid.unwrap_or(2);
        let refused = paranoid >= 3 && is_restrictive_build(host) && !admin;
        let perf = host.probes.software_event.unwrap_or(!refused);
        let monitor = perf && (perfmon || admin);
        // The kernel's `perf_event_open`: <= 1 allows the kernel of own tasks, <= 0 whole CPUs.
        let perf_kernel = perf && (monitor || paranoid <= 1);
        let bpf_rule = (admin || (perfmon && holds(host, Capability::Bpf) && has_split_caps(host)))
            && host.btf
            && host.lockdown.as_deref() != Some("confidentiality");
        Rights {
            admin,
            perf,
            perf_kernel,
            perf_others: monitor || (perf && holds(host, Capability::SysPtrace)),
            perf_system: monitor || (perf && paranoid <= 0),
            bpf: perf_kernel && host.probes.bpf_program.unwrap_or(bpf_rule),
            kernel_symbols: kernel_symbols(host, paranoid),
        }
    }
}

/// A capability held in a child user namespace opens no door of the kernel's.
fn holds(host: &Host, capability: Capability) -> bool {
    host.initial_user_namespace != Some(false) && host.capabilities.has(capability)
}

/// CAP_PERFMON and CAP_BPF were split off CAP_SYS_ADMIN in Linux 5.8.
fn has_split_caps(host: &Host) -> bool {
    host.kernel_version >= (5, 8, 0)
}

/// Kernels of Debian and Ubuntu carry a patch by which 3 (4) refuses every event to all but CAP_SYS_ADMIN; on an
/// upstream kernel 3 means the same as 2.
fn is_restrictive_build(host: &Host) -> bool {
    let build = host.kernel_build.to_ascii_lowercase();
    build.contains("debian") || build.contains("ubuntu")
}

/// The kernel's `kallsyms_show_value`.
fn kernel_symbols(host: &Host, paranoid: i64) -> bool {
    if let Some(seen) = host.kernel_addresses {
        return seen;
    }
    match host.sysctls.kptr_restrict {
        Some(2) => false,
        Some(0) if paranoid <= 1 => true,
        _ => holds(host, Capability::Syslog),
    }
}

fn describe(host: &Host) -> String {
    format!(
        "{}: Linux {} {}, {} CPUs online, {} MiB memory, cgroup {}",
        if host.hostname.is_empty() {
            "(no host name)"
        } else {
            &host.hostname
        },
        if host.kernel_release.is_empty() {
            "(unknown)"
        } else {
            &host.kernel_release
        },
        host.arch,
        host.online_cpus.len(),
        host.memory_bytes >> 20,
        host.cgroup_mode.name(),
    )
}

#[cfg(test)]
mod tests;
