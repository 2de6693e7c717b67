//! The workloads are what the other tests believe in, so their own promises are tested first, without perfprof.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::proc::{cpu_ns, wait_for_cpu, wait_until};
use crate::support::workload::truth_sum;
use crate::support::{Need, Postgres, Workload, build, missing};

/// One chunk of work more or less in 200 ms of CPU, and the clock calls between the chunks.
const SPLIT_TOLERANCE: f64 = 0.003;

#[test]
fn the_split_is_70_to_30_by_the_clock() {
    for (source, compiler) in [
        ("split_70_30.cpp", "g++"),
        ("split_70_30.rs", "rustc"),
        ("frame_pointer.c", "gcc"),
    ] {
        if missing(&[Need::Program(compiler)]) {
            continue;
        }
        let workload = Workload::start(source, &[]);
        wait_for_cpu(workload.pid(), 500_000_000);
        let truth = workload.stop();
        let of = |figure: &str| truth_sum(&truth, figure) as f64;
        let (seventy, thirty, total) = (of("hot_seventy"), of("hot_thirty"), of("total"));
        let share = seventy / (seventy + thirty);
        assert!((share - 0.7).abs() < SPLIT_TOLERANCE, "{source}: {truth}");
        assert!((seventy + thirty) / total > 0.97, "{source}: {truth}");
    }
}

#[test]
fn a_short_life_uses_the_cpu_time_it_was_given() {
    let mut workload = Workload::start("short_lived.c", &["200"]);
    let truth = workload.next_truth();
    let total = truth["total"].as_f64().expect("a total");
    assert!((2.0e8..2.2e8).contains(&total), "{truth}");
    workload.wait();
}

#[test]
fn second_acts_begin_when_asked_for() {
    let plugin = build("plugin.c");
    let mut dlopener = Workload::start("dlopener.c", &[&plugin.to_string_lossy()]);
    dlopener.signal(Signal::SIGUSR1);
    dlopener.expect_line("loaded");

    let maker = Workload::start("thread_maker.c", &["3"]);
    assert!(cpu_ns(maker.pid()) < 100_000_000, "nothing burns before");
    maker.signal(Signal::SIGUSR1);
    let tasks = format!("/proc/{}/task", maker.pid());
    wait_until("three threads appear", Duration::from_secs(20), || {
        std::fs::read_dir(&tasks).is_ok_and(|tasks| tasks.count() == 4)
    });
}

#[test]
fn a_forgotten_workload_ends_by_itself() {
    let mut workload = Workload::start_with_lifetime("idle.c", 1);
    workload.wait();
}

#[test]
fn the_test_server_answers_and_its_load_uses_cpu() {
    if missing(&[Need::Postgres]) {
        return;
    }
    let server = Postgres::start();
    let load = server.load();
    let children = format!("/proc/{0}/task/{0}/children", server.pid());
    let children_cpu = || -> u64 {
        let pids = std::fs::read_to_string(&children).unwrap_or_default();
        pids.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .map(cpu_ns)
            .sum()
    };
    wait_until("backends use CPU", Duration::from_secs(60), || {
        children_cpu() > 300_000_000
    });
    drop(load);
}
