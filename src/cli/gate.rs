//! `perfprof gate`: may the next phase of the workflow begin?

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::gate_text;
use super::status::Log;
use super::stop::{Exit, Failure};
use super::words;
use super::workflow_args::{GateArg, GateArgs};
use crate::artifacts::{ArtifactRoot, write_atomic};
use crate::gate::discover::{DiscoverError, Discovered, discover};
use crate::gate::{self, Documents, Edition, Gate, GateResult, Given, Outcome, Setting};

pub(super) fn run(args: &GateArgs, log: &Log) -> Result<Exit, Failure> {
    check_flags(args)?;
    let found = found(
        args.config.as_deref(),
        args.edition,
        args.artifacts.as_deref(),
    )?;
    let said = found.said.clone();
    let setting = setting(args, found)?;
    let results: Vec<GateResult> = args
        .gate
        .gates()
        .into_iter()
        .map(|gate| answer(gate, &setting))
        .collect();
    print(&shown(args, &results, &said))?;
    for result in &results {
        if result.outcome() == Outcome::Error {
            let obstacles = result.obstacles();
            obstacles
                .iter()
                .for_each(|check| log.warning(&check.actual));
        }
        let path = store(&setting, result)?;
        log.info(format!("wrote {}", path.display()));
    }
    Ok(worst(&results))
}

/// An input that cannot be read is an answer, too, so that no older verdict stays.
fn answer(gate: Gate, setting: &Setting) -> GateResult {
    match gate::ask(gate, setting) {
        Ok(result) => result,
        Err(error) => GateResult::unreadable(gate, setting, error),
    }
}

fn shown(args: &GateArgs, results: &[GateResult], said: &str) -> String {
    match (args.json, args.gate, results) {
        (true, GateArg::All, results) => format!("{:#}\n", all(results)),
        (true, _, [result]) => format!("{:#}\n", result.to_json()),
        _ => gate_text::of(results, said),
    }
}

/// The verdicts of all gates in one document.
fn all(results: &[GateResult]) -> Value {
    let gates: Vec<Value> = results.iter().map(GateResult::to_json).collect();
    json!({
        "schema": "perfprof.gate-results",
        "schema_version": 1,
        "passed": results.iter().filter(|r| r.outcome() == Outcome::Pass).count(),
        "total": results.len(),
        "gates": gates,
    })
}

/// The exit code that says most: a file that cannot be read, then a failure, then too little data.
fn worst(results: &[GateResult]) -> Exit {
    let any = |outcome| results.iter().any(|result| result.outcome() == outcome);
    match () {
        () if any(Outcome::Error) => Exit::BadInput,
        () if any(Outcome::Fail) => Exit::Failed,
        () if any(Outcome::Inconclusive) => Exit::Inconclusive,
        () => Exit::Success,
    }
}

fn store(setting: &Setting, result: &GateResult) -> Result<PathBuf, Failure> {
    let root = ArtifactRoot::open(setting.documents.root()).map_err(words::not_written)?;
    let folder = root.folder("gate-results").map_err(words::not_written)?;
    let path = folder.join(format!("{}.json", result.gate.id()));
    let _locked = root.lock().map_err(words::not_written)?;
    write_atomic(&path, format!("{:#}\n", result.to_json()).as_bytes())
        .map_err(words::not_written)?;
    Ok(path)
}

/// The config, edition and artifact root, from the folder we are in.
pub(super) fn found(
    config: Option<&Path>,
    edition: Option<Edition>,
    artifacts: Option<&Path>,
) -> Result<Discovered, Failure> {
    discover(Path::new(""), config, edition, artifacts).map_err(config_failure)
}

/// Why there is no config that could be used, and what helps.
pub(super) fn config_failure(error: DiscoverError) -> Failure {
    let hint = match &error {
        DiscoverError::Several { .. } => "choose with --edition 14|18 or --config FILE",
        DiscoverError::Outside { .. } => {
            "name a folder below the repository's root, or give this one with --artifacts DIR"
        }
        DiscoverError::Config(_) => {
            "repair it; `perfprof init --edition 18 --dir EMPTY` writes an example with all keys"
        }
    };
    let exit = match &error {
        DiscoverError::Several { .. } => Exit::Usage,
        DiscoverError::Config(_) | DiscoverError::Outside { .. } => Exit::BadInput,
    };
    Failure::new(exit, error).hint(hint)
}

fn setting(args: &GateArgs, found: Discovered) -> Result<Setting, Failure> {
    let mut config = found.config;
    for (gate, threshold) in [
        (Gate::Diagnostics, args.coverage),
        (Gate::Optimization, args.improvement_threshold),
        (Gate::Baseline, args.threshold),
        (Gate::Governance, args.threshold),
    ] {
        if let Some(threshold) = threshold {
            config.set_threshold(gate, threshold);
        }
    }
    let baselines = args.baseline.iter().map(|text| baseline(text));
    Ok(Setting {
        edition: found.edition,
        config,
        documents: Documents::new(found.artifacts),
        now: jiff::Timestamp::now(),
        given: Given {
            report: args.report.clone(),
            intake: args.intake.clone(),
            baselines: baselines.collect(),
            before_load: args.before_load.clone(),
            after_load: args.after_load.clone(),
        },
    })
}

/// `SERVICE=FILE`, or a file whose service is its own. A file with `=` in its name is one where it is there.
fn baseline(text: &str) -> (Option<String>, PathBuf) {
    match text.split_once('=') {
        Some((service, file)) if !Path::new(text).exists() => {
            (Some(service.to_owned()), file.into())
        }
        _ => (None, text.into()),
    }
}

/// A flag that the gate does not know is a mistake, not a wish.
fn check_flags(args: &GateArgs) -> Result<(), Failure> {
    let all = args.gate == GateArg::All;
    let is = |gates: &[GateArg]| all || gates.contains(&args.gate);
    use GateArg::{Baseline, Diagnostics, Governance, Optimization};
    let flags: [(&str, bool, &[GateArg]); 7] = [
        ("--coverage", args.coverage.is_some(), &[Diagnostics]),
        (
            "--improvement-threshold",
            args.improvement_threshold.is_some(),
            &[Optimization],
        ),
        (
            "--threshold",
            args.threshold.is_some(),
            &[Baseline, Governance],
        ),
        (
            "--report",
            args.report.is_some(),
            &[Diagnostics, Optimization, Governance],
        ),
        ("--intake", args.intake.is_some(), &[Baseline]),
        ("--baseline", !args.baseline.is_empty(), &[Diagnostics]),
        (
            "--before-load",
            !args.before_load.is_empty(),
            &[Optimization],
        ),
    ];
    for (flag, given, gates) in flags {
        if given && !is(gates) {
            let names: Vec<&str> = gates.iter().flat_map(|g| g.gates()).map(Gate::id).collect();
            let message = format!(
                "`{flag}` belongs to `perfprof gate {}`",
                names.join("` and `perfprof gate ")
            );
            return Err(Failure::message(Exit::Usage, message));
        }
    }
    if all && args.report.is_some() {
        let message = "`--report` means another file at each gate, and `all` was asked";
        return Err(Failure::message(Exit::Usage, message).hint("ask the gates one by one"));
    }
    Ok(())
}

pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::NotWritten, error))
        }
        _ => Ok(()),
    }
}
