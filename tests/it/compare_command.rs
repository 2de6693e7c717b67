//! `perfprof compare` and `perfprof ci run` as a user meets them: what they conclude of programs whose difference is known,
//! what they write and print, and what they end with.
//!
//! `fixtures/compare/words.rs` is one program in two ways that are one allocation apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::compile::compile_as;
use crate::support::recording::{exit, perfprof};
use crate::support::workload::{programs, repository};
use crate::support::{Need, missing};

const REGRESSED: i32 = 1;

/// A run that has ended, and its artifacts.
struct Run {
    output: Output,
    folder: TempDir,
}

/// `perfprof WORDS…`, with artifacts in a folder of its own.
fn run(words: &[&str]) -> Run {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let output = Command::new(perfprof())
        .args(words)
        .arg("--artifacts")
        .arg(folder.path())
        // Names found for one test are not another's.
        .env("XDG_CACHE_HOME", folder.path())
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

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The comparison it wrote, which is valid by its schema and leads where it says.
    #[track_caller]
    fn comparison(&self) -> Value {
        let document = self.document("performance-comparison.json");
        valid(
            &document,
            include_str!("../../schemas/performance-comparison.schema.json"),
        );
        let validation = self.document("optimization-validation-report.json");
        let schema = include_str!("../../schemas/optimization-validation-report.schema.json");
        valid(&validation, schema);
        let text = fs::read_to_string(self.file("comparison.md")).expect("written");
        // What a comment on GitHub may have.
        assert!(text.len() < 65_536, "{} bytes", text.len());
        let links: Vec<&str> = text.split("](diagnostics/").skip(1).collect();
        assert!(!links.is_empty(), "{text}");
        for link in links {
            let name = link.split(')').next().expect("closed");
            let svg = fs::read_to_string(self.file("diagnostics").join(name)).expect("drawn");
            assert!(
                svg.starts_with("<?xml") || svg.starts_with("<svg"),
                "{name}"
            );
        }
        document
    }

    #[track_caller]
    fn document(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.file(name));
        let text = text.unwrap_or_else(|e| panic!("`{name}`: {e}: {}", self.error()));
        serde_json::from_str(&text).expect("JSON")
    }

    /// Checks that nothing was compared, for a reason that is named.
    #[track_caller]
    fn assert_refused(&self, code: i32, reason: &str) {
        assert_eq!(self.code(), Some(code), "{}", self.error());
        assert!(
            self.error().contains("error: ") && self.error().contains(reason),
            "{}",
            self.error()
        );
        assert!(!self.file("comparison.md").exists());
    }
}

#[track_caller]
fn valid(document: &Value, schema: &str) {
    let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// The functions that have this verdict.
fn told<'a>(comparison: &'a Value, verdict: &str) -> Vec<&'a str> {
    let functions = comparison["functions"].as_array().expect("a list");
    let told = functions
        .iter()
        .filter(|function| function["verdict"] == verdict);
    told.map(|function| function["name"].as_str().expect("text"))
        .collect()
}

/// The program without and with its improvement.
fn words() -> [PathBuf; 2] {
    let source = repository().join("fixtures/compare/words.rs");
    let recipe = [
        "rustc",
        "--edition",
        "2021",
        "-O",
        "-g",
        "-C",
        "force-frame-pointers=yes",
    ];
    let after = [&recipe[..], &["--cfg", "after"]].concat();
    let build = |recipe: &[&str], name: &str| {
        compile_as(&source, recipe, name.as_ref(), &programs())
            .unwrap_or_else(|message| panic!("{message}"))
    };
    [build(&recipe, "words-before"), build(&after, "words-after")]
}

/// A command of so many rounds.
fn command(program: &Path, rounds: u32) -> String {
    format!("'{}' {rounds}", program.display())
}

/// Both ways, three runs each, recorded once for all tests here.
fn recorded() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let [before, after] = words();
        let (before, after) = (command(&before, 300), command(&after, 300));
        let [before, after] = [before.as_str(), after.as_str()];
        run(&[
            "ci",
            "run",
            "--before",
            before,
            "--after",
            after,
            "--runs",
            "3",
            "-F",
            "999",
            "--service",
            "words",
        ])
    })
}

