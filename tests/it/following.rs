//! Whatever appears while recording is followed: children, programs they become, libraries, threads; and what ends
//! meanwhile is kept.

use nix::sys::signal::Signal;

use crate::support::proc::{wait_for_cpu, wait_until};
use crate::support::recording::exit;
use crate::support::workload::truth_sum;
use crate::support::{Need, Record, Workload, build, missing};

use std::path::Path;
use std::time::Duration;

/// Samplers differ in who follows: perf's side band alone, or BPF programs, too.
const WAYS: [&[&str]; 2] = [
    &["--sampler", "perf", "--unwind", "dwarf-copy"],
    &["--sampler", "bpf", "--unwind", "dwarf"],
];

#[test]
fn children_forked_and_execed_after_attach_are_recorded_under_their_own_names() {
    if missing(&[Need::Perf, Need::Bpf]) {
        return;
    }
    WAYS.into_iter().for_each(check_children);
}

fn check_children(how: &[&str]) {
    let spawned = build("spawned.c");
    let workload = Workload::start("spawner.c", &[&spawned.to_string_lossy()]);
    let finished = Record::pid(workload.pid())
        .args(["-d", "3", "-F", "997"])
        .args(how)
        .run();
    let truth = workload.stop();
    let folded = finished.assert_recorded().folded();
    let (forked, execed) = (folded.with("forked_burn"), folded.with("execed_burn"));
    let all = forked + execed;
    assert!(all > 200, "only {all} samples in the children");
    // Children alternate and all burn the same, so each kind has its number's share; a recording that begins or ends within a
    // child adds at most one child of each kind to the tolerance.
    let (f, e) = (&truth["forked"], &truth["execed"]);
    let (f, e) = (f.as_f64().expect("a number"), e.as_f64().expect("a number"));
    let share = f / (f + e);
    let one_child = 0.050 * 997.0 / all as f64;
    let within = crate::support::folded::tolerance(share, all) + one_child;
    let measured = forked as f64 / all as f64;
    assert!(
        (measured - share).abs() <= within,
        "forked share {measured:.3}, truth {share:.3} ± {within:.3}"
    );
    let under_new_name = folded.count_where(|frames| {
        frames[0].contains("spawned") && frames.iter().any(|frame| frame.contains("execed_burn"))
    });
    assert_eq!(
        under_new_name, execed,
        "after exec the samples belong to `spawned`"
    );
}

#[test]
fn a_library_loaded_after_attach_has_names() {
    if missing(&[Need::Perf, Need::Bpf]) {
        return;
    }
    WAYS.into_iter().for_each(check_loaded_library);
}

fn check_loaded_library(how: &[&str]) {
    let plugin = build("plugin.c");
    let mut workload = Workload::start("dlopener.c", &[&plugin.to_string_lossy()]);
    let mut recording = Record::pid(workload.pid())
        .args(["-F", "499"])
        .args(how)
        .start();
    recording.wait_until_armed();
    wait_for_cpu(workload.pid(), 300_000_000);
    workload.signal(Signal::SIGUSR1);
    workload.expect_line("loaded");
    wait_for_cpu(workload.pid(), 1_000_000_000);
    recording.signal(Signal::SIGINT);
    let finished = recording.wait();
    let folded = finished.assert_recorded().folded();
    assert!(
        folded.with("host_burn") > 50,
        "{} samples before",
        folded.with("host_burn")
    );
    assert!(
        folded.with("plugin_burn") > 300,
        "{} samples after",
        folded.with("plugin_burn")
    );
    let lost = folded.count_where(|frames| {
        let named = |name: &str| frames.iter().any(|frame| frame.contains(name));
        !named("host_burn") && !named("plugin_burn") && !frames.iter().any(|f| f.ends_with("_[k]"))
    });
    assert!(
        lost as f64 <= 0.05 * folded.total() as f64,
        "{lost} user samples are in neither"
    );
    assert!(folded.truncated() as f64 <= 0.02 * folded.total() as f64);
}

