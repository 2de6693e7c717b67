//! The diagnostic gate on artifact roots whose score is known.

use super::*;
use crate::analysis::{Analysis, Thresholds, canned};
use crate::artifacts::{ArtifactRoot, Export, Extra, publish};
use crate::gate::{Config, Documents, Edition, Given, Outcome};
use crate::store::pprof;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const SVG: &str = "<svg width=\"1\"><rect/></svg>\n";

const YAML: &str = "
perfprof:
  services: [{name: cart, critical: true}, {name: db, critical: true}]
  diagnostics:
    scenarios:
      - {name: peak, weight: 3, concurrency: 64}
      - {name: search, weight: 1}
";

/// A root in which two services were recorded as well as can be.
struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    fn new() -> Root {
        let root = Root {
            dir: tempfile::tempdir().expect("temporary directory"),
        };
        for service in ["cart", "db"] {
            root.record(service);
        }
        root.edit("coverage.json", |document| {
            for entry in document["services"].as_array_mut().expect("a list") {
                trust(entry);
            }
        });
        let capacity = |service: &str| {
            json!({"service": service, "utilization": {"cores": {"p50": 1.0, "p95": 1.5, "max": 1.6}},
                "limit": {"cores": 2.0, "kind": "node_cpus"}, "throttling": {"applies": false, "share": null},
                "headroom": {"cores": 0.5}})
        };
        let services = json!([capacity("cart"), capacity("db")]);
        let schema = crate::capacity::SCHEMA;
        let version = crate::capacity::SCHEMA_VERSION;
        root.write(
            "capacity-analysis.json",
            &json!({"schema": schema, "schema_version": version, "services": services}),
        );
        root.write(
            "search.json",
            &json!({"scenario": "search", "throughput_per_second": 5.0, "error_rate": 0.0}),
        );
        root.peak(64, 0.01);
        root
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn record(&self, service: &str) {
        let profile = canned::named_server(service, ["serve", "walk"]);
        let root = ArtifactRoot::open(self.path()).expect("writable");
        let analysis = Analysis::of(&profile, &Thresholds::default());
        let export = |extension: &str, bytes: Vec<u8>| Export {
            extension: extension.into(),
            bytes,
        };
        let exports = [
            export("svg", SVG.into()),
            export("pb.gz", pprof::encode(&profile)),
        ];
        publish(&root, &profile, &analysis, Extra::default(), &exports, 1).expect("written");
    }

    fn peak(&self, concurrency: u64, error_rate: f64) {
        let peak = json!({"scenario": "peak", "throughput_per_second": 100.0, "peak_concurrency": concurrency,
            "error_rate": error_rate});
        self.write("load-test-results.json", &peak);
    }

    fn write(&self, name: &str, value: &Value) {
        fs::write(self.path().join(name), value.to_string()).expect("written");
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let text = fs::read_to_string(self.path().join(name)).expect("there");
        let mut value = serde_json::from_str(&text).expect("JSON");
        change(&mut value);
        self.write(name, &value);
    }

    fn graph(&self, service: &str) -> PathBuf {
        self.path()
            .join(format!("diagnostics/{service}-20231114T221320Z.svg"))
    }

    fn setting(&self, edition: Edition) -> Setting {
        let yaml = YAML.replace(
            "{name: search, weight: 1}",
            "{name: search, weight: 1, results: search.json}",
        );
        Setting {
            edition,
            config: Config::of("18.yaml", yaml.as_bytes()).expect("a config"),
            documents: Documents::new(self.path()),
            now: "2026-06-15T12:00:00Z".parse().expect("a time"),
            given: Given::default(),
        }
    }

    fn ask(&self) -> GateResult {
        ask(&self.setting(Edition::Eighteen)).expect("readable")
    }

    fn value(&self) -> f64 {
        self.ask().score.expect("a score").value
    }
}

/// The canned profile is judged by what it lacks; here it lacks nothing.
fn trust(entry: &mut Value) {
    entry["verdict"] = json!("trusted");
    for (_, metric) in entry["metrics"].as_object_mut().expect("metrics") {
        metric["ok"] = json!(true);
    }
}

fn close(actual: f64, expected: f64) {
    assert!(
        (actual - expected).abs() < 1e-9,
        "{actual} is not {expected}"
    );
}

fn first(result: &GateResult) -> String {
    result
        .obstacles()
        .first()
        .map_or_else(String::new, |c| c.actual.clone())
}

#[test]
fn everything_there_scores_one_and_passes() {
    let root = Root::new();
    let result = root.ask();
    assert_eq!(result.outcome(), Outcome::Pass, "{:#?}", result.checks);
    close(root.value(), 1.0);
    let schema = include_str!("../../schemas/gate-result.schema.json");
    let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let document = result.to_json();
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
    assert!(!validator.is_valid(&json!({"schema": "perfprof.gate-result"})));
}

