//! The agent beside a service: windows without end, figures, answers, and whatever may happen to it meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::agent::{document, profiles};
use crate::support::pprof::{self, Stack};
use crate::support::{Workload, build};

mod cost;
mod crashes;
mod disk;
mod http;
mod labels;
mod metrics;
mod privileges;
mod pushing;
mod settings;
mod targets;
mod windows;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// A workload's program under a command name that nobody else on the machine has.
fn named(source: &str, folder: &Path) -> (PathBuf, String) {
    let name = folder.file_name().expect("a name").to_string_lossy();
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let path = folder.join(&name);
    fs::copy(build(source), &path).expect("a program can be copied");
    (path, name)
}

/// A program that is busy until it is dropped.
fn busy(folder: &Path) -> (Workload, String) {
    let (program, name) = named("split_70_30.cpp", folder);
    (Workload::start_program(&program, &["1"]), name)
}

#[track_caller]
fn assert_fits(schema: &str, document: &Value) {
    let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}\n{document:#}");
}

/// Checks that a window is whole: all of its documents are there and valid, and so are its profiles.
#[track_caller]
fn assert_whole(window: &Path) {
    let json = |name: &str| {
        let path = window.join(name);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()));
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    assert_fits(
        include_str!("../../schemas/window.schema.json"),
        &document(window),
    );
    assert_fits(
        include_str!("../../schemas/coverage.schema.json"),
        &json("coverage.json"),
    );
    assert_fits(
        include_str!("../../schemas/bottleneck-report.schema.json"),
        &json("bottleneck-report.json"),
    );
    let report = fs::read_to_string(window.join("profiling-report.md")).expect("a report");
    assert!(report.contains("diagnostics/"), "{report}");
    let stacks = stacks(window);
    let ticks: u64 = stacks.iter().map(|stack| stack.samples).sum();
    assert_eq!(
        ticks,
        sum(window, "ticks") as u64,
        "in `{}`",
        window.display()
    );
}

/// Every stack of a window.
fn stacks(window: &Path) -> Vec<Stack> {
    let profiles = profiles(window);
    assert!(!profiles.is_empty(), "no profile in `{}`", window.display());
    profiles
        .iter()
        .flat_map(|path| pprof::stacks(path))
        .collect()
}

/// Sum over a window's services.
fn sum(window: &Path, figure: &str) -> f64 {
    let document = document(window);
    let services = document["services"].as_array().expect("services").iter();
    services
        .map(|service| service[figure].as_f64().expect("a number"))
        .sum()
}

/// Names of a window's services.
fn services(window: &Path) -> Vec<String> {
    let document = document(window);
    let services = document["services"].as_array().expect("services").iter();
    services
        .map(|service| service["service"].as_str().expect("a name").to_owned())
        .collect()
}

/// Samples with a function of that name on their stack.
fn with(stacks: &[Stack], name: &str) -> u64 {
    let has = |stack: &&Stack| {
        let mut places = stack.frames.iter().flat_map(|frame| &frame.functions);
        places.any(|place| place.name == name)
    };
    stacks.iter().filter(has).map(|stack| stack.samples).sum()
}
