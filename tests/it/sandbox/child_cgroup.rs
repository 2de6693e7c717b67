//! A cgroup with a quota for a process that is held until it is in there.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PERIOD_US, ROOT, hierarchies, new_name, remove};

/// Directories of one name below some hierarchies. Whoever is in it must have ended when it is dropped.
pub(crate) struct ChildCgroup {
    dirs: Vec<PathBuf>,
}

impl ChildCgroup {
    /// With a CPU quota in percent of one CPU; on v1 or v2, whichever has the `cpu` controller.
    pub(crate) fn with_quota(quota_pct: u32) -> Result<ChildCgroup, String> {
        let quota_us = quota_pct * PERIOD_US / 100;
        let cgroup = ChildCgroup::below(hierarchies()?)?;
        cgroup
            .write("cpu.max", &format!("{quota_us} {PERIOD_US}"))
            .or_else(|_| {
                cgroup.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                cgroup.write("cpu.cfs_quota_us", &quota_us.to_string())
            })?;
        Ok(cgroup)
    }

    /// Before all others on a busy machine: only its quota holds it back.
    pub(crate) fn preferred(self) -> Result<ChildCgroup, String> {
        // The most that each of the two takes.
        self.write("cpu.shares", "262144")
            .or_else(|_| self.write("cpu.weight", "10000"))?;
        Ok(self)
    }

    /// Moves a process with all its threads into it.
    pub(crate) fn take_in(&self, pid: u32) -> Result<(), String> {
        self.dirs.iter().try_for_each(|dir| {
            fs::write(dir.join("cgroup.procs"), pid.to_string())
                .map_err(|e| format!("`{}` cannot be used: {e}", dir.display()))
        })
    }

    /// How long its threads were kept from running so far, by the kernel: `throttled_time` (v1, ns) or
    /// `throttled_usec` (v2) of `cpu.stat`.
    pub(crate) fn throttled_seconds(&self) -> Option<f64> {
        let mut files = self.dirs.iter().map(|dir| dir.join("cpu.stat"));
        files.find_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
            pairs.find_map(|(name, value)| match name {
                "throttled_time" => Some(value.parse::<f64>().ok()? / 1e9),
                "throttled_usec" => Some(value.parse::<f64>().ok()? / 1e6),
                _ => None,
            })
        })
    }

    fn below(hierarchies: &[&str]) -> Result<ChildCgroup, String> {
        let name = new_name();
        let mut cgroup = ChildCgroup { dirs: Vec::new() };
        for hierarchy in hierarchies {
            let dir = Path::new(ROOT).join(hierarchy).join(&name);
            fs::create_dir(&dir).map_err(|e| format!("`{}` cannot be used: {e}", dir.display()))?;
            cgroup.dirs.push(dir);
        }
        Ok(cgroup)
    }

    fn write(&self, file: &str, value: &str) -> Result<(), String> {
        let dir = self.dirs.iter().find(|dir| dir.join(file).exists());
        let path = dir.ok_or_else(|| format!("no `{file}`"))?.join(file);
        fs::write(&path, value).map_err(|e| format!("`{}`: {e}", path.display()))
    }
}

impl Drop for ChildCgroup {
    fn drop(&mut self) {
        remove(&self.dirs);
    }
}
