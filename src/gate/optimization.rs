//! Gate 3, optimization validation: better by enough, and nothing worse.
//!
//! In: a [`Setting`]. Out: the KPIs, or the justification in their place; regressions of hot paths, load tests and
//! memory, of which there must be none; and whether there was enough data at all.

use serde_json::json;

use super::check::{Check, Status, percent, signed_percent};
use super::command;
use super::comparison::{Change, Comparison, Direction};
use super::completeness::is_placeholder;
use super::config::KpiMetric;
use super::documents::{BadInput, named_json};
use super::kpi;
use super::load;
use super::load_change::{self, Pair};
use super::result::GateResult;
use super::waiver::{Scope, Waivers};
use super::{Gate, Setting};
use crate::capacity;
use crate::load_test::LoadTest;

/// More regressions than this are not listed one by one.
const MAX_LISTED: usize = 20;

pub(super) fn ask(setting: &Setting) -> Result<GateResult, BadInput> {
    let plan = &setting.config.own.optimization;
    let mut waivers = Waivers::read(
        &setting.documents,
        Gate::Optimization,
        setting.edition,
        setting.now,
    )?;
    let (file, document) = match &setting.given.report {
        Some(path) => (path.clone(), named_json(path)?),
        None => (
            setting.documents.path(&plan.comparison),
            setting.documents.json(&plan.comparison)?,
        ),
    };
    let shown = file.display().to_string();
    let Some(document) = document else {
        let check = Check::new("comparison", "comparison of before and after")
            .expected("there")
            .evidence(&shown)
            .fail(
                format!("there is no `{shown}`"),
                format!(
                    "perfprof compare --before BEFORE.pb.gz --after AFTER.pb.gz --artifacts {}",
                    command::path(setting.documents.root())
                ),
            );
        return Ok(GateResult {
            waivers: waivers.into_uses(),
            ..GateResult::new(Gate::Optimization, setting, vec![check])
        });
    };
    let comparison = Comparison::of(&file, &document)?;
    let (before, after) = load_tests(setting, &comparison)?;
    let (pairs, alone) = load_change::pairs(&before, &after);

    let mut checks = vec![comparison_check(&comparison, &shown)];
    let mut kpis: Vec<Check> = match plan.kpis.is_empty() {
        true => vec![kpi::default_check(setting, &comparison, &shown)],
        false => {
            let of = |k| kpi::check(setting, k, &comparison, &pairs, &shown);
            plan.kpis.iter().map(of).collect()
        }
    };
    excuse(setting, &mut kpis, &mut waivers)?;
    checks.extend(kpis);
    let hot = hot_path_checks(setting, &comparison, &shown);
    let load = load_checks(setting, &pairs, &alone);
    let memory = memory_checks(setting)?;
    let mut regressions = hot;
    regressions.extend(load);
    regressions.extend(memory);
    let count = regressions
        .iter()
        .filter(|c| c.status == Status::Fail)
        .count();
    checks.extend(regressions);
    checks.push(count_check(count, &shown));
    Ok(GateResult {
        waivers: waivers.into_uses(),
        figures: vec![
            ("regressions", json!(count)),
            (
                "kpi_change",
                json!(comparison.total.as_ref().and_then(|t| t.change)),
            ),
            ("functions_compared", json!(comparison.functions.len())),
        ],
        ..GateResult::new(Gate::Optimization, setting, checks)
    })
}

/// Load tests of both sides: those that were named, else those of the comparison.
fn load_tests(
    setting: &Setting,
    comparison: &Comparison,
) -> Result<(Vec<LoadTest>, Vec<LoadTest>), BadInput> {
    let plan = &setting.config.own.optimization;
    let named = |given: &[std::path::PathBuf], of_config: &[std::path::PathBuf]| {
        load::read_all(if given.is_empty() { of_config } else { given })
    };
    let before = named(&setting.given.before_load, &plan.before_load)?;
    let after = named(&setting.given.after_load, &plan.after_load)?;
    match (&comparison.load, before.is_empty() && after.is_empty()) {
        (Some((before, after)), true) => Ok((vec![before.clone()], vec![after.clone()])),
        _ => Ok((before, after)),
    }
}

fn comparison_check(comparison: &Comparison, shown: &str) -> Check {
    let check = Check::new("comparison", "comparison of before and after")
        .expected("enough data to tell")
        .evidence(shown);
    match comparison.direction {
        Direction::Inconclusive => check
            .found(
                Status::Inconclusive,
                format!("inconclusive: {}", comparison.reason),
            )
            .remedy("record both sides longer and under the same load, and compare again"),
        Direction::Improved => check.pass("improved"),
        Direction::Regressed => check.pass("it tells: regressed"),
        Direction::Unchanged => check.pass("it tells: unchanged"),
    }
}

