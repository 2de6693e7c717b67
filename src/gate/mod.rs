//! The four gates of the performance workflow: may the next phase begin, and if not, what is to be done?
//!
//! In: the gate config, and the documents of one artifact root as they stand on disk. Out: a [`GateResult`] with every
//! check's expectation, finding, evidence and remedy. A gate measures nothing and prints nothing; documents that are
//! missing fail their checks, documents that cannot be read are a [`BadInput`], which is never a verdict.
//!
//! | gate | asks |
//! |---|---|
//! | 1 `baseline` | Is the state before the work known: complete, fresh, with hypotheses? |
//! | 2 `diagnostics` | Were the services profiled, under the load that matters, and their capacity told? |
//! | 3 `optimization` | Is the improvement large enough and real, and nothing worse? |
//! | 4 `governance` | Are the documents complete, approved, and given to those who need them? |
#![forbid(unsafe_code)]

mod approvals;
mod baseline;
mod capacity;
mod check;
mod command;
mod comparison;
mod completeness;
pub mod config;
mod diagnostics;
pub mod discover;
mod documents;
mod governance;
mod hypotheses;
mod kpi;
mod load;
mod load_change;
mod load_remedy;
mod metrics;
mod optimization;
mod profiling;
mod regressions;
mod result;
mod shortfall;
mod svg;
mod variance;
mod waiver;

pub use check::{Check, Status};
pub use config::{Config, ConfigError};
pub use documents::{BadInput, Documents};
pub use result::{GateResult, Outcome, Part, SCHEMA, SCHEMA_VERSION, Score};
pub use waiver::WaiverUse;

use std::path::PathBuf;

use jiff::Timestamp;

/// A gate of the workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Baseline,
    Diagnostics,
    Optimization,
    Governance,
}

impl Gate {
    pub const ALL: [Gate; 4] = [
        Gate::Baseline,
        Gate::Diagnostics,
        Gate::Optimization,
        Gate::Governance,
    ];

    /// As in commands and file names.
    pub fn id(self) -> &'static str {
        match self {
            Gate::Baseline => "baseline",
            Gate::Diagnostics => "diagnostics",
            Gate::Optimization => "optimization",
            Gate::Governance => "governance",
        }
    }

    pub fn number(self) -> u32 {
        match self {
            Gate::Baseline => 1,
            Gate::Diagnostics => 2,
            Gate::Optimization => 3,
            Gate::Governance => 4,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Gate::Baseline => "baseline",
            Gate::Diagnostics => "diagnostic coverage",
            Gate::Optimization => "optimization validation",
            Gate::Governance => "governance and communication",
        }
    }

    /// By its name or number, as people write it.
    pub fn of(text: &str) -> Option<Gate> {
        let text = text.trim();
        Gate::ALL
            .into_iter()
            .find(|gate| text.eq_ignore_ascii_case(gate.id()) || text == gate.number().to_string())
    }
}

/// The published edition of the workflow, by the number its users know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    Fourteen,
    Eighteen,
}

impl Edition {
    pub const ALL: [Edition; 2] = [Edition::Fourteen, Edition::Eighteen];

    pub fn number(self) -> u32 {
        match self {
            Edition::Fourteen => 14,
            Edition::Eighteen => 18,
        }
    }

    pub fn of(number: u64) -> Option<Edition> {
        Edition::ALL
            .into_iter()
            .find(|edition| u64::from(edition.number()) == number)
    }

    /// Where its artifacts stand, from the repository's root.
    pub fn artifacts(self) -> &'static str {
        match self {
            Edition::Fourteen => ".artifacts/performance",
            Edition::Eighteen => ".artifacts/protocol-18",
        }
    }

    fn min_critical_services(self) -> usize {
        match self {
            Edition::Fourteen => 0,
            Edition::Eighteen => 2,
        }
    }
}

/// Everything a gate looks at.
#[derive(Debug)]
pub struct Setting {
    pub edition: Edition,
    pub config: Config,
    pub documents: Documents,
    pub now: Timestamp,
    pub given: Given,
}

/// Files that were named on the command line, in place of those of the config and the artifact root.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// What the older spelling `--report` means depends on the gate: load-test results (2), the comparison (3), the
    /// record of who was given the report (4).
    pub report: Option<PathBuf>,
    /// The intake report of gate 1.
    pub intake: Option<PathBuf>,
    /// Profiles that the current ones are held against, by service or for the only one.
    pub baselines: Vec<(Option<String>, PathBuf)>,
    pub before_load: Vec<PathBuf>,
    pub after_load: Vec<PathBuf>,
}

/// Asks one gate.
pub fn ask(gate: Gate, setting: &Setting) -> Result<GateResult, BadInput> {
    let mut result = match gate {
        Gate::Baseline => baseline::ask(setting)?,
        Gate::Diagnostics => diagnostics::ask(setting)?,
        Gate::Optimization => optimization::ask(setting)?,
        Gate::Governance => governance::ask(setting)?,
    };
    result.protocol_id = setting.protocol_id();
    result.config = setting.config.file.clone();
    Ok(result)
}

impl Setting {
    /// As the existing runner knows it; without a config, the edition's number.
    pub fn protocol_id(&self) -> String {
        let of_config = self.config.protocol_id.clone();
        of_config.unwrap_or_else(|| self.edition.number().to_string())
    }
}
