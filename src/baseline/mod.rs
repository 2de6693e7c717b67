//! The baseline: what each service did before anything was changed, figure by figure.
//!
//! In: the documents of an artifact root ([`collect()`]), or `baseline-metrics.json` or `.csv`, also written by others
//! ([`read()`]). Out: a [`Baseline`], its two files, and what a gate asks of it: how complete and how old it is.
//!
//! A figure has a name from [`metrics`], a unit, the time at which it was measured, and where it comes from. A name may
//! carry what it is of in brackets: `p95_latency[checkout]`, `hot_path_share[parse]`.
#![forbid(unsafe_code)]

mod collect;
mod document;
mod error;
pub mod metrics;
mod quality;
mod read;

pub use collect::{Sources, collect};
pub use document::{SCHEMA, SCHEMA_VERSION, to_csv, to_json};
pub use error::BaselineError;
pub use quality::{Age, Completeness, Missing};
pub use read::{find, from_bytes, read};

use std::cmp::Ordering;
use std::collections::BTreeSet;

use jiff::Timestamp;

/// The document's names in the artifact root.
pub const JSON_FILE: &str = "baseline-metrics.json";
pub const CSV_FILE: &str = "baseline-metrics.csv";

/// One figure of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub service: String,
    pub metric: String,
    pub value: f64,
    pub unit: String,
    /// When it was measured.
    pub timestamp: Timestamp,
    /// The file it was taken from, and what measured it.
    pub source: String,
}

/// Figures, one for each metric of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    /// In the order of their services and metrics.
    measurements: Vec<Measurement>,
}

impl Baseline {
    /// Of several figures of one metric of a service the latest counts.
    pub fn new(measurements: impl IntoIterator<Item = Measurement>) -> Baseline {
        let mut baseline = Baseline::default();
        baseline.update(measurements);
        baseline
    }

    pub fn measurements(&self) -> &[Measurement] {
        &self.measurements
    }

    pub fn is_empty(&self) -> bool {
        self.measurements.is_empty()
    }

    pub fn get(&self, service: &str, metric: &str) -> Option<&Measurement> {
        self.place(service, metric)
            .ok()
            .and_then(|at| self.measurements.get(at))
    }

    /// Puts figures in the place of old ones, whenever those were measured. What a service no longer has of a metric that
    /// is measured anew (a scenario, a function that was hot) goes.
    pub fn replace(&mut self, measurements: impl IntoIterator<Item = Measurement>) {
        let new = Baseline::new(measurements);
        let key = |m: &Measurement| (m.service.clone(), metrics::base(&m.metric).to_owned());
        let anew: BTreeSet<_> = new.measurements.iter().map(key).collect();
        self.measurements.retain(|old| !anew.contains(&key(old)));
        self.update(new.measurements);
    }

    /// Adds figures; one that is as new as what is there, or newer, takes its place.
    fn update(&mut self, measurements: impl IntoIterator<Item = Measurement>) {
        self.measurements.extend(measurements);
        // Stable: of two figures of one time the one that was added later is the last.
        self.measurements
            .sort_by(|a, b| by_key(a, b).then_with(|| a.timestamp.cmp(&b.timestamp)));
        // The last of each metric is kept.
        self.measurements.reverse();
        self.measurements.dedup_by(|a, b| by_key(a, b).is_eq());
        self.measurements.reverse();
    }

    /// Services, in order.
    pub fn services(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .measurements
            .iter()
            .map(|m| m.service.as_str())
            .collect();
        names.dedup();
        names
    }

    fn place(&self, service: &str, metric: &str) -> Result<usize, usize> {
        let key = |m: &Measurement| (m.service.as_str(), m.metric.as_str()).cmp(&(service, metric));
        self.measurements.binary_search_by(key)
    }
}

fn by_key(a: &Measurement, b: &Measurement) -> Ordering {
    (&a.service, &a.metric).cmp(&(&b.service, &b.metric))
}

#[cfg(test)]
mod tests;
