//! Code that real runtimes generate has the names they tell: Node, the Java virtual machine, CPython.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use serde_json::Value;

use crate::support::need::skip;
use crate::support::proc::wait_for_cpu;
use crate::support::recording::Finished;
use crate::support::workload::repository;
use crate::support::{Contained, Folded, Need, Record, Workload, missing};

/// How far from 70 % the first function may be: compilers treat both alike, but nobody has promised it.
const SHARE_WITHIN: f64 = 0.1;

/// All functions are called, and all have frames and names, also those that are not hot enough to be compiled.
const NODE_OPTIONS: [&str; 2] = ["--no-turbo-inlining", "--interpreted-frames-native-stack"];

/// The command that runs the script in a folder, where V8 leaves files of its own.
fn node(option: &str, folder: &Path, milliseconds: &str) -> String {
    format!(
        "cd '{}' && exec node {option} {} '{}' {milliseconds}",
        folder.display(),
        NODE_OPTIONS.join(" "),
        source("seventy_thirty.js")
    )
}

fn source(name: &str) -> String {
    let path = repository().join("fixtures/workloads").join(name);
    path.to_str().expect("a plain path").to_owned()
}

fn record(pid: u32) -> Record {
    Record::pid(pid).args(["-F", "499"])
}

/// The map that the process leaves behind, taken away at the end.
struct Map(String);

