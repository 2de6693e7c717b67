//! Whether the newest figures are worse than what was usual.
//!
//! In: figures of a window. Out: for each of the watched metrics, how far the newest is from the mean of the earlier ones,
//! and a verdict.
//!
//! Beyond the threshold alone is not enough: where earlier runs scatter as much, one more that is off says little. So the
//! newest must also lie outside the interval in which the next figure of such a row is expected with 95 % (mean ± t·s·√(1 +
//! 1/n), for independent figures that scatter normally). Beyond the threshold but within it, there is no verdict.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::baseline::Measurement;
use crate::baseline::metrics::{self, Metric};

/// Fewer earlier figures say nothing of what is usual.
pub const MIN_POINTS: usize = 3;
/// Figures of one run are not measured at the same moment. What is older than the service's newest by more was not measured
/// this time.
const ONE_RUN: SignedDuration = SignedDuration::from_hours(12);

/// How much worse is too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Growth, as a share of the mean.
    Growth(f64),
    /// Decline, as a share of the mean.
    Decline(f64),
    /// Growth of a share, in points: 0.05 is five points.
    Points(f64),
}

/// The metrics that are watched; parts of them (`p95_latency[checkout]`) have the same limits.
pub const WATCHED: [(Metric, Limit); 4] = [
    (metrics::P95_LATENCY, Limit::Growth(0.20)),
    (metrics::THROUGHPUT, Limit::Decline(0.15)),
    (metrics::ERROR_RATE, Limit::Points(0.05)),
    (metrics::MEMORY_PEAK, Limit::Growth(0.30)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Within the limit.
    Steady,
    /// Too few earlier figures, too much scatter, or not measured this time.
    Inconclusive,
    Regressed,
}

impl Verdict {
    pub fn id(self) -> &'static str {
        match self {
            Verdict::Steady => "steady",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Regressed => "regressed",
        }
    }
}

/// One watched metric of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    pub service: String,
    pub metric: String,
    pub unit: String,
    pub newest: f64,
    pub measured_at: Timestamp,
    /// Earlier figures in the window.
    pub n: usize,
    /// Their mean; `None` without any.
    pub mean: Option<f64>,
    /// Their standard deviation; `None` with fewer than two.
    pub deviation: Option<f64>,
    /// In what the limit is in: a share of the mean, or points. Positive is more.
    pub change: Option<f64>,
    pub limit: Limit,
    pub verdict: Verdict,
    /// A sentence.
    pub reason: String,
}

/// What to compare.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub window: SignedDuration,
    pub min_points: usize,
}

/// Trends in the order of service and metric; `figures` in the order of service, metric and time, as a history gives them.
pub fn of(figures: &[Measurement], question: Question) -> Vec<Trend> {
    let mut newest_of: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for figure in figures {
        let newest = newest_of.entry(&figure.service).or_insert(figure.timestamp);
        *newest = (*newest).max(figure.timestamp);
    }
    let rows = figures.chunk_by(|a, b| a.service == b.service && a.metric == b.metric);
    let watched = rows.filter_map(|row| {
        let (newest, earlier) = row.split_last()?;
        let base = metrics::base(&newest.metric);
        let (_, limit) = WATCHED.iter().find(|(metric, _)| metric.name == base)?;
        let from = newest.timestamp.checked_sub(question.window).ok()?;
        let earlier = earlier.iter().filter(|figure| figure.timestamp >= from);
        let earlier: Vec<f64> = earlier.map(|figure| figure.value).collect();
        let latest = newest_of.get(newest.service.as_str())?;
        let stale = latest.duration_since(newest.timestamp) > ONE_RUN.min(question.window);
        Some(judge(newest, &earlier, *limit, stale, question.min_points))
    });
    watched.collect()
}

/// The worst; inconclusive where nothing was watched.
pub fn verdict(trends: &[Trend]) -> Verdict {
    let worst = trends.iter().map(|trend| trend.verdict).max();
    worst.unwrap_or(Verdict::Inconclusive)
}

