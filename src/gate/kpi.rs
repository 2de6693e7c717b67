//! Did what was to become better become better, by enough, and is that sure?
//!
//! In: a KPI of the config, the comparison, load tests. Out: a check. An improvement passes when it reaches its
//! threshold and its 95 % interval lies on the good side; where the interval leaves both open, the data does not
//! suffice, which is no pass.

use super::Setting;
use super::check::{Check, Status, signed_percent};
use super::comparison::{Change, Comparison, Direction};
use super::config::{Kpi, KpiMetric};
use super::load_change::{LoadChange, LoadChanges};

/// An improvement, in the direction that is good: 0.2 is a fifth better.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Gain {
    gain: f64,
    /// Of 95 %; `None` where the spread is not known.
    interval: Option<(f64, f64)>,
}

/// How a gain stands to its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Surely,
    No,
    Unknown(&'static str),
}

const NO_SPREAD: &str = "one run a side says nothing of its own spread";
const TOO_WIDE: &str = "its 95 % interval is too wide to tell";

impl Gain {
    fn reaches(self, threshold: f64) -> Reached {
        // Where nothing is asked for, any improvement will do, but it has to be one.
        match self.interval {
            None if self.gain < threshold => Reached::No,
            None => Reached::Unknown(NO_SPREAD),
            Some((_, high)) if high < threshold => Reached::No,
            Some((low, _)) if self.gain >= threshold && low > 0.0 => Reached::Surely,
            Some((low, high))
                if self.gain < threshold && low <= 0.0 && high < threshold.max(1e-9) =>
            {
                Reached::No
            }
            Some((low, _)) if self.gain < threshold && low > 0.0 => Reached::No,
            Some(_) => Reached::Unknown(TOO_WIDE),
        }
    }
}

/// The check of one KPI of the config.
pub(super) fn check(
    setting: &Setting,
    kpi: &Kpi,
    comparison: &Comparison,
    loads: &[LoadChanges],
    evidence: &str,
) -> Check {
    let name = &kpi.name.value.0;
    let threshold = kpi
        .improvement
        .unwrap_or(setting.config.own.optimization.improvement_threshold)
        .0;
    let check = new(name, threshold, kpi).evidence(evidence);
    match kpi.metric {
        KpiMetric::Cost => of_change(
            check,
            comparison,
            comparison.total.as_ref(),
            threshold,
            kpi.target.map(|t| t.0),
        ),
        KpiMetric::Function => {
            let wanted = kpi.function.as_ref().map_or("", |name| name.0.as_str());
            let change = comparison.function(wanted);
            if change.is_none() {
                let actual = format!(
                    "`{wanted}` is not among the functions of the comparison, or several are called so"
                );
                return check
                    .found(Status::Inconclusive, actual)
                    .remedy("name a function as the comparison does, in `function`");
            }
            of_change(
                check,
                comparison,
                change,
                threshold,
                kpi.target.map(|t| t.0),
            )
        }
        metric => of_load(check, metric, loads, threshold, kpi.target.map(|t| t.0)),
    }
}

/// Without any KPI in the config: the cost of the whole service.
pub(super) fn default_check(setting: &Setting, comparison: &Comparison, evidence: &str) -> Check {
    let threshold = setting.config.own.optimization.improvement_threshold.0;
    let check = Check::new(
        "kpi:cost",
        format!("KPI `cost`: {} of the whole service", what(comparison)),
    )
    .expected(format!(
        "at least {:.1} % less, with statistical support",
        threshold * 100.0
    ))
    .evidence(evidence);
    of_change(
        check,
        comparison,
        comparison.total.as_ref(),
        threshold,
        None,
    )
}

fn what(comparison: &Comparison) -> String {
    match (comparison.measure.as_str(), comparison.unit.as_str()) {
        ("", _) => "cost".into(),
        (measure, "") => measure.to_owned(),
        (measure, unit) => format!("{measure} ({unit})"),
    }
}

fn new(name: &str, threshold: f64, kpi: &Kpi) -> Check {
    let better = match kpi.metric {
        KpiMetric::Throughput => "more",
        _ => "less",
    };
    let target = kpi.target.map(|target| {
        let bound = if kpi.metric == KpiMetric::Throughput {
            "at least"
        } else {
            "at most"
        };
        format!("; {bound} {} afterwards", target.0)
    });
    Check::new(format!("kpi:{name}"), format!("KPI `{name}`")).expected(format!(
        "at least {:.1} % {better}, with statistical support{}",
        threshold * 100.0,
        target.unwrap_or_default()
    ))
}

fn of_change(
    check: Check,
    comparison: &Comparison,
    change: Option<&Change>,
    threshold: f64,
    target: Option<f64>,
) -> Check {
    let longer = "compare longer recordings, or more of them: perfprof compare --before A1 A2 … --after B1 B2 …";
    let Some((change, relative)) = change.and_then(|c| Some((c, c.change?))) else {
        return check
            .found(Status::Inconclusive, "the comparison does not tell it")
            .remedy(longer);
    };
    let gain = Gain {
        gain: -relative,
        interval: change.interval.map(|(low, high)| (-high, -low)),
    };
    let mut actual = signed_percent(relative);
    if let Some((low, high)) = change.interval {
        actual.push_str(&format!(
            " (95 % interval {} to {})",
            signed_percent(low),
            signed_percent(high)
        ));
    }
    if change.direction == Direction::Inconclusive {
        let reason = match comparison.reason.is_empty() {
            true => "the comparison is inconclusive".to_owned(),
            false => format!("the comparison is inconclusive: {}", comparison.reason),
        };
        return check
            .found(Status::Inconclusive, format!("{actual}; {reason}"))
            .remedy(longer);
    }
    let reached = match gain.reaches(threshold) {
        // What the comparison does not call an improvement is none.
        Reached::Surely if change.direction != Direction::Improved => Reached::No,
        reached => reached,
    };
    judged(
        check,
        reached,
        actual,
        longer,
        target_missed(change.after, target, false),
    )
}

