//! The workloads are what the other tests believe in, so their own promises are tested first, without perfprof.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::sandbox::ChildCgroup;
use crate::support::need::skip;
use crate::support::proc::{
    cpu_ns, major_faults, read_bytes, stolen_seconds, voluntary_switches, wait_for_cpu, wait_until,
};
use crate::support::workload::truth_sum;
use crate::support::{Need, Postgres, Spent, Workload, build, missing};

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

/// So many waits that one more or less at an end of the window is half a percent.
const WAITS: u64 = 200;

/// What clock calls, book-keeping and switches take of a thread's wall time without standing in any of its books.
const NOT_IN_BOOKS: f64 = 0.02;

/// A window in which each thread of `role` has waited for `kind` often enough. Whatever the workload is, its books must
/// close, and the kernel must have seen its threads give up their CPUs at least as often as they slept.
fn window(workload: &mut Workload, role: &str, kind: &str) -> Vec<Spent> {
    let (pid, stolen) = (workload.pid(), stolen_seconds());
    let before = workload.truth_so_far();
    let tids = Spent::between(&before, &before).into_iter().map(|s| s.tid);
    let switches = |tid: u64| voluntary_switches(pid, tid);
    let switches_before: Vec<u64> = tids.map(switches).collect();
    let spent = Spent::until(workload, &before, (role, kind, WAITS));
    let stolen = stolen_seconds() - stolen;
    for (thread, switches_before) in spent.iter().zip(switches_before) {
        let (most, least) = (
            thread.waited_all() + thread.cpu + thread.run_delay,
            thread.waited_all(),
        );
        let within = NOT_IN_BOOKS * thread.wall + thread.cut() + stolen;
        assert!(most >= thread.wall - within, "{thread:?}");
        assert!(least <= thread.wall + within, "{thread:?}");
        // The books were read first and last: at most one sleep ends between their reading and the kernel's.
        let grown = switches(thread.tid) - switches_before;
        assert!(
            grown + 2 >= thread.waits("sleep"),
            "{grown} switches: {thread:?}"
        );
    }
    spent
}

fn of_role<'a>(spent: &'a [Spent], role: &str) -> impl Iterator<Item = &'a Spent> {
    let role = role.to_string();
    spent.iter().filter(move |thread| thread.role == role)
}

fn the(spent: &[Spent], role: &str) -> Spent {
    of_role(spent, role)
        .next()
        .expect("a thread of this role")
        .clone()
}

fn mean_wait(thread: &Spent, kind: &str) -> f64 {
    thread.waited(kind) / thread.waits(kind) as f64
}

#[test]
fn a_lock_is_held_by_one_and_waited_for_by_the_others() {
    const HOLD: f64 = 0.002;
    let mut workload = Workload::start("lock_convoy.c", &[]);
    let spent = window(&mut workload, "convoy", "futex");
    assert_eq!(spent.len(), 4);
    let sum = |of: fn(&Spent) -> f64| spent.iter().map(of).sum::<f64>();
    let cut = sum(Spent::cut);
    let held = HOLD * spent.iter().map(|s| s.waits("futex") as f64).sum::<f64>();
    assert!(
        held <= spent[0].wall + cut,
        "held by two at a time: {spent:?}"
    );
    // While one holds it, each other waits, rests, or wants a CPU. A sleep is never shorter than was asked for.
    let rested = sum(|s| s.waited("sleep")) - held;
    let otherwise = rested + sum(|s| s.cpu + s.run_delay);
    let waited = sum(|s| s.waited("futex"));
    assert!(
        waited + otherwise >= 3.0 * held - cut,
        "{waited} s for {held} s held: {spent:?}"
    );
}

#[test]
fn workers_of_a_pool_wait_for_jobs_and_for_the_backend() {
    let mut workload = Workload::start("pool.c", &[]);
    let spent = window(&mut workload, "worker", "pipe");
    assert_eq!(of_role(&spent, "worker").count(), 2);
    for worker in of_role(&spent, "worker") {
        assert!(
            mean_wait(worker, "pipe") >= 0.0029,
            "the backend sleeps 3 ms: {worker:?}"
        );
        assert!(worker.waits("idle") > 0, "{worker:?}");
    }
}

#[test]
fn readers_wait_while_writers_sleep() {
    let mut workload = Workload::start("pipe_pair.c", &[]);
    let spent = window(&mut workload, "reader", "pipe");
    let (reader, writer) = (the(&spent, "reader"), the(&spent, "writer"));
    assert!(mean_wait(&writer, "sleep") >= 0.005, "{writer:?}");
    // While the writer sleeps there is nothing to read.
    let least =
        writer.waited("sleep") - reader.cpu - reader.run_delay - reader.cut() - writer.cut();
    assert!(reader.waited("pipe") >= least, "{spent:?}");
}

#[test]
fn clients_wait_for_servers() {
    let mut workload = Workload::start("socket_pair.c", &[]);
    let spent = window(&mut workload, "client", "network");
    let client = the(&spent, "client");
    assert!(mean_wait(&client, "network") >= 0.004, "{client:?}");
}

