//! Stacks are whole, or say that they are not, while a process changes under the walker: libraries come and go at the
//! same address, processes fork deep in a stack, threads become other programs.

use crate::support::folded::tolerance;
use crate::support::stacks::{BY_TABLES, assert_complete};
use crate::support::workload::build_as;
use crate::support::{Folded, KnownStacks, Need, Record, Workload, build, missing};

use nix::sys::signal::Signal;

const HZ: f64 = 997.0;

/// Of a change the recorder hears some milliseconds later. Until then stacks may be incomplete, and say so.
const LATE: f64 = 0.2;

/// What fills the time between chunks of work in functions that watch the clock.
fn is_clock(frame: &str) -> bool {
    frame == "cpu_ns" || frame.contains("clock_gettime")
}

/// Checks that stacks with one of the leaves are as known but for some that say themselves that they are incomplete.
fn assert_whole_or_said(folded: &Folded, known: &KnownStacks) {
    known.assert_seen_in(&folded.complete());
    let (all, cut) = (folded.total(), folded.truncated());
    assert!(
        cut as f64 <= LATE * all as f64,
        "{cut} of {all} are incomplete"
    );
}

/// Two libraries in turn at the same address, 100 ms each, and what the program itself says of it.
fn reopened() -> Option<(Folded, serde_json::Value)> {
    if missing(&[Need::Bpf]) {
        return None;
    }
    const MILLISECONDS: &str = "100";
    let recipe = "gcc -O2 -g -fomit-frame-pointer -fno-optimize-sibling-calls -shared -fPIC";
    let recipe: Vec<&str> = recipe.split(' ').collect();
    let first = build_as("twin_library.c", &recipe, "first.so");
    let second = build_as(
        "twin_library.c",
        &[&recipe[..], &["-DSECOND"]].concat(),
        "second.so",
    );
    let workload = Workload::start(
        "reopener.c",
        &[
            &first.to_string_lossy(),
            &second.to_string_lossy(),
            MILLISECONDS,
        ],
    );
    let finished = Record::pid(workload.pid())
        .args(["-F", &HZ.to_string()])
        .args(BY_TABLES)
        .run_for_cpu(workload.pid(), 2000);
    let truth = workload.stop();
    Some((finished.assert_recorded().folded(), truth))
}

#[test]
fn libraries_that_follow_each_other_at_an_address_have_their_own_names_and_rules() {
    let Some((folded, truth)) = reopened() else {
        return;
    };
    let stacks = [
        "main visit burner burn first_caller first_leaf",
        "main visit burner burn second_caller second_leaf",
    ];
    assert_whole_or_said(&folded, &KnownStacks::from_main(&stacks));
    let (first, second) = (folded.with("first_leaf"), folded.with("second_leaf"));
    let spent = |figure: &str| truth[figure].as_f64().expect("a number");
    let share = spent("first_ns") / (spent("first_ns") + spent("second_ns"));
    // A recording begins and ends within a turn of either.
    let within = tolerance(share, first + second) + 0.1 * HZ / (first + second) as f64;
    let measured = first as f64 / (first + second) as f64;
    assert!(
        (measured - share).abs() <= within,
        "first: {measured:.3}, truth {share:.3} ± {within:.3}"
    );
    let mixed = folded.with_below("first_", "second_") + folded.with_below("second_", "first_");
    assert_eq!(mixed, 0, "both are never there at the same time");
}

#[test]
fn no_frame_is_found_by_the_rules_of_a_library_that_is_gone() {
    let Some((folded, _)) = reopened() else {
        return;
    };
    assert!(
        folded.with("_leaf") > 500,
        "{} samples",
        folded.with("_leaf")
    );
    assert_eq!(folded.with("decoy"), 0, "samples show what never runs");
}

#[test]
fn what_a_new_process_lacks_at_first_is_called_warming() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let finished = Record::new()
        .args(["-F", &HZ.to_string()])
        .args(BY_TABLES)
        .launching(&build("short_lived.c"), &["800"])
        .run();
    let folded = finished.assert_recorded().folded();
    assert!(folded.with("short_burn") as f64 > 0.9 * 0.8 * HZ);
    let (cut, warming) = (folded.truncated(), folded.with("[truncated: warming]"));
    assert_eq!(
        warming,
        cut,
        "{:#?}",
        folded.only(|frames| frames[1].starts_with("["))
    );
    assert!(cut as f64 <= LATE * folded.total() as f64, "{cut} samples");
}

#[test]
fn a_process_forked_deep_in_a_stack_is_whole_from_its_first_tick() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let workload = Workload::start("forker.c", &[]);
    // Children use as much again.
    let finished = Record::pid(workload.pid())
        .args(["-F", &HZ.to_string()])
        .args(BY_TABLES)
        .run_for_cpu(workload.pid(), 700);
    let folded = finished.assert_recorded().folded();
    let stacks = [
        "main descend*40 forker parent_work",
        "main descend*40 forker child_work",
    ];
    let known = KnownStacks {
        is_ignored: is_clock,
        ..KnownStacks::from_main(&stacks)
    };
    known.assert_seen_in(&folded);
    assert_complete(&folded);
}

#[test]
fn a_thread_that_becomes_another_program_is_whole_before_and_after() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let mut workload = Workload::start("thread_execer.c", &[]);
    let mut recording = Record::pid(workload.pid())
        .args(["-F", &HZ.to_string()])
        .args(BY_TABLES)
        .start();
    recording.wait_until_armed();
    workload.signal(Signal::SIGUSR1);
    // Programs that burn 100 ms each.
    for _ in 0..10 {
        workload.expect_line("again");
    }
    recording.signal(Signal::SIGINT);
    let folded = recording.wait().assert_recorded().folded();
    let known = KnownStacks {
        is_outside: |frames| frames.first().is_some_and(|first| first.contains("clone")),
        is_ignored: is_clock,
        stacks: &["thread_main before_exec"],
    };
    assert_whole_or_said(&folded, &known);
}
