//! The gate config: perfprof's own part of `config/protocol_gates/<NN>.yaml`, under the key `perfprof`.
//!
//! In: YAML that another runner reads, too; its keys are left alone, whatever they hold. Out: a [`Config`] in which
//! every figure is sensible and every default filled in. An error names file, line and key. YAML can name a part and
//! repeat it, so that a short file stands for a huge one; what it may expand to is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{Edition, Gate};
use crate::artifacts::{InsideError, read_named};

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

/// What stands under `perfprof`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Own {
    pub edition: Option<Edition>,
    /// The artifact root.
    pub artifacts: Option<PathBuf>,
    /// None: those that were recorded.
    pub services: Vec<Service>,
    pub baseline: Baseline,
    pub diagnostics: Diagnostics,
    pub optimization: Optimization,
    pub governance: Governance,
    pub upstream: Vec<Upstream>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: Spanned<Name>,
    #[serde(default)]
    pub critical: bool,
    /// A profile that the current one is held against.
    #[serde(default)]
    pub baseline_profile: Option<PathBuf>,
    /// In place of those of the baseline gate, where a service has others.
    #[serde(default)]
    pub required_metrics: Option<Vec<Name>>,
}

/// An input that came from elsewhere; the evidence manifest names it with its hash.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    pub path: PathBuf,
    #[serde(default)]
    pub description: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Baseline {
    pub completeness: Share,
    pub required_metrics: Vec<Name>,
    /// No bound where it is absent.
    pub max_age_hours: Option<Positive>,
    pub min_hypotheses: usize,
    pub hypotheses: String,
    /// The intake report, where one is to be there.
    pub intake: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Diagnostics {
    pub coverage: Share,
    /// None: the edition's.
    pub min_critical_services: Option<usize>,
    pub weights: Weights,
    /// Below the root.
    pub load_results: String,
    pub max_error_rate: Share,
    pub scenarios: Vec<Scenario>,
    pub max_flame_graph_variance: Share,
    pub on_variance: OnVariance,
    /// In place of those the recording was judged by, by metric.
    pub coverage_thresholds: BTreeMap<String, Share>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    pub profiling: Weight,
    pub load: Weight,
    pub capacity: Weight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnVariance {
    Warn,
    Fail,
    Ignore,
}

/// A load test that has to be there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: Spanned<Name>,
    #[serde(default)]
    pub weight: Weight,
    /// At least so many at once.
    #[serde(default)]
    pub concurrency: Option<u64>,
    #[serde(default)]
    pub max_error_rate: Option<Share>,
    /// Its results, below the root, where they are not in `load_results`.
    #[serde(default)]
    pub results: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimization {
    pub improvement_threshold: Share,
    pub comparison: String,
    /// None: the cost of the whole service.
    pub kpis: Vec<Kpi>,
    pub hot_path_tolerance: NonNegative,
    pub regressions: Regressions,
    pub justification: String,
    pub before_load: Vec<PathBuf>,
    pub after_load: Vec<PathBuf>,
    /// A `capacity-analysis.json` of before, for memory.
    pub before_capacity: Option<PathBuf>,
}

/// What was to become better.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kpi {
    pub name: Spanned<Name>,
    pub metric: KpiMetric,
    /// The function, for the metric `function`.
    #[serde(default)]
    pub function: Option<Name>,
    /// The least improvement; none: `improvement_threshold`.
    #[serde(default)]
    pub improvement: Option<Share>,
    /// In the metric's own unit: at most this much, for throughput at least.
    #[serde(default)]
    pub target: Option<Positive>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KpiMetric {
    /// The total of the comparison.
    Cost,
    /// One function of the comparison.
    Function,
    LatencyP50,
    LatencyP95,
    LatencyP99,
    Throughput,
    ErrorRate,
}

/// From where on a load test or the memory counts as worse.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Regressions {
    pub p95_latency: NonNegative,
    pub throughput: Share,
    /// In shares: 0.05 is five points.
    pub error_rate: Share,
    pub memory: NonNegative,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Governance {
    pub completeness: Share,
    pub documents: Vec<Document>,
    /// The file with the sign-offs, below the root.
    pub approvals_file: String,
    /// Who has to have signed; none: anybody.
    pub approvals: Vec<Name>,
    /// The record of who was given the report, below the root.
    pub distribution_file: String,
    pub min_audiences: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub path: String,
    /// Headings of a Markdown document, keys of a JSON document; none: those it has.
    #[serde(default)]
    pub sections: Vec<Name>,
}

impl Default for Baseline {
    fn default() -> Self {
        let required = super::metrics::REQUIRED_BY_DEFAULT;
        Baseline {
            completeness: Share(0.95),
            required_metrics: required.iter().map(|m| Name((*m).to_owned())).collect(),
            max_age_hours: None,
            min_hypotheses: 3,
            hypotheses: "hypothesis-log.md".into(),
            intake: None,
        }
    }
}

impl Default for Diagnostics {
    fn default() -> Self {
        Diagnostics {
            coverage: Share(0.90),
            min_critical_services: None,
            weights: Weights::default(),
            load_results: "load-test-results.json".into(),
            max_error_rate: Share(0.02),
            scenarios: Vec::new(),
            max_flame_graph_variance: Share(0.10),
            on_variance: OnVariance::Warn,
            coverage_thresholds: BTreeMap::new(),
        }
    }
}

impl Default for Optimization {
    fn default() -> Self {
        Optimization {
            improvement_threshold: Share(0.15),
            comparison: "performance-comparison.json".into(),
            kpis: Vec::new(),
            hot_path_tolerance: NonNegative(0.0),
            regressions: Regressions::default(),
            justification: "optimization-justification.md".into(),
            before_load: Vec::new(),
            after_load: Vec::new(),
            before_capacity: None,
        }
    }
}

impl Default for Regressions {
    fn default() -> Self {
        Regressions {
            p95_latency: NonNegative(0.20),
            throughput: Share(0.15),
            error_rate: Share(0.05),
            memory: NonNegative(0.30),
        }
    }
}

impl Default for Governance {
    fn default() -> Self {
        let document = |path: &str| Document {
            path: path.into(),
            sections: Vec::new(),
        };
        Governance {
            completeness: Share(0.95),
            documents: vec![
                document("PERFORMANCE-REPORT.md"),
                document("slo-update-record.json"),
            ],
            approvals_file: "slo-update-record.json".into(),
            approvals: Vec::new(),
            distribution_file: "performance-report-manifest.json".into(),
            min_audiences: 3,
        }
    }
}

/// 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(pub f64);

/// Above 0.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Positive(pub f64);

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct NonNegative(pub f64);

/// How much something counts, relative to others.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Weight(pub f64);

impl Default for Weight {
    fn default() -> Self {
        Weight(1.0)
    }
}

/// Not empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(pub String);

/// A weight beyond this is a mistake, and could make a sum infinite.
const MAX_WEIGHT: f64 = 1e6;

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match (0.0..=1.0).contains(&value) {
            true => Ok(Share(value)),
            false => Err(format!("{value} is not a share from 0 to 1")),
        }
    }
}

impl TryFrom<f64> for Positive {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match value.is_finite() && value > 0.0 {
            true => Ok(Positive(value)),
            false => Err(format!("{value} is not above 0")),
        }
    }
}

impl TryFrom<f64> for NonNegative {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match value.is_finite() && value >= 0.0 {
            true => Ok(NonNegative(value)),
            false => Err(format!("{value} is below 0")),
        }
    }
}

impl TryFrom<f64> for Weight {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        match (0.0..=MAX_WEIGHT).contains(&value) {
            true => Ok(Weight(value)),
            false => Err(format!("{value} is not a weight from 0 to {MAX_WEIGHT}")),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(value: String) -> Result<Self, String> {
        match value.trim().is_empty() {
            true => Err("it is empty".into()),
            false => Ok(Name(value)),
        }
    }
}

impl<'de> Deserialize<'de> for Edition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        let unknown = || serde::de::Error::custom(format!("edition {number} is neither 14 nor 18"));
        Edition::of(number).ok_or_else(unknown)
    }
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
#[path = "config_tests.rs"]
mod tests;
