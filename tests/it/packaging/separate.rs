//! Debug information that somebody has put elsewhere: in folders that the user names, or of another build.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::support::pprof;
use crate::support::recording::perfprof;
use crate::support::{Need, missing};

use super::truth::{self, Tells};
use super::{Packaging, Recorded, profile_of, row};

const BY_BUILD_ID: &str = "gcc -g $ALL -o program; debug_file; objcopy --strip-all program; \
                           install_debug program.debug debug/$(by_build_id)";

/// `--debug-dir` of the folder `debug` of each row.
fn debug_dirs(rows: &[Packaging]) -> Vec<OsString> {
    let folders = rows.iter().filter_map(Packaging::make);
    let folders = folders.map(|folder: PathBuf| folder.join("debug").into_os_string());
    folders
        .flat_map(|folder| ["--debug-dir".into(), folder])
        .collect()
}

#[test]
fn folders_that_the_user_names_are_searched_in_every_layout() {
    if missing(&[Need::Bpf]) {
        return;
    }
    // The files of two rows have the same name: the one with the right checksum is taken.
    let rows = [
        row("dir-build-id", BY_BUILD_ID),
        row(
            "dir-name",
            "gcc -g -Wl,--build-id=none $ALL -o program; debug_file;
             objcopy --strip-all --add-gnu-debuglink=program.debug program
             install_debug program.debug debug/program.debug",
        ),
        row(
            "dir-name-twin",
            "gcc -gdwarf-4 -Wl,--build-id=none $ALL -o program; debug_file;
             objcopy --strip-all --add-gnu-debuglink=program.debug program
             install_debug program.debug debug/program.debug",
        ),
        row(
            "dir-dwp",
            "units clang -gdwarf-5 -gsplit-dwarf; clang *.o -o dwp-elsewhere
             llvm-dwp -e dwp-elsewhere -o dwp-elsewhere.dwp; rm *.o *.dwo
             install_debug dwp-elsewhere.dwp debug/program.dwp; mv dwp-elsewhere program",
        )
        .needs(&["clang", "llvm-dwp"]),
        row(
            "dir-dwz",
            "gcc -gdwarf-4 $ALL -o program; debug_file; cp program.debug twin; objcopy --strip-all program
             dwz -m shared.dwz -M ../../.dwz/shared.dwz program.debug twin; rm twin
             install_debug shared.dwz debug/.dwz/shared.dwz; install_debug program.debug debug/$(by_build_id)",
        )
        .needs(&["dwz"]),
    ];
    let recorded = Recorded::of(&rows, &debug_dirs(&rows)).expect("gcc is there");
    recorded.assert_as_known();
}

/// A file of that name stands there, but it is of another build, in which the functions have other names.
const ANOTHER_BUILD: &str =
    "gcc -g $ALL -Dpart_outer=wrong_outer -Down_static=wrong_static -o another
                             objcopy --only-keep-debug another program.debug; rm another";

#[test]
fn debug_information_of_another_build_is_refused_and_said() {
    if missing(&[Need::Bpf, Need::Root]) {
        return;
    }
    let link = format!(
        "gcc -g -Wl,--build-id=none $ALL -o program; debug_file
         objcopy --strip-all --add-gnu-debuglink=program.debug program; {ANOTHER_BUILD}"
    );
    let build_id = format!(
        "gcc -g -static $ALL -o program; objcopy --strip-all program; {ANOTHER_BUILD}
         install_debug program.debug root/usr/lib/debug/$(by_build_id); install_debug program root/app/program"
    );
    let (link, build_id) = (link.leak(), build_id.leak());
    let nothing = Tells::Nothing("no-symbol");
    let rows = [
        row("stale-link", link).tells(nothing),
        row("stale-build-id", build_id).tells(nothing).in_root(),
    ];
    let recorded = Recorded::of(&rows, &[]).expect("gcc is there");
    recorded.assert_as_known();
    let report = recorded.finished.report();
    for (words, what) in [
        (["stale-link", "program.debug", "CRC"], "the stale link"),
        (
            ["/usr/lib/debug/.build-id/", ".debug", "build ID"],
            "the other build ID",
        ),
    ] {
        let is_said = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(report.lines().any(is_said), "{what} is not said: {report}");
    }
}

/// The profile keeps build IDs and addresses: names can be had when debug information is, also where the program that ran
/// no longer is.
#[test]
fn a_profile_without_names_is_mended_later() {
    if missing(&[Need::Bpf]) {
        return;
    }
    let nameless = row("mended-stripped", BY_BUILD_ID).tells(Tells::Nothing("no-symbol"));
    let lineless = row(
        "mended-names",
        "gcc -g $ALL -o program; debug_file; strip -g program
         install_debug program.debug debug/$(by_build_id)",
    );
    let rows = [nameless, lineless.tells(Tells::Names)];
    let recorded = Recorded::of(&rows, &[]).expect("gcc is there");
    recorded.assert_as_known();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mended = folder.path().join("mended.pb.gz");
    let output = Command::new(perfprof())
        .args(["symbolize", "--no-symbol-cache"])
        .arg(profile_of(&recorded.finished))
        .args(debug_dirs(&rows))
        .arg("--artifacts")
        .arg(folder.path().join("artifacts"))
        .arg("-o")
        .arg(&mended)
        .output()
        .expect("perfprof can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(output.status.code(), Some(0 | 5)),
        "{}: {stderr}",
        output.status
    );
    let stacks = pprof::stacks(&mended);
    for (row, pid) in &recorded.rows {
        let of_row: Vec<_> = stacks.iter().filter(|stack| stack.pid == *pid).collect();
        let wrong = truth::disagreement(&of_row, Tells::Lines);
        assert!(
            wrong.is_none(),
            "{}: {}\n{stderr}",
            row.name,
            wrong.unwrap_or_default()
        );
    }
}
