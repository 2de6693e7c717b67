//! Whose figures are read: the service's own cgroup, its processes or the node; and the limits it runs under.
//!
//! In: PIDs. Out: a [`Scope`] with its files open, [`LimitFacts`], and gaps in words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::held;
use crate::profile::LimitFacts;
use crate::target::cgroup::{Cgroup, CpuStat, Memory, Place, Version, parse_cpu_stat};
use crate::target::host::{mem_total_bytes, parse_cpu_list};
use crate::target::small_file::{HeldFile, field, field_number, read_text};

/// What `service_cpu_ns` covers.
#[derive(Debug)]
pub(super) enum Scope {
    Cgroup(Box<CgroupFiles>),
    Processes,
    /// No PID was given: the whole machine.
    Node,
}

#[derive(Debug)]
pub(super) struct CgroupFiles {
    pub(super) cgroup: Cgroup,
    usage: HeldFile,
    /// `cpu.stat` of the directory that imposes the tightest quota.
    throttling: Option<HeldFile>,
    memory: Option<(HeldFile, Option<HeldFile>)>,
}

impl Scope {
    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Scope::Cgroup(files) => Some(&files.cgroup),
            Scope::Processes | Scope::Node => None,
        }
    }

    /// Peak and events of the service's own memory cgroup.
    pub(super) fn memory(&self) -> Option<Memory> {
        match self {
            Scope::Cgroup(files) => files.own_memory().map(Place::memory),
            Scope::Processes | Scope::Node => None,
        }
    }
}

impl CgroupFiles {
    /// The memory cgroup, unless it is the root, which has no figures of its own.
    pub(super) fn own_memory(&self) -> Option<&Place> {
        self.cgroup.memory.as_ref().filter(|place| !place.is_root())
    }

    pub(super) fn read_usage(&self, buffer: &mut [u8]) -> Option<u64> {
        let place = self.cgroup.cpuacct.as_ref()?;
        place.parse_cpu_usage_ns(self.usage.read(buffer)?)
    }

    /// Counters of the directory that imposes the quota; nothing known when they cannot be read.
    pub(super) fn read_throttling(&self, buffer: &mut [u8]) -> CpuStat {
        let text = self.throttling.as_ref().and_then(|f| f.read(buffer));
        text.map(parse_cpu_stat).unwrap_or_default()
    }

    /// Memory in use less the inactive page cache, which the kernel takes back before it kills: the "working set" that
    /// the kubelet acts on.
    pub(super) fn read_working_set(&self, buffer: &mut [u8]) -> Option<u64> {
        let (usage, stat) = self.memory.as_ref()?;
        let usage: u64 = usage.read(buffer)?.trim().parse().ok()?;
        let inactive = stat.as_ref().and_then(|file| {
            let text = file.read(buffer)?;
            field_number(text, "total_inactive_file").or(field_number(text, "inactive_file"))
        });
        Some(usage.saturating_sub(inactive.unwrap_or(0)))
    }
}

/// The cgroup that holds all PIDs: one they share, or one of theirs that is a parent of all others'.
pub(super) fn common_cgroup(pids: &[u32], gaps: &mut BTreeSet<String>) -> Option<Cgroup> {
    let mut found: Vec<Cgroup> = Vec::new();
    for pid in pids {
        match Cgroup::of(*pid) {
            Ok(cgroup) => found.push(cgroup),
            Err(error) => {
                gaps.insert(format!("the cgroup of PID {pid} cannot be read: {error}"));
            }
        }
    }
    found.sort_by_key(|cgroup| cgroup.path().len());
    let widest = found.first()?.clone();
    let holds_all = found
        .iter()
        .all(|c| Path::new(c.path()).starts_with(widest.path()));
    if !holds_all {
        gaps.insert("the processes are in different cgroups: their sum is taken".into());
        return None;
    }
    Some(widest)
}

/// The cgroup when it is the service's own. One that the profiler shares is taken only when it has a limit: else it is
/// rather a login session than a service.
pub(super) fn choose_scope(
    cgroup: Cgroup,
    limits: &LimitFacts,
    gaps: &mut BTreeSet<String>,
) -> Scope {
    if !cgroup.is_own() {
        gaps.insert("the service has no cgroup of its own: its processes are added up".into());
        return Scope::Processes;
    }
    let shared = Cgroup::of(std::process::id()).is_ok_and(|own| own.path() == cgroup.path());
    if shared {
        if limits.cpu_limit_cores.is_none() && limits.memory_limit_bytes.is_none() {
            gaps.insert(
                "the service shares its cgroup with perfprof: its processes are added up".into(),
            );
            return Scope::Processes;
        }
        gaps.insert("perfprof ran in the service's cgroup: its own use is in the figures".into());
    }
    own_scope(cgroup, gaps)
}

