//! Regressions: what became worse, of hot paths, load tests and memory. There must be none.
//!
//! In: the comparison, what load tests say, capacity analyses. Out: checks. A hot path counts when the comparison calls
//! it regressed, which takes support by the data; a load test when it crosses its bound, which is wide enough for the
//! spread of single runs, and where there are several, when these agree.

use super::check::{Check, Status, percent, signed_percent};
use super::command;
use super::comparison::{Change, Comparison, Direction};
use super::config::KpiMetric;
use super::documents::{BadInput, expect_schema, named_json};
use super::load_change::{LoadChange, LoadChanges};
use super::{Edition, Setting};
use crate::capacity;

/// More regressions than this are not listed one by one.
const MAX_LISTED: usize = 20;

/// One check for all hot paths, and one for each that is worse.
pub(super) fn of_hot_paths(setting: &Setting, comparison: &Comparison, shown: &str) -> Vec<Check> {
    let tolerance = setting.config.own.optimization.hot_path_tolerance.0;
    let is_worse = |change: &&Change| {
        let beyond = change.change.is_none_or(|relative| relative > tolerance);
        change.direction == Direction::Regressed && beyond
    };
    let worse: Vec<&Change> = comparison
        .total
        .iter()
        .chain(&comparison.functions)
        .filter(is_worse)
        .collect();
    let expected = match tolerance {
        0.0 => "no significant growth in CPU cost".to_owned(),
        tolerance => format!(
            "no significant growth in CPU cost beyond {}",
            percent(tolerance)
        ),
    };
    if worse.is_empty() {
        let actual = format!("none of {} functions", comparison.functions.len());
        let check = Check::new("hot-paths", "regressions of hot paths").expected(expected);
        return vec![check.evidence(shown).pass(actual)];
    }
    let check = |change: &&Change| {
        let relative = match change.change {
            Some(relative) => signed_percent(relative),
            None => "new".into(),
        };
        let interval = change.interval.map(|(low, high)| {
            format!(
                " (95 % interval {} to {})",
                signed_percent(low),
                signed_percent(high)
            )
        });
        Check::new(
            format!("hot-path:{}", change.name),
            format!("CPU cost of `{}`", change.name),
        )
        .expected(expected.clone())
        .evidence(shown)
        .fail(
            format!("{relative}{}", interval.unwrap_or_default()),
            "look at it in comparison.md, and take the change back or repair it",
        )
    };
    worse.iter().take(MAX_LISTED).map(check).collect()
}

/// Edition 18 wants them, but does not say that it fails without.
fn without_load_tests(setting: &Setting) -> Status {
    match setting.edition {
        Edition::Fourteen => Status::NotApplicable,
        Edition::Eighteen => Status::Warn,
    }
}

/// The thresholds that nothing was held against, for the verdict's first lines.
pub(super) fn unchecked(checks: &[Check]) -> Option<String> {
    let titles: Vec<&str> = checks
        .iter()
        .filter(|check| {
            check.status == Status::NotApplicable
                || check.id == "load-regressions" && check.status == Status::Warn
        })
        .map(|check| check.title.as_str())
        .collect();
    (!titles.is_empty()).then(|| format!("not checked for regressions: {}", titles.join("; ")))
}

/// A metric that must not grow (or shrink) beyond a bound.
pub(super) fn of_load(setting: &Setting, loads: &[LoadChanges], alone: &[String]) -> Vec<Check> {
    let bounds = &setting.config.own.optimization.regressions;
    if loads.is_empty() {
        let check = Check::new(
            "load-regressions",
            "p95 latency, throughput and error rate of load tests",
        )
        .expected("no p95 latency, throughput or error rate beyond its bound");
        let remedy = "give them: --before-load FILE --after-load FILE, or `optimization.before_load` in the gate config";
        return vec![match alone.is_empty() {
            true => check
                .found(
                    without_load_tests(setting),
                    "no load tests before and after were given",
                )
                .remedy(remedy),
            false => check.fail(
                format!("no test of both sides; only one has {}", alone.join(", ")),
                remedy,
            ),
        }];
    }
    let mut checks = Vec::new();
    for load in loads {
        if let Some(reason) = &load.incomparable {
            let check = Check::new(
                format!("load-change:{}", load.scenario),
                format!("load test `{}`", load.scenario),
            );
            checks.push(
                check
                    .expected("the same scenario at the same concurrency on both sides")
                    .found(Status::Inconclusive, format!("not comparable: {reason}"))
                    .remedy("run the same load test on both sides, and give both results"),
            );
            continue;
        }
        checks.push(relative_check(
            load,
            KpiMetric::LatencyP95,
            "p95 latency",
            bounds.p95_latency.0,
        ));
        checks.push(relative_check(
            load,
            KpiMetric::Throughput,
            "throughput",
            -bounds.throughput.0,
        ));
        checks.push(error_check(load, bounds.error_rate.0));
    }
    for name in alone {
        let check = Check::new(format!("load-change:{name}"), format!("load test `{name}`"));
        checks.push(check.expected("a result of both sides").fail(
            "only one side has it",
            "run it on the other side, too, or give results of the same scenarios",
        ));
    }
    checks
}

