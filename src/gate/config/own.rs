//! The keys under `perfprof`, and what holds where a key is absent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::{Edition, metrics};
use super::values::{Name, NonNegative, Positive, Share, Weight};

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
        let required = metrics::REQUIRED_BY_DEFAULT;
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