/// A justification, or in edition 14 a waiver, stands in for a KPI that surely was not reached. It does not make data
/// of what is inconclusive.
fn excuse(setting: &Setting, kpis: &mut [Check], waivers: &mut Waivers) -> Result<(), BadInput> {
    if !kpis.iter().any(|check| check.status == Status::Fail) {
        return Ok(());
    }
    let name = &setting.config.own.optimization.justification;
    let shown = setting.documents.shown(name);
    let text = setting.documents.text(name)?;
    let fault = text.as_deref().map(justification_fault);
    for check in kpis.iter_mut().filter(|check| check.status == Status::Fail) {
        let kpi = check.id.trim_start_matches("kpi:").to_owned();
        match fault {
            Some(None) => {
                check.status = Status::Waived;
                check.actual = format!("{}; justified in {shown}", check.actual);
                check.remedy = None;
            }
            Some(Some(fault)) => {
                check.actual = format!(
                    "{}; the justification {shown} does not count: {fault}",
                    check.actual
                );
            }
            None => {}
        }
        if check.status == Status::Fail
            && let Some(waiver) = waivers.excuse(Scope::Kpi, &kpi)
        {
            check.status = Status::Waived;
            check.actual = format!(
                "{}; waived by {} until {}",
                check.actual, waiver.approver, waiver.expires
            );
            check.remedy = None;
        }
    }
    Ok(())
}

/// A justification says why, what is done instead, and who agreed.
fn justification_fault(text: &str) -> Option<&'static str> {
    let field = |names: &[&str]| {
        text.lines().any(|line| {
            let line = line.replace(['*', '`', '_', '#', '|'], "");
            let line = line.trim().trim_start_matches(['-', ' ']);
            let Some((key, value)) = line.split_once(':') else {
                return false;
            };
            names.contains(&key.trim().to_ascii_lowercase().as_str()) && !is_placeholder(value)
        })
    };
    match () {
        () if !field(&["justification", "reason", "why"]) => {
            Some("it has no line `Justification: …`")
        }
        () if !field(&[
            "mitigation",
            "compensating control",
            "compensating controls",
        ]) =>
        {
            Some("it has no line `Mitigation: …`")
        }
        () if !field(&["approver", "approved by", "signed by"]) => {
            Some("it has no line `Approved by: …`")
        }
        () => None,
    }
}

/// One check for all hot paths, and one for each that is worse.
fn hot_path_checks(setting: &Setting, comparison: &Comparison, shown: &str) -> Vec<Check> {
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

/// A metric that must not grow (or shrink) beyond a bound.
fn load_checks(setting: &Setting, pairs: &[Pair<'_>], alone: &[String]) -> Vec<Check> {
    let bounds = &setting.config.own.optimization.regressions;
    if pairs.is_empty() {
        let check = Check::new("load-regressions", "load tests before and after")
            .expected("no p95 latency, throughput or error rate beyond its bound");
        let remedy = "give them: --before-load FILE --after-load FILE, or `optimization.before_load` in the gate config";
        return vec![match alone.is_empty() {
            true => check
                .found(Status::NotApplicable, "none were given")
                .remedy(remedy),
            false => check.fail(
                format!("no test of both sides; only one has {}", alone.join(", ")),
                remedy,
            ),
        }];
    }
    let mut checks = Vec::new();
    for pair in pairs {
        let name = pair.scenario.unwrap_or("load test");
        checks.push(relative_check(
            pair,
            name,
            KpiMetric::LatencyP95,
            "p95 latency",
            bounds.p95_latency.0,
        ));
        checks.push(relative_check(
            pair,
            name,
            KpiMetric::Throughput,
            "throughput",
            -bounds.throughput.0,
        ));
        checks.push(error_check(pair, name, bounds.error_rate.0));
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
fn relative_check(
    pair: &Pair<'_>,
    name: &str,
    metric: KpiMetric,
    label: &str,
    bound: f64,
) -> Check {
    let id = label.replace(' ', "-");
    let check = Check::new(
        format!("load-change:{name}:{id}"),
        format!("{label} of `{name}`"),
    )
    .expected(format!("not worse than {}", signed_percent(bound)));
    let Some(change) = load_change::change(pair, metric) else {
        return check.found(
            Status::NotApplicable,
            "the results do not say it on both sides",
        );
    };
    let Some(relative) = change.change else {
        return check.found(Status::NotApplicable, "it was 0 before");
    };
    let actual = format!(
        "{} ({:.2} to {:.2})",
        signed_percent(relative),
        change.before,
        change.after
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

fn error_check(pair: &Pair<'_>, name: &str, bound: f64) -> Check {
    let check = Check::new(
        format!("load-change:{name}:error-rate"),
        format!("error rate of `{name}`"),
    )
    .expected(format!("at most {:.1} points more", bound * 100.0));
    let Some(change) = load_change::change(pair, KpiMetric::ErrorRate) else {
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
fn memory_checks(setting: &Setting) -> Result<Vec<Check>, BadInput> {
    let Some(path) = &setting.config.own.optimization.before_capacity else {
        let check = Check::new("memory", "memory before and after")
            .expected("not beyond its bound")
            .found(Status::NotApplicable, "no capacity analysis of before was given")
            .remedy("keep capacity-analysis.json of before, and name it as `optimization.before_capacity`");
        return Ok(vec![check]);
    };
    let bound = setting.config.own.optimization.regressions.memory.0;
    let Some(before) = named_json(path)? else {
        return Err(BadInput::of(path, "is not there"));
    };
    super::documents::expect_schema(
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

fn count_check(count: usize, shown: &str) -> Check {
    let check = Check::new("regressions", "regressions")
        .expected("0")
        .evidence(shown);
    match count {
        0 => check.pass("0"),
        n => check.fail(n.to_string(), "repair what is named above"),
    }
}

#[cfg(test)]
#[path = "optimization_tests.rs"]
mod tests;
