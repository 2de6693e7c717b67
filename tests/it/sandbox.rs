//! Child cgroups of this machine with a busy process in them, taken away again at the end.
//!
//! In: a quota. Out: a running burner, or why there cannot be one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

mod child_cgroup;

pub(crate) use child_cgroup::ChildCgroup;

const ROOT: &str = "/sys/fs/cgroup";
const PERIOD_US: u32 = 100_000;

/// Memory is charged to the cgroup in which it is touched, so the shell takes its 4 MB after it has been moved. What
/// makes them for it has ended when it says `ready`: from then on the shell alone is in its cgroup.
const HELD_THEN_BUSY: &str =
    "read go; memory=$(head -c 4000000 /dev/zero | tr '\\0' x); echo ready; while :; do :; done";
pub(crate) const TOUCHED_BYTES: u64 = 4_000_000;

/// A process in cgroups of its own.
pub(crate) struct Burner {
    child: Child,
    path: String,
    /// Innermost first.
    dirs: Vec<PathBuf>,
}

impl Burner {
    /// One busy process under a CPU quota in percent of one CPU and a memory limit; on v1 or v2, whichever has the
    /// `cpu` controller.
    pub(crate) fn with_limits(quota_pct: u32, memory_bytes: u64) -> Result<Burner, String> {
        let mut burner = Burner::limited(&mut shell(), quota_pct, memory_bytes)?;
        burner.go()?;
        Ok(burner)
    }

    /// The same, and whatever else wants the CPU hardly gets it.
    pub(crate) fn favoured(quota_pct: u32, memory_bytes: u64) -> Result<Burner, String> {
        let mut burner = Burner::limited(&mut shell(), quota_pct, memory_bytes)?;
        burner
            .write("cpu.shares", "262144")
            .or_else(|_| burner.write("cpu.weight", "10000"))?;
        burner.go()?;
        Ok(burner)
    }

    /// A busy process whose parent has a quota, too.
    pub(crate) fn nested(parent_pct: u32, quota_pct: u32) -> Result<Burner, String> {
        let mut burner = Burner::held(&mut shell(), hierarchies()?, "/inner")?;
        burner.write_quota(quota_pct)?;
        let parents: Vec<PathBuf> = burner
            .dirs
            .iter()
            .filter_map(|d| d.parent())
            .map(Path::to_owned)
            .collect();
        let inner = std::mem::replace(&mut burner.dirs, parents);
        let written = burner.write_quota(parent_pct);
        let parents = std::mem::replace(&mut burner.dirs, inner);
        burner.dirs.extend(parents);
        written?;
        burner.go()?;
        Ok(burner)
    }

    /// A program that waits for a line and says `ready` when it has done what it is for.
    pub(crate) fn of_program(program: &mut Command, memory_bytes: u64) -> Result<Burner, String> {
        let mut burner = Burner::limited(program, 100, memory_bytes)?;
        burner.go()?;
        Ok(burner)
    }

    fn limited(command: &mut Command, quota_pct: u32, memory_bytes: u64) -> Result<Burner, String> {
        let mut burner = Burner::held(command, hierarchies()?, "")?;
        burner.write_quota(quota_pct)?;
        burner
            .write("memory.limit_in_bytes", &memory_bytes.to_string())
            .or_else(|_| burner.write("memory.max", &memory_bytes.to_string()))?;
        Ok(burner)
    }

    fn write_quota(&mut self, quota_pct: u32) -> Result<(), String> {
        let quota_us = quota_pct * PERIOD_US / 100;
        if self.dirs.iter().any(|dir| dir.join("cpu.max").exists()) {
            return self.write("cpu.max", &format!("{quota_us} {PERIOD_US}"));
        }
        self.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
        self.write("cpu.cfs_quota_us", &quota_us.to_string())
    }

