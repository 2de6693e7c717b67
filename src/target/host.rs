//! What can be measured on this machine, and what stands in the way: CPUs, kernel, permissions, namespaces.
//!
//! In: the files of `/proc` and `/sys`. Out: a [`Host`], plain facts. A file that is missing or unreadable leaves its
//! field `None`; nothing here fails. It does not judge the facts (`doctor` does) and opens no event itself: whoever may
//! call the kernel fills in [`Probes`].

use std::path::{Path, PathBuf};

use super::capabilities::CapSet;
use super::cgroup::Mode;
use super::mountinfo::{self, Mount};
use super::small_file::{field, read_number, read_text};

/// More CPUs than any kernel is built for (`NR_CPUS` is at most 8192): a longer list is a broken file.
const MAX_CPUS: usize = 8192;

/// Inode of the first PID namespace: `PROC_PID_INIT_INO` in the kernel's `proc_ns.h`.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
/// Inode of the first user namespace: `PROC_USER_INIT_INO`.
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// Names of the PMUs that count CPU cycles: x86, x86 hybrid, and arm (`armv8_pmuv3_0`, `armv9_…`).
const CPU_PMUS: [&str; 4] = ["cpu", "cpu_core", "armv8", "armv9"];

/// The settings under `/proc/sys/kernel` that decide what may be sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sysctls {
    pub perf_event_paranoid: Option<i64>,
    pub kptr_restrict: Option<i64>,
    pub unprivileged_bpf_disabled: Option<i64>,
    pub perf_event_mlock_kb: Option<i64>,
    pub perf_event_max_sample_rate: Option<i64>,
    pub perf_event_max_stack: Option<i64>,
    pub perf_cpu_time_max_percent: Option<i64>,
    pub bpf_stats_enabled: Option<i64>,
}

/// What the kernel answered when it was really asked; `None` where nobody asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// A hardware cycles event on this process could be opened.
    pub hardware_cycles: Option<bool>,
    /// A `cpu-clock` event on this process, user mode only, could be opened.
    pub software_event: Option<bool>,
    /// A small BPF program of type perf_event could be loaded.
    pub bpf_program: Option<bool>,
}

/// The facts about one machine, as seen by this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Numbers of the CPUs online, ascending.
    pub online_cpus: Vec<u32>,
    pub memory_bytes: u64,
    pub page_size_bytes: u64,
    /// As `uname -r`; and its first three numbers.
    pub kernel_release: String,
    pub kernel_version: (u32, u32, u32),
    /// First line of `/proc/version`: tells a distribution's kernel from an upstream one.
    pub kernel_build: String,
    pub arch: String,
    pub hostname: String,
    pub effective_uid: Option<u32>,
    pub capabilities: CapSet,
    pub sysctls: Sysctls,
    /// `/sys/kernel/btf/vmlinux` is there.
    pub btf: bool,
    /// PMUs able to count CPU cycles, by name; empty in most virtual machines.
    pub cpu_pmus: Vec<String>,
    pub kprobe_pmu: bool,
    pub uprobe_pmu: bool,
    /// Where tracefs is mounted.
    pub tracefs: Option<PathBuf>,
    /// `/proc/kallsyms` shows addresses other than zero.
    pub kernel_addresses: Option<bool>,
    pub cgroup_mode: Mode,
    /// This process lives in the machine's first PID (user) namespace; false in a container with its own.
    pub initial_pid_namespace: Option<bool>,
    pub initial_user_namespace: Option<bool>,
    /// PIDs of this process, outermost namespace first as far as `/proc` shows.
    pub ns_pids: Vec<u32>,
    /// Command name of PID 1 in this PID namespace.
    pub init_comm: Option<String>,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u8>,
    pub no_new_privs: Option<bool>,
    /// `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    pub probes: Probes,
}

/// Whether all processes of the machine are seen here; `None` where that cannot be told.
pub fn is_in_initial_pid_namespace() -> Option<bool> {
    is_namespace(Path::new("/proc/self/ns/pid"), INITIAL_PID_NAMESPACE)
}

impl Host {
    /// Looks at the running machine.
    pub fn inspect() -> Host {
        Host::inspect_at(Path::new("/"))
    }

