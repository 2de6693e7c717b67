//! Sign-offs, and who was given the report: records that people or other tools keep as JSON.
//!
//! In: the record. Out: approvals that count, and audiences. What is not signed, not dated or not approved is none.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use super::completeness::is_placeholder;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Approval {
    pub role: String,
    pub name: String,
    /// Why it does not count.
    pub fault: Option<String>,
}

/// The list under the first of these keys that there is.
fn list<'a>(record: &'a Value, keys: &[&str]) -> &'a [Value] {
    if let Value::Array(list) = record {
        return list;
    }
    let found = keys.iter().find_map(|key| record[*key].as_array());
    found.map_or(&[], Vec::as_slice)
}

fn text<'a>(entry: &'a Value, keys: &[&str]) -> &'a str {
    let mut values = keys.iter().filter_map(|key| entry[*key].as_str());
    values
        .find(|value| !value.trim().is_empty())
        .unwrap_or_default()
}

/// The approvals of a record: `{"approvals": [{"role", "name", "date", "status"}]}`.
pub(super) fn approvals(record: &Value) -> Vec<Approval> {
    let entries = list(record, &["approvals", "sign_offs", "signoffs"]);
    entries.iter().map(approval).collect()
}

fn approval(entry: &Value) -> Approval {
    let name = text(entry, &["name", "approver", "approved_by", "signed_by"]);
    let date = text(entry, &["date", "approved_at", "signed_at", "timestamp"]);
    let status = text(entry, &["status", "decision"]);
    let fault = match () {
        () if is_placeholder(name) => Some("nobody has signed".to_owned()),
        () if !is_date(date) => Some("it has no date".to_owned()),
        () if !is_approval(status) => Some(format!("its status is `{status}`")),
        () => None,
    };
    Approval {
        role: text(entry, &["role", "team"]).to_owned(),
        name: name.to_owned(),
        fault,
    }
}

fn is_date(text: &str) -> bool {
    let text = text.trim();
    text.parse::<Timestamp>().is_ok() || text.len() == 10 && text.parse::<Date>().is_ok()
}

/// A signature without a status is one.
fn is_approval(status: &str) -> bool {
    let status = status.trim().to_ascii_lowercase();
    matches!(
        status.as_str(),
        "" | "approved" | "accepted" | "signed" | "signed-off" | "granted"
    )
}

/// Who was given the report, each once: `{"distribution": [{"audience", "sent_at"}]}`, or plain names.
pub(super) fn audiences(record: &Value) -> Vec<String> {
    let keys = [
        "distribution",
        "audiences",
        "recipients",
        "distributed_to",
        "stakeholders",
    ];
    let mut names: Vec<String> = Vec::new();
    for entry in list(record, &keys) {
        let name = match entry {
            Value::String(name) => name.as_str(),
            entry => text(entry, &["audience", "group", "name", "role"]),
        };
        let when = ["sent_at", "delivered_at", "date"];
        let is_pending =
            when.iter().any(|key| entry.get(*key).is_some()) && !is_date(text(entry, &when));
        let is_new = !names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name.trim()));
        if !is_placeholder(name) && !is_pending && is_new {
            names.push(name.trim().to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_signed_dated_and_granted_approvals_count() {
        let record = json!({"approvals": [
            {"role": "SRE lead", "name": "Ann", "date": "2026-05-01", "status": "Approved"},
            {"role": "Product owner", "approved_by": "Bob", "approved_at": "2026-05-01T10:00:00Z"},
            {"role": "Security", "name": "", "date": "2026-05-01"},
            {"role": "QA", "name": "Eve", "date": "soon"},
            {"role": "Legal", "name": "Joe", "date": "2026-05-01", "status": "rejected"},
            7,
        ]});
        let faults: Vec<bool> = approvals(&record)
            .iter()
            .map(|a| a.fault.is_some())
            .collect();
        assert_eq!(faults, [false, false, true, true, true, true]);
        assert!(approvals(&json!({})).is_empty());
    }

    #[test]
    fn an_audience_counts_once_and_only_when_it_has_the_report() {
        let record = json!({"distribution": [
            "SRE", "sre ", {"audience": "Product", "sent_at": "2026-05-02"}, {"audience": "Support", "sent_at": null},
            {"group": "Finance"}, "TBD", 3,
        ]});
        assert_eq!(audiences(&record), ["SRE", "Product", "Finance"]);
        assert_eq!(audiences(&json!(["a", "b"])), ["a", "b"]);
    }
}
