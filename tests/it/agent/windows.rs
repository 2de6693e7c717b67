//! Windows follow each other without a gap, whichever way the target is named, and each is an artifact root.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{assert_whole, folder, named, services, stacks, sum, with};
use nix::sys::signal::Signal;

use crate::support::agent::{Agent, AgentCommand, LIMIT};
use crate::support::folded::tolerance;
use crate::support::need::skip;
use crate::support::proc::{cpu_ns, state, stolen_seconds, wait_for_cpu, wait_until};
use crate::support::recording::{exit, perfprof};
use crate::support::workload::truth_sum;
use crate::support::{Need, Workload, missing};

const SECOND: u64 = 1_000_000_000;

/// How far total CPU time may be off, besides what the host steals: as in `ground_truth.rs`.
const TOTAL_TOLERANCE: f64 = 0.05;
/// The kernel's accounting has nothing to estimate; but threads begin and end, and the program cannot see its own beginning.
const ACCOUNTED_TOLERANCE: f64 = 0.02;

/// A program that stands still until the agent has found it, and what it had used by then, nanoseconds: a list of processes is
/// read twice a second.
fn found(agent: &mut Agent, workload: Workload) -> (Workload, u64) {
    workload.signal(Signal::SIGSTOP);
    wait_until("it has stopped", LIMIT, || {
        state(workload.pid()) == Some('T')
    });
    agent.wait_for_metric("it is found", |metrics| {
        metrics.value("perfprof_target_processes") == 1.0
    });
    let before_ns = cpu_ns(workload.pid());
    workload.signal(Signal::SIGCONT);
    (workload, before_ns)
}

/// Two functions for some CPU time, which ends before the agent does: what all windows together hold is all there was.
fn all_is_in_the_windows(agent: &mut Agent, (workload, before_ns): (Workload, u64), name: &str) {
    let stolen = stolen_seconds();
    wait_for_cpu(workload.pid(), 4 * SECOND);
    let truth = workload.stop();
    let stolen = stolen_seconds() - stolen;
    let ended = agent.metrics().sum("perfprof_windows_total");
    agent.wait_for_metric("the last window with it has ended", |metrics| {
        metrics.sum("perfprof_windows_total") >= ended + 2.0
    });
    let accounted = agent.metrics().sum("perfprof_target_cpu_seconds_total");
    agent.end();

    let windows = agent.windows();
    assert!(windows.len() >= 2, "{windows:?}");
    let latest = fs::canonicalize(agent.data().join("latest")).expect("leads somewhere");
    let newest = windows.last().expect("at least two");
    assert_eq!(latest, fs::canonicalize(newest).expect("there"));
    let mut seen = Vec::new();
    for window in &windows {
        assert_whole(window);
        assert_eq!(services(window), [name]);
        seen.extend(stacks(window));
    }
    let (seventy, thirty) = (with(&seen, "hot_seventy"), with(&seen, "hot_thirty"));
    let all = seventy + thirty;
    assert!(all > 500, "{all} samples");
    let seventy_ns = truth_sum(&truth, "hot_seventy") as f64;
    let share = seventy_ns / (seventy_ns + truth_sum(&truth, "hot_thirty") as f64);
    let total_s = (truth_sum(&truth, "total") - before_ns) as f64 / 1e9;
    let measured = seventy as f64 / all as f64;
    let within = tolerance(share, all) + stolen / total_s;
    assert!(
        (measured - share).abs() <= within,
        "{measured} is not {share} ± {within}"
    );
    let sampled: f64 = windows
        .iter()
        .map(|window| sum(window, "cpu_seconds"))
        .sum();
    let within = TOTAL_TOLERANCE * total_s + stolen;
    assert!(
        (sampled - total_s).abs() <= within,
        "{sampled} s is not {total_s} s ± {within}"
    );
    let within = ACCOUNTED_TOLERANCE * total_s;
    assert!(
        (accounted - total_s).abs() <= within,
        "the kernel's {accounted} s are not the program's {total_s} s ± {within}"
    );
}

#[test]
fn windows_of_a_name_hold_all_that_ran_under_it() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (program, name) = named("split_70_30.cpp", folder.path());
    // It waits for somebody of that name.
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name])
        .start();
    let found = found(&mut agent, Workload::start_program(&program, &["2"]));
    all_is_in_the_windows(&mut agent, found, &name);
}

#[test]
fn windows_of_a_process_are_artifact_roots() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (program, name) = named("split_70_30.cpp", folder.path());
    let workload = Workload::start_program(&program, &["2"]);
    let pid = workload.pid().to_string();
    let mut agent = AgentCommand::new(folder.path())
        .args(["--pid", &pid])
        .start();
    let windows = agent.wait_for_windows(2);
    drop(workload);
    agent.end();
    assert_eq!(services(&windows[0]), [name.as_str()]);
    a_window_is_an_artifact_root(&windows[1], &name, folder.path());
}