/// The cgroup, whoever else is in it.
pub(super) fn own_scope(cgroup: Cgroup, gaps: &mut BTreeSet<String>) -> Scope {
    match open_cgroup_files(cgroup, gaps) {
        Some(files) => Scope::Cgroup(Box::new(files)),
        None => Scope::Processes,
    }
}

fn open_cgroup_files(cgroup: Cgroup, gaps: &mut BTreeSet<String>) -> Option<CgroupFiles> {
    let usage = held(&cgroup.cpuacct.as_ref()?.cpu_usage_file(), gaps)?;
    let throttling = cgroup.cpu.as_ref().and_then(|place| {
        let dir = place
            .cpu_limit()
            .map_or_else(|| place.dir.clone(), |limit| limit.dir);
        HeldFile::open(&dir.join("cpu.stat")).ok()
    });
    let memory = cgroup
        .memory
        .as_ref()
        .filter(|place| !place.is_root())
        .and_then(|place| {
            let usage = held(&place.memory_usage_file(), gaps)?;
            Some((usage, HeldFile::open(&place.file("memory.stat")).ok()))
        });
    limits_of_parents(&cgroup, gaps);
    if memory.is_none() {
        gaps.insert("the service has no memory cgroup of its own".into());
    }
    Some(CgroupFiles {
        cgroup,
        usage,
        throttling,
        memory,
    })
}

/// A limit of a parent is shared by all below it, and only the service's own use is held against it.
fn limits_of_parents(cgroup: &Cgroup, gaps: &mut BTreeSet<String>) {
    let mut say = |what: &str, place: Option<&Place>, dir: Option<PathBuf>| {
        if let (Some(place), Some(dir)) = (place, dir)
            && dir != place.dir
        {
            let depth = place.upwards().take_while(|parent| *parent != dir).count();
            gaps.insert(format!(
                "the {what} is that of a cgroup {depth} above the service's own: what else is in there uses it, too"
            ));
        }
    };
    let cpu = cgroup.cpu.as_ref();
    let memory = cgroup.memory.as_ref();
    say(
        "CPU quota",
        cpu,
        cpu.and_then(Place::cpu_limit).map(|limit| limit.dir),
    );
    say(
        "memory limit",
        memory,
        memory.and_then(Place::memory_limit).map(|limit| limit.dir),
    );
}

/// Said where a container's cgroup namespace ends below the root; the capacity analysis knows it by this text.
pub const HIDDEN_PARENTS: &str =
    "limits set above the container's own cgroup cannot be seen from here";

pub(super) fn read_limits(
    cgroup: Option<&Cgroup>,
    pids: &[u32],
    gaps: &mut BTreeSet<String>,
) -> LimitFacts {
    let text = |path: &str| read_text(Path::new(path)).unwrap_or_default();
    let mut limits = LimitFacts {
        node_cpus: parse_cpu_list(&text("/sys/devices/system/cpu/online")).len() as u32,
        node_memory_bytes: mem_total_bytes(&text("/proc/meminfo")),
        allowed_cpus: allowed_cpus(pids),
        ..LimitFacts::default()
    };
    if let Some(cgroup) = cgroup {
        refresh_limits(&mut limits, cgroup);
        if cgroup
            .cpu
            .as_ref()
            .is_some_and(|place| place.hides_parents())
        {
            gaps.insert(HIDDEN_PARENTS.into());
        }
    }
    limits
}

pub(super) fn refresh_limits(limits: &mut LimitFacts, cgroup: &Cgroup) {
    limits.cgroup = cgroup.path().to_owned();
    limits.cgroup_version = cgroup
        .cpuacct
        .as_ref()
        .map_or(0, |place| match place.version {
            Version::V1 => 1,
            Version::V2 => 2,
        });
    if let Some(place) = &cgroup.cpu {
        let limit = place.cpu_limit();
        limits.cpu_limit_cores = limit.as_ref().map(|limit| limit.cores);
        limits.cpu_period_ns = limit.as_ref().map(|limit| limit.period_ns);
        limits.cpu_weight = place.cpu_weight();
        limits.cpu_shares = place.cpu_shares().filter(|_| !place.is_root());
        limits.cpu_guaranteed_share = place.cpu_guaranteed_share();
    }
    if let Some(place) = &cgroup.memory {
        limits.memory_limit_bytes = place.memory_limit().map(|limit| limit.bytes);
    }
}

/// CPUs that any of the processes may run on: cpuset and affinity together, as the kernel lists them.
fn allowed_cpus(pids: &[u32]) -> Option<u32> {
    let mut allowed = BTreeSet::new();
    for pid in pids {
        let status = read_text(Path::new(&format!("/proc/{pid}/status"))).unwrap_or_default();
        allowed.extend(parse_cpu_list(
            field(&status, "Cpus_allowed_list:").unwrap_or(""),
        ));
    }
    (!allowed.is_empty()).then_some(allowed.len() as u32)
}
