//! `/metrics`: what the agent has seen and what it costs, in Prometheus' text format.
//!
//! In: [`Figures`], and what the sinks say of themselves. Out: text. Every name stands in [`NAMES`], which dashboards and alerts
//! are checked against. Source: Prometheus, "Exposition formats", text version 0.0.4.

use std::fmt::Write;

use super::services::{SHOWN_LABELS, Service};
use super::state::{Figures, ServiceFigures};

/// A counter only grows; a gauge is as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// A metric's name, kind and meaning.
pub type Meaning = (&'static str, Kind, &'static str);

use Kind::{Counter, Gauge};

/// All there are, in the order in which they are written.
pub const NAMES: &[Meaning] = &[
    ("perfprof_build_info", Gauge, "Version of perfprof."),
    (
        "perfprof_samples_total",
        Counter,
        "Samples taken of the target.",
    ),
    (
        "perfprof_samples_lost_total",
        Counter,
        "Samples that the kernel took and could not deliver.",
    ),
    (
        "perfprof_samples_throttled_total",
        Counter,
        "Samples that were not taken because the kernel throttled the event.",
    ),
    (
        "perfprof_windows_total",
        Counter,
        "Windows that ended, by verdict.",
    ),
    (
        "perfprof_windows_dropped_total",
        Counter,
        "Windows that were lost or gave way to newer ones, by reason.",
    ),
    (
        "perfprof_last_window_timestamp_seconds",
        Gauge,
        "When the last window ended, whatever it brought.",
    ),
    (
        "perfprof_coverage_ratio",
        Gauge,
        "Coverage of the last window, by metric and service.",
    ),
    (
        "perfprof_incomplete_stacks_total",
        Counter,
        "Samples whose stack did not reach the thread's root, by reason.",
    ),
    (
        "perfprof_unresolved_frames_total",
        Counter,
        "Frames without a function name, weighted by samples, by reason.",
    ),
    (
        "perfprof_self_cpu_seconds_total",
        Counter,
        "CPU time of the agent, its workers and its BPF programs; without recordings that were asked for.",
    ),
    (
        "perfprof_self_memory_bytes",
        Gauge,
        "What the memory budget counts: memory that is the agent's and its workers' alone, and BPF maps.",
    ),
    (
        "perfprof_self_resident_memory_bytes",
        Gauge,
        "Resident memory of the agent and its workers, with pages of files, which the kernel takes back when it needs them.",
    ),
    (
        "perfprof_self_bpf_memory_bytes",
        Gauge,
        "Memory of the agent's BPF maps in the kernel.",
    ),
    (
        "perfprof_budget_cpu_cores",
        Gauge,
        "CPU time that the agent may use, over wall-clock time.",
    ),
    (
        "perfprof_budget_memory_bytes",
        Gauge,
        "Memory that the agent may use.",
    ),
    (
        "perfprof_budget_reductions_total",
        Counter,
        "How often the agent did less to keep to its budget, by reason.",
    ),
    (
        "perfprof_sampling_frequency_hertz",
        Gauge,
        "Samples per second of CPU time, as they are taken now.",
    ),
    (
        "perfprof_sampling_frequency_asked_hertz",
        Gauge,
        "Samples per second of CPU time that were asked for.",
    ),
    (
        "perfprof_target_processes",
        Gauge,
        "Processes of the target.",
    ),
    (
        "perfprof_target_cpu_seconds_total",
        Counter,
        "CPU time of the target by the kernel's accounting, while it was recorded, by service.",
    ),
    (
        "perfprof_target_throttled_seconds_total",
        Counter,
        "Time for which the service's cgroup was stopped by its quota, while it was recorded.",
    ),
    (
        "perfprof_target_throttled_periods_total",
        Counter,
        "Quota periods in which the service's cgroup was stopped, while it was recorded.",
    ),
    (
        "perfprof_push_queue_bytes",
        Gauge,
        "Bytes that wait to be pushed, by sink.",
    ),
    (
        "perfprof_push_queue_items",
        Gauge,
        "Profiles that wait to be pushed, by sink.",
    ),
    (
        "perfprof_push_sent_total",
        Counter,
        "Profiles that a sink has accepted.",
    ),
    (
        "perfprof_push_failures_total",
        Counter,
        "Attempts to push that failed, by sink.",
    ),
    (
        "perfprof_push_dropped_total",
        Counter,
        "Profiles that were given up, by sink and reason.",
    ),
    (
        "perfprof_disk_used_bytes",
        Gauge,
        "Disk space of windows and queues.",
    ),
    (
        "perfprof_disk_budget_bytes",
        Gauge,
        "Disk space they may take.",
    ),
    ("perfprof_disk_windows", Gauge, "Windows on disk."),
    (
        "perfprof_recordings_total",
        Counter,
        "Recordings that were asked for over HTTP, by outcome.",
    ),
    (
        "perfprof_errors_total",
        Counter,
        "What went wrong, by kind.",
    ),
];

