//! The shares perfprof reports are the shares the programs had: programs that account for their own CPU time per
//! function are the judge, within the tolerance that the number of samples allows.

use crate::support::folded::{assert_share, tolerance};
use crate::support::proc::stolen_seconds;
use crate::support::workload::truth_sum;
use crate::support::{Need, Record, Workload, build, missing};

/// Fewer samples than this make a tolerance that proves nothing.
const ENOUGH_SAMPLES: u64 = 1000;

/// How far total CPU time may be off: the coverage threshold itself. What the host steals meanwhile and what switching
/// costs come on top.
const TOTAL_TOLERANCE: f64 = 0.05;

/// A perf event's clock also runs while the scheduler switches, which no thread's books carry. `perf stat -e cpu-clock`
/// beside a busy PostgreSQL counted 10 to 13 µs more a switch than the thread's own clock (kernel 6.18, virtual
/// machine, 2 500 to 13 000 switches in 2 s); this is a little more.
const SWITCH_SECONDS: f64 = 20e-6;

/// Records a two-function workload and holds the split against the program's own books.
fn check_split(source: &str, args: &[&str], how: &[&str]) {
    let workload = Workload::start(source, args);
    let finished = Record::pid(workload.pid())
        .args(["-F", "997"])
        .args(how)
        .run_for_cpu(workload.pid(), 3000);
    let truth = workload.stop();
    finished.assert_recorded();

    let folded = finished.folded();
    let (seventy, thirty) = (folded.with("hot_seventy"), folded.with("hot_thirty"));
    let all = seventy + thirty;
    assert!(
        all >= ENOUGH_SAMPLES,
        "only {all} samples in the two functions"
    );
    let (truth_seventy, truth_thirty) = (
        truth_sum(&truth, "hot_seventy"),
        truth_sum(&truth, "hot_thirty"),
    );
    let share = truth_seventy as f64 / (truth_seventy + truth_thirty) as f64;
    assert!(
        (share - 0.7).abs() < 0.001,
        "the workload keeps its split: {truth}"
    );
    let cpu_time = finished.coverage("cpu_time");
    assert_share("hot_seventy", seventy, all, share, cpu_time);

    // What stands in neither function is the loop around them, which reads clocks, and the program accounts for that, too:
    // on a busy machine it is more. The two per cent are for what it cannot see of itself, its beginning and its main thread.
    let around = 1.0 - all as f64 / folded.total() as f64;
    let whole = truth_sum(&truth, "total");
    let truth_around = 1.0 - (truth_seventy + truth_thirty) as f64 / whole as f64;
    let within = truth_around + tolerance(truth_around, folded.total()) + 0.02;
    assert!(
        around < within,
        "{:.1} % of samples are in neither function, at most {:.1} % should be",
        around * 100.0,
        within * 100.0
    );
}

#[test]
fn shares_of_a_cpp_program_without_frame_pointers_are_true() {
    if missing(&[Need::Perf, Need::Program("g++")]) {
        return;
    }
    check_split(
        "split_70_30.cpp",
        &["2"],
        &["--sampler", "perf", "--unwind", "dwarf-copy"],
    );
}

#[test]
fn shares_of_a_rust_program_without_frame_pointers_are_true() {
    if missing(&[Need::Perf, Need::Program("rustc")]) {
        return;
    }
    check_split(
        "split_70_30.rs",
        &["2"],
        &["--sampler", "perf", "--unwind", "dwarf-copy"],
    );
}

#[test]
fn shares_by_tables_in_the_kernel_are_true() {
    if missing(&[Need::Bpf, Need::Program("g++"), Need::Program("rustc")]) {
        return;
    }
    for source in ["split_70_30.cpp", "split_70_30.rs"] {
        check_split(source, &["2"], &["--sampler", "bpf", "--unwind", "dwarf"]);
    }
}

#[test]
fn shares_by_bpf_and_frame_pointers_are_true() {
    if missing(&[Need::Bpf]) {
        return;
    }
    check_split(
        "frame_pointer.c",
        &[],
        &["--sampler", "bpf", "--unwind", "fp"],
    );
}

#[test]
fn shares_by_perf_and_frame_pointers_are_true() {
    if missing(&[Need::Perf]) {
        return;
    }
    check_split(
        "frame_pointer.c",
        &[],
        &["--sampler", "perf", "--unwind", "fp"],
    );
}

