//! Other tools read our profiles, and we read theirs.
//!
//! `go-cpu.pb.gz` is from `fixtures/workloads/gocpu` (Go 1.19, runtime/pprof), `py-spy.folded` from
//! `fixtures/workloads/pycpu` (`py-spy record -r 100 -f raw`, 0.4.2). In both the hot function does three quarters of
//! the work.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use perfprof::profile::{Origin, Profile, StackEnd, Why, canned};
use perfprof::store::{self, pprof};

/// Whether `tool` can be started; where it cannot, says so, and fails when `PERFPROF_REQUIRE` names it.
fn have(tool: &str) -> bool {
    let found = Command::new(tool).arg("version").output().is_ok();
    if !found {
        let required = std::env::var("PERFPROF_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|name| name == tool),
            "`{tool}` is required and missing"
        );
        println!("SKIP {tool}: cannot be started");
    }
    found
}

/// What `go tool pprof` prints of `profile`.
fn go_pprof(profile: &Profile, report: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("canned.pb.gz");
    std::fs::write(&path, pprof::encode(profile)).expect("writable");
    let output = Command::new("go")
        .args(["tool", "pprof", report])
        .arg(&path)
        .env("HOME", dir.path())
        .env("PPROF_BINARY_PATH", dir.path())
        .output()
        .expect("go can be started");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(err, "", "no complaint");
    out.into_owned()
}

/// The words of the line that ends in ` name`.
fn words<'a>(report: &'a str, name: &str) -> Vec<&'a str> {
    let line = report
        .lines()
        .find(|line| line.trim_end().ends_with(&format!(" {name}")));
    line.unwrap_or_else(|| panic!("`{name}` in {report}"))
        .split_whitespace()
        .collect()
}

#[test]
fn go_tool_pprof_reads_the_shares_we_wrote() {
    if !have("go") {
        return;
    }
    let top = go_pprof(&canned(), "-top");
    assert!(top.contains("Type: cpu"), "{top}");
    assert!(
        top.contains("Duration: 1s, Total samples = 1000ms"),
        "{top}"
    );
    // Its columns: flat, flat %, sum %, cumulative, cumulative %.
    for (name, flat, cum) in [
        ("mix (inline)", "40.00%", "40.00%"),
        ("hash", "20.00%", "60.00%"),
        ("copy_page", "20.00%", "20.00%"),
        ("libz.so.1+0x4f2", "15.00%", "15.00%"),
        ("[truncated: no-unwind-info]", "0%", "15.00%"),
        ("main", "0%", "80.00%"),
    ] {
        let words = words(&top, name);
        assert_eq!((words[1], words[4]), (flat, cum), "{name} in {top}");
    }
    assert!(
        !top.contains("perfprof."),
        "our comments stay out of the header: {top}"
    );
}

#[test]
fn go_tool_pprof_sees_labels_mappings_and_build_ids() {
    if !have("go") {
        return;
    }
    let raw = go_pprof(&canned(), "-raw");
    for expected in [
        "samples/count cpu/nanoseconds[dflt]",
        "PeriodType: cpu nanoseconds",
        "Period: 10000000",
        "stack_end:[no-unwind-info]",
        "thread:[worker]",
        "tid:[101]",
        "slice:[3]",
        "/srv/shop c0ffee01 [FN][FL][LN][IN]",
    ] {
        assert!(raw.contains(expected), "{expected} in {raw}");
    }
}

fn corpus(name: &str) -> Profile {
    store::read(&Path::new("fixtures/corpus").join(name)).expect("a fixture")
}

/// Share of the ticks whose stack has a function of this name.
fn total_share(profile: &Profile, function: &str) -> f64 {
    let with = profile.samples.iter().filter(|sample| {
        let stack = profile.display_stack(sample, false);
        let names: HashSet<&str> = stack.iter().map(|frame| &*frame.name).collect();
        names.contains(function)
    });
    with.map(|sample| sample.count).sum::<u64>() as f64 / profile.total_count() as f64
}

/// Within four standard errors of `share`, and hotter than `cold`.
fn assert_hot(profile: &Profile, hot: &str, cold: &str, share: f64) {
    let tolerance = 4.0 * (share * (1.0 - share) / profile.total_count() as f64).sqrt();
    let (hot_share, cold_share) = (total_share(profile, hot), total_share(profile, cold));
    assert!(
        (hot_share - share).abs() < tolerance,
        "{hot}: {hot_share} ± {tolerance}"
    );
    assert!(
        (cold_share - (1.0 - share)).abs() < tolerance,
        "{cold}: {cold_share} ± {tolerance}"
    );
}

#[test]
fn a_cpu_profile_of_gos_runtime_is_read() {
    let profile = corpus("go-cpu.pb.gz");
    assert_hot(&profile, "main.burnHot", "main.burnCold", 0.75);
    let recording = &profile.recording;
    let format = "pprof".to_owned();
    let file = "go-cpu.pb.gz".to_owned();
    assert_eq!(recording.origin, Origin::Foreign { format, file });
    assert_eq!(
        (recording.service.as_str(), recording.frequency_hz),
        ("gocpu", 100.0)
    );
    assert_eq!(profile.total_cpu_ns(), profile.total_count() * 10_000_000);
    let not_stated = StackEnd::Truncated(Why::NotStated);
    assert!(
        profile
            .samples
            .iter()
            .all(|sample| sample.end == not_stated)
    );
    let hot = profile
        .functions
        .iter()
        .find(|f| f.name == "main.burnHot")
        .expect("present");
    assert!(hot.file.ends_with("main.go"), "{}", hot.file);
}

#[test]
fn folded_stacks_of_py_spy_are_read() {
    let profile = corpus("py-spy.folded");
    assert_hot(&profile, "burn_hot", "burn_cold", 0.75);
    assert_eq!(profile.total_count(), 232);
    let hot = profile
        .functions
        .iter()
        .find(|f| f.name == "burn_hot")
        .expect("present");
    assert_eq!(hot.file, "main.py");
}
