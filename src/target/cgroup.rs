//! The cgroup of a process: where its directories are, on cgroup v1, v2 and both at once (hybrid).
//!
//! In: a PID. Out: a [`Cgroup`], one [`Place`] per controller that perfprof reads; `read` in this module gets the
//! figures. It changes nothing.
//!
//! How a path is found: `/proc/PID/cgroup` names the cgroup relative to the reader's cgroup namespace, a mount shows
//! the part of the hierarchy below its root (relative to the same namespace), so the directory is
//! `mount point + (cgroup path − mount root)`. A sidecar does not have its neighbour's cgroup among its own mounts, but
//! the neighbour itself has, and that is reached through `/proc/PID/root`.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::mountinfo::{self, Mount};
use super::small_file::read_text;

mod read;
mod weight;

pub use read::{
    CpuLimit, CpuStat, Memory, MemoryLimit, parse_cpu_max, parse_cpu_stat, parse_psi_full_us,
    parse_psi_some_us,
};

/// Deeper or wider trees are those of a whole node; their processes are not looked for one by one.
const MAX_DIRECTORIES: usize = 4096;

/// Which hierarchies a machine has mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No cgroup file system is visible.
    #[default]
    None,
    V1,
    V2,
    /// Controllers on v1, and a v2 hierarchy beside them.
    Hybrid,
}

impl Mode {
    pub fn of(mounts: &[Mount]) -> Mode {
        let v1 = mounts.iter().any(|m| m.fs_type == "cgroup");
        let v2 = mounts.iter().any(|m| m.fs_type == "cgroup2");
        match (v1, v2) {
            (false, false) => Mode::None,
            (true, false) => Mode::V1,
            (false, true) => Mode::V2,
            (true, true) => Mode::Hybrid,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Mode::None => "none",
            Mode::V1 => "v1",
            Mode::V2 => "v2",
            Mode::Hybrid => "hybrid (v1 and v2)",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// One line of `/proc/PID/cgroup`: `4:cpu,cpuacct:/docker/abc`, or `0::/x` for v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Empty for v2.
    pub controllers: Vec<String>,
    /// Relative to the reader's cgroup namespace; `/../x` is outside of it.
    pub path: String,
}

/// A cgroup in one hierarchy, as directories of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub version: Version,
    /// As in `/proc/PID/cgroup`.
    pub path: String,
    pub dir: PathBuf,
    /// The highest directory that can be seen: parents up to here are searched for limits.
    pub top: PathBuf,
}

impl Place {
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether this is the root of the hierarchy, which all processes share. A container's namespace calls its own
    /// cgroup `/`, too; the kernel puts these files only into (v1) and only outside of (v2) the real root.
    pub fn is_root(&self) -> bool {
        is_root_dir(self.version, &self.dir)
    }

    /// Whether parents exist that cannot be seen from here, and with them perhaps a tighter limit.
    pub fn hides_parents(&self) -> bool {
        !is_root_dir(self.version, &self.top)
    }

    /// The directory and its visible parents, innermost first.
    pub fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.dir
            .ancestors()
            .take_while(|dir| dir.starts_with(&self.top))
    }
}

fn is_root_dir(version: Version, dir: &Path) -> bool {
    match version {
        Version::V1 => dir.join("cgroup.sane_behavior").exists(),
        Version::V2 => !dir.join("cgroup.type").exists(),
    }
}

/// Where a process is accounted and limited. A controller that is not mounted, or whose directory cannot be reached,
/// is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Quota, weight and throttling.
    pub cpu: Option<Place>,
    /// CPU time used: v1 `cpuacct`, or the v2 directory.
    pub cpuacct: Option<Place>,
    pub memory: Option<Place>,
    /// The v2 directory, with pressure files, also on hybrid machines.
    pub unified: Option<Place>,
}

impl Cgroup {
    /// Finds the cgroup of a process.
    ///
    /// # Errors
    /// When `/proc/PID/cgroup` cannot be read: the process is gone or hidden.
    pub fn of(pid: u32) -> io::Result<Cgroup> {
        Cgroup::seen_below(Path::new("/"), pid, is_cgroup_directory)
    }

    /// The same in a recorded tree: `root` holds `proc` and `sys` as they were.
    pub fn recorded(root: &Path, pid: u32) -> io::Result<Cgroup> {
        Cgroup::seen_below(root, pid, |place| place.dir.is_dir())
    }

