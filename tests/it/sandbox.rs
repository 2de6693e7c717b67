//! Child cgroups of this machine, and a busy process in some; taken away again at the end.
//!
//! In: a quota. Out: a cgroup to put a held process into, or a running burner, or why there cannot be one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/fs/cgroup";
const PERIOD_US: u32 = 100_000;

/// Memory is charged to the cgroup in which it is touched, so the shell takes its 4 MB after it has been moved.
const HELD_THEN_BUSY: &str =
    "read go; memory=$(head -c 4000000 /dev/zero | tr '\\0' x); while :; do :; done";
pub(crate) const TOUCHED_BYTES: u64 = 4_000_000;

/// Directories of one name below some hierarchies. Whoever is in it must have ended when it is dropped.
pub(crate) struct ChildCgroup {
    dirs: Vec<PathBuf>,
}

/// A shell that loops for ever, in cgroups of its own.
pub(crate) struct Burner {
    child: Child,
    cgroup: ChildCgroup,
}

impl ChildCgroup {
    /// With a CPU quota in percent of one CPU; on v1 or v2, whichever has the `cpu` controller.
    pub(crate) fn with_quota(quota_pct: u32) -> Result<ChildCgroup, String> {
        let quota_us = quota_pct * PERIOD_US / 100;
        if Path::new(ROOT).join("cpu/cpu.cfs_quota_us").exists()
            || Path::new(ROOT).join("cpu/cgroup.procs").exists()
        {
            let cgroup = ChildCgroup::below(&["cpu", "cpuacct", "memory"])?;
            cgroup.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            cgroup.write("cpu.cfs_quota_us", &quota_us.to_string())?;
            return Ok(cgroup);
        }
        let controllers = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
            .map_err(|e| format!("no cgroup v1 `cpu` and no v2: {e}"))?;
        if !controllers.split_whitespace().any(|c| c == "cpu") {
            return Err("no hierarchy has the `cpu` controller".to_owned());
        }
        fs::write(
            Path::new(ROOT).join("cgroup.subtree_control"),
            "+cpu +memory",
        )
        .map_err(|e| format!("controllers cannot be enabled: {e}"))?;
        let cgroup = ChildCgroup::below(&[""])?;
        cgroup.write("cpu.max", &format!("{quota_us} {PERIOD_US}"))?;
        Ok(cgroup)
    }

    /// Before all others on a busy machine: only its quota holds it back.
    pub(crate) fn preferred(self) -> Result<ChildCgroup, String> {
        // The most that each of the two takes.
        self.write("cpu.shares", "262144")
            .or_else(|_| self.write("cpu.weight", "10000"))?;
        Ok(self)
    }

    fn with_memory(self, bytes: u64) -> Result<ChildCgroup, String> {
        self.write("memory.limit_in_bytes", &bytes.to_string())
            .or_else(|_| self.write("memory.max", &bytes.to_string()))?;
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

    /// New directories below these hierarchies.
    fn below(hierarchies: &[&str]) -> Result<ChildCgroup, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("perfprof-test-{}-{number}", std::process::id());
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
        let until = Instant::now() + Duration::from_secs(5);
        for dir in &self.dirs {
            while fs::remove_dir(dir).is_err() && dir.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Burner {
    /// One busy process under a CPU quota in percent of one CPU and a memory limit; on v1 or v2, whichever has the
    /// `cpu` controller.
    pub(crate) fn with_limits(quota_pct: u32, memory_bytes: u64) -> Result<Burner, String> {
        Burner::within(ChildCgroup::with_quota(quota_pct)?.with_memory(memory_bytes)?)
    }

    /// One busy process in a v2 directory beside v1 controllers.
    pub(crate) fn in_hybrid_v2() -> Result<Burner, String> {
        if !Path::new(ROOT).join("unified/cgroup.procs").exists() {
            return Err("this machine is not hybrid".to_owned());
        }
        Burner::within(ChildCgroup::below(&["unified"])?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Path of the cgroup, as in `/proc/PID/cgroup`.
    pub(crate) fn path(&self) -> String {
        let name = self.cgroup.dirs[0].file_name().expect("a name");
        format!("/{}", name.to_string_lossy())
    }

    /// Whether the kernel keeps the most memory ever used: v1 always, v2 from 5.19.
    pub(crate) fn keeps_peak(&self) -> bool {
        let names = ["memory.max_usage_in_bytes", "memory.peak"];
        let dirs = self.cgroup.dirs.iter();
        let mut files = dirs.flat_map(|dir| names.map(|name| dir.join(name)));
        files.any(|file| file.exists())
    }

    /// The shell, moved before it takes its memory.
    fn within(cgroup: ChildCgroup) -> Result<Burner, String> {
        let child = Command::new("sh")
            .args(["-c", HELD_THEN_BUSY])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|e| format!("`sh` does not start: {e}"))?;
        let mut burner = Burner { child, cgroup };
        burner.cgroup.take_in(burner.pid())?;
        let mut stdin = burner.child.stdin.take().ok_or("no pipe")?;
        stdin.write_all(b"go\n").map_err(|e| e.to_string())?;
        Ok(burner)
    }
}

/// Before its cgroup is taken away.
impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
