//! `perfprof report` makes every output again, and says what it cannot judge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::recording::{exit, perfprof};

/// What `perfprof report FILE` wrote, and its exit code.
fn report(file: &Path) -> (TempDir, Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let output = Command::new(perfprof())
        .args(["report", "--artifacts"])
        .arg(dir.path())
        .arg(file)
        .output()
        .expect("perfprof can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (dir, output.status.code(), said)
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/corpus")
        .join(name)
}

fn exported(dir: &Path, extension: &str) -> PathBuf {
    let entries = fs::read_dir(dir.join("diagnostics")).expect("exports were written");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.to_string_lossy().ends_with(extension))
        .min()
        .unwrap_or_else(|| panic!("no `{extension}` in {}", dir.display()))
}

#[test]
fn profiles_of_other_tools_become_reports_that_name_what_was_not_measured() {
    for (name, hottest) in [
        ("go-cpu.pb.gz", "main.burnHot"),
        ("py-spy.folded", "burn_hot"),
        ("perf-script-system.txt", "read_zero"),
    ] {
        let (dir, code, said) = report(&corpus(name));
        assert_eq!(code, Some(exit::SUCCESS), "{name}: {said}");
        let text = fs::read_to_string(dir.path().join("profiling-report.md")).expect("a report");
        assert!(
            text.contains(hottest) && text.contains("not measured"),
            "{name}: {text}"
        );
        let svg = fs::read_to_string(exported(dir.path(), ".svg")).expect("a flame graph");
        assert!(svg.contains(hottest), "{name}");
    }
}

#[test]
fn a_report_from_a_reports_profile_is_the_same() {
    let (first, _, said) = report(&corpus("go-cpu.pb.gz"));
    let (second, code, _) = report(&exported(first.path(), ".pb.gz"));
    assert_eq!(code, Some(exit::SUCCESS), "{said}");
    for extension in [".pb.gz", ".folded", ".svg", ".speedscope.json"] {
        let read = |dir: &TempDir| fs::read(exported(dir.path(), extension)).expect("readable");
        assert!(read(&first) == read(&second), "{extension} differs");
    }
}

#[test]
fn a_file_that_is_no_profile_is_named_with_the_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let bad = dir.path().join("bad.folded");
    fs::write(&bad, "main;work 3\nmain;work many\n").expect("written");
    let (artifacts, code, said) = report(&bad);
    assert_eq!(code, Some(exit::BAD_INPUT), "{said}");
    assert!(
        said.contains("bad.folded") && said.contains("line 2"),
        "{said}"
    );
    assert!(
        !artifacts.path().join("profiling-report.md").exists(),
        "nothing was reported"
    );
}

#[test]
fn short_names_are_for_people_and_full_ones_stay_in_the_profile_and_for_machines() {
    const FULL: &str = "std::vector<int, std::allocator<int> >::push_back(int&&)";
    const SHORT: &str = "std::vector<…>::push_back(int&&)";
    let dir = tempfile::tempdir().expect("a folder");
    let folded = dir.path().join("in.folded");
    fs::write(&folded, format!("main;{FULL} 900\nmain;f 100\n")).expect("written");
    let output = Command::new(perfprof())
        .args(["report", "--short-names", "--artifacts"])
        .arg(dir.path())
        .arg(&folded)
        .output()
        .expect("perfprof can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(SHORT), "{said}");
    let text = |path: &Path| fs::read_to_string(path).expect("was written");
    for path in [
        dir.path().join("profiling-report.md"),
        exported(dir.path(), ".folded"),
        exported(dir.path(), ".speedscope.json"),
    ] {
        let text = text(&path);
        assert!(text.contains("std::vector<…>"), "{}", path.display());
        assert!(!text.contains("allocator"), "{}", path.display());
    }
    let documents: serde_json::Value =
        serde_json::from_str(&text(&dir.path().join("bottleneck-report.json"))).expect("JSON");
    let hottest = &documents["services"][0]["hot_paths"]["by_self"][0];
    assert_eq!(hottest["function"], FULL);
    assert_eq!(hottest["canonical"], FULL.replace("> >", ">>"));
    let (again, _, said) = report(&exported(dir.path(), ".pb.gz"));
    let svg = text(&exported(again.path(), ".svg"));
    assert!(svg.contains("allocator"), "{said}");
}
