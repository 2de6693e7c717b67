//! Gate 2, diagnostic coverage: profiles, load tests and capacity of the services that matter.
//!
//! In: a [`Setting`]. Out: the score, a weighted mean of three parts, and what it is made of. The gate passes when the
//! score reaches its threshold and enough critical services are profiled with flame graphs.

use serde_json::json;

use super::capacity;
use super::check::{Check, Status, percent};
use super::command;
use super::documents::BadInput;
use super::load;
use super::profiling::{self, Profiled, Profiles};
use super::result::{GateResult, Part, Score};
use super::variance;
use super::waiver::{Scope, Waivers};
use super::{Gate, Setting};

pub(super) fn ask(setting: &Setting) -> Result<GateResult, BadInput> {
    let plan = &setting.config.own.diagnostics;
    let mut waivers = Waivers::read(
        &setting.documents,
        Gate::Diagnostics,
        setting.edition,
        setting.now,
    )?;
    let profiles = Profiles::read(setting)?;
    let (services, notes) = services(setting, &profiles);
    let profiled: Vec<Profiled> = services
        .iter()
        .map(|service| profiles.judge(setting, service, &mut waivers))
        .collect();
    let profiling = match services.is_empty() {
        true => nothing_recorded(setting),
        false => profiling::score(&profiled),
    };
    let load = load::score(setting, &mut waivers)?;
    let capacity = match services.is_empty() {
        true => load::Scored {
            score: Some(0.0),
            checks: Vec::new(),
        },
        false => capacity::score(setting, &services, &mut waivers)?,
    };
    let parts = vec![
        Part {
            id: "profiling",
            score: profiling.score,
            weight: plan.weights.profiling.0,
        },
        Part {
            id: "load",
            score: load.score,
            weight: plan.weights.load.0,
        },
        Part {
            id: "capacity",
            score: capacity.score,
            weight: plan.weights.capacity.0,
        },
    ];
    let score = Score::of(parts, plan.coverage.0);

    let mut checks = profiling.checks;
    checks.extend(load.checks);
    checks.extend(capacity.checks);
    checks.extend(critical_services(setting, &profiled));
    checks.extend(variance::checks(setting, &profiles, &services)?);
    checks.push(score_check(setting, score.as_ref(), &profiled));
    let scenarios = plan.scenarios.iter().map(|s| s.name.value.0.as_str());
    waivers.note_unknown(Scope::Scenario, &scenarios.collect::<Vec<_>>());
    let names: Vec<&str> = services.iter().map(String::as_str).collect();
    waivers.note_unknown(Scope::Service, &names);
    let alerts = checks.iter().filter(|c| c.status == Status::Warn).count();
    Ok(GateResult {
        score,
        notes,
        waivers: waivers.into_uses(),
        figures: vec![
            ("peak_concurrency", json!(load::peak_concurrency(setting)?)),
            ("services", json!(services.len())),
            ("regression_alerts", json!(alerts)),
        ],
        ..GateResult::new(Gate::Diagnostics, setting, checks)
    })
}

/// The services of the config, or those that were recorded, and a sentence that says so.
fn services(setting: &Setting, profiles: &Profiles) -> (Vec<String>, Vec<String>) {
    let own = &setting.config.own.services;
    if !own.is_empty() {
        let names = own.iter().map(|s| s.name.value.0.clone());
        return (names.collect(), Vec::new());
    }
    let recorded = profiles.recorded();
    let note = match recorded.len() {
        0 => "the config names no services, and none was recorded".to_owned(),
        n => format!(
            "the config names no services: the {n} that were recorded count, all as critical"
        ),
    };
    (recorded, vec![note])
}

fn nothing_recorded(setting: &Setting) -> load::Scored {
    let check = Check::new("profiling:any", "profiles")
        .of_score()
        .expected("at least one service recorded, with its flame graph")
        .evidence(setting.documents.shown("coverage.json"))
        .fail(
            "nothing was recorded",
            command::record("NAME", setting.documents.root()),
        );
    load::Scored {
        score: Some(0.0),
        checks: vec![check],
    }
}

