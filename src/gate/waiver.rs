//! `gate-waivers.json`: what may be missing for a while, because somebody said why and until when.
//!
//! In: the document, and today. Out: the waivers that hold, and of each what became of it. A waiver never excuses what
//! is there and bad, only what is not there.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::documents::{BadInput, Documents, expect_schema};
use super::{Edition, Gate};

pub const SCHEMA: &str = "perfprof.waivers";
pub const SCHEMA_VERSION: u64 = 1;
pub(super) const FILE: &str = "gate-waivers.json";
/// Nobody reads more.
const MAX_WAIVERS: usize = 1000;

/// What is excused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Service,
    Scenario,
    Kpi,
}

impl Scope {
    fn id(self) -> &'static str {
        match self {
            Scope::Service => "service",
            Scope::Scenario => "scenario",
            Scope::Kpi => "kpi",
        }
    }
}

/// As written. Older waivers spell some keys in other ways.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    gate: Value,
    scope: String,
    name: String,
    service: String,
    scenario: String,
    kpi: String,
    #[serde(alias = "reason")]
    justification: String,
    #[serde(alias = "approved_by")]
    approver: String,
    #[serde(alias = "expiry", alias = "expiration", alias = "expires_at")]
    expires: String,
}

/// A waiver and what became of it, for the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaiverUse {
    pub scope: String,
    pub name: String,
    pub justification: String,
    pub approver: String,
    pub expires: String,
    /// Whether it holds.
    pub accepted: bool,
    /// Whether it excused something.
    pub applied: bool,
    /// Why it does not count, or what it excused.
    pub note: String,
}

/// Those that concern one gate.
#[derive(Clone, Debug, Default)]
pub(super) struct Waivers {
    uses: Vec<WaiverUse>,
}

impl Waivers {
    pub fn read(
        documents: &Documents,
        gate: Gate,
        edition: Edition,
        now: Timestamp,
    ) -> Result<Waivers, BadInput> {
        let Some(document) = documents.json(FILE)? else {
            return Ok(Waivers::default());
        };
        let path = documents.path(FILE);
        let bad = |at: &str, message: &str| BadInput::of(&path, message).at(at);
        let list = match &document {
            Value::Array(list) => list,
            Value::Object(_) => {
                if document.get("schema").is_some() {
                    expect_schema(&path, &document, SCHEMA, SCHEMA_VERSION)?;
                }
                let list = document["waivers"].as_array();
                list.ok_or_else(|| bad("`waivers`", "is no list of waivers"))?
            }
            _ => return Err(bad("line 1", "is neither a list of waivers nor an object")),
        };
        if list.len() > MAX_WAIVERS {
            return Err(bad("`waivers`", "has more than 1000 entries"));
        }
        let mut waivers = Waivers::default();
        for (index, value) in list.iter().enumerate() {
            let entry: Entry = serde_json::from_value(value.clone())
                .map_err(|error| bad(&format!("`waivers[{index}]`"), &error.to_string()))?;
            if entry.concerns(gate) {
                waivers.uses.push(entry.judged(gate, edition, now));
            }
        }
        Ok(waivers)
    }

    /// Whether a waiver that holds excuses `name`, which is missing. It is noted as used.
    pub fn excuse(&mut self, scope: Scope, name: &str) -> Option<&WaiverUse> {
        let found = self
            .uses
            .iter_mut()
            .find(|one| one.accepted && one.scope == scope.id() && one.name == name)?;
        found.applied = true;
        found.note = format!(
            "excuses the {} `{name}` until {}",
            scope.id(),
            found.expires
        );
        Some(found)
    }

    /// Why a waiver for `name` does not help, where there is one.
    pub fn refusal(&self, scope: Scope, name: &str) -> Option<&str> {
        let same = |one: &&WaiverUse| one.scope == scope.id() && one.name == name && !one.accepted;
        self.uses.iter().find(same).map(|one| one.note.as_str())
    }

