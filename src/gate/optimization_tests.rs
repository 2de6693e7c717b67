//! The optimization gate on documents whose verdict is known.

use super::*;
use crate::capacity;
use crate::gate::{Config, Documents, Edition, Given, Outcome};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn setting(root: &Path, yaml: &str, edition: Edition) -> Setting {
    Setting {
        edition,
        config: Config::of("18.yaml", yaml.as_bytes()).expect("a config"),
        documents: Documents::new(root),
        now: "2026-06-15T12:00:00Z".parse().expect("a time"),
        given: Given::default(),
    }
}

fn comparison(change: f64, half_width: f64, verdict: &str) -> Value {
    let interval = json!({"low": change - half_width, "high": change + half_width});
    json!({"schema": "perfprof.comparison", "schema_version": 1, "service": "cart", "verdict": verdict,
        "reason": "too few samples", "measure": "cost", "unit": "ms per request",
        "total": {"before": 10.0, "after": 10.0 * (1.0 + change), "change": change, "interval": interval, "verdict": verdict},
        "functions": [{"name": "parse", "verdict": verdict, "before": 5.0, "after": 4.0, "change": change, "interval": interval}]})
}

fn load(p95: f64, throughput: f64, error_rate: f64) -> String {
    json!({"scenario": "peak", "throughput_per_second": throughput, "error_rate": error_rate,
        "latency_ms": {"p95": p95}})
    .to_string()
}

/// A root with a comparison.
fn root(document: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("performance-comparison.json");
    fs::write(path, document.to_string()).expect("written");
    dir
}

fn asked(setting: &Setting) -> GateResult {
    ask(setting).expect("readable")
}

