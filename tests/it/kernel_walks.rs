//! Stacks that are walked inside the kernel by unwind tables are whole where others give up, and say so where they are
//! not.

use crate::support::{Folded, Need, Record, Workload, missing};

/// Fewer samples than this prove nothing about 99 %.
const ENOUGH_SAMPLES: u64 = 500;

const BY_TABLES: [&str; 4] = ["--sampler", "bpf", "--unwind", "dwarf"];

/// Records a workload for so much of its CPU time that there are enough samples.
fn record(source: &str, args: &[&str]) -> Folded {
    let workload = Workload::start(source, args);
    let finished = Record::pid(workload.pid())
        .args(["-F", "499"])
        .args(BY_TABLES)
        .run_for_cpu(workload.pid(), 2000);
    finished.assert_recorded().folded()
}

/// Whether nearly all stacks with the leaf function have each of `callers` as often as said, and their root.
#[track_caller]
fn assert_whole(folded: &Folded, callers: &[(&str, usize)]) {
    let all = folded.with("leaf_work");
    assert!(all > ENOUGH_SAMPLES, "only {all} samples");
    let whole = folded.count_where(|frames| {
        let times = |name: &str| frames.iter().filter(|frame| **frame == name).count();
        times("leaf_work") == 1
            && !frames.iter().any(|frame| frame.contains("[truncated: "))
            && callers
                .iter()
                .all(|(name, expected)| times(name) == *expected)
    });
    assert!(
        whole as f64 >= 0.99 * all as f64,
        "{whole} of {all} stacks are whole"
    );
}

#[test]
fn every_frame_of_a_recursion_is_there_once() {
    if missing(&[Need::Bpf]) {
        return;
    }
    for depth in ["60", "300"] {
        let folded = record("deep_recursion.c", &[depth]);
        let depth = depth.parse().expect("a number");
        assert_whole(&folded, &[("descend", depth), ("main", 1)]);
    }
}

#[test]
fn a_stack_deeper_than_the_limit_is_cut_and_says_so() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folded = record("deep_recursion.c", &["700"]);
    let all = folded.with("leaf_work");
    assert!(all > ENOUGH_SAMPLES, "only {all} samples");
    let cut = folded.count_where(|frames| {
        let descends = frames.iter().filter(|frame| frame.contains("descend"));
        frames.iter().any(|f| f.contains("[truncated: too-deep]")) && descends.count() > 500
    });
    assert!(cut as f64 >= 0.99 * all as f64, "{cut} of {all}");
}

#[test]
fn frames_of_any_size_and_shape_lead_to_their_callers() {
    if missing(&[Need::Bpf]) {
        return;
    }
    for (kind, function) in [
        ("large", "large_frame"),
        ("alloca", "sized_frame"),
        ("aligned", "aligned_frame"),
    ] {
        let folded = record("hard_stacks.c", &[kind]);
        assert_whole(&folded, &[(function, 1), ("main", 1)]);
    }
}

#[test]
fn a_signal_handler_on_a_stack_of_its_own_has_the_interrupted_code_as_caller() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folded = record("hard_stacks.c", &["alternate"]);
    assert_whole(
        &folded,
        &[("on_alternate_stack", 1), ("raiser", 1), ("main", 1)],
    );
}

#[test]
fn assembly_without_unwind_information_is_reported_and_no_caller_invented() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folded = record("hard_stacks.c", &["bare"]);
    let all = folded.with("leaf_work");
    assert!(all > ENOUGH_SAMPLES, "only {all} samples");
    let honest = folded.count_where(|frames| {
        let has = |name: &str| frames.iter().any(|frame| frame.contains(name));
        has("bare_assembly") && has("[truncated: ") && !has("raiser") && !has("sized_frame")
    });
    assert!(honest as f64 >= 0.99 * all as f64, "{honest} of {all}");
}