    /// Looks at the `proc` and `sys` directories below `root`, which may be a copy from another machine.
    pub fn inspect_at(root: &Path) -> Host {
        let text = |path: &str| read_text(&root.join(path)).ok();
        let exists = |path: &str| root.join(path).exists();
        let status = text("proc/self/status").unwrap_or_default();
        let mounts = mountinfo::parse(&text("proc/self/mountinfo").unwrap_or_default());
        let release = text("proc/sys/kernel/osrelease").unwrap_or_default();
        Host {
            online_cpus: online_cpus(text("sys/devices/system/cpu/online").as_deref()),
            memory_bytes: mem_total_bytes(&text("proc/meminfo").unwrap_or_default()),
            page_size_bytes: page_size_bytes(),
            kernel_version: parse_version(&release),
            kernel_release: release,
            kernel_build: text("proc/version").unwrap_or_default(),
            arch: std::env::consts::ARCH.to_owned(),
            hostname: text("proc/sys/kernel/hostname").unwrap_or_default(),
            effective_uid: numbers(&status, "Uid:").get(1).copied(),
            capabilities: CapSet::parse(field(&status, "CapEff:").unwrap_or("")),
            sysctls: sysctls(&root.join("proc/sys/kernel")),
            btf: exists("sys/kernel/btf/vmlinux"),
            cpu_pmus: cpu_pmus(&root.join("sys/bus/event_source/devices")),
            kprobe_pmu: exists("sys/bus/event_source/devices/kprobe"),
            uprobe_pmu: exists("sys/bus/event_source/devices/uprobe"),
            tracefs: tracefs(&mounts),
            kernel_addresses: kernel_addresses(&root.join("proc/kallsyms")),
            cgroup_mode: Mode::of(&mounts),
            initial_pid_namespace: is_namespace(
                &root.join("proc/self/ns/pid"),
                INITIAL_PID_NAMESPACE,
            ),
            initial_user_namespace: is_namespace(
                &root.join("proc/self/ns/user"),
                INITIAL_USER_NAMESPACE,
            ),
            ns_pids: numbers(&status, "NSpid:"),
            init_comm: text("proc/1/comm"),
            seccomp: field(&status, "Seccomp:").and_then(|v| v.parse().ok()),
            no_new_privs: field(&status, "NoNewPrivs:").map(|v| v == "1"),
            lockdown: text("sys/kernel/security/lockdown").and_then(|t| parse_lockdown(&t)),
            probes: Probes::default(),
        }
    }
}

/// Numbers of a list such as `0-3,8,10-11`, ascending; a part that makes no sense is left out.
pub fn parse_cpu_list(text: &str) -> Vec<u32> {
    let mut cpus: Vec<u32> = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>())
        else {
            continue;
        };
        let room = MAX_CPUS.saturating_sub(cpus.len());
        cpus.extend((first..=last).take(room));
    }
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

