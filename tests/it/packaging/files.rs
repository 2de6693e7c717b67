//! Files that are not where they seem to be: only another mount namespace has them, they are gone, replaced, or the
//! process is.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::need::skip;
use crate::support::pprof::{self, Stack};
use crate::support::proc::wait_for_cpu;
use crate::support::recording::Finished;
use crate::support::stacks::BY_TABLES;
use crate::support::workload::build;
use crate::support::{Need, Record, Workload, missing};

use super::truth::{self, Tells};
use super::{HZ, Packaging, burn, profile_of, row};

/// Debug information beside the program, which must be found where the program is.
const IN_TWO_FILES: Packaging = row(
    "two-files",
    "gcc -g -Wl,--build-id=none $ALL -o program; debug_file
     objcopy --strip-all --add-gnu-debuglink=program.debug program",
);

/// The same functions under other names.
const SUCCESSOR: Packaging = row(
    "successor",
    "gcc -g $ALL -Dpart_outer=wrong_outer -Down_static=wrong_static -o program",
);

const WHOLE: Packaging = row("whole", "gcc -g $ALL -o program");

/// Records what burns in `workload` for a little; `meanwhile` is done between two halves of it.
fn record(workload: &Workload, meanwhile: impl FnOnce()) -> Finished {
    workload.signal(Signal::SIGSTOP);
    let record = Record::pid(workload.pid()).args(BY_TABLES);
    let profile = record.folder().join("out.pb.gz");
    let mut recording = record
        .args(["-F", HZ, "--no-kernel", "--no-symbol-cache", "-o"])
        .args([&profile])
        .start();
    recording.wait_until_armed();
    burn(workload);
    meanwhile();
    burn(workload);
    recording.signal(Signal::SIGINT);
    let finished = recording.wait();
    finished.assert_recorded();
    finished
}

fn stacks(finished: &Finished) -> Vec<Stack> {
    pprof::stacks(&profile_of(finished))
}

/// Checks all stacks of a recording of one process.
#[track_caller]
fn assert_known(finished: &Finished, tells: Tells) {
    let stacks = stacks(finished);
    let wrong = truth::disagreement(&stacks.iter().collect::<Vec<_>>(), tells);
    assert!(
        wrong.is_none(),
        "{}\n{}",
        wrong.unwrap_or_default(),
        finished.stderr
    );
}

/// A copy of what a row has made, which a test may spoil.
fn own_copy(packaging: &Packaging) -> Option<tempfile::TempDir> {
    let made = packaging.make()?;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    copy(&made.join("."), folder.path());
    Some(folder)
}

/// By another process: a file this one has open for writing could be inherited by a child that another test starts at
/// this moment, and then cannot be executed (ETXTBSY).
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(
        status.expect("`cp` can be run").success(),
        "cp {from:?} {to:?}"
    );
}

/// Starts what `script` ends in, in a mount namespace of its own; `None`, and said, where that is not possible. The
/// script gets the folder of the packaging as `$1` and an empty folder as `$2`.
fn in_namespace(script: &str, made: &Path, place: &Path) -> Option<Workload> {
    let command = |script: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", script, "sh"])
            .arg(made)
            .arg(place);
        command
    };
    let (mounts, _) = script.split_once("exec ").expect("a script ends in exec");
    let tried = command(mounts).output().expect("`unshare` can be run");
    if !tried.status.success() {
        let words = String::from_utf8_lossy(&tried.stderr).into_owned();
        skip("mount", &words);
        return None;
    }
    Some(Workload::spawn(&mut command(script)))
}

#[test]
fn files_of_another_mount_namespace_are_read_there() {
    const TMPFS: &str = "mount -t tmpfs none $2; cp -a $1/. $2; exec $2/program";
    const OVERLAY: &str = "mount -t tmpfs none $2; mkdir $2/upper $2/work $2/all
        mount -t overlay -o lowerdir=$1,upperdir=$2/upper,workdir=$2/work overlay $2/all; exec $2/all/program";
    // The program has been written to: it is another file than the one below.
    const COPIED_UP: &str = "mount -t tmpfs none $2; mkdir $2/upper $2/work $2/all
        mount -t overlay -o lowerdir=$1,upperdir=$2/upper,workdir=$2/work overlay $2/all; touch $2/all/program
        exec $2/all/program";
    if missing(&[Need::Bpf, Need::Root, Need::Program("unshare")]) {
        return;
    }
    for script in [TMPFS, OVERLAY, COPIED_UP] {
        let place = tempfile::tempdir().expect("a temporary folder can be made");
        let made = IN_TWO_FILES.make().expect("gcc is there");
        if let Some(workload) = in_namespace(script, &made, place.path()) {
            let finished = record(&workload, || ());
            eprintln!("{script}");
            assert_known(&finished, Tells::Lines);
        }
    }
}

#[test]
fn files_deleted_while_recording_keep_their_lines() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folder = own_copy(&WHOLE).expect("gcc is there");
    let workload = Workload::start_program(&folder.path().join("program"), &[]);
    let finished = record(&workload, || {
        std::fs::remove_file(folder.path().join("program")).expect("it can be deleted");
    });
    assert_known(&finished, Tells::Lines);
}