/// What a sink says of itself.
#[derive(Clone, Debug, Default)]
pub struct SinkFigures {
    pub sink: String,
    pub queued_items: u64,
    pub queued_bytes: u64,
    pub sent: u64,
    pub failures: u64,
    pub dropped: Vec<(String, u64)>,
}

/// Label names and values of one sample.
type Labels<'a> = Vec<(&'a str, &'a str)>;

/// The whole page.
pub fn page(figures: &Figures, sinks: &[SinkFigures]) -> String {
    let mut text = String::new();
    for (name, kind, help) in NAMES {
        let samples = samples(name, figures, sinks);
        if samples.is_empty() {
            continue;
        }
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
        };
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let braces = match labels.is_empty() {
                true => String::new(),
                false => format!("{{{}}}", labels.join(",")),
            };
            let _ = writeln!(text, "{name}{braces} {value}");
        }
    }
    text
}

fn samples<'a>(name: &str, f: &'a Figures, sinks: &'a [SinkFigures]) -> Vec<(Labels<'a>, f64)> {
    let one = |value: f64| vec![(Vec::new(), value)];
    let by = |label: &'static str, counts: &mut dyn Iterator<Item = (&'a str, u64)>| {
        let sample = |(value, count)| (vec![(label, value)], count as f64);
        counts.map(sample).collect::<Vec<_>>()
    };
    let known =
        |map: &'a std::collections::BTreeMap<&'static str, u64>| map.iter().map(|(k, v)| (*k, *v));
    let told = |map: &'a std::collections::BTreeMap<String, u64>| {
        map.iter().map(|(k, v)| (k.as_str(), *v))
    };
    let each = |value: &dyn Fn(&ServiceFigures) -> Option<f64>| {
        let services = f.services.iter();
        services
            .filter_map(|(service, figures)| Some((labels_of(service), value(figures)?)))
            .collect::<Vec<_>>()
    };
    let sink = |value: &dyn Fn(&SinkFigures) -> u64| {
        let sinks = sinks.iter();
        sinks
            .map(|s| (vec![("sink", s.sink.as_str())], value(s) as f64))
            .collect::<Vec<_>>()
    };
    let seconds = |ns: u64| ns as f64 / 1e9;
    match name {
        "perfprof_build_info" => vec![(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)],
        "perfprof_samples_total" => one(f.samples as f64),
        "perfprof_samples_lost_total" => one(f.lost as f64),
        "perfprof_samples_throttled_total" => one(f.throttled as f64),
        "perfprof_windows_total" => by("verdict", &mut known(&f.windows)),
        "perfprof_windows_dropped_total" => by("reason", &mut known(&f.windows_dropped)),
        "perfprof_last_window_timestamp_seconds" => f
            .last_window_unix_ns
            .map_or_else(Vec::new, |ns| one(seconds(ns))),
        "perfprof_coverage_ratio" => f
            .services
            .iter()
            .flat_map(|(service, figures)| {
                figures.coverage.iter().map(|(metric, value)| {
                    let mut labels = vec![("metric", *metric)];
                    labels.extend(labels_of(service));
                    (labels, *value)
                })
            })
            .collect(),
        "perfprof_incomplete_stacks_total" => by("reason", &mut told(&f.incomplete)),
        "perfprof_unresolved_frames_total" => by("reason", &mut told(&f.unresolved)),
        "perfprof_self_cpu_seconds_total" => one(seconds(f.self_cpu_ns)),
        "perfprof_self_memory_bytes" => one(f.self_memory_bytes as f64),
        "perfprof_self_resident_memory_bytes" => one(f.resident_memory_bytes as f64),
        "perfprof_self_bpf_memory_bytes" => one(f.bpf_memory_bytes as f64),
        "perfprof_budget_cpu_cores" => one(f.cpu_budget_cores),
        "perfprof_budget_memory_bytes" => one(f.memory_budget_bytes as f64),
        "perfprof_budget_reductions_total" => by("reason", &mut known(&f.reductions)),
        "perfprof_sampling_frequency_hertz" => one(f64::from(f.frequency_hz)),
        "perfprof_sampling_frequency_asked_hertz" => one(f64::from(f.frequency_asked_hz)),
        "perfprof_target_processes" => one(f.target_processes as f64),
        "perfprof_target_cpu_seconds_total" => each(&|s| Some(seconds(s.cpu_ns))),
        "perfprof_target_throttled_seconds_total" => each(&|s| s.throttled_ns.map(seconds)),
        "perfprof_target_throttled_periods_total" => {
            each(&|s| s.throttled_periods.map(|periods| periods as f64))
        }
        "perfprof_push_queue_bytes" => sink(&|s| s.queued_bytes),
        "perfprof_push_queue_items" => sink(&|s| s.queued_items),
        "perfprof_push_sent_total" => sink(&|s| s.sent),
        "perfprof_push_failures_total" => sink(&|s| s.failures),
        "perfprof_push_dropped_total" => sinks
            .iter()
            .flat_map(|s| {
                s.dropped.iter().map(|(reason, count)| {
                    let labels = vec![("sink", s.sink.as_str()), ("reason", reason.as_str())];
                    (labels, *count as f64)
                })
            })
            .collect(),
        "perfprof_disk_used_bytes" => one(f.disk_used_bytes as f64),
        "perfprof_disk_budget_bytes" => one(f.disk_budget_bytes as f64),
        "perfprof_disk_windows" => one(f.disk_windows as f64),
        "perfprof_recordings_total" => by("outcome", &mut known(&f.recordings)),
        "perfprof_errors_total" => by("kind", &mut known(&f.errors)),
        _ => Vec::new(),
    }
}

