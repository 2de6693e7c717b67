//! Stacks are whole however a program was linked: by which linker, at a fixed address or anywhere, with its libraries
//! or without, with names or without, and whichever section says how to unwind it.

use crate::support::proc::wait_for_cpu;
use crate::support::stacks::{BY_TABLES, assert_complete, user_frames};
use crate::support::workload::build_as;
use crate::support::{Folded, KnownStacks, Need, Record, Workload, missing};

use nix::sys::signal::Signal;

/// What deep_recursion.c does, 60 frames deep.
const STACKS: [&str; 1] = ["main descend*60 leaf_work"];

const FLAGS: [&str; 4] = [
    "-O2",
    "-g",
    "-fomit-frame-pointer",
    "-fno-optimize-sibling-calls",
];

/// A way of building a program.
struct Build {
    /// Also the program's.
    name: &'static str,
    /// A compiler, and its flags beyond [`FLAGS`].
    recipe: &'static [&'static str],
    /// A linker that may be missing.
    needs: Option<&'static str>,
}

const fn build(name: &'static str, recipe: &'static [&'static str]) -> Build {
    Build {
        name,
        recipe,
        needs: None,
    }
}

const fn build_with(
    needs: &'static str,
    name: &'static str,
    recipe: &'static [&'static str],
) -> Build {
    Build {
        needs: Some(needs),
        ..build(name, recipe)
    }
}

/// Runs all builds at a time and records them together; each with its own stacks, in the given order. A build for which
/// something is missing is left out.
fn record(builds: &[Build]) -> Vec<(&'static str, Folded)> {
    let builds = builds.iter().filter(|build| {
        !build
            .needs
            .is_some_and(|need| missing(&[Need::Program(need)]))
    });
    let running: Vec<(&str, Workload)> = builds
        .map(|build| {
            let recipe = [&build.recipe[..1], &FLAGS, &build.recipe[1..]].concat();
            let program = build_as("deep_recursion.c", &recipe, build.name);
            let workload = Workload::start_program(&program, &["60"]);
            workload.signal(Signal::SIGSTOP); // or all would burn while the recorder begins
            (build.name, workload)
        })
        .collect();
    let pids = running
        .iter()
        .flat_map(|(_, workload)| ["--pid".into(), workload.pid().to_string()]);
    let mut recording = Record::new()
        .args(pids)
        .args(["-F", "1997"])
        .args(BY_TABLES)
        .start();
    recording.wait_until_armed();
    for (_, workload) in &running {
        workload.signal(Signal::SIGCONT);
    }
    for (_, workload) in &running {
        wait_for_cpu(workload.pid(), 200_000_000);
    }
    recording.signal(Signal::SIGINT);
    let names: Vec<&str> = running.iter().map(|(name, _)| *name).collect();
    drop(running); // or they would burn while names are looked up
    let folded = recording.wait().assert_recorded().folded();
    let of_each = names
        .into_iter()
        .map(|name| (name, folded.of_process(name)));
    of_each.collect()
}

fn assert_whole(builds: &[Build]) {
    if missing(&[Need::Bpf]) {
        return;
    }
    for (name, folded) in record(builds) {
        eprintln!("{name}: {} samples", folded.total());
        KnownStacks::from_main(&STACKS).assert_seen_in(&folded);
    }
}

/// Linkers differ in how they cut a program into segments, and each segment has its own distance from file to memory.
#[test]
fn programs_of_any_linker_are_whole() {
    assert_whole(&[
        build("bfd", &["gcc", "-fuse-ld=bfd"]),
        build("bfd-huge-pages", &["gcc", "-Wl,-z,max-page-size=0x200000"]),
        build("bfd-one-segment", &["gcc", "-Wl,-z,noseparate-code"]),
        build_with("ld.gold", "gold", &["gcc", "-fuse-ld=gold"]),
        build_with("ld.lld", "lld", &["gcc", "-fuse-ld=lld"]),
        build_with(
            "ld.lld",
            "lld-no-ro",
            &["gcc", "-fuse-ld=lld", "-Wl,--no-rosegment"],
        ),
        build_with("ld.mold", "mold", &["gcc", "-fuse-ld=mold"]),
    ]);
}