/// One of its profiles.
fn profile(side: &str, number: u32) -> String {
    let name = format!("diagnostics/words-runs/{side}-{number:03}.pb.gz");
    let path = recorded().file(&name);
    assert!(path.is_file(), "no `{name}`: {}", recorded().error());
    path.to_str().expect("UTF-8").to_string()
}

#[test]
fn a_removed_allocation_is_found_and_nothing_else_is_blamed() {
    if missing(&[Need::Perf, Need::Bpf, Need::Program("rustc")]) {
        return;
    }
    let run = recorded();
    let comparison = run.comparison();
    let improved = told(&comparison, "improved");
    // It costs half. On a machine that is busy otherwise three runs of a second can be too few to be sure of it; what they
    // measure is below what it was all the same.
    let functions = comparison["functions"].as_array().expect("a list");
    let counted = functions
        .iter()
        .find(|function| function["name"] == "words::count_known");
    let change = counted.expect("it is hot")["change"]
        .as_f64()
        .expect("it was there before");
    assert!((-0.75..-0.2).contains(&change), "{change}: {}", run.error());
    let sure = comparison["total"]["verdict"] == "improved";
    assert!(
        !sure || improved.contains(&"words::count_known"),
        "{}",
        run.error()
    );
    assert!(told(&comparison, "regressed").is_empty(), "{}", run.error());
    assert_eq!(comparison["measure"], "cost");
    assert_eq!(comparison["interleaved"], true);
    for side in ["before", "after"] {
        let runs = comparison[side]["runs"].as_array().expect("a list");
        assert_eq!(runs.len(), 3);
        assert!(runs.iter().all(|run| run["work"] == 1.0), "{runs:?}");
    }
    // A recording so short may be called inconclusive by itself; a regression it is not.
    let codes = [Some(exit::SUCCESS), Some(exit::INCONCLUSIVE)];
    assert!(codes.contains(&run.code()), "{}", run.error());
    // What the commands print is theirs.
    let printed = String::from_utf8_lossy(&run.output.stdout);
    assert!(
        printed
            .lines()
            .all(|line| line.bytes().all(|b| b.is_ascii_digit())),
        "{printed}"
    );
}

#[test]
fn a_program_is_not_told_from_itself() {
    if missing(&[Need::Perf, Need::Bpf, Need::Program("rustc")]) {
        return;
    }
    // How often two recordings of one program are told apart is for `cargo xtask bench compare`, not for one trial.
    let recording = profile("before", 1);
    let run = run(&[
        "compare",
        "--before",
        &recording,
        "--after",
        &recording,
        "--work-before",
        "1",
        "--work-after",
        "1",
    ]);
    let comparison = run.comparison();
    for verdict in ["improved", "regressed"] {
        assert!(told(&comparison, verdict).is_empty(), "{}", run.error());
        assert_ne!(comparison["verdict"], verdict);
        assert_ne!(comparison["total"]["verdict"], verdict);
    }
}

#[test]
fn what_was_recorded_in_different_ways_is_refused_and_forced_with_a_warning() {
    if missing(&[Need::Perf, Need::Bpf, Need::Program("rustc")]) {
        return;
    }
    let [program, _] = words();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let other = folder.path().join("fp.pb.gz");
    let recorded = Command::new(perfprof())
        .args([
            "--quiet",
            "record",
            "--mode",
            "on-cpu",
            "--unwind",
            "fp",
            "--artifacts",
        ])
        .arg(folder.path())
        .arg("-o")
        .arg(&other)
        .arg("--")
        .arg(&program)
        .arg("40")
        .output()
        .expect("perfprof can be run");
    assert!(
        other.is_file(),
        "{}",
        String::from_utf8_lossy(&recorded.stderr)
    );
    let (before, after) = (
        profile("before", 1),
        other.to_str().expect("UTF-8").to_string(),
    );
    let refused = run(&["compare", "--before", &before, "--after", &after]);
    refused.assert_refused(exit::USAGE, "the way of unwinding differs: `dwarf`");
    assert!(refused.error().contains("hint: "), "{}", refused.error());
    let forced = run(&["compare", "--before", &before, "--after", &after, "--force"]);
    let comparison = forced.comparison();
    let warnings = comparison["warnings"].as_array().expect("a list");
    let told = |warning: &Value| {
        warning
            .as_str()
            .is_some_and(|w| w.contains("compared all the same"))
    };
    assert!(warnings.iter().any(told), "{warnings:?}");
    assert!(
        forced.error().contains("ompared all the same"),
        "{}",
        forced.error()
    );
}

