//! From the documents of an artifact root to figures.
//!
//! In: entries of `coverage.json`, `bottleneck-report.json`, `capacity-analysis.json`, and load tests. Out: a figure for
//! everything that was measured; what is `null` there is none here.
//!
//! A load test is of a service. Where it says none, it is the one that was asked for, or the only service there is, or
//! else the scenario itself. Several scenarios of one service each have their own figures (`p95_latency[checkout]`), and
//! the figure without a scenario is the worst of them.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::metrics::{self, Metric};
use super::read::opened;
use super::{BaselineError, Measurement};
use crate::artifacts::read_inside;
use crate::load_test::field::Field;
use crate::load_test::{ContentError, LoadTest, json_value};

const MAX_BYTES: u64 = 64 << 20;
/// The hottest functions whose share is kept.
const HOT_PATHS: usize = 10;

/// What figures are taken from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub coverage: Vec<Value>,
    pub bottlenecks: Vec<Value>,
    pub capacity: Vec<Value>,
    pub load_tests: Vec<LoadTest>,
    /// Of load tests that say none.
    pub service: Option<String>,
    /// Of entries that do not say when they were measured.
    pub written_at: BTreeMap<String, Timestamp>,
}

/// A document that is read: its name, its schema, and the version.
#[derive(Clone, Copy, Debug)]
struct Kind {
    file: &'static str,
    schema: &'static str,
    version: u64,
}

const COVERAGE: Kind = Kind {
    file: "coverage.json",
    schema: crate::render::coverage::SCHEMA,
    version: crate::render::coverage::SCHEMA_VERSION,
};
const BOTTLENECKS: Kind = Kind {
    file: "bottleneck-report.json",
    schema: crate::render::bottleneck::SCHEMA,
    version: crate::render::bottleneck::SCHEMA_VERSION,
};
const CAPACITY: Kind = Kind {
    file: "capacity-analysis.json",
    schema: crate::capacity::SCHEMA,
    version: crate::capacity::SCHEMA_VERSION as u64,
};

impl Sources {
    /// The documents that stand in an artifact root; those that are missing have no entries. Load tests are not among
    /// them: they may be in any tool's format.
    pub fn of_root(root: &Path) -> Result<Sources, BaselineError> {
        let mut written_at = BTreeMap::new();
        let mut entries = |kind: Kind| {
            let path = root.join(kind.file);
            let read = read_inside(root, Path::new(kind.file), MAX_BYTES);
            let Some(bytes) = opened(&path, read)? else {
                return Ok(Vec::new());
            };
            let modified = path.metadata().and_then(|metadata| metadata.modified());
            let modified = modified
                .ok()
                .and_then(|time| Timestamp::try_from(time).ok());
            written_at.extend(modified.map(|time| (kind.file.to_owned(), time)));
            entries_of(&path, &bytes, kind)
        };
        Ok(Sources {
            coverage: entries(COVERAGE)?,
            bottlenecks: entries(BOTTLENECKS)?,
            capacity: entries(CAPACITY)?,
            load_tests: Vec::new(),
            service: None,
            written_at,
        })
    }