#[test]
fn blocks_come_from_the_disk() {
    let mut workload = Workload::start("disk_reads.c", &[]);
    let before = read_bytes(workload.pid());
    let spent = window(&mut workload, "disk", "flush");
    let (disk, grown) = (the(&spent, "disk"), read_bytes(workload.pid()) - before);
    let asked = disk.waits("disk") * 4096;
    assert!(grown >= asked, "{grown} bytes read of {asked}: {disk:?}");
}

#[test]
fn touched_pages_come_from_the_disk() {
    let mut workload = Workload::start("page_faults.c", &[]);
    let before = major_faults(workload.pid());
    let spent = window(&mut workload, "fault", "fault");
    let (fault, grown) = (the(&spent, "fault"), major_faults(workload.pid()) - before);
    // One may be on its way while the books are read.
    let touched = fault.waits("fault");
    assert!(grown + 2 >= touched, "{grown} major faults: {fault:?}");
}

#[test]
fn a_sleeper_sleeps_seven_milliseconds_and_works_one() {
    let mut workload = Workload::start("sleeper.c", &[]);
    let sleeper = the(&window(&mut workload, "sleeper", "sleep"), "sleeper");
    assert!(mean_wait(&sleeper, "sleep") >= 0.007, "{sleeper:?}");
    let worked = sleeper.cpu / sleeper.waits("sleep") as f64;
    // A chunk of work more than asked for, and the way into the sleep and out.
    assert!(
        (0.00099..0.0012).contains(&worked),
        "{worked} s: {sleeper:?}"
    );
}

#[test]
fn two_burners_on_one_cpu_wait_for_each_other() {
    let mut workload = Workload::start("two_burners.c", &[]);
    let (before, stolen) = (workload.truth_so_far(), stolen_seconds());
    wait_for_cpu(workload.pid(), 1_000_000_000);
    let spent = Spent::between(&before, &workload.truth_so_far());
    let stolen = stolen_seconds() - stolen;
    // A wait for a CPU counts when it is over: half a turn at each end of the window, here and in the other's CPU time.
    for (burner, other) in [(&spent[0], &spent[1]), (&spent[1], &spent[0])] {
        let within = NOT_IN_BOOKS * burner.wall + 0.05 + stolen;
        let accounted = burner.cpu + burner.run_delay;
        assert!((accounted - burner.wall).abs() < within, "{burner:?}");
        assert!(burner.run_delay >= other.cpu - within, "{spent:?}");
        assert_eq!(burner.waited_all(), 0.0);
    }
}

#[test]
fn a_held_burner_uses_its_quota_and_no_more() {
    if missing(&[Need::Root]) {
        return;
    }
    let cgroup = match ChildCgroup::with_quota(30).and_then(ChildCgroup::preferred) {
        Ok(cgroup) => cgroup,
        Err(reason) => return skip("cgroup-quota", &reason),
    };
    let mut workload = Workload::start_held("quota_burner.c", &[]);
    assert!(cpu_ns(workload.pid()) < 100_000_000, "nothing burns before");
    cgroup
        .take_in(workload.pid())
        .expect("a process can be moved");
    workload.let_go();
    let before = workload.truth_so_far();
    let throttled_before = cgroup
        .throttled_seconds()
        .expect("a quota is accounted for");
    wait_for_cpu(workload.pid(), 600_000_000);
    let burner = Spent::between(&before, &workload.truth_so_far()).remove(0);
    let throttled = cgroup.throttled_seconds().expect("still there") - throttled_before;
    // A period at each end of the window.
    assert!(burner.cpu <= 0.3 * burner.wall + 0.06, "{burner:?}");
    // The rest it was throttled, whoever else wanted a CPU; the kernel's `run_delay` holds that, too.
    let lost = burner.wall - burner.cpu;
    let within = 0.2 + 0.05 * burner.wall;
    assert!(
        (throttled - lost).abs() < within,
        "throttled for {throttled} s: {burner:?}"
    );
    assert!((burner.run_delay - lost).abs() < within, "{burner:?}");
}

/// How long a switcher's work takes is found out at its start: on a shared host a CPU may run at half its speed just then.
const ATTEMPTS: usize = 6;

#[test]
fn a_switcher_switches_as_often_as_it_was_asked_to() {
    for (asked, least, most) in [("10000", 7e3, 13e3), ("100000", 7e4, 13e4)] {
        let mut seen = Vec::new();
        let is_as_asked = (0..ATTEMPTS).any(|_| {
            let rate = switches_per_cpu_second(asked);
            seen.push(rate);
            (least..most).contains(&rate)
        });
        assert!(is_as_asked, "asked for {asked}: {seen:?}");
    }
}

/// By CPU time: others on the machine take time away.
fn switches_per_cpu_second(asked: &str) -> f64 {
    let mut workload = Workload::start("switcher.c", &[asked]);
    let before = workload.truth_so_far();
    wait_for_cpu(workload.pid(), 500_000_000);
    let after = workload.truth_so_far();
    let grown = |name: &str| {
        let figure = |truth: &serde_json::Value| truth[name].as_f64().expect("a figure");
        figure(&after) - figure(&before)
    };
    assert!(grown("switches") >= 2.0 * grown("rounds") - 2.0, "{after}");
    grown("switches") / grown("cpu_ns") * 1e9
}
