//! The capacity part of the diagnostic gate: is it written down what each service uses of what it may use?
//!
//! In: `capacity-analysis.json`. Out: a check per service. Utilization percentiles, limit, throttling and headroom have
//! all to be there. A service without a limit of its own has the node's, and one without a quota cannot be throttled:
//! that is documented, too.

use serde_json::Value;

use super::Setting;
use super::check::{Check, Status};
use super::command;
use super::documents::BadInput;
use super::load::Scored;
use super::waiver::{Scope, Waivers};
use crate::capacity::{SCHEMA, SCHEMA_VERSION};

const FILE: &str = "capacity-analysis.json";

pub(super) fn score(
    setting: &Setting,
    services: &[String],
    waivers: &mut Waivers,
) -> Result<Scored, BadInput> {
    let entries = setting
        .documents
        .services(FILE, SCHEMA, SCHEMA_VERSION.into())?;
    let mut scored = Scored::default();
    let (mut documented, mut asked) = (0, 0);
    for service in services {
        let check = judge(setting, service, entries.as_deref(), waivers);
        if check.status != Status::Waived {
            asked += 1;
            documented += usize::from(check.status == Status::Pass);
        }
        scored.checks.push(check);
    }
    scored.score = (asked > 0).then(|| documented as f64 / asked as f64);
    Ok(scored)
}

fn judge(
    setting: &Setting,
    service: &str,
    entries: Option<&[Value]>,
    waivers: &mut Waivers,
) -> Check {
    let check = Check::new(
        format!("capacity:{service}"),
        format!("capacity of `{service}`"),
    )
    .of_score()
    .expected("utilization percentiles, limit, throttling and headroom, all documented")
    .evidence(setting.documents.shown(FILE));
    let remedy = command::capacity(service, setting.documents.root());
    let entry = entries
        .into_iter()
        .flatten()
        .find(|e| e["service"] == service);
    let Some(entry) = entry else {
        if let Some(waiver) = waivers.excuse(Scope::Service, service) {
            let actual = format!(
                "missing, waived by {} until {}",
                waiver.approver, waiver.expires
            );
            return check.found(Status::Waived, actual);
        }
        let actual = match entries {
            None => format!("there is no `{FILE}`"),
            Some(_) => "not measured".to_owned(),
        };
        return check.fail(actual, remedy);
    };
    let missing = missing(entry);
    if missing.is_empty() {
        return check.pass(summary(entry));
    }
    check.fail(format!("without {}", missing.join(", ")), remedy)
}

/// What is neither measured nor known not to apply.
fn missing(entry: &Value) -> Vec<&'static str> {
    let cores = &entry["utilization"]["cores"];
    let throttling = &entry["throttling"];
    let percentiles = ["p50", "p95", "max"].iter().all(|p| cores[*p].is_number());
    let limited = entry["limit"]["cores"].is_number() && entry["limit"]["kind"].is_string();
    let throttled = throttling["applies"] == false || throttling["share"].is_number();
    let headroom = entry["headroom"]["cores"].is_number();
    [
        (percentiles, "utilization percentiles"),
        (limited, "a limit"),
        (throttled, "throttling"),
        (headroom, "headroom"),
    ]
    .into_iter()
    .filter_map(|(there, name)| (!there).then_some(name))
    .collect()
}

fn summary(entry: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let kind = match entry["limit"]["kind"].as_str() {
        Some("quota") => "of a quota of",
        Some("allowed_cpus") => "of the allowed CPUs, ",
        _ => "without a limit of its own, of the node's",
    };
    let throttled = match entry["throttling"]["share"].as_f64() {
        Some(share) => format!("{} of periods throttled", super::check::percent(share)),
        None => "throttling does not apply".into(),
    };
    format!(
        "p95 {:.2} cores {kind} {:.2}, {throttled}, headroom {:.2} cores",
        number(&entry["utilization"]["cores"]["p95"]),
        number(&entry["limit"]["cores"]),
        number(&entry["headroom"]["cores"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry() -> Value {
        json!({
            "utilization": {"cores": {"mean": 1.0, "p50": 1.0, "p95": 1.5, "p99": null, "max": 1.6}},
            "limit": {"cores": 2.0, "kind": "node_cpus"},
            "throttling": {"applies": false, "share": null},
            "headroom": {"cores": 0.0},
        })
    }

    #[test]
    fn what_does_not_apply_is_documented_and_what_is_unknown_is_not() {
        assert!(missing(&entry()).is_empty());
        assert!(summary(&entry()).contains("throttling does not apply"));
        let mut quota = entry();
        quota["limit"]["kind"] = json!("quota");
        quota["throttling"] = json!({"applies": true, "share": null});
        assert_eq!(missing(&quota), ["throttling"]);
        quota["throttling"]["share"] = json!(0.25);
        assert!(missing(&quota).is_empty());
        assert!(summary(&quota).contains("25 % of periods throttled"));
        for (path, word) in [
            ("/utilization/cores/p95", "utilization percentiles"),
            ("/limit/cores", "a limit"),
            ("/headroom/cores", "headroom"),
        ] {
            let mut entry = entry();
            *entry.pointer_mut(path).expect("there") = Value::Null;
            assert_eq!(missing(&entry), [word]);
        }
        assert_eq!(missing(&json!({})).len(), 4);
    }
}