    /// Says of those that hold for something nobody asks for that there is no such thing; a misspelt name is one.
    pub fn note_unknown(&mut self, scope: Scope, known: &[&str]) {
        let idle = |one: &&mut WaiverUse| {
            let names_it = one.scope == scope.id() && !known.contains(&one.name.as_str());
            names_it && one.accepted && !one.applied
        };
        for one in self.uses.iter_mut().filter(idle) {
            one.note = format!(
                "excuses nothing: no {} of that name is asked for ({})",
                scope.id(),
                match known {
                    [] => "none is".to_owned(),
                    known => known.join(", "),
                }
            );
        }
    }

    pub fn into_uses(self) -> Vec<WaiverUse> {
        self.uses
    }
}

impl Entry {
    /// One that names no gate is one for diagnostic coverage, which asks for scenarios and services.
    fn concerns(&self, gate: Gate) -> bool {
        let named = match &self.gate {
            Value::Null => return gate == Gate::Diagnostics,
            Value::String(text) if text.is_empty() => return gate == Gate::Diagnostics,
            Value::String(text) => Gate::of(text),
            Value::Number(number) => Gate::of(&number.to_string()),
            _ => None,
        };
        // One whose gate nobody knows is shown where it is looked for most.
        named == Some(gate) || named.is_none() && gate == Gate::Diagnostics
    }

    fn target(&self) -> (String, String) {
        for (scope, name) in [
            (Scope::Service, &self.service),
            (Scope::Scenario, &self.scenario),
            (Scope::Kpi, &self.kpi),
        ] {
            if !name.trim().is_empty() {
                return (scope.id().to_owned(), name.clone());
            }
        }
        (self.scope.trim().to_ascii_lowercase(), self.name.clone())
    }

    fn judged(self, gate: Gate, edition: Edition, now: Timestamp) -> WaiverUse {
        let (scope, name) = self.target();
        let fault = self.fault(gate, edition, now, &scope, &name);
        WaiverUse {
            accepted: fault.is_none(),
            applied: false,
            note: fault.unwrap_or_else(|| "holds; nothing had to be excused by it".into()),
            scope,
            name,
            justification: self.justification,
            approver: self.approver,
            expires: self.expires,
        }
    }

    /// Why it does not count.
    fn fault(
        &self,
        gate: Gate,
        edition: Edition,
        now: Timestamp,
        scope: &str,
        name: &str,
    ) -> Option<String> {
        if gate == Gate::Optimization && edition == Edition::Eighteen {
            return Some("does not count: edition 18 takes no waivers at gate 3".into());
        }
        let gate_named = match &self.gate {
            Value::Null => true,
            Value::String(text) => text.is_empty() || Gate::of(text).is_some(),
            Value::Number(number) => Gate::of(&number.to_string()).is_some(),
            _ => false,
        };
        if !gate_named {
            return Some(format!(
                "does not count: its `gate`, {}, is none",
                self.gate
            ));
        }
        let scopes = [Scope::Service, Scope::Scenario, Scope::Kpi];
        if !scopes.iter().any(|known| known.id() == scope) {
            return Some("does not count: its `scope` is neither service nor scenario".into());
        }
        let empty = |text: &str| text.trim().is_empty();
        if empty(name) {
            return Some("does not count: it names nothing (`name`)".into());
        }
        if empty(&self.justification) {
            return Some("does not count: it has no `justification`".into());
        }
        if empty(&self.approver) {
            return Some("does not count: it has no `approver`".into());
        }
        if empty(&self.expires) {
            return Some("does not count: it has no `expires`".into());
        }
        match end_of(&self.expires) {
            None => Some(format!(
                "does not count: `{}` is no date (2026-12-31, or 2026-12-31T18:00:00Z)",
                self.expires
            )),
            Some(end) if end <= now => Some(format!(
                "does not count: it expired on {}; have it renewed, or supply what is missing",
                self.expires
            )),
            Some(_) => None,
        }
    }
}

