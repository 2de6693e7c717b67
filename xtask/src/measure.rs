//! One recording of the steady workload, measured from outside: what the target paid per unit of work, and what the
//! recorder used. The recorder's own figures are not asked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

use crate::target_dir;
use crate::workload::Workload;

/// Samples a second and thread: enough for a cost that can be told from noise.
const HZ: &str = "997";

/// Between the two readings of the target's books.
const WINDOW: Duration = Duration::from_secs(4);

/// How often a running recorder is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Only bounds a failure.
const DEADLINE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorder {
    Perfprof,
    /// `perf record --call-graph dwarf`, then `perf script`: the tool nearest to ours, to readable stacks.
    Perf,
}

/// What a recorder used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) samples: u64,
    /// User and system time of all its processes.
    pub(crate) cpu_seconds: f64,
    /// The largest resident size seen (`VmHWM`) in its recording process.
    pub(crate) rss_bytes: u64,
    /// From the order to stop until readable stacks lie on the disk.
    pub(crate) finish_seconds: f64,
    /// What it has written by the end of the recording; for perf the data file, not the text made from it.
    pub(crate) written_bytes: u64,
}

/// CPU nanoseconds per unit of the target's work while nobody looks.
pub(crate) fn alone(workload: &mut Workload) -> anyhow::Result<f64> {
    ns_per_unit(workload)
}

/// CPU nanoseconds per unit of the target's work under a recorder, and the recorder's cost.
pub(crate) fn under(recorder: Recorder, workload: &mut Workload) -> anyhow::Result<(f64, Cost)> {
    let folder = target_dir().join("bench");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("failed to clear the last measurement")?;
    }
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create `{}`", folder.display()))?;
    let cpu_before = children_cpu_seconds()?;
    let mut running = Running::start(recorder, workload.pid(), &folder)?;
    running.wait_until_armed()?;
    let ns_per_unit = ns_per_unit(workload)?;
    let (rss_bytes, stopped) = running.stop()?;
    let written_bytes = size_of_tree(&folder)?;
    let samples = match recorder {
        Recorder::Perfprof => folded_samples(&folder)?,
        Recorder::Perf => unwind_by_perf(&folder)?,
    };
    let cost = Cost {
        samples,
        cpu_seconds: children_cpu_seconds()? - cpu_before,
        rss_bytes,
        finish_seconds: stopped.elapsed().as_secs_f64(),
        written_bytes,
    };
    ensure!(cost.samples > 0, "{recorder:?} took no samples");
    Ok((ns_per_unit, cost))
}

fn ns_per_unit(workload: &mut Workload) -> anyhow::Result<f64> {
    let before = workload.truth_so_far()?;
    thread::sleep(WINDOW);
    let after = workload.truth_so_far()?;
    let grown = |figure: &str| -> anyhow::Result<f64> {
        let read = |truth: &serde_json::Value| truth[figure].as_f64();
        let (Some(before), Some(after)) = (read(&before), read(&after)) else {
            bail!("the workload does not say its `{figure}`");
        };
        Ok(after - before)
    };
    let units = grown("units")?;
    ensure!(units > 0.0, "the workload did nothing");
    Ok(grown("cpu_ns")? / units)
}

/// A recorder under way; killed when dropped.
struct Running {
    child: Child,
}

impl Running {
    fn start(recorder: Recorder, pid: u32, folder: &Path) -> anyhow::Result<Running> {
        let pid = pid.to_string();
        let mut command = match recorder {
            Recorder::Perfprof => {
                let mut command = Command::new(target_dir().join("release/perfprof"));
                command.args(["record", "--quiet", "--pid", &pid, "-F", HZ, "--artifacts"]);
                command.arg(folder.join("artifacts"));
                command.arg("-o").arg(folder.join("out.folded"));
                command
            }
            Recorder::Perf => {
                let mut command = Command::new("perf");
                command.args(["record", "-q", "-e", "cpu-clock", "-F", HZ, "-p", &pid]);
                command
                    .args(["--call-graph", "dwarf", "-o"])
                    .arg(folder.join("perf.data"));
                command
            }
        };
        let log = File::create(folder.join("log")).context("failed to create a log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to run {recorder:?}"))?;
        Ok(Running { child })
    }

    fn wait_until_armed(&mut self) -> anyhow::Result<()> {
        let fds = format!("/proc/{}/fd", self.child.id());
        let begin = Instant::now();
        while !holds_perf_event(&fds) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the recorder ended with {status} before it recorded; see target/bench/log");
            }
            ensure!(
                begin.elapsed() < DEADLINE,
                "the recorder opens no perf events"
            );
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Sends the order to stop and waits; the peak of its memory, and when the order was given.
    fn stop(mut self) -> anyhow::Result<(u64, Instant)> {
        let pid = self.child.id();
        let stopped = Instant::now();
        kill(Pid::from_raw(pid as i32), Signal::SIGINT).context("failed to stop the recorder")?;
        let mut peak = 0;
        while self.child.try_wait()?.is_none() {
            peak = peak.max(peak_rss_bytes(pid));
            ensure!(stopped.elapsed() < DEADLINE, "the recorder does not end");
            thread::sleep(POLL);
        }
        Ok((peak, stopped))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn holds_perf_event(fds: &str) -> bool {
    let entries = fs::read_dir(fds).into_iter().flatten().flatten();
    let mut links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| link.to_string_lossy().contains("[perf_event]"))
}

/// `VmHWM` of `/proc/PID/status`; 0 once the process is gone.
fn peak_rss_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// CPU time of all children waited for so far. The workload is one only after the last measurement.
fn children_cpu_seconds() -> anyhow::Result<f64> {
    let usage =
        getrusage(UsageWho::RUSAGE_CHILDREN).context("failed to ask what children have used")?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

fn folded_samples(folder: &Path) -> anyhow::Result<u64> {
    let path = folder.join("out.folded");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("`{}` was not written; see target/bench/log", path.display()))?;
    let counts = text
        .lines()
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    Ok(counts.sum())
}

/// Makes stacks out of perf's copies; each sample begins with a line that is not indented.
fn unwind_by_perf(folder: &Path) -> anyhow::Result<u64> {
    let output = File::create(folder.join("perf.script")).context("failed to create a file")?;
    let status = Command::new("perf")
        .args(["script", "--no-inline", "-i"])
        .arg(folder.join("perf.data"))
        .stdout(output)
        .stderr(Stdio::null())
        .status()
        .context("failed to run `perf script`")?;
    ensure!(status.success(), "`perf script` ended with {status}");
    let text = fs::read(folder.join("perf.script")).context("failed to read what perf wrote")?;
    let heads = text
        .split(|byte| *byte == b'\n')
        .filter(|line| line.first().is_some_and(|byte| !byte.is_ascii_whitespace()));
    Ok(heads.count() as u64)
}

fn size_of_tree(folder: &Path) -> anyhow::Result<u64> {
    let mut folders: Vec<PathBuf> = vec![folder.to_path_buf()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).context("failed to list what was written")? {
            let entry = entry.context("failed to list what was written")?;
            let about = entry
                .metadata()
                .context("failed to ask for a file's size")?;
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += about.len();
            }
        }
    }
    Ok(bytes)
}