#[test]
fn a_failing_command_fails_with_its_status_named() {
    if missing(&[Need::Perf, Need::Bpf]) {
        return;
    }
    let failed = run(&[
        "ci", "run", "--before", "exit 3", "--after", "true", "--runs", "1",
    ]);
    failed.assert_refused(exit::NO_TARGET, "`exit 3` ended with exit status 3");
}

#[test]
fn a_profile_of_go_is_compared_and_printed_as_json() {
    let go = repository().join("fixtures/corpus/go-cpu.pb.gz");
    let go = go.to_str().expect("UTF-8");
    let run = run(&["compare", "--before", go, "--after", go, "--json"]);
    assert_eq!(run.code(), Some(exit::SUCCESS), "{}", run.error());
    let printed: Value = serde_json::from_slice(&run.output.stdout).expect("JSON alone");
    assert_eq!(printed, run.comparison());
    assert_eq!(printed["verdict"], "unchanged");
    assert!(!told(&printed, "unchanged").is_empty());
    assert!(told(&printed, "inconclusive").is_empty());
}

/// Folded stacks of a service whose `parse` takes so many of 10,000 samples.
fn folded(folder: &Path, name: &str, parse: u32) -> String {
    let path = folder.join(name);
    let rest = 10_000 - parse;
    let text = format!(
        "main;serve;parse {parse}\nmain;serve;store {}\nmain;serve;send {}\n",
        rest / 2,
        rest - rest / 2
    );
    fs::write(&path, text).expect("writable");
    path.to_str().expect("UTF-8").to_string()
}

#[test]
fn folded_stacks_are_judged_by_shares_with_a_warning() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (small, large) = (
        folded(folder.path(), "a.folded", 3000),
        folded(folder.path(), "b.folded", 4500),
    );
    let run = run(&["compare", "--before", &small, "--after", &large]);
    let comparison = run.comparison();
    assert_eq!(comparison["measure"], "share");
    assert_eq!(told(&comparison, "regressed"), ["parse"], "{}", run.error());
    assert_eq!(run.code(), Some(REGRESSED));
    let warnings = comparison["warnings"].as_array().expect("a list");
    assert!(
        warnings
            .iter()
            .any(|text| text.as_str().is_some_and(|text| text.contains("share"))),
        "{warnings:?}"
    );
}

#[test]
fn profiles_of_different_tools_are_refused_and_a_file_that_is_none_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let go = repository().join("fixtures/corpus/go-cpu.pb.gz");
    let go = go.to_str().expect("UTF-8");
    let text = folded(folder.path(), "a.folded", 3000);
    run(&["compare", "--before", go, "--after", &text])
        .assert_refused(exit::USAGE, "the tool differs");
    let none = folder.path().join("none.pb.gz");
    fs::write(&none, b"\x1f\x8b nothing").expect("writable");
    let none = none.to_str().expect("UTF-8");
    run(&["compare", "--before", go, "--after", none])
        .assert_refused(exit::BAD_INPUT, "none.pb.gz");
}

#[test]
fn a_plan_needs_more_samples_for_less_change() {
    let samples = |change: &str| {
        let output = Command::new(perfprof())
            .args([
                "plan", "--share", "3%", "--change", change, "--cores", "4", "-F", "199", "--json",
            ])
            .output()
            .expect("perfprof can be run");
        assert!(output.status.success());
        let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let samples = plan["samples_per_side"].as_f64().expect("a number");
        let seconds = plan["seconds_per_side"].as_f64().expect("a number");
        // The number of samples is rounded up.
        assert!((seconds * 4.0 * 199.0 - samples).abs() < 1.0, "{plan}");
        samples
    };
    let ratio = samples("5%") / samples("10%");
    assert!((3.5..4.5).contains(&ratio), "{ratio}");
}