/// The moment from which it does not hold any more. A day holds to its end, in UTC.
fn end_of(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    // A date with anything behind it is no date.
    let date: Date = (text.len() == 10).then(|| text.parse().ok()).flatten()?;
    let next = date.checked_add(1.day()).ok()?;
    Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    const NOW: &str = "2026-06-15T12:00:00Z";

    fn of(document: &Value, gate: Gate, edition: Edition) -> Result<Waivers, BadInput> {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::write(dir.path().join(FILE), document.to_string()).expect("written");
        let now = NOW.parse().expect("a time");
        Waivers::read(&Documents::new(dir.path()), gate, edition, now)
    }

    fn good() -> Value {
        json!({"gate": "diagnostics", "scope": "scenario", "name": "peak", "justification": "no test environment",
               "approver": "sre-lead", "expires": "2026-06-15"})
    }

    fn note(changed: &[(&str, Value)]) -> String {
        let mut waiver = good();
        for (key, value) in changed {
            waiver[*key] = value.clone();
        }
        let document = json!({"schema": SCHEMA, "schema_version": 1, "waivers": [waiver]});
        let waivers = of(&document, Gate::Diagnostics, Edition::Eighteen).expect("a document");
        waivers.into_uses()[0].note.clone()
    }

    #[test]
    fn a_waiver_holds_to_the_end_of_its_day_and_is_named_when_used() {
        let mut waivers = of(&json!([good()]), Gate::Diagnostics, Edition::Eighteen).expect("read");
        assert!(waivers.excuse(Scope::Service, "peak").is_none());
        assert!(waivers.excuse(Scope::Scenario, "other").is_none());
        assert!(waivers.excuse(Scope::Scenario, "peak").is_some());
        let uses = waivers.into_uses();
        assert!(uses[0].accepted && uses[0].applied && uses[0].note.contains("`peak`"));
    }

    #[test]
    fn a_waiver_for_what_nobody_asks_for_says_so() {
        let mut waivers = of(&json!([good()]), Gate::Diagnostics, Edition::Eighteen).expect("read");
        waivers.note_unknown(Scope::Service, &[]);
        waivers.note_unknown(Scope::Scenario, &["peak", "search"]);
        assert!(waivers.uses[0].note.starts_with("holds"));
        waivers.note_unknown(Scope::Scenario, &["peek", "search"]);
        let note = &waivers.uses[0].note;
        assert!(
            note.contains("no scenario of that name") && note.contains("peek, search"),
            "{note}"
        );
    }

    #[test]
    fn a_bad_one_says_why_it_does_not_count() {
        for (key, value, words) in [
            ("expires", json!("2026-06-14"), "expired on 2026-06-14"),
            ("expires", json!(NOW), "expired"),
            ("expires", json!("next week"), "is no date"),
            ("expires", json!(""), "no `expires`"),
            ("approver", json!(" "), "no `approver`"),
            ("justification", json!(""), "no `justification`"),
            ("name", json!(""), "names nothing"),
            ("scope", json!("everything"), "`scope`"),
            ("gate", json!("gate-7"), "is none"),
        ] {
            let note = note(&[(key, value)]);
            assert!(
                note.contains(words) && note.starts_with("does not count"),
                "{note}"
            );
        }
        assert!(note(&[]).starts_with("holds"));
    }

    #[test]
    fn edition_18_takes_none_at_the_optimization_gate_and_14_does() {
        let mut waiver = good();
        waiver["gate"] = json!(3);
        waiver["scope"] = json!("kpi");
        for (edition, accepted) in [(Edition::Fourteen, true), (Edition::Eighteen, false)] {
            let waivers = of(&json!([waiver]), Gate::Optimization, edition).expect("read");
            assert_eq!(waivers.into_uses()[0].accepted, accepted);
        }
        let elsewhere = of(&json!([waiver]), Gate::Diagnostics, Edition::Fourteen);
        assert!(elsewhere.expect("read").into_uses().is_empty());
    }

    #[test]
    fn other_spellings_are_understood_and_other_shapes_refused() {
        let other = json!([{"service": "cart", "reason": "x", "approved_by": "y", "expiration": "2030-01-01T00:00:00Z"}]);
        let mut waivers = of(&other, Gate::Diagnostics, Edition::Eighteen).expect("read");
        assert!(waivers.excuse(Scope::Service, "cart").is_some());
        for bad in [
            json!(1),
            json!({"waivers": 1}),
            json!([{"name": 1}]),
            json!({"schema": "x", "waivers": []}),
        ] {
            of(&bad, Gate::Diagnostics, Edition::Eighteen).expect_err("no document of waivers");
        }
    }
}