fn a_window_is_an_artifact_root(window: &Path, service: &str, folder: &Path) {
    let run = |words: &[&str]| {
        let mut command = Command::new(perfprof());
        command.args(words).current_dir(folder);
        let output = command.output().expect("perfprof can be run");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let root = window.to_str().expect("text");
    let config = format!("protocol_id: \"02\"\nperfprof:\n  services:\n    - name: {service}\n");
    fs::write(folder.join("gate.yaml"), config).expect("writable");
    let (code, said) = run(&[
        "gate",
        "diagnostics",
        "--artifacts",
        root,
        "--config",
        "gate.yaml",
    ]);
    // A second proves too little, and there was no load test; but the window was read.
    assert!(
        matches!(code, Some(exit::FAILED | exit::INCONCLUSIVE)),
        "{said}"
    );
    assert!(!said.contains("was not recorded"), "{said}");
    let profile = super::profiles(window).remove(0);
    let (code, said) = run(&[
        "report",
        profile.to_str().expect("text"),
        "--artifacts",
        "again",
    ]);
    assert!(
        matches!(code, Some(exit::SUCCESS | exit::INCONCLUSIVE)),
        "{said}"
    );
    assert!(folder.join("again/profiling-report.md").is_file());
}

/// A cgroup of version 1 with a quota, in the hierarchies that a container is in; removed when dropped, with nobody in it.
struct Quota {
    dirs: Vec<PathBuf>,
}

impl Quota {
    /// Of half a CPU.
    fn new(name: &str) -> Result<Quota, String> {
        let mut quota = Quota { dirs: Vec::new() };
        for (hierarchy, file) in [
            ("cpu", "cpu.cfs_quota_us"),
            ("cpuacct", "cpuacct.usage"),
            ("memory", "tasks"),
        ] {
            let mount = Path::new("/sys/fs/cgroup").join(hierarchy);
            let dir = mount.join(name);
            if !mount.join(file).exists() && hierarchy != "cpu" {
                return Err(format!("no hierarchy `{hierarchy}` of cgroup v1"));
            }
            // Two names may lead to one hierarchy.
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(format!("`{}`: {error}", dir.display()));
                }
                _ => quota.dirs.push(dir),
            }
        }
        let set = |file: &str, value: &str| fs::write(quota.dirs[0].join(file), value);
        set("cpu.cfs_period_us", "100000")
            .and_then(|()| set("cpu.cfs_quota_us", "50000"))
            .map_err(|error| format!("a quota cannot be set: {error}"))?;
        Ok(quota)
    }

    /// Becomes the program inside of it.
    fn start(&self, program: &Path) -> Workload {
        let enter: String = self
            .dirs
            .iter()
            .map(|dir| format!("echo $$ > {}/cgroup.procs && ", dir.display()))
            .collect();
        let mut shell = Command::new("sh");
        Workload::spawn(shell.args(["-c", &format!("{enter} exec {} 2", program.display())]))
    }

    fn file(&self, name: &str) -> Option<String> {
        self.dirs
            .iter()
            .find_map(|dir| fs::read_to_string(dir.join(name)).ok())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        for dir in &self.dirs {
            wait_until("a cgroup can be removed", LIMIT, || {
                fs::remove_dir(dir).is_ok() || !dir.exists()
            });
        }
    }
}

#[test]
fn windows_of_a_cgroup_tell_what_its_quota_took() {
    if missing(&[Need::Bpf, Need::Root, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (program, name) = named("split_70_30.cpp", folder.path());
    let quota = match Quota::new(&name) {
        Ok(quota) => quota,
        Err(reason) => return skip("cgroup-v1", &reason),
    };
    let path = quota.dirs[0].to_str().expect("text");
    let mut agent = AgentCommand::new(folder.path())
        .args(["--cgroup", path])
        .start();
    let found = found(&mut agent, quota.start(&program));
    let of = |metric: &str| format!("perfprof_target_{metric}_total{{service=\"{name}\"}}");
    let metrics = agent.wait_for_metric("throttling is told", |metrics| {
        metrics.value(&of("throttled_seconds")) > 0.0
    });
    assert!(metrics.value(&of("throttled_periods")) >= 1.0);
    let stat = quota.file("cpu.stat").expect("there");
    let throttled = stat
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "));
    let throttled: f64 = throttled.and_then(|n| n.parse().ok()).expect("a number");
    assert!(
        metrics.value(&of("throttled_periods")) <= throttled,
        "{stat}"
    );
    let used = quota.file("cpuacct.usage").expect("there");
    let used: f64 = used.trim().parse().expect("a number");
    let accounted = metrics.value(&of("cpu_seconds"));
    assert!(
        accounted > 0.0 && accounted <= used / 1e9,
        "{accounted} of {used} ns"
    );
    all_is_in_the_windows(&mut agent, found, &name);
    drop(quota);
}
