//! What was typed for the commands of the workflow around a recording: gates, evidence, a new config.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::gate::{Edition, Gate};

#[derive(Debug, Args)]
pub(super) struct GateArgs {
    /// Which gate to ask; `all` asks one after the other
    #[arg(value_enum)]
    pub gate: GateArg,
    /// Gate config [default: that of config/protocol_gates/*.yaml with a `perfprof` key, or numbered 14 or 18]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder with the documents to judge; the verdict goes to its gate-results/ [default: the config's, or the
    /// edition's: .artifacts/performance or .artifacts/protocol-18]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Edition of the workflow [default: the config's]
    #[arg(long, value_name = "14|18", value_parser = edition)]
    pub edition: Option<Edition>,
    /// Gate 2: the score to reach, 0 to 1 [default: the config's, else 0.90]
    #[arg(long, value_name = "SCORE", value_parser = portion)]
    pub coverage: Option<f64>,
    /// Gate 3: the improvement to reach, 0 to 1 [default: the config's, else 0.15]
    #[arg(long, value_name = "SHARE", value_parser = portion)]
    pub improvement_threshold: Option<f64>,
    /// Gates 1 and 4: the completeness to reach, 0 to 1 [default: the config's, else 0.95]
    #[arg(long, value_name = "SHARE", value_parser = portion)]
    pub threshold: Option<f64>,
    /// Gate 2: the load-test results; gate 3: the comparison; gate 4: the record of who was given the report
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Gate 1: the performance intake report (JSON)
    #[arg(long, value_name = "FILE")]
    pub intake: Option<PathBuf>,
    /// Gate 2: profile that the current flame graph is held against; repeatable
    #[arg(long, value_name = "[SERVICE=]FILE")]
    pub baseline: Vec<String>,
    /// Gate 3: result of a load test before the change; repeatable, three runs a side show their spread
    #[arg(long, value_name = "FILE", requires = "after_load")]
    pub before_load: Vec<PathBuf>,
    /// Gate 3: result of a load test after the change; repeatable
    #[arg(long, value_name = "FILE", requires = "before_load")]
    pub after_load: Vec<PathBuf>,
    /// Print the verdict as JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum GateArg {
    /// Gate 1: is the state before the work known?
    Baseline,
    /// Gate 2: were the services profiled, under the load that matters, and their capacity told?
    Diagnostics,
    /// Gate 3: is it better by enough, and nothing worse?
    Optimization,
    /// Gate 4: are the documents complete, approved, and given to those they are for?
    Governance,
    /// All of them
    All,
}

impl GateArg {
    pub fn gates(self) -> Vec<Gate> {
        match self {
            GateArg::Baseline => vec![Gate::Baseline],
            GateArg::Diagnostics => vec![Gate::Diagnostics],
            GateArg::Optimization => vec![Gate::Optimization],
            GateArg::Governance => vec![Gate::Governance],
            GateArg::All => Gate::ALL.to_vec(),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct EvidenceArgs {
    /// Also write performance-evidence-bundle.zip, with everything that the manifest lists
    #[arg(long)]
    pub bundle: bool,
    /// Compare the files with the manifest that is there, instead of writing a new one
    #[arg(long)]
    pub verify: bool,
    /// Folder with the evidence [default: the config's, or the edition's]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Gate config, which names the protocol, the artifacts that are to be there, and inputs from elsewhere [default: as
    /// for `perfprof gate`]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Edition of the workflow [default: the config's]
    #[arg(long, value_name = "14|18", value_parser = edition)]
    pub edition: Option<Edition>,
    /// Print the manifest, or what the verification found, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Edition of the workflow
    #[arg(long, value_name = "14|18", value_parser = edition)]
    pub edition: Edition,
    /// The repository's root, where config/protocol_gates is made
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

fn edition(text: &str) -> Result<Edition, String> {
    let number = text.parse().ok();
    let edition = number.and_then(Edition::of);
    edition.ok_or_else(|| "the editions are 14 and 18".into())
}

fn portion(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("not a number from 0 to 1".into()),
    }
}
