//! The gate config: perfprof's own part of `config/protocol_gates/<NN>.yaml`, under the key `perfprof`.
//!
//! In: YAML that another runner reads, too; its keys are left alone, whatever they hold. Out: a [`Config`] in which
//! every figure is sensible and every default filled in. An error names file, line and key. YAML can name a part and
//! repeat it, so that a short file stands for a huge one; what it may expand to is bounded.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Edition, Gate};
use crate::artifacts::{InsideError, read_named};

mod own;
mod values;

pub use own::*;
pub use values::*;

/// Configs are written by hand.
const MAX_BYTES: u64 = 1 << 20;
/// Nodes of the document, what aliases repeat included.
const MAX_NODES: usize = 50_000;
const MAX_DEPTH: usize = 64;

/// A config that cannot be used: exit code 6.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("no gate config `{file}`")]
    Missing { file: String },
    #[error("failed to read the gate config `{file}`: it {source}")]
    Unreadable { file: String, source: InsideError },
    #[error("the gate config `{file}`, {position}: {message}")]
    Content {
        file: String,
        position: String,
        message: String,
    },
}

/// The whole config; without a file all defaults.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where it was read from.
    pub file: Option<String>,
    /// Keys of the other runner that the evidence manifest repeats.
    pub protocol_id: Option<String>,
    pub protocol_title: Option<String>,
    pub artifacts_listed: Vec<ListedArtifact>,
    pub own: Own,
}

/// An artifact that the other runner expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedArtifact {
    pub path: String,
    pub description: String,
}

/// The file as it stands: keys of the other runner are read as whatever they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    protocol_id: Value,
    protocol_title: Value,
    protocol_name: Value,
    artifacts: Value,
    perfprof: Option<Own>,
}

impl Config {
    /// Reads a file that was named or found.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let file = path.display().to_string();
        let bytes = match read_named(path, MAX_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(ConfigError::Missing { file }),
            Err(source) => return Err(ConfigError::Unreadable { file, source }),
        };
        Config::of(&file, &bytes)
    }

    /// Reads a file's bytes.
    pub fn of(file: &str, bytes: &[u8]) -> Result<Config, ConfigError> {
        let content = |position: String, message: String| ConfigError::Content {
            file: file.to_owned(),
            position,
            message,
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|e| content(format!("byte {}", e.valid_up_to()), "is not UTF-8".into()))?;
        let read: Option<File> = serde_saphyr::from_str_with_options(text, options())
            .map_err(|error| content(position_of(&error), message_of(&error)))?;
        let read = read.unwrap_or_default();
        let config = Config {
            file: Some(file.to_owned()),
            protocol_id: scalar(&read.protocol_id),
            protocol_title: scalar(&read.protocol_title).or(scalar(&read.protocol_name)),
            artifacts_listed: listed(&read.artifacts),
            own: read.perfprof.unwrap_or_default(),
        };
        config
            .check()
            .map_err(|(line, message)| content(format!("line {line}"), message))?;
        Ok(config)
    }

    /// What a type cannot say: names are unique, and something has weight.
    fn check(&self) -> Result<(), (u64, String)> {
        let services = self.own.services.iter().map(|s| ("service", &s.name));
        let scenarios = &self.own.diagnostics.scenarios;
        let scenarios = scenarios.iter().map(|s| ("scenario", &s.name));
        let kpis = self.own.optimization.kpis.iter().map(|k| ("KPI", &k.name));
        let mut seen = BTreeSet::new();
        for (what, name) in services.chain(scenarios).chain(kpis) {
            if !seen.insert((what, &name.value)) {
                let message = format!("`perfprof`: the {what} `{}` is there twice", name.value.0);
                return Err((name.defined.line(), message));
            }
        }
        for kpi in &self.own.optimization.kpis {
            let line = kpi.name.defined.line();
            if (kpi.metric == KpiMetric::Function) != kpi.function.is_some() {
                let message = "`perfprof.optimization.kpis`: `function` belongs to `metric: function`, and to no other";
                return Err((line, message.into()));
            }
        }
        let weights = &self.own.diagnostics.weights;
        if weights.profiling.0 + weights.load.0 + weights.capacity.0 <= 0.0 {
            let message = "`perfprof.diagnostics.weights`: all weights are 0";
            return Err((1, message.into()));
        }
        Ok(())
    }

    pub(super) fn min_critical_services(&self, edition: Edition) -> usize {
        let own = self.own.diagnostics.min_critical_services;
        own.unwrap_or(edition.min_critical_services())
    }

    /// The number that bounds a gate's score.
    pub fn set_threshold(&mut self, gate: Gate, threshold: f64) {
        let threshold = Share(threshold);
        match gate {
            Gate::Baseline => self.own.baseline.completeness = threshold,
            Gate::Diagnostics => self.own.diagnostics.coverage = threshold,
            Gate::Optimization => self.own.optimization.improvement_threshold = threshold,
            Gate::Governance => self.own.governance.completeness = threshold,
        }
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: MAX_DEPTH,
            max_alias_expansions_per_anchor: 1_000,
        },
        with_snippet: false,
        // Numbers of the other runner; perfprof's own are checked one by one.
        reject_non_finite_typeless_float: false,
    }
}

fn position_of(error: &serde_saphyr::Error) -> String {
    match error.location() {
        Some(at) if at.line() > 0 => format!("line {}, column {}", at.line(), at.column()),
        _ => "as a whole".into(),
    }
}

/// In one line, without the position, which stands before it.
fn message_of(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let end = line.find(" at line ").unwrap_or(line.len());
    line[..end].to_owned()
}

/// A name or number of the other runner's as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `artifacts: [{path, description, status}]`, as far as it is of that shape.
fn listed(value: &Value) -> Vec<ListedArtifact> {
    let entries = value.as_array().into_iter().flatten();
    let entry = |entry: &Value| {
        let path = entry.as_str().or(entry["path"].as_str())?;
        Some(ListedArtifact {
            path: path.to_owned(),
            description: entry["description"].as_str().unwrap_or_default().to_owned(),
        })
    };
    entries.filter_map(entry).collect()
}

#[cfg(test)]
mod tests;