fn judge(newest: &Measurement, earlier: &[f64], limit: Limit, stale: bool, min: usize) -> Trend {
    let n = earlier.len();
    let mean = (n > 0).then(|| earlier.iter().sum::<f64>() / n as f64);
    let deviation = mean.filter(|_| n > 1).map(|mean| {
        let squares = earlier.iter().map(|value| (value - mean).powi(2));
        (squares.sum::<f64>() / (n - 1) as f64).sqrt()
    });
    let change = mean.and_then(|mean| limit.change(newest.value, mean));
    let (verdict, reason) = if stale {
        let at = newest.timestamp;
        (
            Verdict::Inconclusive,
            format!("it was not measured this time; the last is of {at}"),
        )
    } else if n < min.max(2) {
        (
            Verdict::Inconclusive,
            format!(
                "{n} earlier figures in the window, and it takes {}",
                min.max(2)
            ),
        )
    } else {
        weigh(newest.value, mean.zip(deviation), change, n, limit)
    };
    Trend {
        service: newest.service.clone(),
        metric: newest.metric.clone(),
        unit: newest.unit.clone(),
        newest: newest.value,
        measured_at: newest.timestamp,
        n,
        mean,
        deviation,
        change,
        limit,
        verdict,
        reason,
    }
}

fn weigh(
    newest: f64,
    usual: Option<(f64, f64)>,
    change: Option<f64>,
    n: usize,
    limit: Limit,
) -> (Verdict, String) {
    let Some(((mean, deviation), change)) = usual.zip(change) else {
        let why = "the earlier figures are 0, of which no share can be taken";
        return (Verdict::Inconclusive, why.into());
    };
    if !limit.exceeded(change) {
        return (Verdict::Steady, format!("within {}", limit.text()));
    }
    let margin = t_quantile(n - 1) * deviation * (1.0 + 1.0 / n as f64).sqrt();
    if (newest - mean).abs() > margin {
        return (Verdict::Regressed, format!("beyond {}", limit.text()));
    }
    let why = format!(
        "beyond {}, but earlier figures scatter as much: the next is expected within ±{margin:.4} of their mean",
        limit.text()
    );
    (Verdict::Inconclusive, why)
}

impl Limit {
    fn change(self, newest: f64, mean: f64) -> Option<f64> {
        match self {
            Limit::Points(_) => Some(newest - mean),
            Limit::Growth(_) | Limit::Decline(_) if mean > 0.0 => Some(newest / mean - 1.0),
            // Nothing became of nothing.
            Limit::Growth(_) | Limit::Decline(_) => (newest == mean).then_some(0.0),
        }
    }

    fn exceeded(self, change: f64) -> bool {
        match self {
            Limit::Growth(limit) | Limit::Points(limit) => change > limit,
            Limit::Decline(limit) => change < -limit,
        }
    }

    /// Signed, as the change is.
    pub fn value(self) -> f64 {
        match self {
            Limit::Growth(limit) | Limit::Points(limit) => limit,
            Limit::Decline(limit) => -limit,
        }
    }

    pub fn text(self) -> String {
        match self {
            Limit::Growth(_) | Limit::Decline(_) => format!("{:+.0} %", self.value() * 100.0),
            Limit::Points(limit) => format!("{:+.0} points", limit * 100.0),
        }
    }
}

