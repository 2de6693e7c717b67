//! `perfprof load-test`, `baseline` and `trend` as a user meets them: from the files that tools wrote to a verdict.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::recording::{exit, perfprof};

/// An artifact folder.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("artifacts")
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut perfprof = Command::new(perfprof());
        perfprof.args(command).arg("--artifacts").arg(self.root());
        perfprof
    }

    fn run(&self, command: &[&str]) -> Output {
        self.command(command).output().expect("perfprof can be run")
    }

    /// Runs and expects an exit code; what it printed to standard error.
    #[track_caller]
    fn ends(&self, command: &[&str], code: i32) -> String {
        let output = self.run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        said
    }

    fn document(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.root().join(name)).expect("written");
        serde_json::from_str(&text).expect("JSON")
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("writable");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// A load test that ended `days` days ago, added to the history as a nightly run does.
    #[track_caller]
    fn night(&self, days: i64, p95_ms: f64, rate: f64, code: i32) -> Value {
        let ended = Timestamp::now() - SignedDuration::from_hours(24 * days);
        let load = json!({
            "scenario": "checkout", "service": "api", "start": ended.to_string(), "throughput": rate,
            "latency": {"p95_ms": p95_ms}, "error_rate": 0.001,
        });
        let file = self.write("load.json", &load.to_string());
        let output = self.run(&[
            "trend",
            "--window",
            "7d",
            "--json",
            "--add",
            "--load-test",
            &file,
        ]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

fn fixture(name: &str) -> String {
    format!("{}/fixtures/load_tests/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn validate(schema: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("schemas")
        .join(schema);
    let schema = fs::read_to_string(path).expect("the schema");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn results_of_every_tool_accumulate_as_scenarios() {
    let folder = Folder::new();
    folder.ends(&["load-test", &fixture("k6-scenarios.json")], exit::SUCCESS);
    let pay = [
        "load-test",
        &fixture("k6-scenarios.json"),
        "--scenario",
        "pay",
        "--concurrency",
        "2",
    ];
    folder.ends(&pay, exit::SUCCESS);
    let said = folder.ends(&["load-test", &fixture("wrk-5s.txt")], exit::SUCCESS);
    assert!(said.contains("names no scenario"), "{said}");
    let history = fixture("locust_stats_history.csv");
    let locust = [
        "load-test",
        &fixture("locust_stats.csv"),
        &history,
        "--scenario",
        "locust",
        "--service",
        "api",
    ];
    folder.ends(&locust, exit::SUCCESS);
    for (file, scenario) in [
        ("jmeter.xml", "jmeter"),
        ("oha-5s.json", "oha"),
        ("hey-5s.txt", "hey"),
    ] {
        folder.ends(
            &[
                "load-test",
                &fixture(file),
                "--scenario",
                scenario,
                "--concurrency",
                "8",
            ],
            exit::SUCCESS,
        );
    }
    let document = folder.document("load-test-results.json");
    validate("load-test-results.schema.json", &document);
    let told: Vec<Value> = document["scenarios"]
        .as_array()
        .expect("scenarios")
        .iter()
        .map(|s| {
            json!([
                s["scenario"],
                s["tool"],
                s["peak_concurrency"],
                s["requests"]
            ])
        })
        .collect();
    let expected = json!([
        ["browse", "k6", null, 253],
        ["pay", "k6", 2, 170],
        ["default", "wrk", 8, 65264],
        ["locust", "locust", 4, 99],
        ["jmeter", "jmeter", 8, 10],
        ["oha", "oha", 8, 1001],
        ["hey", "hey", 8, 1975],
    ]);
    assert_eq!(json!(told), expected);
    let locust = &document["scenarios"][3];
    assert_eq!(
        (&locust["service"], &locust["source"]["file"]),
        (&json!("api"), &json!("locust_stats.csv"))
    );
}

#[test]
fn a_result_that_is_none_or_unclear_changes_nothing() {
    let folder = Folder::new();
    folder.ends(
        &["load-test", &fixture("oha-5s.json"), "--scenario", "a"],
        exit::SUCCESS,
    );
    let before = folder.document("load-test-results.json");
    let cut = fs::read_to_string(fixture("jmeter.xml")).expect("a fixture");
    let cut = folder.write("cut.xml", &cut[..cut.len() / 2]);
    let field = folder.write(
        "field.json",
        r#"{"scenarios": [{"scenario": "a", "throughput": 1, "errors": "few"}]}"#,
    );
    let absent = folder
        .0
        .path()
        .join("absent")
        .to_str()
        .expect("UTF-8")
        .to_owned();
    for (file, word) in [
        (&cut, "line 11: is no XML"),
        (&field, "`scenarios[0].errors`"),
        (&absent, "No such file"),
    ] {
        let said = folder.ends(&["load-test", file], exit::BAD_INPUT);
        assert!(said.contains(word), "{said}");
    }
    let two = ["load-test", &fixture("wrk-5s.txt"), &fixture("hey-5s.txt")];
    assert!(folder.ends(&two, exit::USAGE).contains("without a name"));
    let said = folder.ends(
        &[
            "load-test",
            &fixture("k6-scenarios.json"),
            "--scenario",
            "x",
        ],
        exit::USAGE,
    );
    assert!(said.contains("`browse`, `pay`"), "{said}");
    assert_eq!(folder.document("load-test-results.json"), before);
}

#[test]
fn a_baseline_is_saved_shown_and_added_to_the_history_once() {
    let folder = Folder::new();
    let said = folder.ends(&["baseline", "save"], exit::BAD_INPUT);
    assert!(said.contains("nothing measured"), "{said}");
    assert!(
        folder
            .ends(&["baseline", "show"], exit::BAD_INPUT)
            .contains("baseline save")
    );
    // A tool's own file under the name of perfprof's.
    fs::create_dir_all(folder.root()).expect("a folder");
    fs::copy(
        fixture("k6-handlesummary.json"),
        folder.root().join("load-test-results.json"),
    )
    .expect("copied");
    let profile = format!(
        "{}/fixtures/corpus/py-spy.folded",
        env!("CARGO_MANIFEST_DIR")
    );
    let save = [
        "baseline",
        "save",
        "--service",
        "api",
        "--profile",
        &profile,
        "--json",
    ];
    let output = folder.run(&save);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit::SUCCESS), "{said}");
    let document = folder.document("baseline-metrics.json");
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON"),
        document
    );
    validate("baseline-metrics.schema.json", &document);
    let metrics = document["metrics"].as_array().expect("metrics");
    let value = |service: &str, metric: &str| {
        let found = metrics
            .iter()
            .find(|m| m["service"] == service && m["metric"] == metric);
        found.map(|m| m["value"].clone())
    };
    assert_eq!(
        value("api", "p95_latency"),
        Some(json!(14.593_716_949_999_996))
    );
    assert_eq!(value("api", "peak_concurrency"), Some(json!(3.0)));
    let hot = metrics.iter().any(|m| {
        m["metric"]
            .as_str()
            .is_some_and(|m| m.starts_with("hot_path_share["))
    });
    assert!(hot, "{document:#}");
    let csv = fs::read_to_string(folder.root().join("baseline-metrics.csv")).expect("written");
    assert!(
        csv.starts_with("service,metric,value,unit,timestamp,source\n"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), metrics.len() + 1);

    let again = folder.ends(&["baseline", "save", "--service", "api"], exit::SUCCESS);
    assert!(again.contains("added 0 figures"), "{again}");
    let shown = folder.run(&["baseline", "show"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("`p95_latency`"));
    let damaged = folder.write(
        "bad.csv",
        "service,metric,value,unit,timestamp\na,b,x,ms,2026-01-01T00:00:00Z\n",
    );
    let said = folder.ends(&["baseline", "show", &damaged], exit::BAD_INPUT);
    assert!(said.contains("line 2: column 3 (`value`)"), "{said}");
}

#[test]
fn nights_make_a_trend_and_a_worse_one_is_a_regression() {
    let folder = Folder::new();
    assert!(
        folder
            .ends(&["trend"], exit::BAD_INPUT)
            .contains("no history")
    );
    // Older than the window; then three nights are too few for a verdict on the third.
    folder.night(14, 900.0, 10.0, exit::INCONCLUSIVE);
    for days in [5, 4, 3] {
        folder.night(days, 100.0, 50.0, exit::INCONCLUSIVE);
    }
    let good = folder.night(2, 110.0, 49.0, exit::SUCCESS);
    validate("trend.schema.json", &good);
    let metrics = good["metrics"].as_array().expect("metrics");
    let told: Vec<_> = metrics
        .iter()
        .map(|m| (m["metric"].as_str(), m["n"].as_u64()))
        .collect();
    let expected = [
        (Some("error_rate"), Some(3)),
        (Some("p95_latency"), Some(3)),
        (Some("throughput"), Some(3)),
    ];
    assert_eq!(told, expected);
    let bad = folder.night(1, 150.0, 49.0, exit::FAILED);
    assert_eq!(bad["verdict"], "regressed");
    let slow = folder.night(0, 105.0, 30.0, exit::FAILED);
    let verdicts: Vec<_> = slow["metrics"]
        .as_array()
        .expect("metrics")
        .iter()
        .map(|m| json!([m["metric"], m["verdict"]]))
        .collect();
    let expected = json!([
        ["error_rate", "steady"],
        ["p95_latency", "steady"],
        ["throughput", "regressed"]
    ]);
    assert_eq!(json!(verdicts), expected);
    let table = folder.run(&["trend"]);
    assert_eq!(table.status.code(), Some(exit::FAILED));
    assert!(String::from_utf8_lossy(&table.stdout).contains("regressed"));
}

#[test]
fn two_nightly_runs_at_once_and_one_that_is_killed_lose_nothing() {
    let folder = Folder::new();
    let start = |number: usize| {
        let figures = json!({"scenario": "s", "service": format!("svc{number}"), "throughput": 1.0, "start": "2026-01-01T00:00:00Z"});
        let file = folder.write(&format!("{number}.json"), &figures.to_string());
        let mut command = folder.command(&["baseline", "save", "--load-test", &file]);
        command
            .stderr(Stdio::null())
            .spawn()
            .expect("perfprof can be run")
    };
    fs::create_dir_all(folder.root()).expect("a folder");
    let mut runs: Vec<_> = (0..6).map(start).collect();
    // Wherever it is by now.
    runs[5].kill().expect("SIGKILL");
    for run in &mut runs[..5] {
        assert_eq!(run.wait().expect("it ends").code(), Some(exit::SUCCESS));
    }
    runs[5].wait().expect("it is gone");
    let document = folder.document("baseline-metrics.json");
    for number in 0..5 {
        let service = format!("svc{number}");
        let there = document["metrics"]
            .as_array()
            .expect("metrics")
            .iter()
            .any(|m| m["service"] == service.as_str());
        assert!(there, "{service}");
    }
    let said = folder.ends(&["trend"], exit::INCONCLUSIVE);
    for number in 0..5 {
        assert!(said.contains(&format!("`svc{number}`")), "{said}");
    }
}

#[test]
fn a_history_that_is_none_is_an_error_before_anything_is_replaced() {
    let folder = Folder::new();
    folder.ends(
        &["load-test", &fixture("oha-5s.json"), "--scenario", "a"],
        exit::SUCCESS,
    );
    folder.ends(&["baseline", "save"], exit::SUCCESS);
    let before = folder.document("baseline-metrics.json");
    let path = folder.root().join("history.sqlite3");
    let whole = fs::read(&path).expect("written");
    for bytes in [
        &whole[..whole.len() / 2],
        &b"precious notes of somebody"[..],
        b"",
    ] {
        fs::write(&path, bytes).expect("writable");
        folder.ends(
            &["load-test", &fixture("wrk-5s.txt"), "--scenario", "b"],
            exit::SUCCESS,
        );
        let said = folder.ends(&["baseline", "save"], exit::BAD_INPUT);
        assert!(
            said.contains("history.sqlite3") && said.contains("nothing of it was changed"),
            "{said}"
        );
        folder.ends(&["trend"], exit::BAD_INPUT);
        folder.ends(&["trend", "--add"], exit::BAD_INPUT);
        assert_eq!(fs::read(&path).expect("there"), bytes);
        assert_eq!(folder.document("baseline-metrics.json"), before);
    }
    folder.ends(&["baseline", "save", "--no-history"], exit::SUCCESS);
    let elsewhere = folder.write("mine.sqlite3", "no database");
    folder.ends(
        &["baseline", "save", "--history", &elsewhere],
        exit::BAD_INPUT,
    );
}