#[test]
fn threads_made_after_attach_are_recorded() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start("thread_maker.c", &["2"]);
    let mut recording = Record::pid(workload.pid())
        .args(["-F", "499", "--per-thread"])
        .start();
    recording.wait_until_armed();
    workload.signal(Signal::SIGUSR1);
    wait_for_cpu(workload.pid(), 2_000_000_000);
    recording.signal(Signal::SIGINT);
    let finished = recording.wait();
    let truth = workload.stop();
    finished.assert_recorded();
    assert!(truth_sum(&truth, "total") > 2_000_000_000);
    let folded = finished.folded();
    for name in ["late-0", "late-1"] {
        let samples = folded.count_where(|frames| {
            frames[1].contains(name) && frames.iter().any(|frame| frame.contains("late_burn"))
        });
        assert!(samples > 100, "{name} has {samples} samples in late_burn");
    }
    assert!(
        finished.coverage("cpu_time") >= 0.9,
        "{}",
        finished.coverage("cpu_time")
    );
}

#[test]
fn a_process_that_ends_midway_is_kept_and_the_other_goes_on() {
    if missing(&[Need::Perf]) {
        return;
    }
    let mut short = Workload::start("short_lived.c", &["1500", "wait"]);
    let long = Workload::start("frame_pointer.c", &[]);
    let mut recording = Record::pid(short.pid())
        .args(["--pid", &long.pid().to_string()])
        .args(["-F", "499"])
        .start();
    recording.wait_until_armed();
    short.signal(Signal::SIGUSR1);
    short.wait();
    wait_for_cpu(long.pid(), 1_000_000_000);
    assert!(!recording.has_ended(), "one target is still there");
    recording.signal(Signal::SIGINT);
    let finished = recording.wait();
    let folded = finished.assert_recorded().folded();
    assert!(
        folded.with("short_burn") > 100,
        "{} samples",
        folded.with("short_burn")
    );
    assert!(
        folded.with("hot_seventy") > 300,
        "{} samples",
        folded.with("hot_seventy")
    );
    assert!(
        finished.coverage("cpu_time") >= 0.9,
        "{}",
        finished.coverage("cpu_time")
    );
}

#[test]
fn the_targets_exit_ends_the_recording_with_a_complete_report() {
    if missing(&[Need::Perf]) {
        return;
    }
    let mut workload = Workload::start("short_lived.c", &["1500", "wait"]);
    let mut recording = Record::pid(workload.pid()).args(["-F", "499"]).start();
    recording.wait_until_armed();
    workload.signal(Signal::SIGUSR1);
    workload.wait();
    let finished = recording.wait();
    finished.assert_recorded();
    assert!(
        finished.report().contains("exited"),
        "the report says what ended it"
    );
}

#[test]
fn a_launched_command_is_held_until_sampling_is_armed() {
    if missing(&[Need::Perf]) {
        return;
    }
    // 100 ms of work in all: a command that ran ahead of the sampler would be mostly gone before the first sample.
    const MILLISECONDS: f64 = 100.0;
    const HZ: f64 = 1997.0;
    let finished = Record::new()
        .args(["-F", &HZ.to_string()])
        .launching(&build("short_lived.c"), &[&MILLISECONDS.to_string()])
        .run();
    finished.assert_recorded();
    let samples = finished.folded().with("short_burn") as f64;
    let expected = MILLISECONDS / 1000.0 * HZ;
    assert!(
        samples >= 0.9 * expected,
        "{samples} of about {expected} samples"
    );
}

#[test]
fn interrupt_and_terminate_both_end_with_a_complete_report() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start("frame_pointer.c", &[]);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut recording = Record::pid(workload.pid()).args(["-F", "499"]).start();
        recording.wait_until_armed();
        wait_for_cpu(workload.pid(), 1_000_000_000);
        assert!(
            !recording.has_ended(),
            "without a duration it records until told to stop"
        );
        recording.signal(signal);
        let finished = recording.wait();
        finished.assert_recorded();
        assert!(
            finished.folded().with("hot_seventy") > 100,
            "after {signal}"
        );
        assert!(finished.report().contains("interrupted"), "after {signal}");
    }
}