fn labels_of(service: &Service) -> Labels<'_> {
    let mut labels = vec![("service", service.name.as_str())];
    for label in SHOWN_LABELS {
        if let Some(value) = service.labels.get(label) {
            labels.push((label, value));
        }
    }
    labels
}

/// Names come from others.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Figures in which everything is there.
    fn full() -> (Figures, Vec<SinkFigures>) {
        let labels = BTreeMap::from([
            ("namespace".to_owned(), "shop".to_owned()),
            ("pod".to_owned(), "a\"b\\c\nd".to_owned()),
        ]);
        let service = Service {
            name: "cart".into(),
            labels,
        };
        let used = ServiceFigures {
            coverage: BTreeMap::from([("stacks", 0.5)]),
            throttled_ns: Some(2_500_000_000),
            throttled_periods: Some(3),
            ..ServiceFigures::default()
        };
        let figures = Figures {
            windows: BTreeMap::from([("trusted", 2)]),
            windows_dropped: BTreeMap::from([("busy", 1)]),
            last_window_unix_ns: Some(1_500_000_000),
            incomplete: BTreeMap::from([("bridged".into(), 4)]),
            unresolved: BTreeMap::from([("no-symbol".into(), 4)]),
            reductions: BTreeMap::from([("cpu", 1)]),
            recordings: BTreeMap::from([("complete", 1)]),
            errors: BTreeMap::from([("arm", 1)]),
            services: BTreeMap::from([(service, used)]),
            ..Figures::default()
        };
        let sink = SinkFigures {
            sink: "parca".into(),
            dropped: vec![("budget".into(), 5)],
            ..SinkFigures::default()
        };
        (figures, vec![sink])
    }

    #[test]
    fn every_metric_has_samples_once_there_is_something_to_tell() {
        let (figures, sinks) = full();
        let page = page(&figures, &sinks);
        for (name, ..) in NAMES {
            let sample = |line: &str| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            assert!(page.lines().any(sample), "{name} in {page}");
        }
        assert!(page.contains("perfprof_target_throttled_seconds_total{service=\"cart\",namespace=\"shop\",pod=\"a\\\"b\\\\c\\nd\"} 2.5\n"));
    }

    #[test]
    fn what_cannot_be_told_is_left_out() {
        let page = page(&Figures::default(), &[]);
        assert!(!page.contains("perfprof_push_"));
        assert!(!page.contains("perfprof_last_window"));
        assert!(page.contains("perfprof_samples_total 0\n"));
    }
}
