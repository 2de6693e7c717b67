//! Gate 3, optimization validation: better by enough, and nothing worse.
//!
//! In: a [`Setting`]. Out: the KPIs, or the justification in their place; regressions of hot paths, load tests and
//! memory, of which there must be none; and whether there was enough data at all.

use std::path::PathBuf;

use serde_json::json;

use super::check::{Check, Status};
use super::command;
use super::comparison::{self, Comparison, Direction};
use super::completeness::is_placeholder;
use super::documents::{BadInput, named_json};
use super::kpi;
use super::load;
use super::load_change::{self, LoadChanges};
use super::regressions;
use super::result::GateResult;
use super::waiver::{Scope, Waivers};
use super::{Gate, Setting};

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
    let (file, document) = match document
        .as_ref()
        .and_then(|d| comparison::named_by_validation(&file, d))
    {
        Some(beside) => {
            let document = named_json(&beside)?;
            (beside, document)
        }
        None => (file, document),
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
    let (loads, alone) = load_changes(setting, &comparison)?;

    let mut checks = vec![comparison_check(&comparison, &shown)];
    let mut kpis: Vec<Check> = match plan.kpis.is_empty() {
        true => vec![kpi::default_check(setting, &comparison, &shown)],
        false => {
            let of = |k| kpi::check(setting, k, &comparison, &loads, &shown);
            plan.kpis.iter().map(of).collect()
        }
    };
    excuse(setting, &mut kpis, &mut waivers)?;
    checks.extend(kpis);
    let mut worse = regressions::of_hot_paths(setting, &comparison, &shown);
    worse.extend(regressions::of_load(setting, &loads, &alone));
    worse.extend(regressions::of_memory(setting)?);
    let count = worse.iter().filter(|c| c.status == Status::Fail).count();
    let unchecked = regressions::unchecked(&worse);
    checks.extend(worse);
    checks.push(count_check(count, &shown));
    Ok(GateResult {
        waivers: waivers.into_uses(),
        notes: unchecked.into_iter().collect(),
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

/// What load tests say: those that were named, else those of the comparison. Scenarios of one side only come second.
fn load_changes(
    setting: &Setting,
    comparison: &Comparison,
) -> Result<(Vec<LoadChanges>, Vec<String>), BadInput> {
    let plan = &setting.config.own.optimization;
    let named = |given: &[PathBuf], of_config: &[PathBuf]| {
        load::read_all(if given.is_empty() { of_config } else { given })
    };
    let before = named(&setting.given.before_load, &plan.before_load)?;
    let after = named(&setting.given.after_load, &plan.after_load)?;
    if before.is_empty() && after.is_empty() {
        return Ok((comparison.load.iter().cloned().collect(), Vec::new()));
    }
    Ok(load_change::between(&before, &after))
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
