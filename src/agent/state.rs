//! What all threads of the agent know of each other: counters and the last window, for the metrics and for health.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::services::Service;
use crate::analysis::quality::Metric;
use crate::analysis::{Coverage, Verdict};
use crate::profile::{Profile, Unresolved, Why};
use crate::sys::usage::monotonic_ns;

/// Counters since the agent began, and gauges as of now.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub samples: u64,
    pub lost: u64,
    pub throttled: u64,
    /// By verdict: `trusted`, `inconclusive`, `empty`.
    pub windows: BTreeMap<&'static str, u64>,
    /// By reason.
    pub windows_dropped: BTreeMap<&'static str, u64>,
    pub last_window_unix_ns: Option<u64>,
    /// By reason, samples.
    pub incomplete: BTreeMap<String, u64>,
    /// By reason, frames weighted by samples.
    pub unresolved: BTreeMap<String, u64>,
    /// By what is told of a service: a restarted container goes on where the former ended.
    pub services: BTreeMap<Service, ServiceFigures>,
    pub self_cpu_ns: u64,
    /// What the budget counts.
    pub self_memory_bytes: u64,
    pub resident_memory_bytes: u64,
    pub bpf_memory_bytes: u64,
    pub cpu_budget_cores: f64,
    pub memory_budget_bytes: u64,
    pub reductions: BTreeMap<&'static str, u64>,
    pub frequency_hz: u32,
    pub frequency_asked_hz: u32,
    pub target_processes: u64,
    pub disk_used_bytes: u64,
    pub disk_budget_bytes: u64,
    pub disk_windows: u64,
    /// By outcome: `trusted`, `inconclusive`, `failed`, `refused`, `abandoned`.
    pub recordings: BTreeMap<&'static str, u64>,
    /// By kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Ticks are being taken.
    pub recording: bool,
    /// When the thread that records last showed that it lives, by the monotonic clock.
    pub alive_ns: u64,
    /// The last thing that went wrong, and has not gone right since.
    pub trouble: Option<String>,
}

/// Of one service: the last window's coverage, and what it has used since the agent began.
#[derive(Clone, Debug, Default)]
pub struct ServiceFigures {
    /// Metric to value, of the last window that had one.
    pub coverage: BTreeMap<&'static str, f64>,
    pub verdict: &'static str,
    pub cpu_ns: u64,
    pub throttled_ns: Option<u64>,
    pub throttled_periods: Option<u64>,
    /// Windows since it was last seen.
    pub unseen: u32,
}

/// What is counted by a word, from the beginning: Prometheus sees no first event of a counter that begins with it.
const VERDICTS: [&str; 3] = ["trusted", "inconclusive", "empty"];
const DROPPED: [&str; 4] = ["rotation", "disk-full", "not-written", "busy"];
const REDUCTIONS: [&str; 3] = ["cpu", "memory", "exhausted"];
const RECORDINGS: [&str; 5] = ["trusted", "inconclusive", "failed", "refused", "abandoned"];
const ERRORS: [&str; 5] = ["recording", "queue", "http", "http-address", "picture"];

#[derive(Debug)]
pub struct State {
    figures: Mutex<Figures>,
}

impl Default for State {
    fn default() -> State {
        let none = |words: &[&'static str]| words.iter().map(|word| (*word, 0)).collect();
        let figures = Figures {
            windows: none(&VERDICTS),
            windows_dropped: none(&DROPPED),
            reductions: none(&REDUCTIONS),
            recordings: none(&RECORDINGS),
            errors: none(&ERRORS),
            incomplete: Why::ALL.map(|why| (why.id().to_owned(), 0)).into(),
            unresolved: Unresolved::ALL.map(|why| (why.id().to_owned(), 0)).into(),
            ..Figures::default()
        };
        State {
            figures: Mutex::new(figures),
        }
    }
}

impl State {
    /// A panic of another thread must not hide what is known.
    pub fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The thread that records lives.
    pub fn lives(&self) {
        self.figures().alive_ns = monotonic_ns();
    }

    pub fn error(&self, kind: &'static str) {
        *self.figures().errors.entry(kind).or_default() += 1;
    }
}

/// Windows for which a service that was not seen is still told of: Prometheus should see that it has gone, not that the agent
/// forgets at once.
const UNSEEN_WINDOWS: u32 = 5;

impl Figures {
    /// A window has been judged: one profile for each service in it.
    pub fn add_window(&mut self, parts: &[(&Arc<Service>, &Profile, &Coverage)]) {
        self.services.retain(|_, figures| {
            figures.unseen += 1;
            figures.unseen <= UNSEEN_WINDOWS
        });
        let mut trusted = true;
        for (service, profile, coverage) in parts {
            self.samples += profile.total_count();
            self.lost += profile.accounting.lost;
            self.throttled += profile.accounting.throttled;
            add(&mut self.incomplete, &coverage.stacks);
            add(&mut self.unresolved, &coverage.symbols);
            trusted &= coverage.verdict == Verdict::Trusted;
            let figures = self.services.entry(service.as_shown()).or_default();
            figures.take(profile, coverage);
        }
        let verdict = match (parts.is_empty(), trusted) {
            (true, _) => "empty",
            (false, true) => "trusted",
            (false, false) => "inconclusive",
        };
        *self.windows.entry(verdict).or_default() += 1;
    }
}

/// What a coverage metric is called as a label.
fn label_of(id: &'static str) -> &'static str {
    match id {
        "source_lines" => "lines",
        id => id,
    }
}

fn add(sums: &mut BTreeMap<String, u64>, metric: &Metric) {
    for reason in &metric.reasons {
        *sums.entry(reason.id.clone()).or_default() += reason.count;
    }
}

impl ServiceFigures {
    fn take(&mut self, profile: &Profile, coverage: &Coverage) {
        self.unseen = 0;
        self.verdict = coverage.verdict.id();
        self.coverage = coverage
            .metrics()
            .into_iter()
            .filter_map(|metric| Some((label_of(metric.id), metric.value?)))
            .collect();
        self.cpu_ns += profile.accounting.cpu_ns().unwrap_or(0);
        let points = profile
            .recording
            .capacity
            .as_ref()
            .map(|facts| &facts.points);
        let ends = points.and_then(|points| Some((points.first()?, points.last()?)));
        let Some((first, last)) = ends else { return };
        let grown = |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?));
        let sum = |sum: &mut Option<u64>, grown: Option<u64>| {
            *sum = grown.map(|grown| sum.unwrap_or(0) + grown).or(*sum);
        };
        sum(
            &mut self.throttled_ns,
            grown(first.throttled_ns, last.throttled_ns),
        );
        sum(
            &mut self.throttled_periods,
            grown(first.nr_throttled, last.nr_throttled),
        );
    }
}
