//! Key performance indicators: CPU use, the targeted paths, and what load tests measured on both sides.
//!
//! In: a comparison and the load tests of each side. Out: one [`Kpi`] each. "Improved" and "regressed" need statistical
//! support: of load tests that is two or more a side (Welch's test on logarithms); of one a side nothing is concluded.

use super::decide::Verdict;
use super::evaluate::{RelativeInterval, t_quantile};
use super::{Comparison, Measure};
use crate::load_test::LoadTest;

/// Load tests of one side, one for each run or one for all.
#[derive(Clone, Debug, Default)]
pub struct LoadSide {
    pub tests: Vec<LoadTest>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Kpi {
    /// Stable, as in the JSON: `cpu_cost`, `p95_latency`, …; of a path its name.
    pub name: String,
    pub unit: String,
    /// Whether less is better.
    pub lower_is_better: bool,
    pub before: f64,
    pub after: f64,
    /// Relative; of the error rate in points.
    pub change: Option<f64>,
    pub interval: Option<RelativeInterval>,
    pub verdict: Verdict,
    /// Improved, with statistical support, by at least the asked part.
    pub improved_enough: bool,
}

pub(super) fn of(comparison: &Comparison, loads: [&LoadSide; 2]) -> Vec<Kpi> {
    let mut kpis = Vec::new();
    let threshold = comparison.options.improvement_threshold;
    let unit = match (comparison.measure, comparison.by_cpu_time) {
        (Measure::Cost, true) => "CPU seconds per unit of work",
        (Measure::Cost, false) => "samples per unit of work",
        (Measure::Cores, _) => "CPU seconds per second",
        (Measure::Share, _) => "share of samples",
    };
    let lower = |name: &str, figure: &super::Figure, verdict: Verdict| Kpi {
        name: name.to_owned(),
        unit: unit.to_owned(),
        lower_is_better: true,
        before: figure.before,
        after: figure.after,
        change: figure.change,
        interval: Some(figure.interval),
        verdict,
        improved_enough: verdict == Verdict::Improved
            && figure.change.is_some_and(|c| c <= -threshold),
    };
    if let Some((figure, verdict)) = &comparison.total {
        let name = if comparison.measure == Measure::Cost {
            "cpu_cost"
        } else {
            "cpu_cores"
        };
        kpis.push(lower(name, figure, *verdict));
    }
    for target in &comparison.options.targets {
        let path = comparison.paths.iter().find(|path| path.name == *target);
        kpis.extend(path.map(|path| lower(&path.name, &path.figure, path.verdict)));
    }
    kpis.extend(
        LOAD_FIGURES
            .iter()
            .filter_map(|figure| of_load(figure, loads, &comparison.options)),
    );
    kpis
}

/// A figure of load tests.
struct LoadFigure {
    name: &'static str,
    unit: &'static str,
    lower_is_better: bool,
    read: fn(&LoadTest) -> Option<f64>,
}

const LOAD_FIGURES: [LoadFigure; 4] = [
    LoadFigure {
        name: "p95_latency",
        unit: "ms",
        lower_is_better: true,
        read: |test| test.latency.p95_ms,
    },
    LoadFigure {
        name: "p99_latency",
        unit: "ms",
        lower_is_better: true,
        read: |test| test.latency.p99_ms,
    },
    LoadFigure {
        name: "throughput",
        unit: "requests per second",
        lower_is_better: false,
        read: |test| Some(test.throughput_per_second),
    },
    LoadFigure {
        name: "error_rate",
        unit: "share of requests",
        lower_is_better: true,
        read: |test| test.error_rate,
    },
];

fn of_load(figure: &LoadFigure, loads: [&LoadSide; 2], options: &super::Options) -> Option<Kpi> {
    let values =
        |side: &LoadSide| -> Vec<f64> { side.tests.iter().filter_map(figure.read).collect() };
    let (before, after) = (values(loads[0]), values(loads[1]));
    if before.is_empty() || after.is_empty() {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (b, a) = (mean(&before), mean(&after));
    let change = (b > 0.0).then(|| a / b - 1.0);
    let interval = log_interval(&before, &after);
    let verdict = verdict(interval, change, figure.lower_is_better, options.tolerance);
    let gain = change.map(|change| {
        if figure.lower_is_better {
            -change
        } else {
            change
        }
    });
    Some(Kpi {
        name: figure.name.to_owned(),
        unit: figure.unit.to_owned(),
        lower_is_better: figure.lower_is_better,
        before: b,
        after: a,
        change,
        interval,
        verdict,
        improved_enough: verdict == Verdict::Improved
            && gain.is_some_and(|gain| gain >= options.improvement_threshold),
    })
}

fn verdict(
    interval: Option<RelativeInterval>,
    change: Option<f64>,
    lower_is_better: bool,
    tolerance: f64,
) -> Verdict {
    let (Some(interval), Some(change)) = (interval, change) else {
        return Verdict::Inconclusive;
    };
    let apart = interval.low > 0.0 || interval.high.is_some_and(|high| high < 0.0);
    match (
        apart && change.abs() >= tolerance,
        (change < 0.0) == lower_is_better,
    ) {
        (true, true) => Verdict::Improved,
        (true, false) => Verdict::Regressed,
        (false, _) if super::decide::within(interval, tolerance) => Verdict::Unchanged,
        (false, _) => Verdict::Inconclusive,
    }
}

/// Of the ratio of means; `None` with one value on a side, or one that has no logarithm.
fn log_interval(before: &[f64], after: &[f64]) -> Option<RelativeInterval> {
    let logs = |values: &[f64]| -> Option<(f64, f64, f64)> {
        let logs: Vec<f64> = values
            .iter()
            .filter(|v| **v > 0.0)
            .map(|v| v.ln())
            .collect();
        let n = logs.len() as f64;
        if logs.len() < values.len() || logs.len() < 2 {
            return None;
        }
        let mean = logs.iter().sum::<f64>() / n;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0) / n;
        Some((mean, variance, n - 1.0))
    };
    let ((b, vb, db), (a, va, da)) = (logs(before)?, logs(after)?);
    let variance = vb + va;
    let dof = match variance > 0.0 {
        true => variance * variance / (vb * vb / db + va * va / da),
        false => db + da,
    };
    let half = t_quantile(0.975, dof) * variance.sqrt();
    Some(RelativeInterval {
        low: (a - b - half).exp() - 1.0,
        high: Some((a - b + half).exp() - 1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(throughputs: &[f64]) -> LoadSide {
        let test = |rate: &f64| LoadTest {
            throughput_per_second: *rate,
            ..LoadTest::default()
        };
        LoadSide {
            tests: throughputs.iter().map(test).collect(),
        }
    }

    fn throughput(before: &[f64], after: &[f64]) -> Kpi {
        let figure = &LOAD_FIGURES[2];
        of_load(
            figure,
            [&side(before), &side(after)],
            &super::super::Options::default(),
        )
        .expect("both sides")
    }

    #[test]
    fn one_load_test_a_side_concludes_nothing_and_several_do() {
        let single = throughput(&[100.0], &[200.0]);
        assert_eq!(
            (single.verdict, single.change),
            (Verdict::Inconclusive, Some(1.0))
        );
        let doubled = throughput(&[100.0, 101.0, 99.0], &[200.0, 198.0, 203.0]);
        assert_eq!(
            (doubled.verdict, doubled.improved_enough),
            (Verdict::Improved, true)
        );
        let halved = throughput(&[200.0, 198.0, 203.0], &[100.0, 101.0, 99.0]);
        assert_eq!(halved.verdict, Verdict::Regressed);
        let same = throughput(&[100.0, 101.0, 99.0], &[100.5, 99.5, 100.0]);
        assert_eq!(same.verdict, Verdict::Unchanged);
    }
}