#[test]
fn a_second_interrupt_ends_at_once() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start("frame_pointer.c", &[]);
    let mut recording = Record::pid(workload.pid()).args(["-F", "499"]).start();
    recording.wait_until_armed();
    wait_for_cpu(workload.pid(), 200_000_000);
    recording.signal(Signal::SIGINT);
    // The first one has been taken when it is no longer pending; only then is the second a second one.
    let pending = format!("/proc/{}/status", recording.pid());
    wait_until(
        "the first interrupt is taken",
        Duration::from_secs(10),
        || {
            std::fs::read_to_string(&pending)
                .map_or(true, |status| !is_pending(&status, Signal::SIGINT))
        },
    );
    if !recording.has_ended() {
        recording.signal(Signal::SIGINT);
    }
    let begin = std::time::Instant::now();
    let finished = recording.wait();
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "took {:?}",
        begin.elapsed()
    );
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    // Ended by the second interrupt, or done before it came; never an error of another kind.
    let code = finished.status.code();
    let by_signal = code.is_none() || code == Some(128 + Signal::SIGINT as i32);
    let done = matches!(code, Some(exit::SUCCESS | exit::INCONCLUSIVE));
    assert!(
        by_signal || done,
        "{}\n{}",
        finished.status,
        finished.stderr
    );
}

/// Whether the signal is pending by `SigPnd` or `ShdPnd` of a `/proc/PID/status`.
fn is_pending(status: &str, signal: Signal) -> bool {
    let bit = 1u64 << (signal as i32 - 1);
    status
        .lines()
        .filter_map(|line| {
            line.strip_prefix("SigPnd:")
                .or(line.strip_prefix("ShdPnd:"))
        })
        .filter_map(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .any(|set| set & bit != 0)
}

#[test]
fn processes_that_live_a_millisecond_are_in_the_books_and_their_stacks_complete() {
    if missing(&[Need::Perf, Need::Bpf]) {
        return;
    }
    // The scheduler counts a thread's time when it switches away from it: for these that is after they have exited.
    let script = "for i in $(seq 1 300); do ls -la /usr/lib > /dev/null; done";
    let finished = Record::new()
        .launching(Path::new("bash"), &["-c", script])
        .args(["-F", "997"])
        .run();
    let n = finished.assert_recorded().folded().total() as f64;
    assert!(n > 100.0, "only {n} samples");
    let cpu_time = finished.coverage("cpu_time");
    let within = 0.05 + 4.0 / n.sqrt();
    assert!(
        (cpu_time - 1.0).abs() <= within,
        "cpu_time is {cpu_time} ± {within}"
    );
    let stacks = finished.coverage("stacks");
    assert!(stacks >= 0.90, "{stacks} of the stacks are complete");
}

#[test]
fn a_process_whose_main_thread_has_ended_is_recorded_to_the_end() {
    if missing(&[Need::Perf]) {
        return;
    }
    let finished = Record::new()
        .launching(&build("leaderless.c"), &[])
        .args(["-d", "2", "-F", "499"])
        .run();
    let folded = finished.assert_recorded().folded();
    assert!(
        folded.with("left_alone") > 20,
        "{} samples",
        folded.with("left_alone")
    );
    let report = finished.report();
    assert!(report.contains("Ended by: duration"), "{report}");
}

#[test]
fn a_command_ends_with_the_recording_and_so_does_what_it_started() {
    if missing(&[Need::Perf]) {
        return;
    }
    let marker = format!("perfprof-it-{}", std::process::id());
    let burn = "while :; do :; done";
    let script = format!("sh -c '{burn}' {marker} & {burn}");
    let finished = Record::new()
        .launching(Path::new("bash"), &["-c", &script])
        .args(["-d", "1", "-F", "199"])
        .run();
    finished.assert_recorded();
    let is_marked = |pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(&marker)
    };
    let all = std::fs::read_dir("/proc").expect("proc is mounted");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let left: Vec<u32> = pids.filter(is_marked).collect();
    assert!(left.is_empty(), "{left:?} still run");
}