#[test]
fn better_by_enough_passes_and_by_less_fails_and_unsurely_neither() {
    for (change, width, verdict, outcome) in [
        (-0.20, 0.03, "improved", Outcome::Pass),
        (-0.10, 0.03, "improved", Outcome::Fail),
        (0.0, 0.02, "unchanged", Outcome::Fail),
        (0.20, 0.03, "regressed", Outcome::Fail),
        (-0.20, 0.30, "inconclusive", Outcome::Inconclusive),
    ] {
        let dir = root(&comparison(change, width, verdict));
        let result = asked(&setting(dir.path(), "", Edition::Eighteen));
        assert_eq!(
            result.outcome(),
            outcome,
            "{change} {verdict}: {:#?}",
            result.checks
        );
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let nothing = asked(&setting(dir.path(), "", Edition::Eighteen));
    assert_eq!(nothing.outcome(), Outcome::Fail);
    assert!(
        nothing.checks[0]
            .remedy
            .as_ref()
            .is_some_and(|r| r.contains("perfprof compare"))
    );
}

#[test]
fn one_function_that_is_worse_is_a_regression() {
    let mut document = comparison(-0.20, 0.03, "improved");
    document["functions"][0] = json!({"name": "render", "verdict": "regressed", "before": 1.0, "after": 1.2,
        "change": 0.2, "interval": {"low": 0.1, "high": 0.3}});
    let dir = root(&document);
    let result = asked(&setting(dir.path(), "", Edition::Eighteen));
    assert_eq!(result.outcome(), Outcome::Fail);
    assert!(
        result.obstacles()[0].title.contains("`render`"),
        "{:?}",
        result.obstacles()
    );
    let tolerant = "perfprof: {optimization: {hot_path_tolerance: 0.25}}";
    let result = asked(&setting(dir.path(), tolerant, Edition::Eighteen));
    assert_eq!(result.outcome(), Outcome::Pass);
}

#[test]
fn load_tests_count_from_their_bounds_on() {
    let dir = root(&comparison(-0.20, 0.03, "improved"));
    let files = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let before = files("before.json", load(100.0, 1000.0, 0.0));
    for (after, failed) in [
        (load(119.0, 860.0, 0.049), None),
        (load(121.0, 1000.0, 0.0), Some("p95 latency")),
        (load(100.0, 840.0, 0.0), Some("throughput")),
        (load(100.0, 1000.0, 0.06), Some("error rate")),
    ] {
        let mut setting = setting(dir.path(), "", Edition::Eighteen);
        setting.given.before_load = vec![before.clone()];
        setting.given.after_load = vec![files("after.json", after)];
        let result = asked(&setting);
        let first = result.obstacles().first().map(|c| c.title.clone());
        match failed {
            None => assert_eq!(result.outcome(), Outcome::Pass, "{first:?}"),
            Some(what) => assert!(
                first.as_ref().is_some_and(|t| t.contains(what)),
                "{what}: {first:?}"
            ),
        }
    }
    let mut setting = setting(dir.path(), "", Edition::Eighteen);
    setting.given.before_load = vec!["/no/such/file".into()];
    ask(&setting).expect_err("a file that was named has to be there");
}

#[test]
fn a_kpi_of_a_load_test_needs_runs_that_show_their_spread() {
    let yaml =
        "perfprof: {optimization: {kpis: [{name: latency, metric: latency_p95, target: 90}]}}";
    let dir = root(&comparison(-0.20, 0.03, "improved"));
    let runs = |side: &str, values: &[f64]| {
        let mut paths = Vec::new();
        for (i, p95) in values.iter().enumerate() {
            let path = dir.path().join(format!("{side}-{i}.json"));
            fs::write(&path, load(*p95, 1000.0, 0.0)).expect("written");
            paths.push(path);
        }
        paths
    };
    let outcome = |before: &[f64], after: &[f64]| {
        let mut setting = setting(dir.path(), yaml, Edition::Eighteen);
        setting.given.before_load = runs("before", before);
        setting.given.after_load = runs("after", after);
        asked(&setting).outcome()
    };
    assert_eq!(
        outcome(&[100.0, 101.0, 99.0], &[80.0, 81.0, 79.0]),
        Outcome::Pass
    );
    assert_eq!(outcome(&[100.0], &[80.0]), Outcome::Inconclusive);
    assert_eq!(outcome(&[100.0], &[99.0]), Outcome::Fail);
    // Much better, and still above the target.
    assert_eq!(
        outcome(&[200.0, 201.0, 199.0], &[100.0, 101.0, 99.0]),
        Outcome::Fail
    );
}

#[test]
fn a_justification_excuses_a_small_gain_and_no_regression() {
    let good = "# Why\n\n- **Justification:** the rest is in the kernel\n- Mitigation: a cache\n- Approved by: Ann\n";
    assert_eq!(justification_fault(good), None);
    for (line, word) in [
        ("Justification", "Justification"),
        ("Mitigation", "Mitigation"),
        ("Approved by", "Approved"),
    ] {
        let without: String = good
            .lines()
            .filter(|l| !l.contains(line))
            .map(|l| format!("{l}\n"))
            .collect();
        assert!(justification_fault(&without).is_some_and(|f| f.contains(word)));
    }
    assert!(justification_fault(&good.replace("Ann", "TBD")).is_some());

    let justified = |document: &Value| {
        let dir = root(document);
        fs::write(dir.path().join("optimization-justification.md"), good).expect("written");
        asked(&setting(dir.path(), "", Edition::Eighteen)).outcome()
    };
    assert_eq!(
        justified(&comparison(-0.05, 0.02, "improved")),
        Outcome::Pass
    );
    assert_eq!(
        justified(&comparison(0.20, 0.02, "regressed")),
        Outcome::Fail
    );
    assert_eq!(
        justified(&comparison(-0.20, 0.30, "inconclusive")),
        Outcome::Inconclusive
    );
}

#[test]
fn waivers_help_in_edition_14_only() {
    let dir = root(&comparison(-0.05, 0.02, "improved"));
    let waiver = json!([{"gate": "optimization", "scope": "kpi", "name": "cost", "justification": "j", "approver": "a",
        "expires": "2026-12-31"}]);
    fs::write(dir.path().join("gate-waivers.json"), waiver.to_string()).expect("written");
    let of = |edition| asked(&setting(dir.path(), "", edition));
    assert_eq!(of(Edition::Fourteen).outcome(), Outcome::Pass);
    let eighteen = of(Edition::Eighteen);
    assert_eq!(eighteen.outcome(), Outcome::Fail);
    assert!(eighteen.waivers[0].note.contains("takes no waivers"));
}

#[test]
fn memory_is_held_against_that_of_before() {
    let dir = root(&comparison(-0.20, 0.03, "improved"));
    let capacity = |bytes: u64| {
        json!({"schema": capacity::SCHEMA, "schema_version": capacity::SCHEMA_VERSION,
            "services": [{"service": "cart", "memory": {"max_bytes": bytes}}]})
    };
    let before = dir.path().join("before-capacity.json");
    fs::write(&before, capacity(100 << 20).to_string()).expect("written");
    let yaml = format!(
        "perfprof: {{optimization: {{before_capacity: {}}}}}",
        before.display()
    );
    for (mib, outcome) in [(129, Outcome::Pass), (131, Outcome::Fail)] {
        let now = capacity(mib << 20).to_string();
        fs::write(dir.path().join("capacity-analysis.json"), now).expect("written");
        assert_eq!(
            asked(&setting(dir.path(), &yaml, Edition::Eighteen)).outcome(),
            outcome
        );
    }
    fs::remove_file(dir.path().join("capacity-analysis.json")).expect("there");
    assert_eq!(
        asked(&setting(dir.path(), &yaml, Edition::Eighteen)).outcome(),
        Outcome::Inconclusive
    );
}

#[test]
fn load_tests_of_another_load_are_not_comparable() {
    let dir = root(&comparison(-0.20, 0.03, "improved"));
    let file = |name: &str, scenario: &str, peak: u64| {
        let path = dir.path().join(name);
        let test = json!({"scenario": scenario, "throughput_per_second": 1000.0, "error_rate": 0.0,
            "peak_concurrency": peak, "latency_ms": {"p95": 100.0}});
        fs::write(&path, test.to_string()).expect("written");
        vec![path]
    };
    for (scenario, peak, reason) in [
        ("peak", 70, None),
        ("peak", 16, Some("64 at once before and 16 after")),
        (
            "other",
            64,
            Some("scenario `peak` before and `other` after"),
        ),
    ] {
        let mut setting = setting(dir.path(), "", Edition::Eighteen);
        setting.given.before_load = file("before.json", "peak", 64);
        setting.given.after_load = file("after.json", scenario, peak);
        let result = asked(&setting);
        match reason {
            None => {
                assert_eq!(result.outcome(), Outcome::Pass);
                let said = result
                    .checks
                    .iter()
                    .any(|c| c.actual.contains("n = 1 a side"));
                assert!(said, "{:#?}", result.checks);
            }
            Some(reason) => {
                assert_eq!(result.outcome(), Outcome::Inconclusive, "{reason}");
                assert!(
                    result.obstacles()[0].actual.contains(reason),
                    "{:?}",
                    result.obstacles()
                );
            }
        }
    }
}

#[test]
fn what_was_not_checked_is_said() {
    let dir = root(&comparison(-0.20, 0.03, "improved"));
    for (edition, status) in [
        (Edition::Fourteen, Status::NotApplicable),
        (Edition::Eighteen, Status::Warn),
    ] {
        let result = asked(&setting(dir.path(), "", edition));
        assert_eq!(result.outcome(), Outcome::Pass);
        let load = result.checks.iter().find(|c| c.id == "load-regressions");
        assert_eq!(load.map(|c| c.status), Some(status));
        assert_eq!(
            result.notes,
            [
                "not checked for regressions: p95 latency, throughput and error rate of load tests; memory of the services"
            ]
        );
    }
}
