//! Gate 1, baseline: is it known how things were before anything was changed?
//!
//! In: a [`Setting`]. Out: how complete the baseline is over services and required metrics, how old, and whether there
//! are hypotheses to test.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::check::{Check, Status, percent};
use super::command;
use super::config::Name;
use super::documents::{BadInput, named_json};
use super::hypotheses::{self, Hypothesis};
use super::metrics;
use super::result::{GateResult, Part, Score};
use super::waiver::{Scope, Waivers};
use super::{Gate, Setting};
use crate::baseline::{JSON_FILE, Measurement};
use crate::render::coverage;

pub(super) fn ask(setting: &Setting) -> Result<GateResult, BadInput> {
    let plan = &setting.config.own.baseline;
    let mut waivers = Waivers::read(
        &setting.documents,
        Gate::Baseline,
        setting.edition,
        setting.now,
    )?;
    let found = metrics::read(&setting.documents)?;
    let (file, rows) = match &found {
        Some((file, baseline)) => (*file, baseline.measurements()),
        None => (JSON_FILE, &[][..]),
    };
    let (services, notes) = services(setting, rows)?;
    let mut checks = Vec::new();
    let (mut present, mut asked) = (0, 0);
    for service in &services {
        let (check, there) =
            service_check(setting, service, file, found.is_some(), rows, &mut waivers);
        if check.status != Status::Waived {
            asked += required(setting, service).len();
            present += there;
        }
        checks.push(check);
    }
    let share = (asked > 0).then(|| present as f64 / asked as f64);
    let parts = vec![Part {
        id: "completeness",
        score: share,
        weight: 1.0,
    }];
    let score = Score::of(parts, plan.completeness.0);
    checks.push(score_check(setting, score.as_ref(), (present, asked), file));
    let (age, freshness) = freshness(setting, &services, rows, file);
    checks.extend(freshness);
    let intake = intake(setting)?;
    let (count, hypotheses) = hypothesis_check(setting, intake.as_ref())?;
    checks.push(hypotheses);
    checks.extend(intake_check(intake.as_ref()));
    Ok(GateResult {
        score,
        notes,
        waivers: waivers.into_uses(),
        figures: vec![
            ("completeness", json!(share)),
            (
                "age_hours",
                json!(age.map(|hours| (hours * 100.0).round() / 100.0)),
            ),
            ("hypotheses", json!(count)),
        ],
        ..GateResult::new(Gate::Baseline, setting, checks)
    })
}

fn services(
    setting: &Setting,
    rows: &[Measurement],
) -> Result<(Vec<String>, Vec<String>), BadInput> {
    let own = &setting.config.own.services;
    if !own.is_empty() {
        return Ok((
            own.iter().map(|s| s.name.value.0.clone()).collect(),
            Vec::new(),
        ));
    }
    let recorded =
        setting
            .documents
            .services("coverage.json", coverage::SCHEMA, coverage::SCHEMA_VERSION)?;
    let recorded = recorded.into_iter().flatten();
    let recorded = recorded.filter_map(|e| e["service"].as_str().map(str::to_owned));
    let mut names: BTreeSet<String> = recorded.collect();
    names.extend(rows.iter().map(|row| row.service.clone()));
    let note = format!(
        "the config names no services: the {} that are known count",
        names.len()
    );
    Ok((names.into_iter().collect(), vec![note]))
}

/// What the baseline has to say of a service.
fn required<'a>(setting: &'a Setting, service: &str) -> &'a [Name] {
    let own = &setting.config.own;
    let named = own.services.iter().find(|s| s.name.value.0 == service);
    let of_service = named.and_then(|s| s.required_metrics.as_deref());
    of_service.unwrap_or(&own.baseline.required_metrics)
}

/// The check of one service, and how many of the required metrics it has.
fn service_check(
    setting: &Setting,
    service: &str,
    file: &str,
    exists: bool,
    rows: &[Measurement],
    waivers: &mut Waivers,
) -> (Check, usize) {
    let required = required(setting, service);
    let check = Check::new(
        format!("baseline:{service}"),
        format!("baseline of `{service}`"),
    )
    .of_score()
    .expected(format!("a figure for each of {} metrics", required.len()))
    .evidence(setting.documents.shown(file));
    let has = |metric: &str| {
        let mut of_service = rows.iter().filter(|row| row.service == service);
        of_service.any(|row| metrics::is_of(&row.metric, metric))
    };
    let missing: Vec<&str> = required
        .iter()
        .map(|metric| metric.0.as_str())
        .filter(|metric| !has(metric))
        .collect();
    let there = required.len() - missing.len();
    if missing.is_empty() {
        return (check.pass(format!("all {there}")), there);
    }
    let nothing = !rows.iter().any(|row| row.service == service);
    if nothing && let Some(waiver) = waivers.excuse(Scope::Service, service) {
        let actual = format!(
            "missing, waived by {} until {}",
            waiver.approver, waiver.expires
        );
        return (check.found(Status::Waived, actual), 0);
    }
    let mut actual = match exists {
        true => format!(
            "{there} of {}: without {}",
            required.len(),
            missing.join(", ")
        ),
        false => format!("there is no `{}`", setting.documents.shown(JSON_FILE)),
    };
    if let Some(refusal) = waivers.refusal(Scope::Service, service) {
        actual = format!("{actual}; its waiver {refusal}");
    }
    let by_wrk = rows
        .iter()
        .any(|row| row.service == service && row.source.ends_with("(wrk)"));
    let mut remedy = save_command(setting, Some(service));
    if missing.contains(&"p95_latency") && by_wrk {
        remedy = format!(
            "wrk prints no 95th percentile: take `p95_latency` out of the `required_metrics` of `{service}` (`p99_latency` \
             is there after wrk --latency), or use k6, Locust, JMeter, Artillery, hey or oha; else {remedy}"
        );
    }
    (check.fail(actual, remedy), there)
}

