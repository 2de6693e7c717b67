//! The target comes and goes, and is replaced: the agent stays, and records whoever is the target then.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::{busy, folder, named, services, stacks, with};
use crate::support::agent::{Agent, AgentCommand, windows_in};
use crate::support::proc::wait_for_cpu;
use crate::support::{Need, Orphan, Workload, build, missing};

const EMPTY: &str = "perfprof_windows_total{verdict=\"empty\"}";

/// Waits for more windows in which nothing ran, and that none of them is written.
fn nothing_is_written_of_nothing(agent: &mut Agent) {
    let empty = agent.metrics().value(EMPTY);
    // The one that is being recorded may have something in it.
    agent.wait_for_metric("a window is empty", |m| m.value(EMPTY) >= empty + 1.0);
    let written = agent.windows();
    agent.wait_for_metric("windows are empty", |m| m.value(EMPTY) >= empty + 3.0);
    assert_eq!(agent.windows(), written);
    assert_eq!(agent.get("/readyz").status, 200);
    assert_eq!(agent.get("/healthz").status, 200);
}

/// Waits until samples of this process are in a window.
fn wait_for_samples_of(agent: &mut Agent, pid: u32) {
    let before = agent.windows();
    let data = agent.data().to_owned();
    agent.wait_for_metric("its samples are written", |_| {
        let windows: Vec<PathBuf> = windows_in(&data);
        let new = windows.iter().filter(|window| !before.contains(window));
        new.flat_map(|window| stacks(window))
            .any(|stack| stack.pid == pid)
    });
}

#[test]
fn a_service_that_restarts_is_recorded_again() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (program, name) = named("split_70_30.cpp", folder.path());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name])
        .start();
    nothing_is_written_of_nothing(&mut agent);
    assert!(agent.windows().is_empty());
    assert_eq!(agent.get("/report").status, 404);
    agent.wait_for_word("nothing matches yet; waiting");
    let first = Workload::start_program(&program, &["1"]);
    let first_pid = first.pid();
    agent.wait_for_windows(1);
    agent.wait_for_word("found something to record");
    drop(first);
    nothing_is_written_of_nothing(&mut agent);
    // Deployed anew: the program on disk is another, and then there is none any more.
    fs::remove_file(&program).expect("it is there");
    fs::copy(build("split_70_30.cpp"), &program).expect("a program can be copied");
    let second = Workload::start_program(&program, &["1"]);
    fs::remove_file(&program).expect("it is there");
    let second_pid = second.pid();
    wait_for_samples_of(&mut agent, second_pid);
    wait_for_cpu(second_pid, 300_000_000);
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("perfprof_errors_total"), 0.0);
    agent.end();
    let windows = agent.windows();
    let newest = stacks(windows.last().expect("there are windows"));
    assert!(newest.iter().all(|stack| stack.pid == second_pid));
    assert!(
        with(&newest, "hot_seventy") > 0,
        "names of a program that is deleted"
    );
    let oldest = stacks(&windows[0]);
    assert!(oldest.iter().all(|stack| stack.pid == first_pid));
}

#[test]
fn forks_and_execs_of_a_process_are_followed_and_its_end_is_no_error() {
    if missing(&[Need::Bpf, Need::Program("gcc")]) {
        return;
    }
    let folder = folder();
    let forker = Workload::start("forker.c", &[]);
    let execer = Workload::start("execer.c", &[]);
    let pids = [forker.pid(), execer.pid()].map(|pid| pid.to_string());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--pid", &pids[0], "--pid", &pids[1], "--service", "both"])
        .start();
    wait_for_cpu(execer.pid(), 500_000_000);
    agent.wait_for_windows(3);
    drop((forker, execer));
    nothing_is_written_of_nothing(&mut agent);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait().code(), Some(0), "{}", agent.log());
    let windows = agent.windows();
    assert!(windows.iter().all(|window| services(window) == ["both"]));
    let all: Vec<_> = windows.iter().flat_map(|window| stacks(window)).collect();
    for function in ["parent_work", "child_work", "between_execs"] {
        assert!(
            with(&all, function) > 10,
            "{function}: {}",
            with(&all, function)
        );
    }
    let others = |pid: u32| pids.iter().all(|one| *one != pid.to_string());
    let children = all.iter().filter(|stack| others(stack.pid));
    let children: Vec<_> = children.flat_map(|stack| stack.frames.last()).collect();
    assert!(!children.is_empty());
}

#[test]
fn on_a_whole_node_every_process_is_the_host_s() {
    if missing(&[Need::Bpf, Need::Root, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (workload, _) = busy(folder.path());
    let _idle = Orphan::start("pf-idle");
    let mut agent = AgentCommand::new(folder.path())
        .args(["--all", "--frequency", "49"])
        .start();
    wait_for_cpu(workload.pid(), 500_000_000);
    let windows = agent.wait_for_windows(1);
    let seen = stacks(&windows[0]);
    assert!(seen.iter().any(|stack| stack.pid == workload.pid()));
    agent.end();
    for window in &windows {
        super::assert_whole(window);
        // Containers of other tests are services of their own.
        assert!(
            services(window).contains(&"host".to_owned()),
            "{:?}",
            services(window)
        );
    }
}