/// `6.1.0-28-amd64` is (6, 1, 0); what is missing counts as 0.
pub fn parse_version(release: &str) -> (u32, u32, u32) {
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|p| p.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// `none [integrity] confidentiality` is `integrity`.
pub fn parse_lockdown(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

fn online_cpus(list: Option<&str>) -> Vec<u32> {
    let cpus = parse_cpu_list(list.unwrap_or(""));
    if !cpus.is_empty() {
        return cpus;
    }
    let count = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    (0..count).collect()
}

/// `MemTotal` of `/proc/meminfo`; 0 when it is not there.
pub fn mem_total_bytes(meminfo: &str) -> u64 {
    let kib = field(meminfo, "MemTotal:").and_then(|v| v.split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Size of a page of memory.
pub fn page_size_bytes() -> u64 {
    use nix::unistd::{SysconfVar, sysconf};
    match sysconf(SysconfVar::PAGE_SIZE) {
        Ok(Some(bytes)) if bytes > 0 => bytes as u64,
        _ => 4096,
    }
}

fn numbers(status: &str, key: &str) -> Vec<u32> {
    let values = field(status, key).unwrap_or("");
    values
        .split_whitespace()
        .filter_map(|v| v.parse().ok())
        .collect()
}

fn sysctls(dir: &Path) -> Sysctls {
    let value = |name: &str| read_number(&dir.join(name));
    Sysctls {
        perf_event_paranoid: value("perf_event_paranoid"),
        kptr_restrict: value("kptr_restrict"),
        unprivileged_bpf_disabled: value("unprivileged_bpf_disabled"),
        perf_event_mlock_kb: value("perf_event_mlock_kb"),
        perf_event_max_sample_rate: value("perf_event_max_sample_rate"),
        perf_event_max_stack: value("perf_event_max_stack"),
        perf_cpu_time_max_percent: value("perf_cpu_time_max_percent"),
        bpf_stats_enabled: value("bpf_stats_enabled"),
    }
}

fn cpu_pmus(devices: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(devices) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| CPU_PMUS.contains(&name.split("_pmu").next().unwrap_or(name)))
        .take(MAX_CPUS)
        .collect();
    names.sort_unstable();
    names
}

fn tracefs(mounts: &[Mount]) -> Option<PathBuf> {
    let mount = mounts.iter().find(|m| m.fs_type == "tracefs")?;
    Some(PathBuf::from(&mount.point))
}

fn is_namespace(link: &Path, expected: &str) -> Option<bool> {
    let target = std::fs::read_link(link).ok()?;
    Some(target.as_os_str() == expected)
}

/// Whether any of the first symbols has an address. The kernel shows zeros to those who may not know them; on x86
/// the per-CPU symbols at the head of the file are zero or small for everyone, hence more than a line.
fn kernel_addresses(kallsyms: &Path) -> Option<bool> {
    use std::io::Read;
    const ENOUGH_BYTES: u64 = 256 << 10;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(kallsyms).ok()?;
    file.take(ENOUGH_BYTES).read_to_end(&mut bytes).ok()?;
    Some(any_address(&String::from_utf8_lossy(&bytes)))
}

fn any_address(kallsyms: &str) -> bool {
    kallsyms.lines().any(|line| {
        let digits = line.split(' ').next().unwrap_or("");
        u64::from_str_radix(digits, 16).is_ok_and(|address| address != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::super::capabilities::Capability;
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        }
        dir
    }

    #[test]
    fn a_debian_node_without_btf() {
        let root = machine(&[
            ("proc/sys/kernel/osrelease", "6.1.0-28-amd64\n"),
            ("proc/sys/kernel/perf_event_paranoid", "3\n"),
            ("proc/sys/kernel/kptr_restrict", "0\n"),
            (
                "proc/version",
                "Linux version 6.1.0-28-amd64 (debian-kernel@lists.debian.org)",
            ),
            ("sys/devices/system/cpu/online", "0-2,5\n"),
            (
                "proc/meminfo",
                "MemTotal:       24684084 kB\nMemFree: 1 kB\n",
            ),
            (
                "proc/kallsyms",
                "0000000000000000 A a\n0000000000000000 t b\n",
            ),
            (
                "proc/self/status",
                "Uid:\t1000\t1001\t1000\t1000\nNSpid:\t77\t1\nCapEff:\t000000c000000000\nSeccomp:\t2\nNoNewPrivs:\t1\n",
            ),
            (
                "proc/self/mountinfo",
                "35 24 0:29 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n36 24 0:12 / /sys/kernel/tracing rw - tracefs tracefs rw\n",
            ),
            (
                "sys/kernel/security/lockdown",
                "none [integrity] confidentiality\n",
            ),
            ("sys/bus/event_source/devices/uprobe/type", "7"),
            ("sys/bus/event_source/devices/cpu_core/type", "4"),
            ("sys/bus/event_source/devices/armv8_pmuv3_0/type", "8"),
            ("sys/bus/event_source/devices/cpum_cf/type", "9"),
            ("proc/1/comm", "pause\n"),
        ]);
        let host = Host::inspect_at(root.path());
        assert_eq!(host.online_cpus, [0, 1, 2, 5]);
        assert_eq!(host.memory_bytes, 24_684_084 * 1024);
        assert_eq!(host.kernel_version, (6, 1, 0));
        assert_eq!(host.sysctls.perf_event_paranoid, Some(3));
        assert_eq!(host.sysctls.bpf_stats_enabled, None);
        assert_eq!(host.effective_uid, Some(1001));
        assert!(host.capabilities.has(Capability::Bpf));
        assert!(!host.capabilities.has(Capability::SysPtrace));
        assert!(!host.btf && host.uprobe_pmu && !host.kprobe_pmu);
        assert_eq!(host.cpu_pmus, ["armv8_pmuv3_0", "cpu_core"]);
        assert_eq!(host.tracefs, Some(PathBuf::from("/sys/kernel/tracing")));
        assert_eq!(host.cgroup_mode, Mode::V2);
        assert_eq!(host.kernel_addresses, Some(false));
        assert_eq!(host.ns_pids, [77, 1]);
        assert_eq!(host.seccomp, Some(2));
        assert_eq!(host.no_new_privs, Some(true));
        assert_eq!(host.lockdown.as_deref(), Some("integrity"));
        assert_eq!(host.init_comm.as_deref(), Some("pause"));
    }

    #[test]
    fn an_empty_machine_gives_defaults_instead_of_a_panic() {
        let root = tempfile::tempdir().expect("temporary directory");
        let host = Host::inspect_at(root.path());
        assert!(
            !host.online_cpus.is_empty(),
            "falls back to what the scheduler allows"
        );
        assert_eq!(host.kernel_version, (0, 0, 0));
        assert_eq!(host.capabilities, CapSet::default());
        assert_eq!(host.kernel_addresses, None);
        assert_eq!(host.initial_pid_namespace, None);
    }

    #[test]
    fn this_machine_agrees_with_the_scheduler() {
        let host = Host::inspect();
        let allowed = std::thread::available_parallelism().expect("CPUs").get();
        assert!(host.online_cpus.len() >= allowed);
        assert_eq!(host.ns_pids.last(), Some(&std::process::id()));
        assert!(host.kernel_version.0 >= 4 && !host.kernel_release.is_empty());
        assert!(host.memory_bytes > 64 << 20);
    }

    #[test]
    fn cpu_lists_are_bounded() {
        assert_eq!(parse_cpu_list("0-1\n"), [0, 1]);
        assert_eq!(parse_cpu_list("3,1,x,2-1,"), [1, 3]);
        assert_eq!(parse_cpu_list("0-4294967295").len(), MAX_CPUS);
        assert_eq!(parse_cpu_list(""), [] as [u32; 0]);
    }

    #[test]
    fn versions_and_lockdown() {
        assert_eq!(parse_version("6.18.44-fc-v669"), (6, 18, 44));
        assert_eq!(parse_version("5.10"), (5, 10, 0));
        assert_eq!(parse_version("99999999999.1"), (0, 1, 0));
        assert_eq!(
            parse_lockdown("[none] integrity confidentiality").as_deref(),
            Some("none")
        );
        assert_eq!(parse_lockdown("none"), None);
    }
}