#[test]
fn a_flame_graph_that_is_not_one_counts_for_nothing() {
    let cases: [(&str, &str); 5] = [
        ("gone", "is missing"),
        ("link", "is a link"),
        ("empty", "is empty"),
        ("text", "is not SVG"),
        ("torn", "not whole"),
    ];
    for (what, words) in cases {
        let root = Root::new();
        let path = root.graph("db");
        fs::remove_file(&path).expect("there");
        match what {
            "link" => symlink(root.graph("cart"), &path).expect("linked"),
            "empty" => fs::write(&path, "").expect("written"),
            "text" => fs::write(&path, "hello").expect("written"),
            "torn" => fs::write(&path, "<svg><rect/>").expect("written"),
            _ => {}
        }
        let result = root.ask();
        assert_eq!(result.outcome(), Outcome::Fail, "{what}");
        assert!(
            first(&result).contains("`db`") && first(&result).contains(words),
            "{}",
            first(&result)
        );
        close(root.value(), (0.5 + 1.0 + 1.0) / 3.0);
    }
}

#[test]
fn an_inconclusive_profile_counts_for_its_part_and_is_no_pass() {
    let root = Root::new();
    root.edit("coverage.json", |document| {
        let entry = &mut document["services"][1];
        entry["verdict"] = json!("inconclusive");
        entry["metrics"]["cpu_time"] = json!({"value": 0.76, "threshold": 0.95, "tolerance": 0.0, "gating": true,
            "ok": false, "remedy": "record longer"});
    });
    // 0.76 of 0.95 is 0.8.
    close(root.value(), (0.9 + 1.0 + 1.0) / 3.0);
    let result = root.ask();
    assert_eq!(
        result.outcome(),
        Outcome::Inconclusive,
        "{:#?}",
        result.checks
    );
    assert!(
        first(&result).contains("`cpu_time` is 76 %"),
        "{}",
        first(&result)
    );
    // Edition 14 asks for the score only.
    let fourteen = ask(&root.setting(Edition::Fourteen)).expect("readable");
    assert_eq!(fourteen.outcome(), Outcome::Pass);
    // Worse, it is not enough for the score; still nobody can tell.
    root.edit("coverage.json", |document| {
        document["services"][1]["metrics"]["cpu_time"]["value"] = json!(0.1);
    });
    let fourteen = ask(&root.setting(Edition::Fourteen)).expect("readable");
    assert_eq!(fourteen.outcome(), Outcome::Inconclusive);
}

#[test]
fn scenarios_count_by_weight_when_they_ran_as_asked() {
    let root = Root::new();
    for (concurrency, errors, words) in
        [(63, 0.0, "63 at once, of 64"), (64, 0.03, "error rate 3 %")]
    {
        root.peak(concurrency, errors);
        close(root.value(), (1.0 + 0.25 + 1.0) / 3.0);
        let result = root.ask();
        assert_eq!(result.outcome(), Outcome::Fail);
        assert!(first(&result).contains(words), "{}", first(&result));
    }
    fs::remove_file(root.path().join("load-test-results.json")).expect("there");
    assert!(first(&root.ask()).contains("there is no"));
}

#[test]
fn a_waiver_excuses_what_is_missing_until_it_expires() {
    let root = Root::new();
    fs::remove_file(root.path().join("load-test-results.json")).expect("there");
    let waiver = |scope: &str, name: &str, expires: &str| {
        let waiver = json!([{"scope": scope, "name": name, "justification": "j", "approver": "ann", "expires": expires}]);
        root.write("gate-waivers.json", &waiver);
    };
    waiver("scenario", "peak", "2026-06-15");
    let result = root.ask();
    assert_eq!(result.outcome(), Outcome::Pass, "{:#?}", result.checks);
    close(root.value(), 1.0);
    assert!(result.waivers[0].applied);
    waiver("scenario", "peak", "2026-06-14");
    let result = root.ask();
    assert_eq!(result.outcome(), Outcome::Fail);
    assert!(
        first(&result).contains("expired on 2026-06-14"),
        "{}",
        first(&result)
    );
    // What ran and failed is not missing.
    waiver("scenario", "peak", "2026-06-15");
    root.peak(1, 0.0);
    assert_eq!(root.ask().outcome(), Outcome::Fail);
    // A waived critical service is one less to be profiled.
    root.peak(64, 0.0);
    fs::remove_file(root.graph("db")).expect("there");
    waiver("service", "db", "2026-06-15");
    let result = root.ask();
    assert_eq!(result.outcome(), Outcome::Pass, "{:#?}", result.checks);
}

#[test]
fn damage_is_an_error_with_its_place_and_no_verdict() {
    for (name, words) in [
        ("coverage.json", "line 1, column"),
        ("capacity-analysis.json", "line 1, column"),
        ("gate-waivers.json", "line 1, column"),
        ("load-test-results.json", "line 1"),
    ] {
        let root = Root::new();
        fs::write(root.path().join(name), "{\"schema\": ").expect("written");
        let error = ask(&root.setting(Edition::Eighteen)).expect_err(name);
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(words), "{text}");
        let setting = root.setting(Edition::Eighteen);
        let result = GateResult::unreadable(Gate::Diagnostics, &setting, error);
        assert_eq!(result.outcome(), Outcome::Error);
    }
}

