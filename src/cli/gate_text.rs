//! A gate's verdict for people: first what stands in the way and what to do, then every check.
//!
//! Some runners keep only the first few hundred characters of what is printed, so the order matters. Names come from
//! configs and documents, and are shown harmlessly.

use crate::gate::{Check, Gate, GateResult, Outcome, Status};
use crate::render::escape::visible;

/// Further obstacles that are named before the list of checks.
const MAX_OTHERS: usize = 8;

pub(super) fn of(results: &[GateResult], said: &str) -> String {
    let mut out = String::new();
    for result in results {
        head(&mut out, result);
        out.push('\n');
    }
    out.push_str(&format!("{}\n", visible(said)));
    for result in results {
        out.push('\n');
        details(&mut out, result, results.len() > 1);
    }
    out
}

fn head(out: &mut String, result: &GateResult) {
    let word = match result.outcome() {
        Outcome::Pass => "PASS",
        Outcome::Fail => "FAIL",
        Outcome::Inconclusive => "INCONCLUSIVE",
        Outcome::Error => "ERROR, no verdict",
    };
    let gate = result.gate;
    out.push_str(&format!(
        "gate {} {} ({}): {word}",
        gate.number(),
        gate.id(),
        gate.title()
    ));
    if let Some(score) = &result.score {
        let value = ((score.value + 1e-9) * 100.0).floor() / 100.0;
        out.push_str(&format!(
            ", score {value:.2} of at least {:.2}",
            score.threshold
        ));
    }
    out.push('\n');
    // What a pass does not rest on is part of it.
    if gate == Gate::Optimization {
        result
            .notes
            .iter()
            .for_each(|note| line(out, "  note: ", note));
    }
    let obstacles = result.obstacles();
    let Some((first, others)) = obstacles.split_first() else {
        passed(out, result);
        return;
    };
    line(
        out,
        "  why: ",
        &format!("{}: {}", first.title, first.actual),
    );
    if let Some(remedy) = &first.remedy {
        line(out, "  do:  ", remedy);
    }
    let others: Vec<&&Check> = others.iter().filter(|c| c.id != "score").collect();
    for other in others.iter().take(MAX_OTHERS) {
        line(
            out,
            "  also: ",
            &format!("{}: {}", other.title, other.actual),
        );
    }
    if others.len() > MAX_OTHERS {
        out.push_str(&format!(
            "  and {} more, see below\n",
            others.len() - MAX_OTHERS
        ));
    }
    waivers(out, result);
}

fn passed(out: &mut String, result: &GateResult) {
    let open = result
        .checks
        .iter()
        .filter(|c| matches!(c.status, Status::Warn | Status::Fail | Status::Inconclusive));
    for check in open.take(MAX_OTHERS) {
        line(
            out,
            "  note: ",
            &format!("{}: {}", check.title, check.actual),
        );
    }
    waivers(out, result);
}

fn waivers(out: &mut String, result: &GateResult) {
    for waiver in &result.waivers {
        let by = match waiver.applied {
            true => format!(
                " (approved by {}: {})",
                waiver.approver, waiver.justification
            ),
            false => String::new(),
        };
        let text = format!("{} `{}` {}{by}", waiver.scope, waiver.name, waiver.note);
        line(out, "  waiver: ", text.trim());
    }
}

fn details(out: &mut String, result: &GateResult, several: bool) {
    match several {
        true => out.push_str(&format!(
            "checks of gate {} {}\n",
            result.gate.number(),
            result.gate.id()
        )),
        false => out.push_str("checks\n"),
    }
    for note in &result.notes {
        line(out, "  note: ", note);
    }
    for check in &result.checks {
        let mark = match check.status {
            Status::Pass => "pass",
            Status::Fail => "FAIL",
            Status::Warn => "warn",
            Status::Waived => "waived",
            Status::Inconclusive => "INCONCLUSIVE",
            Status::NotApplicable => "not applicable",
        };
        line(out, &format!("  [{mark}] "), &check.title);
        line(out, "      expected: ", &check.expected);
        line(out, "      actual:   ", &check.actual);
        if let Some(evidence) = &check.evidence {
            line(out, "      evidence: ", evidence);
        }
        if let Some(remedy) = &check.remedy {
            line(out, "      remedy:   ", remedy);
        }
    }
    let text = result.checks.iter().filter_map(|c| c.remedy.as_deref());
    if text.into_iter().any(|remedy| remedy.contains("--pid PID")) {
        out.push_str(
            "  PID is the service's process: pidof NAME, or systemctl show -P MainPID NAME\n\
             \x20 record while the load test runs; a recording measures the capacity, too\n",
        );
    }
}

fn line(out: &mut String, label: &str, text: &str) {
    out.push_str(label);
    out.push_str(&visible(text));
    out.push('\n');
}
