//! Generated code has the names its runtime tells, at the time it tells them, and a map that must not be read is refused
//! with a reason.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::Value;

use crate::support::folded::{assert_share, tolerance};
use crate::support::need::skip;
use crate::support::proc::{wait_for_cpu, wait_until};
use crate::support::recording::Finished;
use crate::support::{Contained, Folded, Need, Record, Workload, build, missing};

const HZ: f64 = 499.0;
const SOURCE: &str = "generated_code.c";

/// A file in the folder that all programs share; taken away at the end.
struct Shared(PathBuf);

impl Shared {
    /// Where process `pid` puts its map.
    fn map_of(pid: u32) -> Shared {
        Shared(PathBuf::from(format!("/tmp/perf-{pid}.map")))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

fn record(pid: u32) -> Record {
    Record::pid(pid).args(["-F", &HZ.to_string()])
}

/// Samples of frames without a name for a reason, of all frames.
fn unnamed(finished: &Finished, reason: &str) -> u64 {
    let text = fs::read(finished.artifact("coverage.json")).expect("coverage.json was written");
    let coverage: Value = serde_json::from_slice(&text).expect("coverage.json is JSON");
    let reasons = &coverage["services"][0]["metrics"]["symbols"]["reasons"];
    let reasons = reasons.as_array().expect("a list");
    let found = reasons.iter().find(|entry| entry["id"] == reason);
    found.map_or(0, |entry| entry["count"].as_u64().expect("a count"))
}

#[track_caller]
fn assert_seventy_thirty(folded: &Folded, finished: &Finished) {
    let (seventy, thirty) = (
        folded.with("generated_seventy"),
        folded.with("generated_thirty"),
    );
    assert!(seventy + thirty > 300, "{folded:?}");
    let cpu_time = finished.coverage("cpu_time");
    assert_share(
        "generated_seventy",
        seventy,
        seventy + thirty,
        0.7,
        cpu_time,
    );
    assert_eq!(
        folded.with_below("burner", "generated_"),
        seventy + thirty,
        "its caller is known"
    );
}

#[test]
fn generated_code_has_the_names_of_its_map() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start(SOURCE, &["map"]);
    let _map = Shared::map_of(workload.pid());
    let finished = record(workload.pid()).run_for_cpu(workload.pid(), 1500);
    let folded = finished.assert_recorded().folded();
    assert_seventy_thirty(&folded, &finished);
    assert_eq!(unnamed(&finished, "jit"), 0);
}

#[test]
fn memory_that_is_kept_back_keeps_nobody_waiting() {
    if missing(&[Need::Perf, Need::Root]) {
        return;
    }
    let workload = Workload::start(SOURCE, &["stuck"]);
    let _map = Shared::map_of(workload.pid());
    let finished = record(workload.pid()).run_for_cpu(workload.pid(), 1500);
    assert_seventy_thirty(&finished.assert_recorded().folded(), &finished);
}

#[test]
fn a_process_that_ends_before_the_recording_keeps_its_names() {
    if missing(&[Need::Perf]) {
        return;
    }
    let program = build(SOURCE);
    let script = format!(
        "{} map 1500 & pid=$!; wait $pid; rm /tmp/perf-$pid.map; echo",
        program.display()
    );
    let finished = Record::new()
        .args(["-F", &HZ.to_string()])
        .launching(Path::new("/bin/sh"), &["-c", &script])
        .run();
    let folded = finished.assert_recorded().folded();
    assert_seventy_thirty(&folded.of_process("generated_code"), &finished);
}

#[test]
fn a_jitdump_brings_names_and_lines() {
    if missing(&[Need::Perf]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a plain path");
    let workload = Workload::start(SOURCE, &["dump", path]);
    let svg = folder.path().join("out.speedscope.json");
    let finished = record(workload.pid())
        .args(["-o".as_ref(), svg.as_os_str()])
        .run_for_cpu(workload.pid(), 1500);
    let folded = finished.assert_recorded().folded();
    assert_seventy_thirty(&folded, &finished);
    let text = fs::read_to_string(svg).expect("written");
    let speedscope: Value = serde_json::from_str(&text).expect("JSON");
    let frames = speedscope["shared"]["frames"].as_array().expect("a list");
    let place = |name: &str| {
        let found = frames.iter().find(|frame| frame["name"] == name);
        let frame = found.unwrap_or_else(|| panic!("no {name}"));
        (frame["file"].clone(), frame["line"].clone())
    };
    let file = Value::from("/srv/generated.lang");
    assert_eq!(place("generated_seventy"), (file.clone(), Value::from(7)));
    assert_eq!(place("generated_thirty"), (file, Value::from(3)));
    assert_eq!(unnamed(&finished, "bad-file"), 0);
}

#[test]
fn an_address_that_is_used_again_is_named_by_time() {
    if missing(&[Need::Perf]) {
        return;
    }
    for mode in ["reuse", "rewrite"] {
        let workload = Workload::start(SOURCE, &[mode]);
        let pid = workload.pid();
        let _map = Shared::map_of(pid);
        let mut recording = record(pid).start();
        recording.wait_until_armed();
        let before = workload_truth_begin(pid);
        wait_for_cpu(pid, 800_000_000);
        workload.signal(Signal::SIGUSR1);
        wait_for_cpu(pid, 800_000_000);
        // The workload ends first, so that what it says is what was recorded, but for its time before.
        let truth = workload.stop();
        let folded = recording.wait().assert_recorded().folded();
        let spent = |which: &str| truth[which].as_f64().expect("a number");
        let (first, second) = (
            folded.with("generated_first"),
            folded.with("generated_second"),
        );
        let share =
            (spent("first_ns") - before) / (spent("first_ns") - before + spent("second_ns"));
        // File systems stamp times by a clock that moves in steps of up to 10 ms, and arming takes a moment.
        let within = tolerance(share, first + second) + 0.03;
        let measured = first as f64 / (first + second) as f64;
        assert!(
            (measured - share).abs() <= within,
            "{mode}: first {measured:.3}, truth {share:.3} ± {within:.3}, n = {}",
            first + second
        );
        assert_eq!(folded.with("generated_other"), 0);
    }
}

/// CPU time of a process so far, nanoseconds.
fn workload_truth_begin(pid: u32) -> f64 {
    crate::support::proc::cpu_ns(pid) as f64
}

#[test]
fn a_forked_child_has_its_parents_names_and_its_own() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start(SOURCE, &["fork"]);
    let pid = workload.pid();
    let _map = Shared::map_of(pid);
    let mut recording = record(pid).start();
    recording.wait_until_armed();
    wait_for_cpu(pid, 200_000_000);
    workload.signal(Signal::SIGUSR1);
    let children = || {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let listed = fs::read_to_string(path).unwrap_or_default();
        listed.trim().parse::<u32>().ok()
    };
    wait_until("the child is there", Duration::from_secs(20), || {
        children().is_some()
    });
    let child = children().expect("just seen");
    let _childs_map = Shared::map_of(child);
    wait_for_cpu(child, 600_000_000);
    workload.stop();
    let finished = recording.wait();
    let folded = finished.assert_recorded().folded();
    let own = folded.with("generated_child");
    assert!(own > 100, "{folded:?}");
    assert!(folded.with("generated_parent") > 2 * own, "{folded:?}");
    assert_eq!(unnamed(&finished, "jit"), 0);
    assert_eq!(unnamed(&finished, "not-in-jit-map"), 0);
}

#[test]
fn a_new_program_does_not_inherit_the_map_of_the_one_before() {
    if missing(&[Need::Perf]) {
        return;
    }
    let mut workload = Workload::start(SOURCE, &["exec"]);
    let pid = workload.pid();
    let _map = Shared::map_of(pid);
    let mut recording = record(pid).start();
    recording.wait_until_armed();
    wait_for_cpu(pid, 400_000_000);
    workload.signal(Signal::SIGUSR1);
    workload.expect_line("ready");
    wait_for_cpu(pid, 400_000_000);
    let truth = workload.stop();
    let finished = recording.wait();
    let folded = finished.assert_recorded().folded();
    let before = folded.with("generated_before");
    let unnamed = unnamed(&finished, "jit-map-refused");
    assert!(before > 100, "{folded:?}");
    let after = truth["second_ns"].as_f64().expect("a number") / 1e9 * HZ;
    assert!(
        (unnamed as f64 - after).abs() < 0.15 * after + 10.0,
        "{unnamed} samples without a name, {after:.0} expected"
    );
    assert!(
        finished.report().contains("before the process began"),
        "{}",
        finished.report()
    );
}

#[test]
fn a_map_is_found_in_its_own_namespaces_and_nowhere_else() {
    if missing(&[Need::Perf, Need::Root, Need::Program("unshare")]) {
        return;
    }
    let command = format!("{} map", build(SOURCE).display());
    let Some(contained) = Contained::start(&command, "generated_code") else {
        return skip("mount", "no private mounts may be made here");
    };
    // What stands here is not what the process sees, by either of its PIDs.
    let decoy = Shared::map_of(contained.pid());
    fs::write(&decoy.0, "1000 7ffffffff000 decoy\n").expect("written");
    let finished = record(contained.pid()).run_for_cpu(contained.pid(), 1500);
    let folded = finished.assert_recorded().folded();
    assert_seventy_thirty(&folded, &finished);
    assert_eq!(folded.with("decoy"), 0);
}

/// A workload that writes no map, and its two functions as lines of one.
fn silent() -> (Workload, Shared, String) {
    let mut workload = Workload::start(SOURCE, &["silent"]);
    let places = workload.next_truth();
    let place = |which: &str| places[which].as_u64().expect("an address");
    let size = place("size");
    let (first, second) = (place("first"), place("second"));
    let lines =
        format!("{first:x} {size:x} generated_seventy\n{second:x} {size:x} generated_thirty\n");
    let map = Shared::map_of(workload.pid());
    (workload, map, lines)
}

/// Records a workload whose map was refused, which the report says in these words.
#[track_caller]
fn assert_refused(workload: &Workload, words: &str) {
    let finished = record(workload.pid()).run_for_cpu(workload.pid(), 500);
    let folded = finished.assert_recorded().folded();
    let named = folded.with("generated_seventy") + folded.with("generated_thirty");
    assert_eq!(named, 0, "{folded:?}");
    assert!(unnamed(&finished, "jit-map-refused") > 100, "{words}");
    assert_eq!(unnamed(&finished, "jit"), 0);
    let report = finished.report();
    let plain = report.replace('\\', "");
    assert!(plain.contains(words), "{words}: {report}");
}

#[test]
fn no_map_at_all_is_a_reason_of_its_own() {
    if missing(&[Need::Perf]) {
        return;
    }
    let (workload, _, _) = silent();
    let finished = record(workload.pid()).run_for_cpu(workload.pid(), 500);
    finished.assert_recorded();
    assert!(unnamed(&finished, "jit") > 100);
    assert_eq!(unnamed(&finished, "jit-map-refused"), 0);
}

#[test]
fn a_fifo_a_link_and_a_file_of_another_user_are_refused() {
    if missing(&[Need::Perf, Need::Root]) {
        return;
    }
    let (workload, map, lines) = silent();
    nix::unistd::mkfifo(&map.0, Mode::S_IRWXU).expect("made");
    assert_refused(&workload, "it is a FIFO");

    fs::remove_file(&map.0).expect("removed");
    let folder = tempfile::tempdir().expect("a folder");
    let elsewhere = folder.path().join("map");
    fs::write(&elsewhere, &lines).expect("written");
    symlink(&elsewhere, &map.0).expect("linked");
    assert_refused(&workload, "it is a symbolic link");

    fs::remove_file(&map.0).expect("removed");
    fs::create_dir(&map.0).expect("made");
    assert_refused(&workload, "it is not a regular file");

    fs::remove_dir(&map.0).expect("removed");
    fs::write(&map.0, &lines).expect("written");
    std::os::unix::fs::chown(&map.0, Some(65534), None).expect("given away");
    assert_refused(&workload, "it belongs to user 65534");

    fs::remove_file(&map.0).expect("removed");
    let second_name = Shared(PathBuf::from(format!("{}.other", map.0.display())));
    fs::write(&map.0, &lines).expect("written");
    fs::hard_link(&map.0, &second_name.0).expect("linked");
    assert_refused(&workload, "several names");
}

#[test]
fn a_map_of_an_earlier_process_is_refused_until_this_one_writes_it() {
    if missing(&[Need::Perf]) {
        return;
    }
    let (workload, map, lines) = silent();
    let stale = lines.replace("generated_", "earlier_");
    fs::write(&map.0, &stale).expect("written");
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let file = File::options().append(true).open(&map.0).expect("opened");
    file.set_modified(long_ago).expect("set");
    assert_refused(&workload, "by an earlier one");

    file.set_modified(long_ago).expect("set");
    let mut recording = record(workload.pid()).start();
    recording.wait_until_armed();
    wait_for_cpu(workload.pid(), 300_000_000);
    (&file).write_all(lines.as_bytes()).expect("written");
    wait_for_cpu(workload.pid(), 1_500_000_000);
    recording.signal(Signal::SIGINT);
    let finished = recording.wait();
    let folded = finished.assert_recorded().folded();
    assert_seventy_thirty(&folded, &finished);
    assert_eq!(folded.with("earlier_"), 0, "{folded:?}");
}

#[test]
fn a_map_that_never_ends_is_read_in_part_within_bounds() {
    if missing(&[Need::Perf]) {
        return;
    }
    let (workload, map, lines) = silent();
    let garbage = "no number at all\n".repeat(1000);
    fs::write(&map.0, format!("{lines}{garbage}")).expect("written");
    fs::set_permissions(&map.0, fs::Permissions::from_mode(0o600)).expect("set");
    let over = AtomicBool::new(false);
    let finished = thread::scope(|scope| {
        scope.spawn(|| {
            // Sparse, so that it takes no room.
            let file = File::options().append(true).open(&map.0).expect("opened");
            let mut len = 1 << 40;
            while !over.load(Ordering::Relaxed) {
                len += 1 << 30;
                file.set_len(len).expect("grown");
                thread::sleep(Duration::from_millis(1));
            }
        });
        let finished = record(workload.pid()).run_for_cpu(workload.pid(), 1500);
        over.store(true, Ordering::Relaxed);
        finished
    });
    let folded = finished.assert_recorded().folded();
    assert_seventy_thirty(&folded, &finished);
    let report = finished.report();
    assert!(report.contains("too large"), "{report}");
    assert!(report.contains("1001 lines"), "{report}");
}