impl Map {
    fn of(pid: u32) -> Map {
        Map(format!("/tmp/perf-{pid}.map"))
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

#[track_caller]
fn assert_hot(folded: &Folded, seventy: &str, thirty: &str, outer: &str) {
    let (first, second) = (folded.with(seventy), folded.with(thirty));
    let hot = first + second;
    assert!(hot as f64 > 0.8 * folded.total() as f64, "{folded:#?}");
    let share = first as f64 / hot as f64;
    assert!((share - 0.7).abs() < SHARE_WITHIN, "{share:.3}, n = {hot}");
    let below = folded.with_below(outer, seventy) + folded.with_below(outer, thirty);
    assert!(
        below as f64 > 0.95 * hot as f64,
        "{below} of {hot} below {outer}"
    );
}

/// The file and line of a function by the end of its name.
fn place(speedscope: &Path, name: &str) -> (String, u64) {
    let text = fs::read_to_string(speedscope).expect("written");
    let speedscope: Value = serde_json::from_str(&text).expect("JSON");
    let frames = speedscope["shared"]["frames"].as_array().expect("a list");
    let is_it = |frame: &&Value| frame["name"].as_str().is_some_and(|n| n.ends_with(name));
    let found = frames.iter().find(is_it);
    let frame = found.unwrap_or_else(|| panic!("no `{name}`"));
    let file = frame["file"].as_str().unwrap_or("").to_owned();
    (file, frame["line"].as_u64().unwrap_or(0))
}

fn assert_named(finished: &Finished) {
    let named = finished.coverage("symbols");
    assert!(named > 0.98, "only {named:.3} of frames have a name");
}

#[test]
fn functions_of_node_have_names_from_its_perf_map() {
    if missing(&[Need::Perf, Need::Program("node")]) {
        return;
    }
    let script = source("seventy_thirty.js");
    let folder = tempfile::tempdir().expect("a folder");
    let command = node("--perf-basic-prof", folder.path(), "");
    let node = Workload::start_program(Path::new("/bin/sh"), &["-c", &command]);
    let _map = Map::of(node.pid());
    let speedscope = folder.path().join("node.speedscope.json");
    let finished = record(node.pid())
        .args(["-o".as_ref(), speedscope.as_os_str()])
        .run_for_cpu(node.pid(), 1500);
    let folded = finished.assert_recorded().folded();
    assert_hot(&folded, "*seventy", "*thirty", "outer");
    assert_named(&finished);
    assert_eq!(place(&speedscope, "*seventy"), (script, 4));
}

#[test]
fn functions_of_node_have_names_from_its_jitdump() {
    if missing(&[Need::Perf, Need::Program("node")]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // It writes the last of the dump as it ends.
    let command = node("--perf-prof", folder.path(), "2500");
    let finished = Record::new()
        .args(["-F", "499"])
        .launching(Path::new("/bin/sh"), &["-c", &command])
        .run();
    let folded = finished.assert_recorded().folded();
    assert_hot(&folded, "*seventy", "*thirty", "outer");
    assert_named(&finished);
}

/// The compiled Java program's folder.
fn java_classes() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(repository().join("target")).expect("a folder");
    let made = Command::new("javac")
        .arg("-d")
        .arg(folder.path())
        .arg(source("SeventyThirty.java"))
        .stdin(Stdio::null())
        .status();
    assert!(made.expect("`javac` can be run").success());
    folder
}

fn java_arguments(classes: &Path) -> Vec<String> {
    let options = [
        "-XX:+PreserveFramePointer",
        "-XX:CompileCommand=quiet",
        "-XX:CompileCommand=dontinline,SeventyThirty::*",
        "-cp",
    ];
    let classes = classes.to_str().expect("a plain path");
    let all = options.iter().copied().chain([classes, "SeventyThirty"]);
    all.map(str::to_owned).collect()
}

const JAVA: [&str; 3] = [
    "int SeventyThirty.seventy(int)",
    "int SeventyThirty.thirty(int)",
    // Its caller, of which there is one long call only.
    "Interpreter",
];

#[test]
fn methods_of_java_have_names_when_its_virtual_machine_is_asked() {
    if missing(&[Need::Perf, Need::Program("java"), Need::Program("javac")]) {
        return;
    }
    let classes = java_classes();
    let arguments = java_arguments(classes.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let java = Workload::start_program(Path::new("java"), &arguments);
    let _map = Map::of(java.pid());
    let finished = record(java.pid())
        .args(["--jvm-perfmap"])
        .run_for_cpu(java.pid(), 1500);
    let folded = finished.assert_recorded().folded();
    assert_hot(&folded, JAVA[0], JAVA[1], JAVA[2]);
    assert_named(&finished);
}

#[test]
fn a_contained_java_virtual_machine_is_asked_where_it_listens() {
    let needs = [
        Need::Perf,
        Need::Root,
        Need::Program("unshare"),
        Need::Program("java"),
        Need::Program("javac"),
    ];
    if missing(&needs) {
        return;
    }
    let classes = java_classes();
    let command = format!("java '{}'", java_arguments(classes.path()).join("' '"));
    let Some(java) = Contained::start(&command, "java") else {
        return skip("mount", "no private mounts may be made here");
    };
    wait_for_cpu(java.pid(), 1_000_000_000);
    let finished = record(java.pid())
        .args(["--jvm-perfmap"])
        .run_for_cpu(java.pid(), 1500);
    let folded = finished.assert_recorded().folded();
    assert_hot(&folded, JAVA[0], JAVA[1], JAVA[2]);
}

#[test]
fn a_virtual_machine_that_cannot_be_asked_is_reported() {
    if missing(&[Need::Perf, Need::Program("java"), Need::Program("javac")]) {
        return;
    }
    let classes = java_classes();
    let mut arguments = java_arguments(classes.path());
    arguments.insert(0, "-XX:+DisableAttachMechanism".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let java = Workload::start_program(Path::new("java"), &arguments);
    let finished = record(java.pid())
        .args(["--jvm-perfmap"])
        .run_for_cpu(java.pid(), 500);
    let report = finished.assert_recorded().report();
    assert!(report.contains("DisableAttachMechanism"), "{report}");
    assert!(Path::new(&format!("/proc/{}", java.pid())).exists());
}

/// A CPython with trampolines for perf (3.12 and later): of the search path, or one that `pyenv` has built.
fn python_with_trampolines() -> Option<PathBuf> {
    let names = ["python3.13", "python3.12", "python3"];
    let mut candidates: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
    let home = env::var_os("HOME").unwrap_or_default();
    if let Ok(versions) = fs::read_dir(Path::new(&home).join(".pyenv/versions")) {
        let mut built: Vec<PathBuf> = versions.flatten().map(|entry| entry.path()).collect();
        built.sort();
        candidates.extend(built.iter().map(|folder| folder.join("bin/python3")));
    }
    let has_trampolines = |python: &PathBuf| {
        let program = "import sys; sys.exit(not sys.is_stack_trampoline_active())";
        let status = Command::new(python)
            .args(["-X", "perf", "-c", program])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    candidates.into_iter().find(has_trampolines)
}

#[test]
fn functions_of_cpython_have_names_from_its_trampolines() {
    if missing(&[Need::Perf]) {
        return;
    }
    let Some(python) = python_with_trampolines() else {
        return skip("cpython", "no CPython with `-X perf` is installed");
    };
    let script = source("seventy_thirty.py");
    let python = Workload::start_program(&python, &["-X", "perf", &script]);
    let _map = Map::of(python.pid());
    let folder = tempfile::tempdir().expect("a folder");
    let speedscope = folder.path().join("python.speedscope.json");
    let finished = record(python.pid())
        .args(["-o".as_ref(), speedscope.as_os_str()])
        .run_for_cpu(python.pid(), 1500);
    let folded = finished.assert_recorded().folded();
    assert_hot(&folded, "py::seventy", "py::thirty", "py::outer");
    assert_named(&finished);
    // Its trampolines have no frame pointer and no unwind information of their own.
    let complete = folded.complete().total();
    assert!(
        complete as f64 > 0.98 * folded.total() as f64,
        "{folded:#?}"
    );
    let name = "py::seventy.<locals>.<genexpr> (seventy_thirty.py)";
    assert_eq!(place(&speedscope, name).0, script);
}
