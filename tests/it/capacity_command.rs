//! `perfprof capacity` as a user meets it, and what `record` says of capacity: what they write, print, and end with.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::sandbox::Burner;
use crate::support::need::skip;
use crate::support::proc::{unused_pid, wait_until};
use crate::support::recording::{exit, perfprof};
use crate::support::{Need, Record, Workload, missing};

/// A run that has ended, and its artifacts.
struct Run {
    output: Output,
    folder: TempDir,
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(perfprof());
    command
        .arg("capacity")
        .args(args)
        .arg("--artifacts")
        .arg(folder.join("artifacts"));
    command
}

fn run(args: &[&str]) -> Run {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let output = command(folder.path(), args)
        .output()
        .expect("perfprof can be run");
    Run { output, folder }
}

impl Run {
    fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    fn error(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn artifacts(&self) -> PathBuf {
        self.folder.path().join("artifacts")
    }

    fn document(&self) -> Value {
        let text = fs::read_to_string(self.artifacts().join("capacity-analysis.json"));
        let document: Value = serde_json::from_str(&text.expect("written")).expect("JSON");
        let schema = include_str!("../../schemas/capacity-analysis.schema.json");
        let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
        let validator = jsonschema::validator_for(&schema).expect("the schema is one");
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        document
    }
}

#[test]
fn a_process_under_a_quota_is_measured_planned_for_and_drawn() {
    let burner = match Burner::with_limits(30, 64 << 20) {
        Ok(burner) => burner,
        Err(reason) => return skip("cgroup", &reason),
    };
    let load = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(load.path(), r#"{"throughput_per_second": 60}"#).expect("writable");
    let pid = burner.pid().to_string();
    let load = load.path().to_str().expect("UTF-8");
    let run = run(&[
        "--pid",
        &pid,
        "-d",
        "10",
        "--service",
        "shop/cart",
        "--replicas",
        "6",
        "--load-test",
        load,
        "--json",
    ]);
    // A machine that gives the burner nothing to use is not steady; everything else must hold.
    assert!(
        matches!(run.code(), Some(exit::SUCCESS | exit::INCONCLUSIVE)),
        "{}",
        run.error()
    );
    let document = run.document();
    let printed: Value = serde_json::from_slice(&run.output.stdout).expect("JSON alone");
    assert_eq!(printed, document);
    let entry = &document["services"][0];
    assert_eq!(entry["service"], "shop/cart");
    assert_eq!(entry["scope"], "cgroup");
    assert_eq!(entry["limit"]["cores"], 0.3);
    assert_eq!(entry["limit"]["period_seconds"], 0.1);
    let reading = entry["utilization"]["reading_seconds"]
        .as_f64()
        .expect("a number");
    assert!((0.09..0.2).contains(&reading), "{reading}");
    assert!(
        entry["throttling"]["throttled_periods"].as_u64() > Some(10),
        "{entry:#}"
    );
    let p95 = entry["utilization"]["cores"]["p95"]
        .as_f64()
        .expect("a number");
    let needed = (6.0 * p95 / 0.3 / 0.65 - 1e-6).ceil();
    assert_eq!(entry["advice"]["replicas"]["needed"].as_f64(), Some(needed));
    let mean = entry["utilization"]["cores"]["mean"]
        .as_f64()
        .expect("a number");
    let cost = entry["advice"]["cost"]["cpu_ms_per_request"]
        .as_f64()
        .expect("a number");
    assert!((cost - mean / 10.0 * 1e3).abs() < 0.01, "{cost}");

    let text = fs::read_to_string(run.artifacts().join("capacity-analysis.md")).expect("written");
    let link = text
        .split("(diagnostics/")
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    let chart = run
        .artifacts()
        .join("diagnostics")
        .join(link.expect("a picture is linked"));
    let svg = fs::read_to_string(chart).expect("and there");
    assert!(
        svg.starts_with("<svg ") && svg.contains("limit 0.30 cores"),
        "{svg}"
    );
}

#[test]
fn children_that_come_and_go_show_no_more_cores_than_they_use() {
    // One after the other, each busy for 0.3 s: never more than one core.
    let one_by_one = "while :; do timeout --foreground 0.3 sh -c 'while :; do :; done'; done";
    let mut parent = Command::new("sh")
        .args(["-c", one_by_one])
        .process_group(0)
        .spawn()
        .expect("a shell");
    let pid = parent.id().to_string();
    let run = run(&["--pid", &pid, "-d", "6"]);
    killpg(Pid::from_raw(parent.id() as i32), Signal::SIGKILL).expect("it runs");
    parent.wait().expect("it was killed");
    let entry = &run.document()["services"][0];
    if entry["scope"] != "processes" {
        return skip("init-in-root", "these tests are in a cgroup of their own");
    }
    let cores = &entry["utilization"]["cores_reading_by_reading"];
    let (mean, max) = (cores["mean"].as_f64(), cores["max"].as_f64());
    // One at a time: what is above one core is the time between two readings on a busy machine. Counted all at once, a child
    // would be three.
    assert!(max <= Some(1.5), "{cores}");
    assert!(mean > Some(0.1), "{cores}");
    // Each has its last moments for itself, and that is said.
    let gaps = entry["gaps"].to_string();
    assert!(gaps.contains("ended children used"), "{gaps}");
}

#[test]
fn a_cgroup_is_named_by_its_path_or_its_directory() {
    let burner = match Burner::with_limits(50, 64 << 20) {
        Ok(burner) => burner,
        Err(reason) => return skip("cgroup", &reason),
    };
    let dir = burner.dir().to_str().expect("UTF-8");
    for path in [burner.path(), dir] {
        let run = run(&["--cgroup", path, "-d", "1"]);
        assert_eq!(
            run.code(),
            Some(exit::INCONCLUSIVE),
            "one second is too short: {}",
            run.error()
        );
        let entry = &run.document()["services"][0];
        assert_eq!(entry["cgroup"], burner.path(), "{path}");
        assert_eq!(entry["limit"]["cores"], 0.5);
        assert_eq!(entry["threads"], 1);
        assert_eq!(
            entry["service"].as_str(),
            Some(burner.path().trim_start_matches('/'))
        );
    }
}

#[test]
fn ctrl_c_leaves_a_complete_document() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let child = command(folder.path(), &["--all", "-d", "600"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("perfprof can be run");
    // It installs its handlers after it has made its folder, and before it measures.
    let made = folder.path().join("artifacts/manifests");
    wait_until("perfprof makes its folder", Duration::from_secs(60), || {
        made.is_dir()
    });
    std::thread::sleep(Duration::from_millis(1500));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let run = Run { output, folder };
    let entry = &run.document()["services"][0];
    assert_eq!(
        (&entry["service"], &entry["scope"]),
        (&"all".into(), &"node".into())
    );
    assert_eq!(run.code(), Some(exit::INCONCLUSIVE), "{}", run.error());
    assert!(
        entry["balance"]["cpus"]
            .as_array()
            .is_some_and(|cpus| !cpus.is_empty())
    );
}

#[test]
fn what_cannot_be_measured_ends_with_its_own_exit_code() {
    let none = unused_pid().to_string();
    let bad = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(bad.path(), "{\n \"requests\": }").expect("writable");
    let bad = bad.path().to_str().expect("UTF-8");
    let cases: [(&[&str], i32, &str); 8] = [
        (&[], exit::USAGE, "nothing to measure"),
        (&["--pid", "1", "--all"], exit::USAGE, "cannot be used with"),
        (&["--all", "-d", "0"], exit::USAGE, "above 0"),
        (&["--pid", &none], exit::NO_TARGET, "no process with PID"),
        (
            &["--cgroup", "/no/such/cgroup"],
            exit::NO_TARGET,
            "no cgroup `/no/such/cgroup`",
        ),
        (&["--cgroup", "../x"], exit::NO_TARGET, "no cgroup"),
        (
            &["--all", "-d", "1", "--load-test", bad],
            exit::BAD_INPUT,
            "line 2, column 14",
        ),
        (
            &["--all", "--load-test", "/no/such/folder/load.json"],
            exit::BAD_INPUT,
            "no directory `/no/such/folder`",
        ),
    ];
    for (args, code, words) in cases {
        let run = run(args);
        assert_eq!(run.code(), Some(code), "{args:?}: {}", run.error());
        assert!(run.error().contains(words), "{args:?}: {}", run.error());
    }
}

#[test]
fn a_load_test_that_ends_meanwhile_is_read_and_a_bad_one_costs_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let load = folder.path().join("load.json");
    let args = [
        "--pid",
        &std::process::id().to_string(),
        "-d",
        "2",
        "--load-test",
        load.to_str().expect("UTF-8"),
    ];
    let child = command(folder.path(), &args)
        .stderr(Stdio::piped())
        .spawn()
        .expect("perfprof can be run");
    std::thread::sleep(Duration::from_millis(500));
    fs::write(&load, r#"{"throughput_per_second": 60}"#).expect("writable");
    let output = child.wait_with_output().expect("it ends");
    let run = Run { output, folder };
    assert_ne!(run.code(), Some(exit::BAD_INPUT), "{}", run.error());
    let cost = run.document()["services"][0]["advice"]["cost"].clone();
    assert_eq!(cost["requests_per_second"], 60.0, "{cost}");

    fs::write(&load, "{").expect("writable");
    let output = command(run.folder.path(), &args)
        .output()
        .expect("perfprof can be run");
    let run = Run { output, ..run };
    assert_eq!(run.code(), Some(exit::BAD_INPUT), "{}", run.error());
    let entry = run.document()["services"][0].clone();
    assert_eq!(
        entry["advice"]["cost"],
        Value::Null,
        "written without the load"
    );
}

#[test]
fn a_recording_without_its_load_test_is_not_lost() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start("split_70_30.cpp", &["1"]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let artifacts = folder.path().join("artifacts");
    let output = Command::new(perfprof())
        .args(["record", "-d", "1", "--pid", &workload.pid().to_string()])
        .arg("--load-test")
        .arg(folder.path().join("never.json"))
        .arg("--artifacts")
        .arg(&artifacts)
        .output()
        .expect("perfprof can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit::BAD_INPUT), "{error}");
    assert!(error.contains("without the cost of a request"), "{error}");
    for file in ["capacity-analysis.json", "profiling-report.md"] {
        assert!(artifacts.join(file).is_file(), "{file}: {error}");
    }
}

#[test]
fn a_recording_says_how_many_cores_a_function_takes() {
    if missing(&[Need::Perf]) {
        return;
    }
    let workload = Workload::start("split_70_30.cpp", &["1"]);
    let recorded = Record::pid(workload.pid())
        .args(["--replicas", "2", "--target-utilization", "0.5"])
        .run_for_cpu(workload.pid(), 3000);
    recorded.assert_recorded();
    let text = fs::read_to_string(recorded.artifact("capacity-analysis.json")).expect("written");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let entry = &document["services"][0];
    let paths = entry["advice"]["hot_paths"].as_array().expect("a list");
    let seventy = paths
        .iter()
        .find(|path| {
            path["name"]
                .as_str()
                .is_some_and(|name| name.contains("hot_seventy"))
        })
        .unwrap_or_else(|| panic!("no `hot_seventy` in {paths:?}"));
    // 3 s at 199 Hz are 600 ticks: 4·√(0.7·0.3/600) is 0.075 of a share; the clock is asked in between, too.
    let mean = entry["utilization"]["cores"]["mean"].as_f64();
    assert_eq!(seventy["used_cores"].as_f64(), mean);
    assert_eq!(seventy["of_cores"], entry["limit"]["cores"]);
    let share = seventy["cores"].as_f64().expect("a number") / mean.expect("a number");
    assert!((0.6..0.8).contains(&share), "{share}");
    assert!(
        entry["advice"]["replicas"]["needed"].as_u64() >= Some(1),
        "{entry:#}"
    );
    let report = recorded.report();
    let capacity = report.split("### Capacity").nth(1).expect("a section");
    for words in [
        "![CPU use over time](diagnostics/",
        ".capacity.svg)",
        "hot_seventy",
        " cores",
    ] {
        assert!(capacity.contains(words), "`{words}` is not in {capacity}");
    }
}
