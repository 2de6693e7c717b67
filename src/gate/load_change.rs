//! Load tests before and after: how latency, throughput and errors changed, and how sure that is.
//!
//! In: one or more runs per side. Out: the relative change of a metric, with a 95 % interval where each side has three
//! runs or more (Welch's interval on logarithms). A single run says nothing of its own spread, so its change has none.

use super::config::KpiMetric;
use crate::compare::t_quantile;
use crate::load_test::LoadTest;

/// Fewer say too little of their spread.
const MIN_RUNS: usize = 3;
/// Of the peak concurrency of tests that are held against each other.
const MAX_CONCURRENCY_DIFFERENCE: f64 = 0.10;

/// How a metric went from before to after.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LoadChange {
    pub before: f64,
    pub after: f64,
    /// Relative; `None` where it was 0 before.
    pub change: Option<f64>,
    pub interval: Option<(f64, f64)>,
    /// Of each side; `None` where a comparison says only what came of them.
    pub runs: Option<(usize, usize)>,
}

/// What load tests of one scenario say of before and after.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LoadChanges {
    /// For people.
    pub scenario: String,
    /// Why the two sides say nothing of each other.
    pub incomparable: Option<String>,
    pub changes: Vec<(KpiMetric, LoadChange)>,
}

impl LoadChanges {
    pub fn of(&self, metric: KpiMetric) -> Option<&LoadChange> {
        self.changes
            .iter()
            .find(|(of, _)| *of == metric)
            .map(|(_, change)| change)
    }

    fn of_pair(pair: &Pair<'_>) -> LoadChanges {
        let metrics = [
            KpiMetric::LatencyP50,
            KpiMetric::LatencyP95,
            KpiMetric::LatencyP99,
            KpiMetric::Throughput,
            KpiMetric::ErrorRate,
        ];
        let changes = metrics
            .into_iter()
            .filter_map(|metric| Some((metric, change(pair, metric)?)));
        LoadChanges {
            scenario: pair.scenario.unwrap_or("load test").to_owned(),
            incomparable: pair.strangers.clone().or_else(|| other_load(pair)),
            changes: changes.collect(),
        }
    }
}

/// By scenario; the names of those that only one side has come second.
pub(super) fn between(before: &[LoadTest], after: &[LoadTest]) -> (Vec<LoadChanges>, Vec<String>) {
    let (pairs, alone) = pairs(before, after);
    (pairs.iter().map(LoadChanges::of_pair).collect(), alone)
}

/// The tests of both sides that belong together.
#[derive(Debug)]
struct Pair<'a> {
    scenario: Option<&'a str>,
    before: Vec<&'a LoadTest>,
    after: Vec<&'a LoadTest>,
    /// Why they may not belong together.
    strangers: Option<String>,
}

/// Latency at another concurrency is another question.
fn other_load(pair: &Pair<'_>) -> Option<String> {
    let all = || pair.before.iter().chain(&pair.after);
    let peaks = || all().filter_map(|test| test.peak_concurrency);
    let (least, most) = (peaks().min()?, peaks().max()?);
    let of = |tests: &[&LoadTest]| {
        let peaks = tests.iter().filter_map(|test| test.peak_concurrency);
        let (least, most) = (peaks.clone().min()?, peaks.max()?);
        Some(match least == most {
            true => least.to_string(),
            false => format!("{least} to {most}"),
        })
    };
    let (before, after) = (of(&pair.before)?, of(&pair.after)?);
    (most as f64 > least as f64 * (1.0 + MAX_CONCURRENCY_DIFFERENCE))
        .then(|| format!("{before} at once before and {after} after"))
}

fn pairs<'a>(before: &'a [LoadTest], after: &'a [LoadTest]) -> (Vec<Pair<'a>>, Vec<String>) {
    let mut names: Vec<Option<&str>> = Vec::new();
    for test in before.iter().chain(after) {
        if !names.contains(&test.scenario.as_deref()) {
            names.push(test.scenario.as_deref());
        }
    }
    let of = |tests: &'a [LoadTest], name: Option<&str>| -> Vec<&'a LoadTest> {
        tests
            .iter()
            .filter(|t| t.scenario.as_deref() == name)
            .collect()
    };
    let (mut pairs, mut alone) = (Vec::new(), Vec::new());
    for name in names {
        let pair = Pair {
            scenario: name,
            before: of(before, name),
            after: of(after, name),
            strangers: None,
        };
        match pair.before.is_empty() || pair.after.is_empty() {
            true => alone.push(name.unwrap_or("(no name)").to_owned()),
            false => pairs.push(pair),
        }
    }
    // Tools that name no scenario on one side only: what else could be meant?
    if pairs.is_empty() && alone.len() == 2 {
        let all = |tests: &'a [LoadTest]| tests.iter().collect();
        let named = |tests: &'a [LoadTest]| tests.first().and_then(|t| t.scenario.as_deref());
        let strangers = named(before).zip(named(after));
        let pair = Pair {
            scenario: None,
            before: all(before),
            after: all(after),
            strangers: strangers.map(|(b, a)| format!("scenario `{b}` before and `{a}` after")),
        };
        if !pair.before.is_empty() && !pair.after.is_empty() {
            return (vec![pair], Vec::new());
        }
    }
    (pairs, alone)
}