/// Enough of the services that matter most. Those that are waived do not have to be there.
fn critical_services(setting: &Setting, profiled: &[Profiled]) -> Option<Check> {
    let least = setting.config.min_critical_services(setting.edition);
    if least == 0 {
        return None;
    }
    let critical: Vec<&Profiled> = profiled.iter().filter(|p| p.critical).collect();
    let count = |status| critical.iter().filter(|p| p.check.status == status).count();
    let waived = count(Status::Waived);
    let short = least.saturating_sub(critical.len() - waived);
    let needed = least - short.min(waived);
    let whole = critical.iter().filter(|p| p.is_whole()).count();
    let check = Check::new(
        "critical-services",
        "critical services profiled with flame graphs",
    )
    .expected(match needed == least {
        true => format!("at least {least}"),
        false => format!("at least {needed} ({least}, less what is waived)"),
    })
    .evidence(setting.documents.shown("profiling-report.md"));
    let actual = format!("{whole} of {} critical services", critical.len());
    if whole >= needed {
        return Some(check.pass(actual));
    }
    if critical.len() < least {
        let remedy = format!(
            "mark at least {least} services `critical: true` in {}, or set `min_critical_services`",
            config_file(setting)
        );
        return Some(check.fail(format!("{actual}; the config names too few"), remedy));
    }
    let lacking = critical
        .iter()
        .find(|p| !p.is_whole() && p.check.status != Status::Waived);
    let remedy = lacking
        .and_then(|p| p.check.remedy.clone())
        .unwrap_or_else(|| command::record("NAME", setting.documents.root()));
    let names: Vec<String> = critical
        .iter()
        .filter(|p| !p.is_whole())
        .map(|p| format!("`{}`", p.service))
        .collect();
    let actual = format!("{actual}; not {}", names.join(", "));
    // What was recorded and is not good enough to tell is no failure of anybody, and no pass.
    let status = match whole + count(Status::Inconclusive) >= needed {
        true => Status::Inconclusive,
        false => Status::Fail,
    };
    Some(check.found(status, actual).remedy(remedy))
}

fn score_check(setting: &Setting, score: Option<&Score>, profiled: &[Profiled]) -> Check {
    let threshold = setting.config.own.diagnostics.coverage.0;
    let check = Check::new("score", "diagnostic coverage score")
        .expected(format!("at least {threshold:.2}"))
        .evidence(setting.documents.root().display().to_string());
    let Some(score) = score else {
        let remedy = "waivers excuse everything that is asked for: name at least one service or scenario that is there";
        return check.fail("there is nothing to score", remedy);
    };
    let parts: Vec<String> = score.parts.iter().map(part_text).collect();
    let actual = format!("{} ({})", floor2(score.value), parts.join(", "));
    if score.is_reached() {
        return check.pass(actual);
    }
    // Profiles that are there and not good enough to tell are no failure, as long as nothing else is missing.
    let status = match at_best(score, profiled).is_reached() {
        true => Status::Inconclusive,
        false => Status::Fail,
    };
    check
        .found(status, actual)
        .remedy("do what stands beside each check that failed; the lowest part gains most")
}

/// The score if every inconclusive profile turned out to be good.
fn at_best(score: &Score, profiled: &[Profiled]) -> Score {
    let asked = profiled.iter().filter(|p| p.check.status != Status::Waived);
    let (mut best, mut count) = (0.0, 0);
    for one in asked {
        count += 1;
        best += match one.check.status {
            Status::Inconclusive => 1.0,
            _ => one.part,
        };
    }
    let mut parts = score.parts.clone();
    if count > 0 {
        parts[0].score = Some(best / f64::from(count));
    }
    Score::of(parts, score.threshold).unwrap_or_else(|| score.clone())
}

fn part_text(part: &Part) -> String {
    match part.score {
        Some(score) => format!("{} {}", part.id, percent(score)),
        None => format!("{} waived", part.id),
    }
}

/// Two digits, not rounded up to a threshold that was missed.
fn floor2(value: f64) -> String {
    format!("{:.2}", ((value + 1e-9) * 100.0).floor() / 100.0)
}

pub(super) fn config_file(setting: &Setting) -> String {
    let number = setting.edition.number();
    let file = setting.config.file.clone();
    file.unwrap_or_else(|| format!("a gate config (`perfprof init --edition {number}`)"))
}

#[cfg(test)]
#[path = "diagnostics_tests.rs"]
mod tests;
