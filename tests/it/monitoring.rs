//! The alerts and the dashboard in `deploy/` ask for metrics that perfprof has, in queries that Prometheus understands; each
//! alert fires in its situation and none in a healthy one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::workload::repository;
use crate::support::{Need, missing};

const PROMETHEUS: &str = "deploy/prometheus";
const ALERTS: &str = "deploy/prometheus/alerts.yml";
const ALERT_TESTS: &str = "deploy/prometheus/alerts_test.yml";
const DASHBOARD: &str = "deploy/grafana/perfprof.json";

fn read(file: &str) -> String {
    let path = repository().join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()))
}

/// What perfprof exports.
fn metrics() -> BTreeSet<String> {
    let names = perfprof::agent::metrics::NAMES.iter();
    names.map(|(name, ..)| name.to_string()).collect()
}

/// Names of perfprof's metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    let names = words.filter(|word| word.starts_with("perfprof_"));
    names.map(str::to_string).collect()
}

fn promtool(words: &[&str], folder: &Path) -> (bool, String) {
    let output = Command::new("promtool")
        .args(words)
        .current_dir(folder)
        .output();
    let output = output.expect("promtool can be run");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// The alerts' names and expressions.
fn alerts() -> Vec<(String, String)> {
    let alerts: Value = serde_saphyr::from_str(&read(ALERTS)).expect("YAML");
    let groups = alerts["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    let text = |value: &Value| value.as_str().expect("a text").to_string();
    rules
        .map(|rule| (text(&rule["alert"]), text(&rule["expr"])))
        .collect()
}

/// Panels that are not rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels.filter(|panel| panel["type"] != "row").collect()
}

fn queries(panel: &Value) -> Vec<&str> {
    let targets = panel["targets"]
        .as_array()
        .expect("a panel has queries")
        .iter();
    targets
        .map(|target| target["expr"].as_str().expect("a query"))
        .collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("JSON")
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    if missing(&[Need::Program("promtool")]) {
        return;
    }
    let folder = repository().join(PROMETHEUS);
    for words in [
        &["check", "rules", "alerts.yml"],
        &["test", "rules", "alerts_test.yml"],
    ] {
        let (accepted, said) = promtool(words, &folder);
        assert!(accepted, "{words:?}: {said}");
    }
    // The tests would notice other thresholds.
    let other = tempfile::tempdir().expect("a temporary folder can be made");
    fs::copy(
        repository().join(ALERT_TESTS),
        other.path().join("alerts_test.yml"),
    )
    .expect("copied");
    for (there, instead) in [
        ("> 1.2 * perfprof_budget", "> 12 * perfprof_budget"),
        ("> 300", "> 30000"),
        ("reason!=\"rotation\"", "reason=~\".*\""),
    ] {
        let alerts = read(ALERTS);
        assert!(alerts.contains(there), "{there}");
        fs::write(
            other.path().join("alerts.yml"),
            alerts.replace(there, instead),
        )
        .expect("written");
        let (accepted, _) = promtool(&["test", "rules", "alerts_test.yml"], other.path());
        assert!(!accepted, "`{instead}` goes unnoticed");
    }
}

#[test]
fn every_alert_is_seen_to_fire_in_a_test() {
    let tests: Value = serde_saphyr::from_str(&read(ALERT_TESTS)).expect("YAML");
    let tests = tests["tests"].as_array().expect("tests").iter();
    let expected = tests.flat_map(|test| test["alert_rule_test"].as_array().expect("a list"));
    let fires = |one: &&Value| {
        one["exp_alerts"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    };
    let firing: BTreeSet<&str> = expected
        .filter(fires)
        .filter_map(|one| one["alertname"].as_str())
        .collect();
    for (name, _) in alerts() {
        assert!(firing.contains(name.as_str()), "no test lets `{name}` fire");
    }
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist_and_every_metric_is_shown() {
    let known = metrics();
    let expressions: String = alerts().into_iter().map(|(_, expr)| expr + "\n").collect();
    let dashboard = dashboard();
    let shown: String = panels(&dashboard)
        .iter()
        .flat_map(|panel| queries(panel))
        .collect();
    for (where_, names) in [
        (ALERTS, metrics_in(&expressions)),
        (ALERTS, metrics_in(&read(ALERTS))),
        (ALERT_TESTS, metrics_in(&read(ALERT_TESTS))),
        (DASHBOARD, metrics_in(&dashboard.to_string())),
    ] {
        let unknown: Vec<_> = names.difference(&known).collect();
        assert!(unknown.is_empty(), "`{where_}` names {unknown:?}");
    }
    let hidden: Vec<_> = known.difference(&metrics_in(&shown)).cloned().collect();
    assert!(hidden.is_empty(), "the dashboard does not show {hidden:?}");
}

#[test]
fn queries_of_the_dashboard_are_understood_by_prometheus() {
    if missing(&[Need::Program("promtool")]) {
        return;
    }
    let dashboard = dashboard();
    let panels = panels(&dashboard);
    let queries = panels.iter().flat_map(|panel| queries(panel));
    // What Grafana would put in.
    let filled = queries.map(|query| {
        query
            .replace("$__rate_interval", "5m")
            .replace("\"$", "\"x")
    });
    let rules: Vec<Value> = filled
        .enumerate()
        .map(|(at, expr)| json!({ "record": format!("query:{at}"), "expr": expr }))
        .collect();
    assert!(rules.len() > 30, "{rules:?}");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let check = |rules: &[Value]| {
        let file = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
        fs::write(folder.path().join("rules.yml"), file.to_string()).expect("written");
        promtool(&["check", "rules", "rules.yml"], folder.path())
    };
    let (accepted, said) = check(&rules);
    assert!(accepted, "{said}");
    let broken = json!({ "record": "x", "expr": "rate(perfprof_samples_total)" });
    assert!(!check(&[broken]).0, "a rate without a range is accepted");
}

#[test]
fn the_dashboard_can_be_imported_anywhere() {
    let dashboard = dashboard();
    assert!(dashboard["id"].is_null(), "an ID is one installation's own");
    assert!(dashboard["schemaVersion"].as_u64() >= Some(39));
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    let names: Vec<&str> = variables
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names, ["datasource", "instance", "service"]);

    let mut numbers = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            numbers.insert(panel["id"].as_u64().expect("a number")),
            "{title}"
        );
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        assert!(
            side("x") + side("w") <= 24,
            "`{title}` is beyond the right edge"
        );
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "`{title}` lies over another");
            }
        }
    }
    for panel in panels(&dashboard) {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
    }
}