/// The figure of a load test; `None` for what a comparison of profiles tells.
fn figure(test: &LoadTest, metric: KpiMetric) -> Option<f64> {
    match metric {
        KpiMetric::LatencyP50 => test.latency.p50_ms,
        KpiMetric::LatencyP95 => test.latency.p95_ms,
        KpiMetric::LatencyP99 => test.latency.p99_ms,
        KpiMetric::Throughput => Some(test.throughput_per_second),
        KpiMetric::ErrorRate => test.error_rate,
        KpiMetric::Cost | KpiMetric::Function => None,
    }
}

/// `None` when a run does not say it.
fn change(pair: &Pair<'_>, metric: KpiMetric) -> Option<LoadChange> {
    let values = |tests: &[&LoadTest]| -> Option<Vec<f64>> {
        tests.iter().map(|test| figure(test, metric)).collect()
    };
    let (before, after) = (values(&pair.before)?, values(&pair.after)?);
    let (b, a) = (mean(&before), mean(&after));
    Some(LoadChange {
        before: b,
        after: a,
        change: (b > 0.0).then(|| a / b - 1.0),
        interval: interval(&before, &after),
        runs: Some((before.len(), after.len())),
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    squares / (values.len().max(2) - 1) as f64
}

/// Of the relative change, at 95 %.
fn interval(before: &[f64], after: &[f64]) -> Option<(f64, f64)> {
    let enough = before.len() >= MIN_RUNS && after.len() >= MIN_RUNS;
    let positive = before
        .iter()
        .chain(after)
        .all(|v| *v > 0.0 && v.is_finite());
    if !enough || !positive {
        return None;
    }
    let logs = |values: &[f64]| values.iter().map(|v| v.ln()).collect::<Vec<f64>>();
    let (before, after) = (logs(before), logs(after));
    let (b, a) = (
        variance(&before) / before.len() as f64,
        variance(&after) / after.len() as f64,
    );
    let difference = mean(&after) - mean(&before);
    let width = if a + b > 0.0 {
        let freedom = (a + b).powi(2)
            / (b * b / (before.len() - 1) as f64 + a * a / (after.len() - 1) as f64);
        t_quantile(0.975, freedom) * (a + b).sqrt()
    } else {
        0.0
    };
    Some((
        (difference - width).exp() - 1.0,
        (difference + width).exp() - 1.0,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(scenario: Option<&str>, throughput: f64, p95: Option<f64>) -> LoadTest {
        let mut test = LoadTest {
            scenario: scenario.map(Into::into),
            throughput_per_second: throughput,
            ..LoadTest::default()
        };
        test.latency.p95_ms = p95;
        test
    }

    #[test]
    fn tests_are_held_against_those_of_their_scenario() {
        let before = [run(Some("a"), 1.0, None), run(Some("b"), 1.0, None)];
        let after = [run(Some("b"), 2.0, None), run(Some("c"), 1.0, None)];
        let (paired, alone) = pairs(&before, &after);
        assert_eq!((paired.len(), paired[0].scenario), (1, Some("b")));
        assert_eq!(alone, ["a", "c"]);
        let (before, after) = ([run(None, 1.0, None)], [run(Some("x"), 1.0, None)]);
        let (paired, alone) = pairs(&before, &after);
        assert!(paired.len() == 1 && alone.is_empty());
        assert!(pairs(&before, &[]).0.is_empty());
    }

    #[test]
    fn three_runs_a_side_have_an_interval_and_one_has_none() {
        let of = |before: &[f64], after: &[f64]| {
            let make = |values: &[f64]| -> Vec<LoadTest> {
                values.iter().map(|v| run(None, *v, None)).collect()
            };
            let (before, after) = (make(before), make(after));
            let (pairs, _) = pairs(&before, &after);
            change(&pairs[0], KpiMetric::Throughput).expect("a change")
        };
        let single = of(&[100.0], &[80.0]);
        assert!(
            (single.change.expect("relative") + 0.2).abs() < 1e-12 && single.interval.is_none()
        );
        let (low, high) = of(&[100.0, 101.0, 99.0], &[80.0, 80.5, 79.5])
            .interval
            .expect("three");
        assert!(
            low < -0.2 && -0.2 < high && high < -0.17 && low > -0.23,
            "{low} {high}"
        );
        // By hand: logs of 1, e, e² against the same have the difference 0 and, with four degrees of freedom, the width
        // 2.776·√(1/3 + 1/3).
        let e = std::f64::consts::E;
        let (low, high) = of(&[1.0, e, e * e], &[1.0, e, e * e])
            .interval
            .expect("three");
        let width = 2.776_445 * (2.0_f64 / 3.0).sqrt();
        assert!(
            (low + 1.0 - (-width).exp()).abs() < 1e-5 && (high + 1.0 - width.exp()).abs() < 1e-4
        );
    }

    #[test]
    fn what_a_run_does_not_say_has_no_change() {
        let (before, after) = ([run(None, 1.0, None)], [run(None, 1.0, Some(2.0))]);
        let (pairs, _) = pairs(&before, &after);
        assert_eq!(change(&pairs[0], KpiMetric::LatencyP95), None);
    }
}
