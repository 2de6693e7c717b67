//! Each bad input gets a clear error with its exit code, or a counted reason; an error never looks like success, and
//! what was recorded before it is kept.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use object::{Object, ObjectSegment};

use crate::support::need::skip;
use crate::support::proc::{self, wait_for_cpu, wait_until};
use crate::support::recording::{exit, perfprof};
use crate::support::{Need, Record, Workload, build, missing};

/// An ordinary user without privileges, on every Linux.
const NOBODY: u32 = 65534;

#[test]
fn a_process_that_does_not_exist_is_no_target() {
    Record::pid(proc::unused_pid())
        .args(["-d", "1"])
        .run()
        .assert_refused(exit::NO_TARGET);
}

#[test]
fn a_zombie_is_no_target() {
    let mut child = Command::new("true")
        .stdin(Stdio::null())
        .spawn()
        .expect("`true` can be run");
    let pid = child.id();
    wait_until("the child is a zombie", Duration::from_secs(10), || {
        proc::state(pid) == Some('Z')
    });
    let finished = Record::pid(pid).args(["-d", "1"]).run();
    finished.assert_refused(exit::NO_TARGET);
    child.wait().expect("a child can be waited for");
}

#[test]
fn a_kernel_thread_is_refused_or_has_no_samples_but_never_succeeds_empty() {
    if missing(&[Need::Perf]) {
        return;
    }
    let Some(pid) = proc::any_kernel_thread() else {
        return skip("kernel-threads", "none is visible in this PID namespace");
    };
    let finished = Record::pid(pid).args(["-d", "1"]).run();
    finished.assert_refused(exit::NO_TARGET);
}

#[test]
fn a_target_without_samples_is_an_error() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start("idle.c", &[]);
    let finished = Record::pid(workload.pid())
        .args(["-d", "1", "--mode", "on-cpu"])
        .run();
    finished.assert_refused(exit::INCONCLUSIVE);
    assert!(
        finished.stderr.contains("no samples"),
        "{}",
        finished.stderr
    );
}

/// A service that hangs uses no CPU, and what it waits for is what its owner wants to know.
#[test]
fn a_target_that_only_waits_has_a_report_that_is_inconclusive() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let workload = Workload::start("idle.c", &[]);
    let finished = Record::pid(workload.pid())
        .args(["-d", "1", "--mode", "off-cpu"])
        .run();
    assert_eq!(finished.status.code(), Some(exit::INCONCLUSIVE));
    finished.assert_recorded();
    let folded = finished.folded();
    let waited = folded.with("main");
    assert!(waited > 900_000, "microseconds in `main`: {waited}");
    assert!(finished.report().contains("Where the time goes"));
}

#[test]
fn wrong_usage_is_named() {
    for args in [
        &["-d", "abc"][..],
        &["-d", "-1"],
        &["-F", "0"],
        &["--unwind", "magic"],
        &["-o", "profile.xyz"],
    ] {
        let finished = Record::pid(std::process::id()).args(args).run();
        assert_eq!(
            finished.status.code(),
            Some(exit::USAGE),
            "{args:?}: {}",
            finished.stderr
        );
        assert!(
            finished.stderr.contains(args[1]),
            "{args:?}: {}",
            finished.stderr
        );
    }
}