    /// Services of the documents.
    fn services(&self) -> Vec<&str> {
        let all = self.coverage.iter().chain(&self.capacity);
        let mut names: Vec<&str> = all.filter_map(|entry| entry["service"].as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The service that a load test is of.
    fn tested(&self, test: &LoadTest) -> String {
        let services = self.services();
        let scenario = test.scenario.as_deref().unwrap_or("default");
        let only = match services.as_slice() {
            [only] => Some(*only),
            several => several.iter().find(|name| **name == scenario).copied(),
        };
        let stated = test.service.as_deref().or(self.service.as_deref());
        stated.or(only).unwrap_or(scenario).to_owned()
    }
}

fn entries_of(path: &Path, bytes: &[u8], kind: Kind) -> Result<Vec<Value>, BaselineError> {
    let fail = || BaselineError::content(path, "document of perfprof");
    let text = std::str::from_utf8(bytes).map_err(|error| {
        fail()(ContentError::NotText {
            at: error.valid_up_to(),
        })
    })?;
    let mut value = json_value(text).map_err(fail())?;
    let root = Field::root(&value);
    let check = || {
        if root.at("schema").value() != kind.schema {
            return Err(root.at("schema").fault("is another one"));
        }
        if root.at("schema_version").count()? != Some(kind.version) {
            return Err(root
                .at("schema_version")
                .fault("is another one; write the document again"));
        }
        let named = root.at("services").items()?;
        let named = named.iter().map(|entry| entry.at("service"));
        named
            .into_iter()
            .try_for_each(|name| name.required(name.text()).map(drop))
    };
    check().map_err(fail())?;
    match value["services"].take() {
        Value::Array(entries) => Ok(entries),
        _ => Ok(Vec::new()),
    }
}

/// Takes the figures of one entry.
type Take = fn(&Field<'_>, &mut Taker) -> Result<(), ContentError>;

/// All figures. `now` is the time of what does not say its own.
pub fn collect(sources: &Sources, now: Timestamp) -> Result<Vec<Measurement>, BaselineError> {
    let mut found = Vec::new();
    let parts: [(Kind, &[Value], Take); 3] = [
        (COVERAGE, &sources.coverage, coverage),
        (BOTTLENECKS, &sources.bottlenecks, bottlenecks),
        (CAPACITY, &sources.capacity, capacity),
    ];
    for (kind, entries, take) in parts {
        for entry in entries {
            let field = Field::root(entry);
            let fail = BaselineError::content(Path::new(kind.file), "document of perfprof");
            let written = sources.written_at.get(kind.file).copied().unwrap_or(now);
            let mut taker = Taker {
                service: entry["service"].as_str().unwrap_or("").to_owned(),
                timestamp: time_of(&field).unwrap_or(written),
                source: kind.file.to_owned(),
                found: Vec::new(),
            };
            take(&field, &mut taker).map_err(fail)?;
            found.append(&mut taker.found);
        }
    }
    found.extend(load_tests(sources, now));
    Ok(found)
}

fn time_of(entry: &Field<'_>) -> Option<Timestamp> {
    entry.at("recorded_at").value().as_str()?.parse().ok()
}

/// Takes figures of one service from one document.
#[derive(Debug)]
struct Taker {
    service: String,
    timestamp: Timestamp,
    source: String,
    found: Vec<Measurement>,
}

impl Taker {
    fn take(&mut self, metric: Metric, name: String, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.found.push(Measurement {
                service: self.service.clone(),
                metric: name,
                value,
                unit: metric.unit.into(),
                timestamp: self.timestamp,
                source: self.source.clone(),
            });
        }
    }

    fn field(&mut self, metric: Metric, field: &Field<'_>) -> Result<(), ContentError> {
        let value = field.number()?;
        self.take(metric, metric.name.into(), value);
        Ok(())
    }
}

fn coverage(entry: &Field<'_>, taker: &mut Taker) -> Result<(), ContentError> {
    taker.field(metrics::CPU_SECONDS, &entry.at("cpu_seconds"))?;
    for (id, metric) in entry.at("metrics").members()? {
        let value = metric.at("value").number()?;
        let name = format!("{}_{id}", metrics::COVERAGE.name);
        taker.take(metrics::COVERAGE, name, value);
    }
    Ok(())
}

fn bottlenecks(entry: &Field<'_>, taker: &mut Taker) -> Result<(), ContentError> {
    let paths = entry.at("hot_paths").at("by_self").items()?;
    for path in paths.iter().take(HOT_PATHS) {
        let function = path.any(&["canonical", "function"]);
        let function = function.required(function.text())?;
        // All that has no name, in one row, is no function.
        if function.starts_with('[') {
            continue;
        }
        let name = metrics::of_part(metrics::HOT_PATH_SHARE, &function);
        taker.take(metrics::HOT_PATH_SHARE, name, path.at("share").number()?);
    }
    Ok(())
}

fn capacity(entry: &Field<'_>, taker: &mut Taker) -> Result<(), ContentError> {
    let utilization = entry.at("utilization");
    let cores = utilization.at("cores");
    taker.field(metrics::CPU_CORES_MEAN, &cores.at("mean"))?;
    taker.field(metrics::CPU_CORES_P95, &cores.at("p95"))?;
    taker.field(
        metrics::CPU_UTILIZATION_P95,
        &utilization.at("p95_share_of_limit"),
    )?;
    taker.field(metrics::MEMORY_PEAK, &entry.at("memory").at("max_bytes"))?;
    taker.field(
        metrics::THROTTLED_SHARE,
        &entry.at("throttling").at("share"),
    )?;
    taker.field(
        metrics::CPU_PRESSURE,
        &entry.at("pressure").at("cpu_some_share"),
    )?;
    let cost = entry
        .at("advice")
        .at("cost")
        .at("cpu_ms_per_request")
        .number()?;
    let cost_seconds = cost.map(|ms| ms / 1e3);
    let metric = metrics::CPU_SECONDS_PER_REQUEST;
    taker.take(metric, metric.name.into(), cost_seconds);
    Ok(())
}

/// Whether of two scenarios the higher or the lower figure is the worse.
type Worse = fn(f64, f64) -> f64;

/// Of a load test.
const FIGURES: usize = 6;

fn load_tests(sources: &Sources, now: Timestamp) -> Vec<Measurement> {
    let mut by_service: BTreeMap<String, Vec<&LoadTest>> = BTreeMap::new();
    for test in &sources.load_tests {
        by_service
            .entry(sources.tested(test))
            .or_default()
            .push(test);
    }
    let mut found = Vec::new();
    for (service, tests) in by_service {
        let mut worst: [Option<f64>; FIGURES] = [None; FIGURES];
        for test in &tests {
            for (worst, (_, worse, value)) in worst.iter_mut().zip(figures(test)) {
                *worst = match (*worst, value) {
                    (Some(a), Some(b)) => Some(worse(a, b)),
                    (a, b) => a.or(b),
                };
            }
        }
        for test in &tests {
            let scenario = test.scenario.as_deref().unwrap_or("default");
            let file = test
                .source
                .as_ref()
                .map_or("load test", |source| &source.file);
            let mut taker = Taker {
                service: service.clone(),
                timestamp: ended(test).unwrap_or(now),
                source: format!("{file} ({})", test.tool),
                found: Vec::new(),
            };
            for ((metric, _, value), worst) in figures(test).into_iter().zip(worst) {
                if tests.len() > 1 {
                    taker.take(metric, metrics::of_part(metric, scenario), value);
                }
                if value.is_some() && value == worst {
                    taker.take(metric, metric.name.into(), value);
                }
            }
            found.append(&mut taker.found);
        }
    }
    found
}

fn figures(test: &LoadTest) -> [(Metric, Worse, Option<f64>); FIGURES] {
    let users = test.peak_concurrency.map(|n| n as f64);
    [
        (metrics::P50_LATENCY, f64::max, test.latency.p50_ms),
        (metrics::P95_LATENCY, f64::max, test.latency.p95_ms),
        (metrics::P99_LATENCY, f64::max, test.latency.p99_ms),
        (
            metrics::THROUGHPUT,
            f64::min,
            Some(test.throughput_per_second),
        ),
        (metrics::ERROR_RATE, f64::max, test.error_rate),
        (metrics::PEAK_CONCURRENCY, f64::min, users),
    ]
}

/// When the test ended, as far as it says; else when its file was written.
fn ended(test: &LoadTest) -> Option<Timestamp> {
    let start: Option<Timestamp> = test.start.as_ref().and_then(|start| start.parse().ok());
    let length = test.duration_seconds.filter(|seconds| *seconds < 1e9);
    let length = length.map(SignedDuration::from_secs_f64);
    let end = start
        .zip(length)
        .and_then(|(start, length)| start.checked_add(length).ok());
    let source = test.source.as_ref();
    let written = source.and_then(|source| source.written_at.as_ref()?.parse().ok());
    end.or(start).or(written)
}