#[test]
fn programs_at_a_fixed_address_or_without_libraries_are_whole() {
    assert_whole(&[
        build("fixed", &["gcc", "-no-pie"]),
        build_with("ld.lld", "lld-fixed", &["gcc", "-no-pie", "-fuse-ld=lld"]),
        build("static", &["gcc", "-static"]),
        build("exported", &["gcc", "-s", "-rdynamic"]),
        build(
            "debug-frame",
            &[
                "gcc",
                "-fno-asynchronous-unwind-tables",
                "-fno-unwind-tables",
            ],
        ),
    ]);
}

/// Such a program lies where others have their libraries.
#[test]
fn programs_without_libraries_at_any_address_are_whole() {
    assert_whole(&[
        build("static-pie", &["gcc", "-static-pie"]),
        build_with(
            "ld.mold",
            "mold-static-pie",
            &["gcc", "-static-pie", "-fuse-ld=mold"],
        ),
    ]);
}

/// musl's own functions have no unwind information; the one that calls `main` is known by its name.
#[test]
fn a_program_with_musl_in_it_is_whole() {
    if missing(&[Need::Bpf, Need::Program("musl-gcc")]) {
        return;
    }
    for (_, folded) in record(&[build("musl", &["musl-gcc", "-static"])]) {
        let known = KnownStacks {
            is_outside: |frames| frames == ["libc_start_main_stage2"],
            ..KnownStacks::from_main(&STACKS)
        };
        known.assert_seen_in(&folded);
    }
}

#[test]
fn a_stripped_program_has_all_frames_though_no_names() {
    if missing(&[Need::Bpf]) {
        return;
    }
    for (_, folded) in record(&[build("stripped", &["gcc", "-s"])]) {
        let all = folded.total();
        assert!(all > 300, "only {all} samples");
        let whole = folded.count_where(|frames| {
            let nameless = user_frames(frames)
                .iter()
                .filter(|frame| frame.starts_with("stripped+0x"))
                .count();
            // `_start`, `main`, 60 times `descend`, `leaf_work`.
            nameless == 63 && !frames[1].starts_with("[truncated: ")
        });
        assert!(whole as f64 >= 0.99 * all as f64, "{whole} of {all}");
    }
}

/// A recording of goroutines.go.
fn goroutines() -> Option<Folded> {
    if missing(&[Need::Bpf, Need::Program("go")]) {
        return None;
    }
    let workload = Workload::start("goroutines.go", &[]);
    let finished = Record::pid(workload.pid())
        .args(["-F", "997"])
        .args(BY_TABLES)
        .run_for_cpu(workload.pid(), 2000);
    Some(finished.assert_recorded().folded())
}

#[test]
fn goroutines_are_whole() {
    let Some(folded) = goroutines() else { return };
    let known = KnownStacks {
        is_outside: |frames| frames == ["runtime.goexit"],
        ..KnownStacks::from_main(&["main.works main.descend*40 main.leafWork"])
    };
    known.assert_seen_in(&folded);
}

/// Go's `time.now` asks the vDSO on the stack of the thread, not of the goroutine.
#[test]
fn a_goroutine_that_asks_for_the_time_is_whole_through_the_vdso() {
    let Some(folded) = goroutines() else { return };
    let asking = folded.only(|frames| !frames.iter().any(|frame| frame == "main.works"));
    let known = KnownStacks {
        is_outside: |frames| frames == ["runtime.goexit"],
        is_ignored: |frame| !frame.starts_with("main."),
        stacks: &["main.asksForTime"],
    };
    assert_complete(&asking);
    known.assert_seen_in(&asking);
}

/// A compiler moves what is rarely used out of a function, and debug information then says that it has two ranges.
#[test]
fn functions_in_two_parts_keep_their_names() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let recipe = [&["g++"][..], &FLAGS].concat();
    let program = build_as("exceptions.cpp", &recipe, "exceptions-debug");
    let workload = Workload::start_program(&program, &[]);
    let finished = Record::pid(workload.pid())
        .args(["-F", "997"])
        .args(BY_TABLES)
        .run_for_cpu(workload.pid(), 1200);
    let folded = finished.assert_recorded().folded();
    let handling = folded.with("work_in_catch");
    let named = folded.with_below("catcher", "work_in_catch");
    assert!(handling > 100, "{handling} samples");
    assert_eq!(named, handling, "calls of `catcher` have its name");
}