    fn seen_below(root: &Path, pid: u32, is_real: fn(&Place) -> bool) -> io::Result<Cgroup> {
        let proc_dir = root.join(format!("proc/{pid}"));
        let memberships = parse_memberships(&read_text(&proc_dir.join("cgroup"))?);
        let own = mounts_in(&root.join("proc/self/mountinfo"));
        let theirs = mounts_in(&proc_dir.join("mountinfo"));
        let their_root = proc_dir.join("root");
        Ok(Cgroup::by(|controller| {
            locate(&memberships, &own, root, controller)
                .filter(is_real)
                .or_else(|| locate(&memberships, &theirs, &their_root, controller).filter(is_real))
        }))
    }

    /// The cgroup of this path in every hierarchy: as in `/proc/PID/cgroup`, or a directory of a mounted hierarchy.
    /// `None` where there is none.
    pub fn at(path: &Path) -> Option<Cgroup> {
        let mounts = own_mounts();
        let path = path_in_hierarchy(path, &mounts)?;
        let joined = |controllers: &str| parse_memberships(&format!("0:{controllers}:{path}"));
        let cgroup = Cgroup::by(|controller| {
            let memberships = joined(controller.unwrap_or(""));
            locate(&memberships, &mounts, Path::new("/"), controller).filter(is_cgroup_directory)
        });
        cgroup.cpuacct.is_some().then_some(cgroup)
    }

    /// PIDs in the cgroup and all below it, as this PID namespace numbers them.
    pub fn pids(&self) -> Vec<u32> {
        let place = self.cpuacct.as_ref();
        let mut pids = place.map_or_else(Vec::new, |place| pids_below(&place.dir));
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn by(find: impl Fn(Option<&str>) -> Option<Place>) -> Cgroup {
        let unified = find(None);
        let cpuacct = find(Some("cpuacct"));
        Cgroup {
            cpu: find(Some("cpu")).or_else(|| unified.clone()),
            memory: find(Some("memory")).or_else(|| unified.clone()),
            cpuacct: own_or_unified(cpuacct, &unified),
            unified,
        }
    }

    /// Whether the process is accounted apart from the rest of the machine.
    pub fn is_own(&self) -> bool {
        self.cpuacct.as_ref().is_some_and(|place| !place.is_root())
    }

    /// The path by which CPU time is accounted, `/` when none was found.
    pub fn path(&self) -> &str {
        self.cpuacct.as_ref().map_or("/", |place| &place.path)
    }
}

/// PIDs in the cgroup of a directory and all below it, in no order.
pub fn pids_below(dir: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        seen += 1;
        let text = read_text(&dir.join("cgroup.procs")).unwrap_or_default();
        // A process of another namespace is shown as 0.
        pids.extend(
            text.lines()
                .filter_map(|line| line.parse::<u32>().ok())
                .filter(|pid| *pid > 0),
        );
        if seen < MAX_DIRECTORIES {
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            let is_dir = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|kind| kind.is_dir());
            dirs.extend(entries.filter(is_dir).map(|e| e.path()));
        }
    }
    pids
}

/// The directories that a path names: itself where it lies in a mounted hierarchy, else, as in `/proc/PID/cgroup`, one
/// in each hierarchy (of cgroup v1 of any controller) that has it. Empty where there is none (yet).
pub fn directories(path: &Path, mounts: &[Mount]) -> Vec<PathBuf> {
    // `/sys/fs/cgroup/cpu` is often a link to `cpu,cpuacct`.
    let real = std::fs::canonicalize(path).ok();
    let real = real.filter(|real| path.is_absolute() && is_in_cgroup_fs(real));
    let path = real.as_deref().unwrap_or(path);
    let Some(plain) = path_in_hierarchy(path, mounts) else {
        return Vec::new();
    };
    let hierarchies = mounts
        .iter()
        .filter(|mount| mount.fs_type.starts_with("cgroup"));
    let within = |mount: &&Mount| path.starts_with(&mount.point);
    let own = hierarchies
        .clone()
        .filter(within)
        .max_by_key(|mount| mount.point.len());
    let mut dirs: Vec<PathBuf> = match own {
        Some(_) => vec![path.to_owned()],
        None => hierarchies
            .filter_map(|mount| {
                Some(Path::new(&mount.point).join(path_below(&plain, &mount.root)?))
            })
            .collect(),
    };
    dirs.sort_unstable();
    dirs.dedup();
    dirs.retain(|dir| is_in_cgroup_fs(dir));
    dirs
}

