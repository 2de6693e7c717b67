//! `performance-comparison.json` as the gate reads it: what `perfprof compare` found, with its support by the data.
//!
//! In: the document. Out: changes with intervals and verdicts. A verdict that is none, or a change that is no number, is
//! an error with its place.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::KpiMetric;
use super::documents::{BadInput, expect_schema};
use super::load_change::{LoadChange, LoadChanges};
use crate::compare;

/// Where the comparison is that a validation report was made of: beside it.
pub(super) fn named_by_validation(path: &Path, document: &Value) -> Option<PathBuf> {
    if document["schema"] != compare::VALIDATION_SCHEMA {
        return None;
    }
    let name = Path::new(document["comparison"].as_str()?).file_name()?;
    Some(path.with_file_name(name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Improved,
    Regressed,
    Unchanged,
    Inconclusive,
}

/// From before to after, relative: -0.2 is a fifth less.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub name: String,
    pub direction: Direction,
    /// `None` for what was not there before.
    pub change: Option<f64>,
    /// Of 95 %.
    pub interval: Option<(f64, f64)>,
    pub after: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    pub direction: Direction,
    pub reason: String,
    pub measure: String,
    pub unit: String,
    pub total: Option<Change>,
    pub functions: Vec<Change>,
    /// Where the comparison was given load tests.
    pub load: Option<LoadChanges>,
}

impl Comparison {
    pub fn of(path: &Path, document: &Value) -> Result<Comparison, BadInput> {
        let reader = Reader { path };
        expect_schema(path, document, compare::SCHEMA, compare::SCHEMA_VERSION)?;
        let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        let functions = match &document["functions"] {
            Value::Null => &[][..],
            Value::Array(functions) => functions,
            _ => return Err(BadInput::of(path, "is no list").at("`functions`")),
        };
        let function = |(index, value): (usize, &Value)| {
            let at = format!("functions[{index}]");
            let name = value["name"].as_str();
            let name =
                name.ok_or_else(|| BadInput::of(path, "is no text").at(format!("`{at}.name`")))?;
            reader.change(name, &at, value)
        };
        let total = match &document["total"] {
            Value::Null => None,
            total => Some(reader.change("the whole service", "total", total)?),
        };
        Ok(Comparison {
            direction: reader.direction("verdict", &document["verdict"])?,
            reason: text("reason"),
            measure: text("measure"),
            unit: text("unit"),
            total,
            functions: functions
                .iter()
                .enumerate()
                .map(function)
                .collect::<Result<_, _>>()?,
            load: reader.load(&document["kpis"])?,
        })
    }

    /// A function by its name, or by a part of it that only one has.
    pub fn function(&self, name: &str) -> Option<&Change> {
        if let Some(exact) = self.functions.iter().find(|f| f.name == name) {
            return Some(exact);
        }
        let mut partly = self.functions.iter().filter(|f| f.name.contains(name));
        match (partly.next(), partly.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }
}

struct Reader<'a> {
    path: &'a Path,
}

impl Reader<'_> {
    fn direction(&self, at: &str, value: &Value) -> Result<Direction, BadInput> {
        match value.as_str() {
            Some("improved") => Ok(Direction::Improved),
            Some("regressed") => Ok(Direction::Regressed),
            Some("unchanged") => Ok(Direction::Unchanged),
            Some("inconclusive") => Ok(Direction::Inconclusive),
            _ => {
                let message =
                    format!("is {value}: neither improved, regressed, unchanged nor inconclusive");
                Err(BadInput::of(self.path, message).at(format!("`{at}`")))
            }
        }
    }

    fn number(&self, at: String, value: &Value) -> Result<Option<f64>, BadInput> {
        match value {
            Value::Null => Ok(None),
            Value::Number(number) => Ok(number.as_f64()),
            _ => Err(BadInput::of(self.path, "is no number").at(format!("`{at}`"))),
        }
    }

    fn change(&self, name: &str, at: &str, value: &Value) -> Result<Change, BadInput> {
        let number = |key: &str, value: &Value| self.number(format!("{at}.{key}"), value);
        let low = number("interval.low", &value["interval"]["low"])?;
        let high = number("interval.high", &value["interval"]["high"])?;
        Ok(Change {
            name: name.to_owned(),
            direction: self.direction(&format!("{at}.verdict"), &value["verdict"])?,
            change: number("change", &value["change"])?,
            interval: low.zip(high),
            after: number("after", &value["after"])?,
        })
    }

    /// What the comparison made of load tests, by the names of its KPIs.
    fn load(&self, kpis: &Value) -> Result<Option<LoadChanges>, BadInput> {
        let mut changes = Vec::new();
        for (index, kpi) in kpis.as_array().into_iter().flatten().enumerate() {
            let metric = match kpi["name"].as_str() {
                Some("p50_latency") => KpiMetric::LatencyP50,
                Some("p95_latency") => KpiMetric::LatencyP95,
                Some("p99_latency") => KpiMetric::LatencyP99,
                Some("throughput") => KpiMetric::Throughput,
                Some("error_rate") => KpiMetric::ErrorRate,
                _ => continue,
            };
            let number =
                |key: &str, value: &Value| self.number(format!("kpis[{index}].{key}"), value);
            let before = number("before", &kpi["before"])?;
            let after = number("after", &kpi["after"])?;
            let low = number("interval.low", &kpi["interval"]["low"])?;
            let high = number("interval.high", &kpi["interval"]["high"])?;
            let Some((before, after)) = before.zip(after) else {
                continue;
            };
            let is_relative = metric != KpiMetric::ErrorRate;
            let change = LoadChange {
                before,
                after,
                change: (before > 0.0).then(|| after / before - 1.0),
                // That of the error rate is in points.
                interval: low.zip(high).filter(|_| is_relative),
                runs: None,
            };
            changes.push((metric, change));
        }
        Ok((!changes.is_empty()).then(|| LoadChanges {
            scenario: "load test".into(),
            incomparable: None,
            changes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({"schema": "perfprof.comparison", "schema_version": 1, "verdict": "improved", "reason": "r",
            "measure": "cost", "unit": "ms",
            "total": {"before": 10.0, "after": 8.0, "change": -0.2, "interval": {"low": -0.25, "high": -0.15}, "verdict": "improved"},
            "kpis": [
                {"name": "cpu_cost", "before": 10.0, "after": 8.0, "change": -0.2, "interval": null, "verdict": "improved"},
                {"name": "p95_latency", "before": 100.0, "after": 130.0, "change": 0.3, "interval": null, "verdict": "inconclusive"},
                {"name": "error_rate", "before": 0.0, "after": 0.01, "change": 0.01, "interval": {"low": 0.0, "high": 0.02}, "verdict": "unchanged"},
            ],
            "functions": [{"name": "a::parse", "verdict": "regressed", "before": 0.0, "after": 1.0, "change": null, "interval": null}]})
    }

    fn of(document: &Value) -> Result<Comparison, String> {
        Comparison::of(Path::new("c.json"), document).map_err(|error| error.to_string())
    }

    #[test]
    fn changes_come_with_their_support() {
        let comparison = of(&document()).expect("a comparison");
        let total = comparison.total.as_ref().expect("a total");
        assert_eq!(
            (total.change, total.interval),
            (Some(-0.2), Some((-0.25, -0.15)))
        );
        let new = comparison.function("parse").expect("the only one");
        assert_eq!((new.change, new.direction), (None, Direction::Regressed));
        assert!(comparison.function("x").is_none());
        let load = comparison.load.expect("load tests");
        let p95 = load
            .of(KpiMetric::LatencyP95)
            .and_then(|c| c.change)
            .expect("relative");
        assert!((p95 - 0.3).abs() < 1e-12);
        assert_eq!(
            load.of(KpiMetric::ErrorRate)
                .map(|c| (c.change, c.interval)),
            Some((None, None))
        );
        assert_eq!(load.of(KpiMetric::Throughput), None);
    }

    #[test]
    fn a_validation_report_leads_to_the_comparison_beside_it() {
        let report = json!({"schema": compare::VALIDATION_SCHEMA, "schema_version": 1, "comparison": "../../etc/performance-comparison.json"});
        let found =
            named_by_validation(Path::new("a/optimization-validation-report.json"), &report);
        assert_eq!(found, Some("a/performance-comparison.json".into()));
        assert_eq!(
            named_by_validation(Path::new("a/b.json"), &document()),
            None
        );
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        for (pointer, value, words) in [
            ("/schema", json!("x"), "`schema`"),
            ("/schema_version", json!(2), "`schema_version`"),
            ("/verdict", json!("great"), "`verdict`: is \"great\""),
            (
                "/total/change",
                json!("-20 %"),
                "`total.change`: is no number",
            ),
            (
                "/functions/0/verdict",
                json!(null),
                "`functions[0].verdict`",
            ),
            ("/functions/0/name", json!(1), "`functions[0].name`"),
            ("/functions", json!({}), "`functions`: is no list"),
        ] {
            let mut bad = document();
            *bad.pointer_mut(pointer).expect("there") = value;
            let error = of(&bad).expect_err(pointer);
            assert!(error.contains(words), "{error}");
        }
    }
}