#[test]
fn a_program_replaced_by_another_build_keeps_its_lines() {
    if missing(&[Need::Bpf]) {
        return;
    }
    for before_recording in [true, false] {
        let (folder, successor) = (own_copy(&WHOLE), own_copy(&SUCCESSOR));
        let (folder, successor) = (
            folder.expect("gcc is there"),
            successor.expect("gcc is there"),
        );
        let program = folder.path().join("program");
        let workload = Workload::start_program(&program, &[]);
        let replace = || {
            std::fs::rename(successor.path().join("program"), &program).expect("it can be replaced")
        };
        let finished = match before_recording {
            true => {
                replace();
                record(&workload, || ())
            }
            false => record(&workload, replace),
        };
        assert_known(&finished, Tells::Lines);
    }
}

/// Stripped programs find the debug file by name: of a successor it is that of another build.
#[test]
fn a_debug_file_replaced_with_its_program_is_not_used() {
    if missing(&[Need::Bpf]) {
        return;
    }
    const NEXT_IN_TWO_FILES: Packaging = row(
        "two-files-next",
        "gcc -g -Wl,--build-id=none $ALL -Dpart_outer=wrong_outer -Down_static=wrong_static -o program; debug_file
         objcopy --strip-all --add-gnu-debuglink=program.debug program",
    );
    let (folder, successor) = (own_copy(&IN_TWO_FILES), own_copy(&NEXT_IN_TWO_FILES));
    let (folder, successor) = (
        folder.expect("gcc is there"),
        successor.expect("gcc is there"),
    );
    let workload = Workload::start_program(&folder.path().join("program"), &[]);
    for name in ["program", "program.debug"] {
        std::fs::rename(successor.path().join(name), folder.path().join(name))
            .expect("it can be replaced");
    }
    let finished = record(&workload, || ());
    assert_known(&finished, Tells::Nothing("no-symbol"));
}

#[test]
fn processes_and_files_gone_before_the_end_keep_their_lines() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let folder = own_copy(&WHOLE).expect("gcc is there");
    // Each ends by a signal, of which the shell would speak.
    let script = "for child in 1 2 3 4 5; do \"$1\"/program 60 >/dev/null 2>&1 || :; done; rm -r \"$1\"; exec true";
    let record = Record::new()
        .args(BY_TABLES)
        .args(["-F", HZ, "--no-kernel", "--no-symbol-cache"]);
    let profile = record.folder().join("out.pb.gz");
    let finished = record
        .args(["-o".as_ref(), profile.as_os_str()])
        .launching(
            Path::new("sh"),
            &["-c", script, "sh", &folder.path().to_string_lossy()],
        )
        .run();
    finished.assert_recorded();
    let stacks = stacks(&finished);
    let in_program = |stack: &&Stack| {
        stack
            .frames
            .iter()
            .any(|frame| frame.module.ends_with("/program"))
    };
    let of_children: Vec<&Stack> = stacks.iter().filter(in_program).collect();
    let wrong = truth::disagreement(&of_children, Tells::Lines);
    assert!(
        wrong.is_none(),
        "{}\n{}",
        wrong.unwrap_or_default(),
        finished.stderr
    );
}

#[test]
fn a_library_unloaded_and_deleted_keeps_its_lines() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let made = row(
        "library",
        "gcc -g -shared -fPIC $CFLAGS $SRC/packaged_library.c $SRC/packaged_part.c -o library.so",
    );
    let folder = own_copy(&made).expect("gcc is there");
    let library = folder.path().join("library.so");
    let path = library.to_string_lossy();
    let workload = Workload::start_program(&build("reopener.c"), &[&path, &path, "5"]);
    let record = Record::pid(workload.pid()).args(BY_TABLES);
    let profile = record.folder().join("out.pb.gz");
    let mut recording = record
        .args(["-F", HZ, "--no-kernel", "--no-symbol-cache", "-o"])
        .args([&profile])
        .start();
    recording.wait_until_armed();
    wait_for_cpu(workload.pid(), 300_000_000);
    workload.stop(); // with it go its mappings
    std::fs::remove_file(&library).expect("it can be deleted");
    recording.signal(Signal::SIGINT);
    let finished = recording.wait();
    finished.assert_recorded();
    let stacks = stacks(&finished);
    let in_library = |stack: &&Stack| {
        stack
            .frames
            .first()
            .is_some_and(|frame| frame.module.ends_with("/library.so"))
    };
    let of_library: Vec<&Stack> = stacks.iter().filter(in_library).collect();
    let all: u64 = of_library.iter().map(|stack| stack.samples).sum();
    let [known, _] = truth::known(Tells::Lines);
    let leaf = known.split(" | ").next().expect("a stack has a leaf");
    let named = of_library
        .iter()
        .filter(|stack| truth::text_of(stack).starts_with(leaf));
    let named: u64 = named.map(|stack| stack.samples).sum();
    assert!(all > 300, "only {all} samples\n{}", finished.stderr);
    assert!(
        named as f64 >= 0.97 * all as f64,
        "{named} of {all}\n{}",
        finished.stderr
    );
}