fn of_load(
    check: Check,
    metric: KpiMetric,
    loads: &[LoadChanges],
    threshold: f64,
    target: Option<f64>,
) -> Check {
    let more = "run each load test at least three times a side, and give all results (--before-load FILE …, --after-load FILE …)";
    let changes: Vec<&LoadChange> = loads.iter().filter_map(|load| load.of(metric)).collect();
    if changes.is_empty() {
        let actual = "no load test of both sides tells it";
        return check.found(Status::Inconclusive, actual).remedy(more);
    }
    let higher_is_better = metric == KpiMetric::Throughput;
    // Of several scenarios the one that gained least decides.
    let judged_all = changes.iter().map(|change| {
        let Some(relative) = change.change else {
            return (
                f64::NEG_INFINITY,
                Reached::Unknown("it was 0 before"),
                "from 0".to_owned(),
                change,
            );
        };
        let sign = if higher_is_better { 1.0 } else { -1.0 };
        let oriented = |(low, high): (f64, f64)| {
            if higher_is_better {
                (low, high)
            } else {
                (-high, -low)
            }
        };
        let gain = Gain {
            gain: sign * relative,
            interval: change.interval.map(oriented),
        };
        let runs = change.runs.map(|(b, a)| format!(", {b} and {a} runs"));
        let text = format!(
            "{} ({:.4} to {:.4}{})",
            signed_percent(relative),
            change.before,
            change.after,
            runs.unwrap_or_default()
        );
        (gain.gain, gain.reaches(threshold), text, change)
    });
    let worst = judged_all.min_by(|a, b| rank(a.1).cmp(&rank(b.1)).then(a.0.total_cmp(&b.0)));
    let Some((_, reached, actual, change)) = worst else {
        return check.found(Status::Inconclusive, "nothing to compare");
    };
    judged(
        check,
        reached,
        actual,
        more,
        target_missed(Some(change.after), target, higher_is_better),
    )
}

fn rank(reached: Reached) -> u8 {
    match reached {
        Reached::No => 0,
        Reached::Unknown(_) => 1,
        Reached::Surely => 2,
    }
}

fn target_missed(after: Option<f64>, target: Option<f64>, at_least: bool) -> Option<String> {
    let target = target?;
    let Some(after) = after else {
        return Some(format!(
            "what it is afterwards is not known, and {target} is the target"
        ));
    };
    let missed = if at_least {
        after < target
    } else {
        after > target
    };
    missed.then(|| format!("it is {after:.4} afterwards, and {target} is the target"))
}

fn judged(
    check: Check,
    reached: Reached,
    actual: String,
    more: &str,
    missed: Option<String>,
) -> Check {
    let optimize = "optimize further where the comparison shows the most cost, or write down why it is enough (optimization-justification.md)";
    match (reached, missed) {
        (Reached::No, _) => check.fail(actual, optimize),
        (_, Some(missed)) => check.fail(format!("{actual}; {missed}"), optimize),
        (Reached::Unknown(why), None) => check
            .found(Status::Inconclusive, format!("{actual}; {why}"))
            .remedy(more),
        (Reached::Surely, None) => check.pass(actual),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_improvement_is_reached_missed_or_not_known() {
        let reaches = |gain, interval| Gain { gain, interval }.reaches(0.15);
        assert_eq!(reaches(0.20, Some((0.16, 0.24))), Reached::Surely);
        // Surely better, and by enough as far as is known.
        assert_eq!(reaches(0.16, Some((0.05, 0.27))), Reached::Surely);
        assert_eq!(
            reaches(0.20, Some((-0.05, 0.45))),
            Reached::Unknown(TOO_WIDE)
        );
        assert_eq!(
            reaches(0.10, Some((-0.05, 0.25))),
            Reached::Unknown(TOO_WIDE)
        );
        assert_eq!(reaches(0.10, Some((0.06, 0.14))), Reached::No);
        assert_eq!(reaches(0.10, Some((0.04, 0.16))), Reached::No);
        assert_eq!(reaches(0.0, Some((-0.02, 0.02))), Reached::No);
        assert_eq!(reaches(-0.3, Some((-0.4, -0.2))), Reached::No);
        assert_eq!(reaches(0.30, None), Reached::Unknown(NO_SPREAD));
        assert_eq!(reaches(0.10, None), Reached::No);
    }

    #[test]
    fn a_target_bounds_from_its_own_side() {
        assert!(target_missed(Some(251.0), Some(250.0), false).is_some());
        assert!(target_missed(Some(250.0), Some(250.0), false).is_none());
        assert!(target_missed(Some(250.0), Some(251.0), true).is_some());
        assert!(target_missed(None, Some(1.0), true).is_some());
        assert!(target_missed(None, None, true).is_none());
    }
}
