//! Disk space is bounded: the oldest windows give way, to the budget and to a full disk, and none is half written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{assert_whole, busy, folder};
use crate::support::agent::{Agent, AgentCommand, LIMIT};
use crate::support::need::skip;
use crate::support::proc::wait_until;
use crate::support::recording::exit;
use crate::support::{Need, missing};

/// Bytes on disk of a directory and all below it.
fn size_of(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size_of(&entry.path()),
        _ => entry.metadata().map_or(0, |meta| meta.blocks() * 512),
    });
    sizes.sum::<u64>() + fs::metadata(dir).map_or(0, |meta| meta.blocks() * 512)
}

#[test]
fn the_oldest_windows_give_way_to_the_budget() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name, "--disk-budget", "1Mi"])
        .start();
    let first = agent.wait_for_windows(1).remove(0);
    let dropped = "perfprof_windows_dropped_total{reason=\"budget\"}";
    let metrics = agent.wait_for_metric("windows are dropped", |m| m.value(dropped) >= 2.0);
    assert!(!first.exists());
    assert_eq!(
        metrics.value("perfprof_disk_budget_bytes"),
        f64::from(1 << 20)
    );
    assert!(metrics.value("perfprof_disk_used_bytes") <= f64::from(1 << 20));
    assert!(metrics.value("perfprof_disk_windows") >= 2.0);
    agent.end();
    let windows = agent.windows();
    windows.iter().for_each(|window| assert_whole(window));
    assert!(windows.iter().map(|window| size_of(window)).sum::<u64>() <= 1 << 20);
    // Whoever asks for less space next time gets it with the next window.
    assert!(windows.len() >= 2, "{windows:?}");
}

/// A file system of two megabytes; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: PathBuf) -> Result<SmallDisk, String> {
        fs::create_dir(&at).expect("a folder can be made");
        mount(&["-t", "tmpfs", "-o", "size=2m", "perfprof-test"], &at)?;
        Ok(SmallDisk(at))
    }

    /// Leaves no room at all.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("others");
        let _ = fs::write(&path, vec![1; 4 << 20]);
        path
    }

    fn read_only(&self, yes: bool) {
        let how = if yes { "remount,ro" } else { "remount,rw" };
        mount(&["-o", how], &self.0).expect("it can be mounted anew");
    }
}

fn mount(words: &[&str], at: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(words).arg(at).output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(said)
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_costs_windows_and_never_the_agent() {
    if missing(&[Need::Bpf, Need::Root, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let disk = match SmallDisk::new(folder.path().join("disk")) {
        Ok(disk) => disk,
        Err(reason) => return skip("mount", &reason),
    };
    let data = disk.0.join("data");
    let command = || {
        AgentCommand::new(folder.path())
            .data(&data)
            .args(["--comm", &name])
    };
    let mut agent = command().start();
    let first = agent.wait_for_windows(1).remove(0);
    // The disk is smaller than the budget.
    let full = "perfprof_windows_dropped_total{reason=\"disk-full\"}";
    agent.wait_for_metric("windows are dropped", |m| m.value(full) >= 2.0);
    assert!(!first.exists());
    all_are_whole(&agent);
    // Somebody else takes all there is.
    let others = disk.fill();
    let before = agent.metrics().value(full);
    agent.wait_for_metric("windows are lost", |m| m.value(full) >= before + 8.0);
    let _ = disk.fill();
    wait_until("health is bad", LIMIT, || {
        let _ = disk.fill();
        let health = agent.get("/healthz");
        health.status == 503 && health.text().contains("a window was dropped")
    });
    assert_eq!(agent.get("/readyz").status, 200);
    assert!(
        agent.log().contains("No space left on device"),
        "{}",
        agent.log()
    );
    all_are_whole(&agent);
    fs::remove_file(others).expect("there");
    let samples = agent.metrics().value("perfprof_samples_total");
    wait_until("health is good again", LIMIT, || {
        agent.get("/healthz").status == 200
    });
    assert!(
        agent.metrics().value("perfprof_samples_total") > samples,
        "recording went on"
    );
    agent.wait_for_windows(1);
    all_are_whole(&agent);
    agent.end();
    all_are_whole(&agent);

    disk.read_only(true);
    let mut agent = command().spawn();
    agent.assert_refused(exit::NOT_WRITTEN, "Read-only file system");
    disk.read_only(false);
    // A full disk is no reason not to begin.
    let others = disk.fill();
    let mut agent = command().start();
    fs::remove_file(others).expect("there");
    let count = agent.windows().len();
    agent.wait_for_windows(count.max(1));
    agent.end();
}

/// All that have not gone meanwhile.
fn all_are_whole(agent: &Agent) {
    for window in agent.windows() {
        let aside = folder();
        let copy = aside.path().join("copy");
        // A window gives way by being renamed first.
        let copied = Command::new("cp")
            .arg("-r")
            .arg(&window)
            .arg(&copy)
            .output();
        if copied.is_ok_and(|output| output.status.success()) && window.exists() {
            assert_whole(&copy);
        }
    }
}
