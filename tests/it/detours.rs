//! Stacks are whole where control leaves the usual path: jumps out of frames, stacks of one's own, exceptions and panics
//! in flight, calls that do not return, assembly that only its unwind information explains.

use crate::support::stacks::{BY_TABLES, assert_complete, user_frames};
use crate::support::{Folded, KnownStacks, Need, Record, Workload, missing};

/// Records a workload by tables in the kernel, for so much of its CPU time that there are enough samples.
fn record(source: &str, args: &[&str]) -> Folded {
    let workload = Workload::start(source, args);
    let finished = Record::pid(workload.pid())
        .args(["-F", "997"])
        .args(BY_TABLES)
        .run_for_cpu(workload.pid(), 1200);
    finished.assert_recorded().folded()
}

#[test]
fn after_a_jump_out_of_deep_frames_none_of_them_is_left() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folded = record("detours.c", &["longjmp"]);
    let stacks = [
        "main jumper work_between",
        "main jumper dive*20 work_in_depth",
        "main jumper work_after",
    ];
    KnownStacks::from_main(&stacks).assert_seen_in(&folded);
    assert_complete(&folded);
}

/// glibc's `makecontext` plants the address of a function's first instruction as the return address of a coroutine; the
/// place before it, where callers are looked up, has no unwind information.
#[test]
fn coroutines_have_stacks_of_their_own_down_to_where_they_began() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folded = record("detours.c", &["coroutines"]);
    let stacks = [
        "shallow_entry chain*2 shallow_work",
        "deep_entry chain*9 deep_work",
    ];
    let in_coroutine = KnownStacks {
        is_outside: |frames| frames == ["__start_context"],
        ..KnownStacks::from_main(&stacks)
    };
    in_coroutine.assert_seen_in(&folded);
    let stacks = ["main scheduler work_between_switches"];
    KnownStacks::from_main(&stacks).assert_seen_in(&folded);
    assert_complete(&folded);
}

#[test]
fn a_call_that_never_returns_has_the_right_caller() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folded = record("detours.c", &["noreturn"]);
    KnownStacks::from_main(&["main tries_it ends_in_call never_returns"]).assert_seen_in(&folded);
    assert_eq!(folded.with("neighbour"), 0, "it never runs");
    assert_complete(&folded);
}

#[test]
fn assembly_that_explains_itself_may_use_any_register() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folded = record("detours.c", &["assembly"]);
    let stacks = [
        "main calls_assembly data_in_rbp",
        "main calls_assembly frame_in_rax",
        "main calls_assembly data_in_rbp work_in_callback",
        "main calls_assembly frame_in_rax work_in_callback",
    ];
    KnownStacks::from_main(&stacks).assert_seen_in(&folded);
    assert_complete(&folded);
}

#[test]
fn asking_for_the_time_is_whole_through_the_vdso() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folded = record("detours.c", &["clock"]);
    let in_vdso = folded.count_where(|frames| {
        let asks = frames.iter().position(|frame| frame == "asks_for_time");
        // Through `cpu_ns`, which is inlined, and the C library's function into the vDSO's.
        asks.is_some_and(|asks| frames.len() > asks + 3) && frames[1] == "_start"
    });
    assert!(in_vdso > 500, "{in_vdso} samples in the vDSO");
    assert_complete(&folded);
}

#[test]
fn asking_the_dynamic_linker_is_whole() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folded = record("detours.c", &["linker"]);
    let asking = folded.count_where(|frames| {
        let own = user_frames(frames);
        own.first() == Some(&"_start") && own.contains(&"asks_linker")
    });
    let all = folded.total();
    assert!(asking as f64 >= 0.99 * all as f64, "{asking} of {all}");
    assert_complete(&folded);
}

#[test]
fn what_an_exception_itself_costs_is_whole() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folded = record("exceptions.cpp", &["0"]);
    let throwing = folded.with_below("thrower", "_Unwind_RaiseException");
    let resuming = folded.with_below("descend", "_Unwind_Resume");
    assert!(
        throwing > 50 && resuming > 50,
        "{throwing} and {resuming} samples"
    );
    assert_complete(&folded);
}

#[test]
fn an_exception_in_flight_has_the_frames_that_are_left() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folded = record("exceptions.cpp", &[]);
    let mut stacks = vec!["main catcher work_in_catch".to_string()];
    stacks.extend(
        (1..=10)
            .map(|left| format!("main catcher descend*{left} Guard::~Guard() work_in_destructor")),
    );
    let stacks: Vec<&str> = stacks.iter().map(String::as_str).collect();
    KnownStacks::from_main(&stacks).assert_seen_in(&folded);
}

#[test]
fn a_panic_in_flight_has_the_frames_that_are_left() {
    if missing(&[Need::Bpf, Need::Program("rustc")]) {
        return;
    }
    let folded = record("panics.rs", &[]);
    let mut stacks = vec!["main catcher work_after_catch".to_string()];
    stacks.extend((1..=12).map(|left| format!("main catcher descend*{left} work_in_drop")));
    let stacks: Vec<&str> = stacks.iter().map(String::as_str).collect();
    let known = KnownStacks {
        is_ignored: |frame| frame.contains("::"),
        ..KnownStacks::from_main(&stacks)
    };
    known.assert_seen_in(&folded);
}