#[test]
fn no_target_at_all_is_wrong_usage() {
    let finished = Record::new().run();
    assert_eq!(
        finished.status.code(),
        Some(exit::USAGE),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_command_that_cannot_be_run_is_no_target() {
    if missing(&[Need::Perf]) {
        return;
    }
    let finished = Record::new()
        .launching(Path::new("/nonexistent/program"), &[])
        .run();
    finished.assert_refused(exit::NO_TARGET);
    assert!(
        finished.stderr.contains("/nonexistent/program"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_an_output_error() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start("frame_pointer.c", &[]);
    let record = Record::pid(workload.pid()).args(["-d", "1"]);
    // A file where a folder must be: refused for root, too.
    fs::write(record.folder().join("artifacts"), "in the way").expect("a file can be written");
    record.run().assert_refused(exit::NOT_WRITTEN);
}

#[test]
fn a_full_disk_is_an_output_error_and_leaves_no_half_file() {
    if missing(&[Need::Perf, Need::Root, Need::Program("unshare")]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let full = folder.path().join("full");
    fs::create_dir(&full).expect("a folder can be made");
    let workload = Workload::start("frame_pointer.c", &[]);
    // One page is less than any report. The mount lives in the command's own mount namespace only; what is left there
    // is listed before it ends.
    let script = format!(
        "mount -t tmpfs -o size=4k none {full} || exit 99; \
         {perfprof} record --pid {pid} -d 2 --artifacts {full}; code=$?; ls -A {full} >&2; exit $code",
        full = full.display(),
        perfprof = perfprof().display(),
        pid = workload.pid()
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .stdin(Stdio::null())
        .output()
        .expect("`unshare` can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(99) || stderr.contains("unshare failed") {
        return skip("mount", "no private mounts may be made here");
    }
    assert_eq!(output.status.code(), Some(exit::NOT_WRITTEN), "{stderr}");
    assert!(stderr.contains("error: "), "{stderr}");
    assert!(
        !stderr.lines().any(|line| line == "profiling-report.md"),
        "a half report stays: {stderr}"
    );
}

#[test]
fn another_users_process_needs_a_privilege_that_is_named() {
    if missing(&[Need::Perf, Need::Root, Need::Program("setpriv")]) {
        return;
    }
    let workload = Workload::start("frame_pointer.c", &[]);
    // The build folder may be closed to others, so `nobody` gets a copy.
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let program = folder.path().join("perfprof");
    copy_program(perfprof(), &program);
    open_to_all(folder.path());
    let mut setpriv = Command::new("setpriv");
    setpriv
        .arg(format!("--reuid={NOBODY}"))
        .arg(format!("--regid={NOBODY}"));
    setpriv
        .args(["--clear-groups", "--inh-caps=-all"])
        .arg(&program);
    let record =
        Record::from_command(setpriv).args(["--pid", &workload.pid().to_string(), "-d", "1"]);
    chown(record.folder(), Some(NOBODY), Some(NOBODY)).expect("root can give a folder away");
    let finished = record.run();
    finished.assert_refused(exit::NOT_PERMITTED);
    let says_what = ["CAP_", "perf_event_paranoid"];
    assert!(
        says_what.iter().any(|name| finished.stderr.contains(name)),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_process_that_execs_for_ever_is_followed() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start("execer.c", &[]);
    let finished = Record::pid(workload.pid())
        .args(["-F", "997"])
        .run_for_cpu(workload.pid(), 2000);
    let folded = finished.assert_recorded().folded();
    let (burning, all) = (folded.with("between_execs"), folded.total());
    assert!(all > 1000, "only {all} samples");
    assert!(
        burning as f64 >= 0.8 * all as f64,
        "{burning} of {all} samples are named after an exec"
    );
}

#[test]
fn a_deleted_binary_keeps_its_names() {
    if missing(&[Need::Perf]) {
        return;
    }
    let (_folder, program) = own_copy("frame_pointer.c");
    let workload = Workload::start_program(&program, &[]);
    fs::remove_file(&program).expect("the copy can be deleted");
    check_names_survive(&workload);
}

#[test]
fn a_replaced_binary_is_not_named_after_its_successor() {
    if missing(&[Need::Perf]) {
        return;
    }
    let (folder, program) = own_copy("frame_pointer.c");
    let workload = Workload::start_program(&program, &[]);
    let successor = folder.path().join("successor");
    copy_program(&build("deep_recursion.c"), &successor);
    fs::rename(&successor, &program).expect("a program can be replaced");
    let folded = check_names_survive(&workload);
    for wrong in ["descend", "leaf_work"] {
        assert_eq!(folded.with(wrong), 0, "`{wrong}` is the successor's name");
    }
}

#[test]
fn a_binary_deleted_while_recording_keeps_its_names() {
    if missing(&[Need::Perf]) {
        return;
    }
    let (_folder, program) = own_copy("frame_pointer.c");
    let workload = Workload::start_program(&program, &[]);
    let mut recording = Record::pid(workload.pid()).args(["-F", "499"]).start();
    recording.wait_until_armed();
    wait_for_cpu(workload.pid(), 300_000_000);
    fs::remove_file(&program).expect("the copy can be deleted");
    wait_for_cpu(workload.pid(), 300_000_000);
    recording.signal(Signal::SIGINT);
    let finished = recording.wait();
    let folded = finished.assert_recorded().folded();
    assert!(folded.with("hot_seventy") as f64 >= 0.5 * folded.total() as f64);
}

#[test]
fn a_library_without_its_end_is_shown_by_address() {
    if missing(&[Need::Perf]) {
        return;
    }
    let (_folder, plugin) = own_copy("plugin.c");
    cut_after_last_segment(&plugin);
    let mut workload = Workload::start("dlopener.c", &[&plugin.to_string_lossy()]);
    workload.signal(Signal::SIGUSR1);
    workload.expect_line("loaded");
    let finished = Record::pid(workload.pid())
        .args(["-F", "499"])
        .run_for_cpu(workload.pid(), 2000);
    let folded = finished.assert_recorded().folded();
    let (in_plugin, all) = (folded.with("plugin"), folded.total());
    assert!(all > 500, "only {all} samples");
    assert!(
        in_plugin as f64 >= 0.8 * all as f64,
        "{in_plugin} of {all} samples name the library"
    );
}

/// Records briefly and checks that both functions have their names.
fn check_names_survive(workload: &Workload) -> crate::support::Folded {
    let finished = Record::pid(workload.pid())
        .args(["-F", "499"])
        .run_for_cpu(workload.pid(), 2000);
    let folded = finished.assert_recorded().folded();
    let named = folded.with("hot_seventy") + folded.with("hot_thirty");
    let all = folded.total();
    assert!(all > 500, "only {all} samples");
    assert!(
        named as f64 >= 0.95 * all as f64,
        "{named} of {all} samples have names"
    );
    folded
}

/// A copy of a workload that the test may spoil.
fn own_copy(source: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let original = build(source);
    let copy = folder
        .path()
        .join(original.file_name().expect("a program has a name"));
    copy_program(&original, &copy);
    (folder, copy)
}

/// Copies by another process: a file this one has open for writing could be inherited by a child that another test
/// starts at this moment, and then cannot be executed (ETXTBSY).
fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status();
    assert!(
        status.expect("`cp` can be run").success(),
        "cp {from:?} {to:?}"
    );
}

/// Cuts off symbols, debug information and section headers: all that the loader does not need.
fn cut_after_last_segment(library: &Path) {
    let bytes = fs::read(library).expect("the library can be read");
    let elf = object::File::parse(&*bytes).expect("the library is ELF");
    assert!(elf.is_little_endian());
    let ends = elf.segments().map(|segment| {
        let (offset, size) = segment.file_range();
        offset + size
    });
    let end = ends.max().expect("a library has segments");
    assert!(end < bytes.len() as u64, "there is something to cut off");
    fs::write(library, &bytes[..end as usize]).expect("the library can be written");
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
}
