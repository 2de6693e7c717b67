//! Child cgroups of this machine with a busy process in them, taken away again at the end.
//!
//! In: a quota. Out: a running burner, or why there cannot be one.

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

/// A shell that loops for ever, in cgroups of its own.
pub(crate) struct Burner {
    child: Child,
    dirs: Vec<PathBuf>,
}

impl Burner {
    /// One busy process under a CPU quota in percent of one CPU and a memory limit; on v1 or v2, whichever has the
    /// `cpu` controller.
    pub(crate) fn with_limits(quota_pct: u32, memory_bytes: u64) -> Result<Burner, String> {
        let quota_us = quota_pct * PERIOD_US / 100;
        if Path::new(ROOT).join("cpu/cpu.cfs_quota_us").exists()
            || Path::new(ROOT).join("cpu/cgroup.procs").exists()
        {
            let mut burner = Burner::held(&["cpu", "cpuacct", "memory"])?;
            burner.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            burner.write("cpu.cfs_quota_us", &quota_us.to_string())?;
            burner.write("memory.limit_in_bytes", &memory_bytes.to_string())?;
            burner.go()?;
            return Ok(burner);
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
        let mut burner = Burner::held(&[""])?;
        burner.write("cpu.max", &format!("{quota_us} {PERIOD_US}"))?;
        burner.write("memory.max", &memory_bytes.to_string())?;
        burner.go()?;
        Ok(burner)
    }

    /// One busy process in a v2 directory beside v1 controllers.
    pub(crate) fn in_hybrid_v2() -> Result<Burner, String> {
        if !Path::new(ROOT).join("unified/cgroup.procs").exists() {
            return Err("this machine is not hybrid".to_owned());
        }
        let mut burner = Burner::held(&["unified"])?;
        burner.go()?;
        Ok(burner)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Path of the cgroup, as in `/proc/PID/cgroup`.
    pub(crate) fn path(&self) -> String {
        let name = self.dirs[0].file_name().expect("a name");
        format!("/{}", name.to_string_lossy())
    }

    /// Whether the kernel keeps the most memory ever used: v1 always, v2 from 5.19.
    pub(crate) fn keeps_peak(&self) -> bool {
        let names = ["memory.max_usage_in_bytes", "memory.peak"];
        let mut files = self
            .dirs
            .iter()
            .flat_map(|dir| names.map(|name| dir.join(name)));
        files.any(|file| file.exists())
    }

    /// The shell, already in new directories below these hierarchies, waiting for a line.
    fn held(hierarchies: &[&str]) -> Result<Burner, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("perfprof-test-{}-{number}", std::process::id());
        let child = Command::new("sh")
            .args(["-c", HELD_THEN_BUSY])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|e| format!("`sh` does not start: {e}"))?;
        let mut burner = Burner {
            child,
            dirs: Vec::new(),
        };
        for hierarchy in hierarchies {
            let dir = Path::new(ROOT).join(hierarchy).join(&name);
            let fail = |e| format!("`{}` cannot be used: {e}", dir.display());
            fs::create_dir(&dir).map_err(fail)?;
            burner.dirs.push(dir.clone());
            fs::write(dir.join("cgroup.procs"), burner.child.id().to_string()).map_err(fail)?;
        }
        Ok(burner)
    }

    fn write(&mut self, file: &str, value: &str) -> Result<(), String> {
        let dir = self.dirs.iter().find(|dir| dir.join(file).exists());
        let path = dir.ok_or_else(|| format!("no `{file}`"))?.join(file);
        fs::write(&path, value).map_err(|e| format!("`{}`: {e}", path.display()))
    }

    fn go(&mut self) -> Result<(), String> {
        let mut stdin = self.child.stdin.take().ok_or("no pipe")?;
        stdin.write_all(b"go\n").map_err(|e| e.to_string())
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let until = Instant::now() + Duration::from_secs(5);
        for dir in &self.dirs {
            while fs::remove_dir(dir).is_err() && dir.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