fn is_in_cgroup_fs(dir: &Path) -> bool {
    use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
    let kinds = [CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC];
    statfs(dir).is_ok_and(|stat| kinds.contains(&stat.filesystem_type()))
}

/// The mounts that this process sees.
pub fn own_mounts() -> Vec<Mount> {
    mounts_in(Path::new("/proc/self/mountinfo"))
}

fn mounts_in(mountinfo: &Path) -> Vec<Mount> {
    mountinfo::parse(&read_text(mountinfo).unwrap_or_default())
}

/// The path as in `/proc/PID/cgroup`. A directory below a mount of a hierarchy has that mount's place taken off.
fn path_in_hierarchy(path: &Path, mounts: &[Mount]) -> Option<String> {
    let cgroups = mounts
        .iter()
        .filter(|mount| mount.fs_type.starts_with("cgroup"));
    let mounted = cgroups
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.len());
    let plain = match mounted {
        Some(mount) => Path::new(&mount.root).join(path.strip_prefix(&mount.point).ok()?),
        None => path.to_owned(),
    };
    let climbs = plain
        .components()
        .any(|c| matches!(c, Component::ParentDir | Component::CurDir));
    let text = plain.to_str()?.trim_end_matches('/');
    match text {
        _ if climbs || !plain.is_absolute() || text.contains('\n') => None,
        "" => Some("/".to_owned()),
        text => Some(text.to_owned()),
    }
}

/// On a hybrid machine a process may be apart in v2 only; its `cpu.stat` counts CPU time without any controller.
fn own_or_unified(cpuacct: Option<Place>, unified: &Option<Place>) -> Option<Place> {
    match cpuacct {
        Some(place) if !place.is_root() => Some(place),
        v1 => match unified {
            Some(v2) if !v2.is_root() && v2.file("cpu.stat").exists() => Some(v2.clone()),
            Some(v2) => v1.or_else(|| Some(v2.clone())),
            None => v1,
        },
    }
}

/// Lines of `/proc/PID/cgroup`; the path is everything after the second colon.
pub fn parse_memberships(text: &str) -> Vec<Membership> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?.split(',').filter(|c| !c.is_empty());
            Some(Membership {
                controllers: controllers.map(str::to_owned).collect(),
                path: parts.next()?.to_owned(),
            })
        })
        .collect()
}

/// The directory of a controller's cgroup (`None`: of the v2 hierarchy), with mount points taken below `root`.
pub fn locate(
    memberships: &[Membership],
    mounts: &[Mount],
    root: &Path,
    controller: Option<&str>,
) -> Option<Place> {
    let (version, fs_type) = match controller {
        Some(_) => (Version::V1, "cgroup"),
        None => (Version::V2, "cgroup2"),
    };
    let membership = memberships.iter().find(|m| match controller {
        Some(name) => m.controllers.iter().any(|c| c == name),
        None => m.controllers.is_empty(),
    })?;
    let candidates = mounts.iter().filter(|mount| {
        mount.fs_type == fs_type && controller.is_none_or(|name| mount.has_option(name))
    });
    // The last mount that shows the cgroup wins: it covers earlier ones at the same point.
    candidates
        .filter_map(|mount| {
            let below = path_below(&membership.path, &mount.root)?;
            let top = root.join(mount.point.trim_start_matches('/'));
            Some(Place {
                version,
                path: membership.path.clone(),
                dir: top.join(below),
                top,
            })
        })
        .next_back()
}

/// `path` relative to `root`, when it is below it and does not climb.
fn path_below(path: &str, root: &str) -> Option<PathBuf> {
    let below = Path::new(path).strip_prefix(root).ok()?;
    let plain = below
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    plain.then(|| below.to_owned())
}

/// A directory that really is in a cgroup file system: names below `/proc/PID/root` are the target's choice.
fn is_cgroup_directory(place: &Place) -> bool {
    use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
    let Ok(stat) = statfs(&place.dir) else {
        return false;
    };
    match place.version {
        Version::V1 => stat.filesystem_type() == CGROUP_SUPER_MAGIC,
        Version::V2 => stat.filesystem_type() == CGROUP2_SUPER_MAGIC,
    }
}

#[cfg(test)]
mod tests;
