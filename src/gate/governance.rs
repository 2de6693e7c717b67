//! Gate 4, governance and communication: documents that are complete, signed, and given to those they are for.
//!
//! In: a [`Setting`]. Out: the score, the mean completeness of the listed documents; approvals; audiences.

use serde_json::json;

use super::approvals::{approvals, audiences};
use super::check::{Check, percent};
use super::completeness;
use super::documents::{BadInput, named_json};
use super::result::{GateResult, Part, Score};
use super::waiver::Waivers;
use super::{Gate, Setting};

pub(super) fn ask(setting: &Setting) -> Result<GateResult, BadInput> {
    let plan = &setting.config.own.governance;
    let mut checks = Vec::new();
    let mut shares = Vec::new();
    for document in &plan.documents {
        let (check, share) = document_check(setting, document)?;
        checks.push(check);
        shares.push(share);
    }
    let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
    let parts = vec![Part {
        id: "documents",
        score: (!shares.is_empty()).then_some(mean),
        weight: 1.0,
    }];
    let score = Score::of(parts, plan.completeness.0);
    checks.push(score_check(score.as_ref(), plan.completeness.0));
    let (approved, approval_checks) = approval_checks(setting)?;
    checks.extend(approval_checks);
    let (given, audience_check) = audience_check(setting)?;
    checks.push(audience_check);
    let waivers = Waivers::read(
        &setting.documents,
        Gate::Governance,
        setting.edition,
        setting.now,
    )?;
    Ok(GateResult {
        score,
        waivers: waivers.into_uses(),
        figures: vec![("approvals", json!(approved)), ("audiences", json!(given))],
        ..GateResult::new(Gate::Governance, setting, checks)
    })
}

fn document_check(
    setting: &Setting,
    document: &super::config::Document,
) -> Result<(Check, f64), BadInput> {
    let name = &document.path;
    let sections: Vec<String> = document.sections.iter().map(|s| s.0.clone()).collect();
    let check = Check::new(format!("document:{name}"), format!("document `{name}`"))
        .of_score()
        .expected(match sections.len() {
            0 => "there, every section says something, no placeholder left".to_owned(),
            n => format!("there, {n} required sections say something, no placeholder left"),
        })
        .evidence(setting.documents.shown(name));
    let Some(found) = completeness::of(&setting.documents, name, &sections)? else {
        let shown = setting.documents.shown(name);
        let actual = format!("there is no `{shown}`");
        return Ok((check.fail(actual, format!("write {shown}")), 0.0));
    };
    let share = found.share();
    let actual = format!("{} complete", percent(share));
    if found.faults.is_empty() {
        return Ok((check.pass(actual), share));
    }
    let mut faults = found.faults.clone();
    faults.truncate(5);
    if found.faults.len() > faults.len() {
        faults.push(format!("and {} more", found.faults.len() - faults.len()));
    }
    let remedy = format!(
        "fill in {}: {}",
        setting.documents.shown(name),
        faults.join("; ")
    );
    Ok((
        check.fail(format!("{actual}: {}", faults.join("; ")), remedy),
        share,
    ))
}

fn score_check(score: Option<&Score>, threshold: f64) -> Check {
    let check = Check::new("score", "documentation completeness")
        .expected(format!("at least {}", percent(threshold)));
    match score {
        None => check.fail(
            "no document is asked for",
            "list `governance.documents` in the gate config",
        ),
        Some(score) if score.is_reached() => check.pass(percent(score.value)),
        Some(score) => check.fail(
            percent(score.value),
            "complete the documents above; the emptiest gains most",
        ),
    }
}

/// How many approvals count, and a check per role.
fn approval_checks(setting: &Setting) -> Result<(usize, Vec<Check>), BadInput> {
    let plan = &setting.config.own.governance;
    let file = setting.documents.shown(&plan.approvals_file);
    let record = setting.documents.json(&plan.approvals_file)?;
    let found = record.as_ref().map(approvals).unwrap_or_default();
    let counting = found.iter().filter(|a| a.fault.is_none()).count();
    let new = |id: String, title: String| {
        Check::new(id, title)
            .expected("signed by name, with a date, and approved")
            .evidence(&file)
    };
    let remedy = |role: &str| {
        format!(
            "add {{\"role\": \"{role}\", \"name\": …, \"date\": \"YYYY-MM-DD\", \"status\": \"approved\"}} to `approvals` in {file}"
        )
    };
    let absent = match record {
        Some(_) => "not among the approvals".to_owned(),
        None => format!("there is no `{file}`"),
    };
    if plan.approvals.is_empty() {
        let check = new("approvals".into(), "approvals recorded".into());
        let fault = found.iter().find_map(|a| a.fault.as_deref());
        let check = match (counting, fault) {
            (0, Some(fault)) => check.fail(format!("none counts: {fault}"), remedy("…")),
            (0, None) => check.fail(absent, remedy("…")),
            (n, Some(fault)) => check.fail(format!("{n} of {}: {fault}", found.len()), remedy("…")),
            (n, None) => check.pass(format!("{n} recorded")),
        };
        return Ok((counting, vec![check]));
    }
    let role_check = |role: &super::config::Name| {
        let role = &role.0;
        let check = new(format!("approval:{role}"), format!("approval by `{role}`"));
        let mut of_role = found.iter().filter(|a| {
            a.role.trim().eq_ignore_ascii_case(role) || a.name.trim().eq_ignore_ascii_case(role)
        });
        match (of_role.clone().find(|a| a.fault.is_none()), of_role.next()) {
            (Some(approval), _) => check.pass(format!("signed by {}", approval.name)),
            (None, Some(approval)) => {
                let fault = approval.fault.as_deref().unwrap_or_default();
                check.fail(format!("does not count: {fault}"), remedy(role))
            }
            (None, None) => check.fail(absent.clone(), remedy(role)),
        }
    };
    Ok((counting, plan.approvals.iter().map(role_check).collect()))
}

fn audience_check(setting: &Setting) -> Result<(usize, Check), BadInput> {
    let plan = &setting.config.own.governance;
    let (file, record) = match &setting.given.report {
        Some(path) => (path.display().to_string(), named_json(path)?),
        None => (
            setting.documents.shown(&plan.distribution_file),
            setting.documents.json(&plan.distribution_file)?,
        ),
    };
    let names = record.as_ref().map(audiences).unwrap_or_default();
    let check = Check::new("audiences", "audiences that were given the report")
        .expected(format!("at least {}", plan.min_audiences))
        .evidence(&file);
    let check = match (names.len() >= plan.min_audiences, record) {
        (true, _) => check.pass(format!("{}: {}", names.len(), names.join(", "))),
        (false, record) => {
            let actual = match record {
                None => format!("there is no `{file}`"),
                Some(_) => format!("{}: {}", names.len(), names.join(", ")),
            };
            let remedy = format!(
                "send the report, and record {{\"audience\": …, \"sent_at\": \"YYYY-MM-DD\"}} under `distribution` in {file}"
            );
            check.fail(actual.trim_end_matches([':', ' ']).to_owned(), remedy)
        }
    };
    Ok((names.len(), check))
}

#[cfg(test)]
#[path = "governance_tests.rs"]
mod tests;