fn save_command(setting: &Setting, service: Option<&str>) -> String {
    let root = command::path(setting.documents.root());
    format!(
        "record, measure capacity and run the load test (perfprof load-test FILE --scenario NAME --service {} --artifacts \
         {root}), then: perfprof baseline save --artifacts {root}",
        command::word(service.unwrap_or("SERVICE")),
    )
}

fn score_check(
    setting: &Setting,
    score: Option<&Score>,
    (present, asked): (usize, usize),
    file: &str,
) -> Check {
    let threshold = setting.config.own.baseline.completeness.0;
    let check = Check::new("score", "completeness of the baseline")
        .expected(format!("at least {}", percent(threshold)))
        .evidence(setting.documents.shown(file));
    let Some(score) = score else {
        return check.fail(
            "there is no service with a metric to ask for",
            save_command(setting, None),
        );
    };
    let actual = format!("{}: {present} of {asked} figures", percent(score.value));
    match score.is_reached() {
        true => check.pass(actual),
        false => check.fail(actual, save_command(setting, None)),
    }
}

/// The age of the oldest figure that is asked for, in hours, and its check where the config bounds it.
fn freshness(
    setting: &Setting,
    services: &[String],
    rows: &[Measurement],
    file: &str,
) -> (Option<f64>, Option<Check>) {
    let plan = &setting.config.own.baseline;
    let is_required = |row: &&Measurement| {
        let mut required = required(setting, &row.service).iter();
        let is_asked = services.contains(&row.service);
        is_asked && required.any(|metric| metrics::is_of(&row.metric, &metric.0))
    };
    let oldest = rows
        .iter()
        .filter(is_required)
        .map(|row| row.timestamp)
        .min();
    let hours = oldest.map(|oldest| (setting.now.as_second() - oldest.as_second()) as f64 / 3600.0);
    let Some(limit) = plan.max_age_hours else {
        return (hours, None);
    };
    let check = Check::new("freshness", "age of the baseline")
        .expected(format!("at most {} hours", limit.0))
        .evidence(setting.documents.shown(file));
    let remedy = save_command(setting, None);
    let check = match hours {
        None => check.fail("there is no figure that is asked for", remedy),
        // Clocks differ a little; a figure from tomorrow is a mistake.
        Some(hours) if hours < -0.1 => check.fail("it is dated in the future", remedy),
        Some(hours) if hours > limit.0 => check.fail(format!("{hours:.1} hours"), remedy),
        Some(hours) => check.pass(format!("{:.1} hours", hours.max(0.0))),
    };
    (hours, Some(check))
}

/// The intake report, where one was named; its place and content.
fn intake(setting: &Setting) -> Result<Option<(String, Option<Value>)>, BadInput> {
    let of_config = setting.config.own.baseline.intake.as_ref();
    match setting.given.intake.as_ref().or(of_config) {
        Some(path) => Ok(Some((path.display().to_string(), named_json(path)?))),
        None => Ok(None),
    }
}

fn intake_check(intake: Option<&(String, Option<Value>)>) -> Option<Check> {
    let (file, content) = intake?;
    let check = Check::new("intake", "performance intake report")
        .expected("there, and says something")
        .evidence(file);
    let says = |value: &Value| match value {
        Value::Object(object) => !object.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    let remedy = format!(
        "write the intake report to {}, or name another with --intake",
        command::word(file)
    );
    Some(match content {
        None => check.fail(format!("there is no `{file}`"), remedy),
        Some(value) if says(value) => check.pass("there"),
        Some(_) => check.fail("it is empty", remedy),
    })
}

fn hypothesis_check(
    setting: &Setting,
    intake: Option<&(String, Option<Value>)>,
) -> Result<(usize, Check), BadInput> {
    let plan = &setting.config.own.baseline;
    let file = setting.documents.shown(&plan.hypotheses);
    let log = setting.documents.text(&plan.hypotheses)?;
    let mut all = log.as_deref().map(hypotheses::read).unwrap_or_default();
    let of_intake = intake.and_then(|(_, content)| content.as_ref());
    let of_intake = of_intake.and_then(|content| content["hypotheses"].as_array());
    for entry in of_intake.into_iter().flatten() {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let one = Hypothesis {
            id: text("id"),
            owner: text("owner"),
            risk: text("risk"),
        };
        if !all
            .iter()
            .any(|known| known.id.eq_ignore_ascii_case(&one.id))
        {
            all.push(one);
        }
    }
    let whole = all.iter().filter(|h| h.lacks().is_empty()).count();
    let check = Check::new("hypotheses", "hypotheses with id, owner and risk")
        .expected(format!("at least {}", plan.min_hypotheses))
        .evidence(&file);
    if whole >= plan.min_hypotheses {
        return Ok((whole, check.pass(whole.to_string())));
    }
    let lacking = all.iter().find(|h| !h.lacks().is_empty());
    let actual = match (&log, lacking) {
        (None, _) if all.is_empty() => format!("there is no `{file}`"),
        (_, Some(one)) => format!("{whole}; `{}` has no {}", one.id, one.lacks().join(", no ")),
        _ => whole.to_string(),
    };
    let remedy = format!("write them to {file} as a table: | id | hypothesis | owner | risk |");
    Ok((whole, check.fail(actual, remedy)))
}

#[cfg(test)]
#[path = "baseline_tests.rs"]
mod tests;