    /// One busy process in a v2 directory beside v1 controllers.
    pub(crate) fn in_hybrid_v2() -> Result<Burner, String> {
        if !Path::new(ROOT).join("unified/cgroup.procs").exists() {
            return Err("this machine is not hybrid".to_owned());
        }
        let mut burner = Burner::held(&mut shell(), &["unified"], "")?;
        burner.go()?;
        Ok(burner)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Path of the cgroup, as in `/proc/PID/cgroup`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its directory, in the hierarchy that has the `cpu` controller.
    pub(crate) fn dir(&self) -> &Path {
        &self.dirs[0]
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

    /// The program, already in new directories below these hierarchies, waiting for a line. `below` is a further
    /// directory in each.
    fn held(command: &mut Command, hierarchies: &[&str], below: &str) -> Result<Burner, String> {
        let name = new_name();
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the program does not start: {e}"))?;
        let mut burner = Burner {
            child,
            path: format!("/{name}{below}"),
            dirs: Vec::new(),
        };
        for hierarchy in hierarchies {
            let outer = Path::new(ROOT).join(hierarchy).join(&name);
            let inner = outer.join(below.trim_start_matches('/'));
            let fail = |e| format!("`{}` cannot be used: {e}", inner.display());
            fs::create_dir_all(&outer).map_err(fail)?;
            burner.dirs.push(outer.clone());
            if !below.is_empty() {
                // v2 gives controllers on only where it is told to.
                let _ = fs::write(outer.join("cgroup.subtree_control"), "+cpu +memory");
                fs::create_dir(&inner).map_err(fail)?;
                let at = burner.dirs.len() - 1;
                burner.dirs[at].clone_from(&inner);
            }
            let procs = inner.join("cgroup.procs");
            fs::write(procs, burner.child.id().to_string()).map_err(fail)?;
        }
        Ok(burner)
    }

    fn write(&mut self, file: &str, value: &str) -> Result<(), String> {
        let dir = self.dirs.iter().find(|dir| dir.join(file).exists());
        let path = dir.ok_or_else(|| format!("no `{file}`"))?.join(file);
        fs::write(&path, value).map_err(|e| format!("`{}`: {e}", path.display()))
    }

    /// Lets the program begin, and waits until it is where it stays.
    fn go(&mut self) -> Result<(), String> {
        let mut stdin = self.child.stdin.take().ok_or("no pipe")?;
        stdin.write_all(b"go\n").map_err(|e| e.to_string())?;
        let stdout = self.child.stdout.take().ok_or("no pipe")?;
        let mut said = String::new();
        BufReader::new(stdout)
            .read_line(&mut said)
            .map_err(|e| e.to_string())?;
        match said.trim() {
            "ready" => Ok(()),
            other => Err(format!("the program said `{other}`")),
        }
    }
}

/// A shell that loops for ever once it is told to.
fn shell() -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", HELD_THEN_BUSY]);
    shell
}

/// Where cgroups are made to have CPU quotas and memory limits.
fn hierarchies() -> Result<&'static [&'static str], String> {
    if Path::new(ROOT).join("cpu/cgroup.procs").exists() {
        return Ok(&["cpu", "cpuacct", "memory"]);
    }
    let controllers = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
        .map_err(|e| format!("no cgroup v1 `cpu` and no v2: {e}"))?;
    if !controllers.split_whitespace().any(|c| c == "cpu") {
        return Err("no hierarchy has the `cpu` controller".to_owned());
    }
    let control = Path::new(ROOT).join("cgroup.subtree_control");
    fs::write(control, "+cpu +memory")
        .map_err(|e| format!("controllers cannot be enabled: {e}"))?;
    Ok(&[""])
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        remove(&self.dirs);
    }
}

/// A name that no other cgroup has.
fn new_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("perfprof-test-{}-{number}", std::process::id())
}

/// Takes directories away, innermost first, as soon as those who were in them are gone.
fn remove(dirs: &[PathBuf]) {
    let until = Instant::now() + Duration::from_secs(5);
    for dir in dirs {
        while fs::remove_dir(dir).is_err() && dir.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
