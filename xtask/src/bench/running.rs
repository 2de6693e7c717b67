//! A recorder under way, watched from outside: whether it records, and what it has used when it is over. What it says of
//! itself is not asked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

/// How often a running recorder is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Only bounds a failure.
const DEADLINE: Duration = Duration::from_secs(100);

/// Killed when dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    name: String,
    log: PathBuf,
}

/// What a recorder used, all its processes and threads together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// User and system time.
    pub(super) cpu_seconds: f64,
    /// The largest resident sizes (`VmHWM`) of the processes that lived at one time, added up.
    pub(super) rss_bytes: u64,
    /// When the order to stop was given.
    pub(super) stopped: Instant,
}

impl Running {
    /// What it prints goes to the file `log`.
    pub(super) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Running> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::create(log).context("failed to create a log")?;
        let errors = output.try_clone().context("failed to share a log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("failed to run `{name}`"))?;
        Ok(Running {
            child,
            name,
            log: log.to_path_buf(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it holds a perf event, which is soon before it records.
    pub(super) fn wait_until_armed(&mut self) -> anyhow::Result<()> {
        let pid = self.pid();
        self.wait_until("opens perf events", POLL, || holds_perf_event(pid))
    }

    /// Waits until `done` says so; an error when the recorder ends before.
    pub(super) fn wait_until(
        &mut self,
        what: &str,
        poll: Duration,
        mut done: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !done() {
            if let Some(status) = self.child.try_wait()? {
                let (name, log) = (&self.name, self.log());
                bail!("`{name}` ended with {status} before it {what}: {log}");
            }
            let (name, waited) = (&self.name, begin.elapsed());
            ensure!(waited < DEADLINE, "`{name}` never {what}");
            thread::sleep(poll);
        }
        Ok(())
    }

    /// Sends the order to stop and waits.
    pub(super) fn stop(mut self) -> anyhow::Result<Ended> {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGINT)
            .context("failed to stop the recorder")?;
        self.wait()
    }

    /// Waits for what ends by itself.
    pub(super) fn end(mut self) -> anyhow::Result<Ended> {
        self.wait()
    }

    /// Waits for its end.
    fn wait(&mut self) -> anyhow::Result<Ended> {
        let (pid, stopped) = (self.pid(), Instant::now());
        let before = children_cpu_seconds()?;
        let mut peak = 0;
        let status = loop {
            peak = peak.max(peak_rss_of_all(pid));
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(stopped.elapsed() < DEADLINE, "`{}` does not end", self.name);
            thread::sleep(POLL);
        };
        Ok(Ended {
            status,
            // Nobody else's child was waited for in between.
            cpu_seconds: children_cpu_seconds()? - before,
            rss_bytes: peak,
            stopped,
        })
    }

    /// The end of what it printed, in one line.
    pub(super) fn log(&self) -> String {
        last_words(&self.log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a log, in one line.
pub(super) fn last_words(log: &Path) -> String {
    end_of(&fs::read(log).unwrap_or_default())
}

/// The end of what a program printed, at most 300 characters, in one line.
pub(super) fn end_of(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output).trim().replace('\n', " ");
    let skipped = text.chars().count().saturating_sub(300);
    text.chars().skip(skipped).collect()
}

fn holds_perf_event(pid: u32) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let mut links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.any(|link| link.to_string_lossy().contains("[perf_event]"))
}

/// Of a process and of those it has started and that live now, added up: what they share counts for each.
pub(super) fn peak_rss_of_all(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: String = children.collect();
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    children.map(peak_rss_bytes).sum::<u64>() + peak_rss_bytes(pid)
}

/// `VmHWM` of `/proc/PID/status`; 0 once the process is gone.
fn peak_rss_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// CPU time of all children waited for so far, and of theirs.
pub(super) fn children_cpu_seconds() -> anyhow::Result<f64> {
    let usage =
        getrusage(UsageWho::RUSAGE_CHILDREN).context("failed to ask what children have used")?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

/// An empty folder for the next recording.
pub(super) fn clear(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).context("failed to clear the last measurement")?;
    }
    fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))
}

/// The sizes of the files in a folder and below whose name ends so, added up.
pub(super) fn size_of_tree(folder: &Path, name_end: &str) -> anyhow::Result<u64> {
    let mut folders = vec![folder.to_path_buf()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).context("failed to list what was written")? {
            let entry = entry.context("failed to list what was written")?;
            let about = entry
                .metadata()
                .context("failed to ask for a file's size")?;
            if about.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().ends_with(name_end) {
                bytes += about.len();
            }
        }
    }
    Ok(bytes)
}