/// `bound` is the change that is worse by just too little to count; below 0 for what should be large.
fn relative_check(load: &LoadChanges, metric: KpiMetric, label: &str, bound: f64) -> Check {
    let (name, id) = (&load.scenario, label.replace(' ', "-"));
    let check = Check::new(
        format!("load-change:{name}:{id}"),
        format!("{label} of `{name}`"),
    )
    .expected(format!("not worse than {}", signed_percent(bound)));
    let Some(change) = load.of(metric) else {
        return check.found(
            Status::NotApplicable,
            "the results do not say it on both sides",
        );
    };
    let Some(relative) = change.change else {
        return check.found(Status::NotApplicable, "it was 0 before");
    };
    let actual = format!(
        "{} ({:.2} to {:.2}{})",
        signed_percent(relative),
        change.before,
        change.after,
        spread(change)
    );
    let sign = bound.signum();
    if relative * sign <= bound.abs() {
        return check.pass(actual);
    }
    let sure = change
        .interval
        .is_none_or(|(low, high)| if sign > 0.0 { low > 0.0 } else { high < 0.0 });
    match sure {
        true => check.fail(actual, "find what slowed it down: perfprof compare shows where the CPU time went, and what is waited for"),
        false => check
            .found(Status::Inconclusive, format!("{actual}, but the runs differ as much among themselves"))
            .remedy("run more load tests on each side"),
    }
}

/// That too few runs say nothing of their spread.
fn spread(change: &LoadChange) -> String {
    match (change.interval, change.runs) {
        (None, Some((1, 1))) => "; n = 1 a side, spread unknown".into(),
        (None, Some((b, a))) => format!("; n = {b} before and {a} after, spread unknown"),
        _ => String::new(),
    }
}

fn error_check(load: &LoadChanges, bound: f64) -> Check {
    let name = &load.scenario;
    let check = Check::new(
        format!("load-change:{name}:error-rate"),
        format!("error rate of `{name}`"),
    )
    .expected(format!("at most {:.1} points more", bound * 100.0));
    let Some(change) = load.of(KpiMetric::ErrorRate) else {
        return check.found(
            Status::NotApplicable,
            "the results do not say it on both sides",
        );
    };
    let points = change.after - change.before;
    let actual = format!(
        "{:+.1} points ({} to {})",
        points * 100.0,
        percent(change.before),
        percent(change.after)
    );
    match points <= bound + 1e-12 {
        true => check.pass(actual),
        false => check.fail(
            actual,
            "look at the errors that the load test reports, and at the service's log",
        ),
    }
}

/// Memory of each service, where a capacity analysis of before was given.
pub(super) fn of_memory(setting: &Setting) -> Result<Vec<Check>, BadInput> {
    let Some(path) = &setting.config.own.optimization.before_capacity else {
        let check = Check::new("memory", "memory of the services")
            .expected("not beyond its bound")
            .found(Status::NotApplicable, "no capacity analysis of before was given")
            .remedy("keep capacity-analysis.json of before, and name it as `optimization.before_capacity`");
        return Ok(vec![check]);
    };
    let bound = setting.config.own.optimization.regressions.memory.0;
    let Some(before) = named_json(path)? else {
        return Err(BadInput::of(path, "is not there"));
    };
    expect_schema(
        path,
        &before,
        capacity::SCHEMA,
        capacity::SCHEMA_VERSION.into(),
    )?;
    let after = setting
        .documents
        .services(
            "capacity-analysis.json",
            capacity::SCHEMA,
            capacity::SCHEMA_VERSION.into(),
        )?
        .unwrap_or_default();
    let mut checks = Vec::new();
    for entry in before["services"].as_array().into_iter().flatten() {
        let Some(service) = entry["service"].as_str() else {
            continue;
        };
        let check = Check::new(
            format!("memory:{service}"),
            format!("memory of `{service}`"),
        )
        .expected(format!("at most {} more", percent(bound)))
        .evidence(setting.documents.shown("capacity-analysis.json"));
        let now = after.iter().find(|e| e["service"] == service);
        let bytes =
            |entry: &serde_json::Value| entry["memory"]["max_bytes"].as_f64().filter(|b| *b > 0.0);
        let check = match (bytes(entry), now.and_then(bytes)) {
            (Some(before), Some(now)) => {
                let relative = now / before - 1.0;
                let mib = |bytes: f64| bytes / f64::from(1 << 20);
                let actual = format!(
                    "{} ({:.0} to {:.0} MiB)",
                    signed_percent(relative),
                    mib(before),
                    mib(now)
                );
                match relative <= bound {
                    true => check.pass(actual),
                    false => check.fail(
                        actual,
                        "find what holds the memory, or raise `regressions.memory` with a reason",
                    ),
                }
            }
            (None, _) => check.found(Status::NotApplicable, "was not measured before"),
            (Some(_), None) => check
                .found(Status::Inconclusive, "was not measured afterwards")
                .remedy(command::capacity(service, setting.documents.root())),
        };
        checks.push(check);
    }
    Ok(checks)
}