/// Of Student's distribution, for a two-sided 95 % interval.
fn t_quantile(degrees: usize) -> f64 {
    let student = StudentsT::new(0.0, 1.0, degrees as f64);
    // There is none for no degrees of freedom: nothing is known.
    student.map_or(f64::INFINITY, |student| student.inverse_cdf(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    /// A figure per day at midnight, from day 0 on.
    fn daily(metric: &str, values: &[f64]) -> Vec<Measurement> {
        let at = |day: usize| Timestamp::from_second(day as i64 * 24 * HOUR).expect("a time");
        let figure = |(day, value): (usize, &f64)| Measurement {
            service: "api".into(),
            metric: metric.into(),
            value: *value,
            unit: "ms".into(),
            timestamp: at(day),
            source: String::new(),
        };
        values.iter().enumerate().map(figure).collect()
    }

    fn week() -> Question {
        Question {
            window: SignedDuration::from_hours(7 * 24),
            min_points: MIN_POINTS,
        }
    }

    fn judged(metric: &str, values: &[f64]) -> Trend {
        let trends = of(&daily(metric, values), week());
        assert_eq!(trends.len(), 1);
        trends.into_iter().next().expect("one")
    }

    #[test]
    fn each_limit_of_the_contract_passes_below_and_fails_above() {
        let cases = [
            ("p95_latency", 100.0, 119.0, 121.0),
            ("p95_latency[checkout]", 100.0, 119.0, 121.0),
            ("throughput", 100.0, 86.0, 84.0),
            ("error_rate", 0.01, 0.059, 0.061),
            ("memory_peak", 100.0, 129.0, 131.0),
        ];
        for (metric, usual, good, bad) in cases {
            let with = |newest| judged(metric, &[usual, usual, usual, newest]).verdict;
            assert_eq!(
                (with(good), with(bad)),
                (Verdict::Steady, Verdict::Regressed),
                "{metric}"
            );
        }
        // Better is never a regression.
        assert_eq!(
            judged("throughput", &[9.0, 9.0, 9.0, 90.0]).verdict,
            Verdict::Steady
        );
        assert_eq!(
            judged("p95_latency", &[9.0, 9.0, 9.0, 1.0]).verdict,
            Verdict::Steady
        );
    }

    #[test]
    fn two_earlier_figures_or_a_scatter_as_large_are_inconclusive() {
        let few = judged("p95_latency", &[100.0, 100.0, 200.0]);
        assert_eq!((few.verdict, few.n), (Verdict::Inconclusive, 2));
        let wild = judged("p95_latency", &[60.0, 100.0, 140.0, 130.0]);
        assert_eq!(wild.mean, Some(100.0));
        assert_eq!(wild.deviation, Some(40.0));
        assert!(
            wild.change
                .is_some_and(|change| (change - 0.3).abs() < 1e-9)
        );
        // 4.303 · 40 · √(4/3) = 199: only from 299 on would it be told.
        assert_eq!(wild.verdict, Verdict::Inconclusive);
        let beyond = judged("p95_latency", &[60.0, 100.0, 140.0, 300.0]);
        assert_eq!(beyond.verdict, Verdict::Regressed);
        assert_eq!(verdict(&[]), Verdict::Inconclusive);
        assert_eq!(verdict(&[wild.clone(), beyond.clone()]), Verdict::Regressed);
        assert_eq!(
            judged("p95_latency", &[0.0, 0.0, 0.0, 1.0]).verdict,
            Verdict::Inconclusive
        );
        assert_eq!(
            judged("throughput", &[0.0, 0.0, 0.0, 0.0]).verdict,
            Verdict::Steady
        );
    }

    #[test]
    fn only_the_window_counts_and_what_is_not_watched_is_left_out() {
        // Slow long ago; the week before the newest was fast.
        let mut values = vec![500.0; 20];
        values.extend([100.0; 7]);
        values.push(130.0);
        let trend = judged("p95_latency", &values);
        assert_eq!((trend.n, trend.mean), (7, Some(100.0)));
        assert_eq!(trend.verdict, Verdict::Regressed);
        assert_eq!(
            of(&daily("cpu_cores_p95", &[1.0, 1.0, 1.0, 9.0]), week()),
            []
        );
    }

    #[test]
    fn a_metric_that_was_not_measured_this_time_is_not_passed_on_its_last_figure() {
        let mut figures = daily("memory_peak", &[1.0, 1.0, 1.0, 1.0, 1.0]);
        figures.extend(daily("p95_latency", &[1.0, 1.0, 1.0, 1.0]));
        let trends = of(&figures, week());
        let told: Vec<_> = trends
            .iter()
            .map(|t| (t.metric.as_str(), t.verdict))
            .collect();
        let expected = [
            ("memory_peak", Verdict::Steady),
            ("p95_latency", Verdict::Inconclusive),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_quantile_is_that_of_the_tables() {
        for (degrees, quantile) in [(1, 12.706), (2, 4.303), (3, 3.182), (30, 2.042)] {
            assert!((t_quantile(degrees) - quantile).abs() < 0.001, "{degrees}");
        }
        assert_eq!(t_quantile(0), f64::INFINITY);
    }
}
