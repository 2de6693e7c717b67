//! Disk space is bounded: the oldest windows give way, to the budget and to a full disk, and none is half written.

use std::fs;
use std::io::Write;
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

/// What stands for windows of long ago, so that a test need not wait until there are enough: so many of 100 KiB each.
fn windows_of_long_ago(data: &Path, count: usize) -> Vec<PathBuf> {
    let windows = data.join("windows");
    let dirs = (0..count).map(|number| windows.join(format!("2001-01-01T00-00-{number:02}Z")));
    let dirs: Vec<PathBuf> = dirs.collect();
    for dir in &dirs {
        fs::create_dir_all(dir).expect("there is room");
        fs::write(dir.join("old"), vec![1; 100 << 10]).expect("there is room");
    }
    dirs
}

fn is_of_long_ago(window: &Path) -> bool {
    window
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("2001-"))
}

#[test]
fn the_oldest_windows_give_way_to_the_budget() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let old = windows_of_long_ago(&folder.path().join("data"), 9);
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name, "--disk-budget", "1Mi"])
        .start();
    let dropped = "perfprof_windows_dropped_total{reason=\"rotation\"}";
    let metrics = agent.wait_for_metric("windows are dropped", |m| m.value(dropped) >= 3.0);
    assert!(!old[0].exists() && !old[1].exists());
    assert_eq!(
        metrics.value("perfprof_disk_budget_bytes"),
        f64::from(1 << 20)
    );
    assert!(metrics.value("perfprof_disk_used_bytes") <= f64::from(1 << 20));
    assert!(metrics.value("perfprof_disk_windows") >= 2.0);
    agent.end();
    let left: Vec<bool> = old.iter().map(|window| window.exists()).collect();
    assert!(left.is_sorted(), "the oldest have gone: {left:?}");
    all_are_whole(&agent);
    let windows = agent.windows();
    assert!(windows.iter().map(|window| size_of(window)).sum::<u64>() <= 1 << 20);
    assert!(windows.len() >= 2, "{windows:?}");
}

/// A small file system; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: PathBuf, size: &str) -> Result<SmallDisk, String> {
        fs::create_dir(&at).expect("a folder can be made");
        let size = format!("size={size}");
        mount(&["-t", "tmpfs", "-o", &size, "perfprof-test"], &at)?;
        Ok(SmallDisk(at))
    }

    /// Takes all the room that there is now.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("others");
        let open = fs::OpenOptions::new().create(true).append(true).open(&path);
        // It ends where the disk does.
        let _ = open.and_then(|mut file| file.write_all(&vec![1; 8 << 20]));
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
    let disk = match SmallDisk::new(folder.path().join("disk"), "1m") {
        Ok(disk) => disk,
        Err(reason) => return skip("mount", &reason),
    };
    let data = disk.0.join("data");
    let command = || {
        AgentCommand::new(folder.path())
            .data(&data)
            .args(["--comm", &name])
    };
    let old = windows_of_long_ago(&data, 7);
    let mut agent = command().start();
    // The disk is smaller than the budget.
    let full = "perfprof_windows_dropped_total{reason=\"disk-full\"}";
    agent.wait_for_metric("windows are dropped", |m| m.value(full) >= 2.0);
    assert!(!old[0].exists());
    all_are_whole(&agent);
    // Somebody else takes all there is.
    let others = disk.fill();
    let before = agent.metrics().value(full);
    // That is no reason to restart it.
    wait_until("health tells of it", LIMIT, || {
        let _ = disk.fill();
        let health = agent.get("/healthz");
        assert_eq!(health.status, 200, "{health:?}");
        health.text().contains("alive, but: a window was dropped")
    });
    assert!(agent.metrics().value(full) > before);
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
        agent.get("/healthz").text() == "ok\n"
    });
    assert!(
        agent.metrics().value("perfprof_samples_total") > samples,
        "recording went on"
    );
    wait_until("a new window is written", LIMIT, || {
        agent.windows().iter().any(|window| !is_of_long_ago(window))
    });
    agent.end();
    all_are_whole(&agent);

    disk.read_only(true);
    let mut agent = command().spawn();
    agent.assert_refused(exit::NOT_WRITTEN, "Read-only file system");
    disk.read_only(false);
    a_full_disk_is_no_reason_not_to_begin(&disk, &data, &name);
}

#[test]
fn a_recording_finds_room_on_a_full_disk_at_the_cost_of_old_windows() {
    if missing(&[Need::Bpf, Need::Root, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let disk = match SmallDisk::new(folder.path().join("disk"), "5m") {
        Ok(disk) => disk,
        Err(reason) => return skip("mount", &reason),
    };
    let data = disk.0.join("data");
    let old = windows_of_long_ago(&data, 40);
    let mut agent = AgentCommand::new(folder.path())
        .data(&data)
        .args(["--comm", &name, "--window", "1h"])
        .start();
    disk.fill();
    let answer = agent.ask_with_token("POST", "/recordings?seconds=0.5");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let left: Vec<bool> = old.iter().map(|window| window.exists()).collect();
    assert!(
        !left[0] && left.is_sorted(),
        "the oldest have gone: {left:?}"
    );
    let full = "perfprof_windows_dropped_total{reason=\"disk-full\"}";
    assert!(agent.metrics().value(full) >= 1.0);
    agent.end();
}

fn a_full_disk_is_no_reason_not_to_begin(disk: &SmallDisk, data: &Path, name: &str) {
    let others = disk.fill();
    let folder = folder();
    let mut agent = AgentCommand::new(folder.path())
        .data(data)
        .args(["--comm", name])
        .spawn();
    agent.wait_for_word("HTTP at http://127.0.0.1:");
    let former = agent.windows();
    fs::remove_file(others).expect("there");
    wait_until("a window is written", LIMIT, || {
        assert!(!agent.has_ended(), "{}", agent.log());
        agent
            .windows()
            .iter()
            .any(|window| !former.contains(window))
    });
    agent.end();
}

/// All that have not gone meanwhile.
fn all_are_whole(agent: &Agent) {
    let windows = agent.windows();
    for window in windows.iter().filter(|window| !is_of_long_ago(window)) {
        let aside = folder();
        let copy = aside.path().join("copy");
        // A window gives way by being renamed first.
        let copied = Command::new("cp").arg("-r").arg(window).arg(&copy).output();
        if copied.is_ok_and(|output| output.status.success()) && window.exists() {
            assert_whole(&copy);
        }
    }
}