#[test]
fn inlined_hot_functions_are_frames_of_their_own_below_both_callers() {
    if missing(&[Need::Perf, Need::Program("g++")]) {
        return;
    }
    let workload = Workload::start("split_70_30.cpp", &["1"]);
    let finished = Record::pid(workload.pid())
        .args(["-F", "997"])
        .run_for_cpu(workload.pid(), 2000);
    let folded = finished.assert_recorded().folded();
    for caller in ["hot_seventy", "hot_thirty"] {
        let (inlined, all) = (folded.with_below(caller, "inner_mix"), folded.with(caller));
        assert!(all > 100, "only {all} samples in {caller}");
        assert!(
            inlined as f64 >= 0.98 * all as f64,
            "{inlined} of {all} samples in {caller} show the inlined inner_mix"
        );
    }
}

#[test]
fn auto_gives_complete_stacks_without_frame_pointers() {
    if missing(&[Need::Perf, Need::Program("g++")]) {
        return;
    }
    let workload = Workload::start("split_70_30.cpp", &["2"]);
    let finished = Record::pid(workload.pid())
        .args(["-F", "499"])
        .run_for_cpu(workload.pid(), 2000);
    finished.assert_recorded();
    assert!(
        finished.coverage("stacks") >= 0.99,
        "{}",
        finished.coverage("stacks")
    );
    let folded = finished.folded();
    assert_eq!(folded.with("[truncated: "), folded.truncated());
    assert!(folded.truncated() as f64 <= 0.01 * folded.total() as f64);
}

#[test]
fn every_frame_of_a_deep_stack_is_there_once() {
    if missing(&[Need::Perf]) {
        return;
    }
    const DEPTH: usize = 60;
    let workload = Workload::start("deep_recursion.c", &[&DEPTH.to_string()]);
    let finished = Record::pid(workload.pid())
        .args(["-F", "499", "--sampler", "perf", "--unwind", "dwarf-copy"])
        .run_for_cpu(workload.pid(), 2000);
    let folded = finished.assert_recorded().folded();
    let all = folded.with("leaf_work");
    assert!(all > 500, "only {all} samples");
    let exact = folded.count_where(|frames| {
        let named = |name: &str| frames.iter().filter(|frame| frame.contains(name)).count();
        named("leaf_work") == 1 && named("descend") == DEPTH && named("main") >= 1
    });
    assert!(
        exact as f64 >= 0.99 * all as f64,
        "{exact} of {all} stacks have {DEPTH} descend frames"
    );
}

#[test]
fn per_thread_output_tells_the_threads_apart() {
    if missing(&[Need::Perf, Need::Program("g++")]) {
        return;
    }
    let workload = Workload::start("split_70_30.cpp", &["2"]);
    let finished = Record::pid(workload.pid())
        .args(["-F", "499", "--per-thread"])
        .run_for_cpu(workload.pid(), 2000);
    let truth = workload.stop();
    let folded = finished.assert_recorded().folded();
    for thread in truth["threads"].as_array().expect("truth has threads") {
        let name = thread["name"].as_str().expect("a thread has a name");
        let samples = folded.count_where(|frames| frames.get(1).is_some_and(|f| f.contains(name)));
        assert!(samples > 100, "{name} has {samples} samples");
    }
}

/// What the samples of a program's whole life stand for, beside the program's own books.
struct WholeLife {
    found_seconds: f64,
    used_seconds: f64,
    switches: f64,
}

fn record_whole_life(hz: u32) -> WholeLife {
    let record = Record::new().args(["-F", &hz.to_string()]);
    let truth_file = record.folder().join("truth.json");
    let finished = record
        .env("WORKLOAD_TRUTH", &truth_file)
        .launching(&build("short_lived.c"), &["3000"])
        .run();
    finished.assert_recorded();
    let truth = std::fs::read(&truth_file).expect("the workload wrote its truth");
    let truth: serde_json::Value = serde_json::from_slice(&truth).expect("the truth is JSON");
    let figure = |name: &str| truth[name].as_f64().expect("the truth has this figure");
    WholeLife {
        found_seconds: finished.folded().total() as f64 / f64::from(hz),
        used_seconds: figure("total") / 1e9,
        switches: figure("switches"),
    }
}

#[test]
fn total_cpu_time_is_true_and_does_not_depend_on_the_rate() {
    if missing(&[Need::Perf]) {
        return;
    }
    for hz in [199, 997] {
        let stolen = stolen_seconds();
        let life = record_whole_life(hz);
        let (found, used) = (life.found_seconds, life.used_seconds);
        let not_in_the_books = life.switches * SWITCH_SECONDS + stolen_seconds() - stolen;
        let (least, most) = (
            used * (1.0 - TOTAL_TOLERANCE),
            used * (1.0 + TOTAL_TOLERANCE) + not_in_the_books,
        );
        assert!(
            (least..=most).contains(&found),
            "at {hz} Hz the samples stand for {found:.3} s, not for {least:.3} to {most:.3} s"
        );
    }
}