#[test]
fn without_a_config_what_was_recorded_counts() {
    let root = Root::new();
    let mut setting = root.setting(Edition::Eighteen);
    setting.config = Config::default();
    let result = ask(&setting).expect("readable");
    assert_eq!(result.outcome(), Outcome::Pass, "{:#?}", result.checks);
    assert!(result.notes[0].contains("names no services"));
    let empty = tempfile::tempdir().expect("temporary directory");
    setting.documents = Documents::new(empty.path());
    let result = ask(&setting).expect("readable");
    assert_eq!(result.outcome(), Outcome::Fail);
    close(result.score.as_ref().expect("a score").value, 0.0);
    assert!(
        result.obstacles()[0]
            .remedy
            .as_ref()
            .is_some_and(|r| r.contains("perfprof record"))
    );
}

#[test]
fn the_flame_graph_is_held_against_the_baselines() {
    let root = Root::new();
    let current = root.path().join("diagnostics/db-20231114T221320Z.pb.gz");
    let other = root.path().join("other.pb.gz");
    let profile = canned::named_server("db", ["serve", "elsewhere"]);
    fs::write(&other, pprof::encode(&profile)).expect("written");
    let mut setting = root.setting(Edition::Eighteen);
    let of = |setting: &Setting| {
        let result = ask(setting).expect("readable");
        let check = result
            .checks
            .iter()
            .find(|c| c.id == "variance:db")
            .cloned();
        (result.outcome(), check.expect("a check"))
    };
    setting.given.baselines = vec![(Some("db".into()), current)];
    let (outcome, same) = of(&setting);
    assert!(
        outcome == Outcome::Pass && same.status == Status::Pass && same.actual.starts_with("0 %")
    );
    setting.given.baselines = vec![(None, other)];
    let (outcome, differs) = of(&setting);
    assert_eq!(
        (outcome, differs.status),
        (Outcome::Pass, Status::Warn),
        "{differs:?}"
    );
    setting.config.own.diagnostics.on_variance = crate::gate::config::OnVariance::Fail;
    assert_eq!(of(&setting).0, Outcome::Fail);
    // Where chance alone gives more than the bound, nobody can tell.
    let plan = &mut setting.config.own.diagnostics;
    plan.max_flame_graph_variance = crate::gate::config::Share(1e-6);
    assert_eq!(of(&setting).0, Outcome::Inconclusive);
}

#[test]
fn too_few_critical_services_are_told_even_when_all_is_well() {
    let root = Root::new();
    let mut setting = root.setting(Edition::Eighteen);
    setting.config.own.services[1].critical = false;
    let result = ask(&setting).expect("readable");
    assert_eq!(result.outcome(), Outcome::Fail);
    assert!(
        first(&result).contains("names too few"),
        "{}",
        first(&result)
    );
}

#[test]
fn the_command_of_a_load_remedy_is_what_the_gate_accepts() {
    let root = Root::new();
    root.edit("load-test-results.json", |peak| {
        peak.as_object_mut()
            .expect("one")
            .remove("peak_concurrency");
    });
    fs::remove_file(root.path().join("search.json")).expect("was there");
    let result = root.ask();
    let remedy = |id: &str| {
        let check = result.checks.iter().find(|c| c.id == id).expect("a check");
        check.remedy.clone().expect("a remedy")
    };
    let shown = root.path().display();
    let stated = format!(
        "perfprof load-test FILE --scenario peak --concurrency 64 --service SERVICE --artifacts {shown}"
    );
    assert!(
        remedy("load:peak").contains(&stated),
        "{}",
        remedy("load:peak")
    );
    let brought =
        format!("perfprof load-test FILE --scenario search --service SERVICE --artifacts {shown}");
    assert!(
        remedy("load:search").contains(&brought),
        "{}",
        remedy("load:search")
    );
    // What that command writes.
    let of = |name: &str, peak: Option<u64>| json!({"scenario": name, "throughput_per_second": 5.0, "error_rate": 0.0, "peak_concurrency": peak});
    let both = json!({"schema": "perfprof.load-test", "schema_version": 1, "scenarios": [of("peak", Some(64)), of("search", None)]});
    root.write("load-test-results.json", &both);
    assert_eq!(
        root.ask().outcome(),
        Outcome::Pass,
        "{:#?}",
        root.ask().obstacles()
    );
}

#[test]
fn a_flame_graph_of_another_service_is_none() {
    let root = Root::new();
    let path = root.path().join("profiling-report.md");
    let report = fs::read_to_string(&path).expect("there");
    let swapped = report.replace("](diagnostics/cart-", "](diagnostics/db-");
    assert_ne!(report, swapped);
    fs::write(&path, swapped).expect("written");
    let result = root.ask();
    let check = result
        .checks
        .iter()
        .find(|c| c.id == "profiling:cart")
        .expect("a check");
    assert_eq!(check.status, Status::Fail);
    assert!(
        check.actual.contains("is another's: `diagnostics/db-"),
        "{}",
        check.actual
    );
}
