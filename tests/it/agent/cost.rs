//! What the agent costs is told truly, and held against what it may cost.

use std::fs;

use super::{assert_whole, busy, folder};
use crate::support::agent::{Agent, AgentCommand};
use crate::support::proc::wait_for_cpu;
use crate::support::{Need, missing};

/// CPU time of a process and of children it has waited for, seconds (proc_pid_stat(5): utime, stime, cutime, cstime).
fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, rest) = text.rsplit_once(')').expect("a name");
    let ticks = rest.split_whitespace().skip(11).take(4);
    ticks
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum::<u64>() as f64
        / 100.0
}

/// The agent's own, and what its workers have used so far.
fn family_cpu_seconds(agent: &Agent) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid()))
        .expect("it lives")
        .flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|list| {
            list.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|pid| pid.parse().ok())
        .collect();
    cpu_seconds(agent.pid()) + children.into_iter().map(cpu_seconds).sum::<f64>()
}

/// What is told of its CPU time when so many more windows have ended, and what the kernel says then.
fn at_the_end_of_a_window(agent: &mut Agent, windows: f64) -> (f64, f64) {
    let ended = agent.metrics().sum("perfprof_windows_total");
    let metrics = agent.wait_for_metric("windows end", |m| {
        m.sum("perfprof_windows_total") >= ended + windows
    });
    let by_kernel = family_cpu_seconds(agent);
    (metrics.value("perfprof_self_cpu_seconds_total"), by_kernel)
}

#[test]
fn its_own_cpu_time_is_what_the_kernel_says_and_too_high_a_rate_is_lowered() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name, "--max-cpu", "0.01%", "--frequency", "500"])
        .start();
    let reductions = "perfprof_budget_reductions_total{reason=\"cpu\"}";
    let metrics = agent.wait_for_metric("the rate is lowered", |m| m.value(reductions) >= 1.0);
    assert_eq!(metrics.value("perfprof_budget_cpu_cores"), 0.0001);
    assert_eq!(
        metrics.value("perfprof_sampling_frequency_asked_hertz"),
        500.0
    );
    agent.wait_for_metric("the lower rate is taken", |m| {
        m.value("perfprof_sampling_frequency_hertz") < 500.0
    });
    agent.wait_for_word("over the CPU budget: sampling at");

    // Counted from the end of a window to that of another, so that neither has what the other lacks.
    let (told_before, kernel_before) = at_the_end_of_a_window(&mut agent, 1.0);
    let (told, by_kernel) = at_the_end_of_a_window(&mut agent, 6.0);
    let (told, by_kernel) = (told - told_before, by_kernel - kernel_before);
    // The kernel counts in hundredths, and calls time of BPF programs the target's.
    let within = 0.2 * by_kernel + 0.1;
    assert!(
        (told - by_kernel).abs() <= within,
        "{told} s is not {by_kernel} s ± {within}"
    );
    let metrics = agent.metrics();
    for gauge in [
        "perfprof_self_memory_bytes",
        "perfprof_self_resident_memory_bytes",
        "perfprof_self_bpf_memory_bytes",
    ] {
        assert!(metrics.value(gauge) > f64::from(1 << 20), "{gauge}");
    }
    agent.end();
}

#[test]
fn with_little_memory_it_records_and_says_what_it_gave_up() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (workload, name) = busy(folder.path());
    let mut agent = AgentCommand::new(folder.path())
        .args(["--comm", &name, "--max-memory", "32Mi"])
        .start();
    wait_for_cpu(workload.pid(), 300_000_000);
    let windows = agent.wait_for_windows(3);
    let metrics = agent.metrics();
    assert_eq!(
        metrics.value("perfprof_budget_memory_bytes"),
        f64::from(32 << 20)
    );
    let is_over = metrics.sum("perfprof_budget_reductions_total") > 0.0;
    let log = agent.log();
    let is_said =
        log.contains("near the memory budget") || log.contains("nothing is left to lower");
    assert_eq!(is_over, is_said, "{log}");
    windows.iter().for_each(|window| assert_whole(window));
    let seen: Vec<_> = windows
        .iter()
        .flat_map(|window| super::stacks(window))
        .collect();
    assert!(super::with(&seen, "hot_seventy") > 0);
    agent.end();
}
