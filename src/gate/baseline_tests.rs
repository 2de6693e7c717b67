//! The baseline gate on baselines whose completeness is known.

use super::*;
use crate::gate::{Config, Documents, Edition, Given, Outcome};
use std::fs;
use std::path::Path;

const YAML: &str = "
perfprof:
  services: [{name: cart}, {name: db, required_metrics: [cpu_cores_p95]}]
  baseline: {required_metrics: [throughput, p95_latency, error_rate], max_age_hours: 6}
";

const LOG: &str = "| id | hypothesis | owner | risk |\n|---|---|---|---|\n| H1 | a | ann | low |\n| H2 | b | bob | low |\n| H3 | c | eve | high |\n";

fn setting(root: &Path) -> Setting {
    Setting {
        edition: Edition::Eighteen,
        config: Config::of("18.yaml", YAML.as_bytes()).expect("a config"),
        documents: Documents::new(root),
        now: "2026-06-15T12:00:00Z".parse().expect("a time"),
        given: Given::default(),
    }
}

/// A complete baseline, five hours old.
fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let metric = |service: &str, metric: &str| json!({"service": service, "metric": metric, "value": 1.0, "unit": "x", "timestamp": "2026-06-15T07:00:00Z", "source": "k6"});
    let rows = [
        metric("cart", "throughput"),
        metric("cart", "p95_latency[checkout]"),
        metric("cart", "error_rate"),
        metric("db", "cpu_cores_p95"),
        metric("other", "throughput"),
    ];
    let document = json!({"schema": "perfprof.baseline", "schema_version": 1, "metrics": rows});
    fs::write(
        dir.path().join("baseline-metrics.json"),
        document.to_string(),
    )
    .expect("written");
    fs::write(dir.path().join("hypothesis-log.md"), LOG).expect("written");
    dir
}

fn edit(root: &Path, change: impl FnOnce(&mut Value)) {
    let path = root.join("baseline-metrics.json");
    let mut value = serde_json::from_str(&fs::read_to_string(&path).expect("there")).expect("JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("written");
}

fn first(result: &GateResult) -> String {
    let first = result
        .obstacles()
        .first()
        .map(|c| format!("{}: {}", c.title, c.actual));
    first.unwrap_or_default()
}

#[test]
fn a_complete_fresh_baseline_with_hypotheses_passes() {
    let dir = root();
    let result = ask(&setting(dir.path())).expect("readable");
    assert_eq!(result.outcome(), Outcome::Pass, "{:#?}", result.checks);
    assert_eq!(result.score.map(|score| score.value), Some(1.0));
    assert!(result.figures.contains(&("age_hours", json!(5.0))));
}

#[test]
fn what_is_missing_old_or_unowned_fails_for_its_own_reason() {
    let dir = root();
    edit(dir.path(), |document| {
        document["metrics"]
            .as_array_mut()
            .expect("a list")
            .remove(0);
    });
    let result = ask(&setting(dir.path())).expect("readable");
    assert_eq!(result.outcome(), Outcome::Fail);
    assert!(
        first(&result).contains("without throughput"),
        "{}",
        first(&result)
    );
    assert_eq!(result.score.map(|score| score.value), Some(0.75));

    let dir = root();
    edit(dir.path(), |document| {
        document["metrics"][1]["timestamp"] = json!("2026-06-15T05:59:00Z")
    });
    let result = ask(&setting(dir.path())).expect("readable");
    assert!(
        first(&result).contains("age of the baseline: 6.0 hours"),
        "{}",
        first(&result)
    );
    // What nobody asks for may be as old as it likes.
    let dir = root();
    edit(dir.path(), |document| {
        document["metrics"][4]["timestamp"] = json!("2020-01-01T00:00:00Z")
    });
    assert_eq!(
        ask(&setting(dir.path())).expect("readable").outcome(),
        Outcome::Pass
    );

    let dir = root();
    fs::write(dir.path().join("hypothesis-log.md"), LOG.replace("bob", "")).expect("written");
    let result = ask(&setting(dir.path())).expect("readable");
    assert!(
        first(&result).contains("2; `H2` has no owner"),
        "{}",
        first(&result)
    );

    let empty = tempfile::tempdir().expect("temporary directory");
    let result = ask(&setting(empty.path())).expect("readable");
    assert_eq!(result.outcome(), Outcome::Fail);
    assert!(
        result.obstacles()[0]
            .remedy
            .as_ref()
            .is_some_and(|r| r.contains("perfprof baseline save"))
    );
}

#[test]
fn the_intake_report_is_asked_for_where_it_is_named() {
    let dir = root();
    let mut setting = setting(dir.path());
    setting.given.intake = Some(dir.path().join("intake.json"));
    assert!(first(&ask(&setting).expect("readable")).contains("intake"));
    fs::write(
        dir.path().join("intake.json"),
        r#"{"hypotheses": [{"id": "H4", "owner": "joe", "risk": "low"}]}"#,
    )
    .expect("written");
    fs::write(dir.path().join("hypothesis-log.md"), LOG.replace("bob", "")).expect("written");
    let result = ask(&setting).expect("readable");
    assert_eq!(
        result.outcome(),
        Outcome::Pass,
        "the fourth makes up for the second: {}",
        first(&result)
    );
    fs::write(dir.path().join("intake.json"), "{").expect("written");
    ask(&setting).expect_err("damaged");
}

#[test]
fn without_a_p95_of_wrk_it_is_said_that_wrk_has_none() {
    let dir = root();
    edit(dir.path(), |document| {
        document["metrics"][1]["metric"] = json!("p99_latency");
        document["metrics"][0]["source"] = json!("wrk.txt (wrk)");
    });
    let result = ask(&setting(dir.path())).expect("readable");
    let check = result
        .checks
        .iter()
        .find(|c| c.id == "baseline:cart")
        .expect("a check");
    let remedy = check.remedy.as_deref().unwrap_or_default();
    assert!(remedy.contains("wrk prints no 95th percentile"), "{remedy}");
    assert!(remedy.contains("`required_metrics` of `cart`"), "{remedy}");
    assert!(remedy.contains("--service cart"), "{remedy}");
}
