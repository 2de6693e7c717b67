//! The diagnostic gate on real input, driven as the workflow's own runner drives it: two services under load, recorded
//! into one artifact root, pass at 0.90; spoilt in one way, they fail, each for its own reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::need::python_with_yaml;
use crate::support::recording::{exit, perfprof};
use crate::support::{Need, Nginx, Postgres, missing};

const ROOT: &str = ".artifacts/protocol-18";
const CONFIG: &str = "config/protocol_gates/18.yaml";

/// On a shared host a virtual CPU may stand still: the scheduler counts that time, and the timer cannot tick in it.
const YAML: &str = r#"
protocol_id: "18"
protocol_title: "Performance"
validators:
  - name: gate_diagnostics
    command: "perfprof gate diagnostics --coverage 0.90"
    description: "diagnostic coverage"
    prerequisite: "recordings"
artifacts:
  - {path: .artifacts/protocol-18/profiling-report.md, description: report, status: required}
quality_thresholds: {coverage: 0.9}
perfprof:
  edition: 18
  services:
    - {name: database, critical: true}
    - {name: web, critical: true}
  diagnostics:
    coverage_thresholds: {cpu_time: 0.8}
    scenarios:
      - {name: web-peak, weight: 3, concurrency: 8}
"#;

/// A repository with the config and the artifact root.
struct Repository {
    folder: TempDir,
}

impl Repository {
    fn new(yaml: &str) -> Repository {
        let repository = Repository {
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
        };
        for folder in ["config/protocol_gates", ROOT] {
            fs::create_dir_all(repository.at(folder)).expect("writable");
        }
        repository.write(CONFIG, yaml);
        repository
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn artifact(&self, name: &str) -> PathBuf {
        self.at(ROOT).join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).expect("writable");
    }

    fn perfprof(&self, args: &[&str]) -> Output {
        let output = Command::new(perfprof())
            .args(args)
            .current_dir(self.folder.path())
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .output();
        output.expect("perfprof can be run")
    }

    /// Recorded is what counts; whether it suffices is for the gate to say.
    fn record(&self, service: &str, pid: u32) {
        let pid = pid.to_string();
        let output = self.perfprof(&[
            "record",
            "--tree",
            "--pid",
            &pid,
            "--service",
            service,
            "-d",
            "6",
            "-F",
            "499",
            "--artifacts",
            ROOT,
        ]);
        let error = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(
            matches!(code, Some(exit::SUCCESS | exit::INCONCLUSIVE)),
            "{service}: {error}"
        );
    }

    /// What the runner says of the only validator: its exit code and the beginning of what it printed.
    fn run_gates(&self) -> (i64, String) {
        let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gate_runner.py");
        let folder = perfprof().parent().expect("it lies in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new(python_with_yaml().expect("the test has asked for it"))
            .arg(runner)
            .arg(CONFIG)
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", folder.display()))
            .output()
            .expect("python can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        let said: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{error}"));
        let validator = &said["validators"][0];
        let code = validator["code"].as_i64().expect("a number");
        assert_eq!(validator["status"] == "pass", code == 0);
        assert_eq!(
            output.status.success(),
            code == 0,
            "the runner's own status"
        );
        (
            code,
            validator["notes"].as_str().expect("a text").to_owned(),
        )
    }

    fn verdict(&self) -> Value {
        let text = fs::read_to_string(self.artifact("gate-results/diagnostics.json"));
        let document = serde_json::from_str(&text.expect("written")).expect("JSON");
        let schema = include_str!("../../schemas/gate-result.schema.json");
        let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
        let validator = jsonschema::validator_for(&schema).expect("the schema is one");
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        document
    }

    /// Checks that the gate, spoilt in this way, ends so and says so before anything else; then it passes again.
    #[track_caller]
    fn assert_spoilt(&self, file: &str, text: Option<&str>, code: i32, words: &[&str]) {
        let path = self.at(file);
        let good = fs::read(&path).ok();
        match text {
            Some(text) => fs::write(&path, text).expect("writable"),
            None => fs::remove_file(&path).expect("it is there"),
        }
        let (ended, notes) = self.run_gates();
        assert_eq!(ended, i64::from(code), "{file}: {notes}");
        for word in words {
            assert!(notes.contains(word), "`{word}` is not in:\n{notes}");
        }
        let verdict = self.verdict();
        assert_ne!(verdict["verdict"], "pass");
        assert!(verdict["next_step"].is_string(), "{verdict:#}");
        match good {
            Some(good) => fs::write(&path, good).expect("writable"),
            None => fs::remove_file(&path).expect("it is there"),
        }
        let (ended, notes) = self.run_gates();
        assert_eq!(ended, 0, "restored: {notes}");
    }
}

#[test]
fn two_services_under_load_pass_and_each_damage_fails_for_its_own_reason() {
    if missing(&[
        Need::Perf,
        Need::Postgres,
        Need::Program("nginx"),
        Need::Program("wrk"),
        Need::PyYaml,
    ]) {
        return;
    }
    let repository = Repository::new(YAML);
    let (ended, notes) = repository.run_gates();
    assert_eq!(ended, i64::from(exit::FAILED), "nothing is there yet");
    assert!(notes.contains("perfprof record --pid PID"), "{notes}");

    {
        let server = Postgres::start();
        let _load = server.load();
        repository.record("database", server.pid());
    }
    let web = Nginx::start();
    let mut wrk = web.load(8, 8, &repository.artifact("load-test-results.json"));
    repository.record("web", web.pid());
    let finished = wrk.wait().expect("wrk ends");
    assert!(finished.success());
    drop(web);

    let (ended, notes) = repository.run_gates();
    let verdict = repository.verdict();
    assert_eq!(ended, 0, "{notes}\n{verdict:#}");
    assert_eq!(verdict["verdict"], "pass");
    assert!(verdict["score"].as_f64() >= Some(0.9), "{verdict:#}");
    assert_eq!(verdict["figures"]["peak_concurrency"], 8, "{verdict:#}");
    assert!(
        notes.starts_with("gate 2 diagnostics (diagnostic coverage): PASS, score 1.00"),
        "{notes}"
    );

    let report = fs::read_to_string(repository.artifact("profiling-report.md")).expect("written");
    let at = report
        .find("diagnostics/web-")
        .expect("the flame graph is linked");
    let graph = report[at..].split(')').next().expect("a link");
    let graph = format!("{ROOT}/{graph}");
    let failed = exit::FAILED;
    let missing = "the flame graph of `web` is missing";
    repository.assert_spoilt(
        &graph,
        None,
        failed,
        &[missing, "perfprof record", "--service web"],
    );
    repository.assert_spoilt(
        &graph,
        Some("no picture"),
        failed,
        &["the flame graph of `web` is not SVG"],
    );

    let higher = YAML.replace("concurrency: 8", "concurrency: 64");
    repository.assert_spoilt(
        CONFIG,
        Some(&higher),
        failed,
        &["`web-peak`: 8 at once, of 64"],
    );

    let coverage = format!("{ROOT}/coverage.json");
    let cut = "{\n  \"schema\": \"perfprof.cov";
    repository.assert_spoilt(
        &coverage,
        Some(cut),
        exit::BAD_INPUT,
        &["coverage.json", "line 2, column"],
    );
    let results = format!("{ROOT}/load-test-results.json");
    repository.assert_spoilt(
        &results,
        Some("{"),
        exit::BAD_INPUT,
        &["load-test-results.json", "line 1"],
    );

    // A scenario that was not run, with a waiver until the end of 2999, and one that has expired.
    let more = "      - {name: search, weight: 2, results: search.json}\n";
    repository.write(CONFIG, &format!("{}{more}", YAML));
    let waivers = format!("{ROOT}/gate-waivers.json");
    let waiver = |expires: &str| {
        format!(
            r#"{{"schema": "perfprof.waivers", "schema_version": 1, "waivers": [{{"gate": "diagnostics", "scope": "scenario",
                "name": "search", "justification": "no test data yet", "approver": "sre-lead", "expires": "{expires}"}}]}}"#
        )
    };
    repository.write(&waivers, &waiver("2999-12-31"));
    let (ended, notes) = repository.run_gates();
    assert_eq!(ended, 0, "{notes}");
    assert!(
        notes.contains("excuses the scenario `search` until 2999-12-31"),
        "{notes}"
    );
    let expired = waiver("2020-01-31");
    repository.assert_spoilt(
        &waivers,
        Some(&expired),
        failed,
        &["`search`", "expired on 2020-01-31"],
    );

    baseline(&repository);
    evidence(&repository);
}

/// What was measured becomes the baseline, and gate 1 asks for it and for hypotheses.
fn baseline(repository: &Repository) {
    let saved = repository.perfprof(&["baseline", "save", "--artifacts", ROOT]);
    let error = String::from_utf8_lossy(&saved.stderr);
    assert_eq!(saved.status.code(), Some(exit::SUCCESS), "{error}");
    let metrics = "[cpu_cores_p95, memory_peak]";
    let more = format!("  baseline: {{required_metrics: {metrics}, max_age_hours: 6}}\n");
    repository.write(CONFIG, &format!("{YAML}{more}"));
    let ask = || repository.perfprof(&["gate", "baseline", "--threshold", "0.95"]);
    let first = ask();
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    assert_eq!(first.status.code(), Some(exit::FAILED), "{said}");
    assert!(
        said.contains("hypotheses with id, owner and risk: there is no"),
        "{said}"
    );
    let log = "| id | hypothesis | owner | risk |\n|---|---|---|---|\n| H1 | sorting | ann | low |\n\
               | H2 | parsing | bob | low |\n| H3 | sockets | eve | high |\n";
    repository.write(&format!("{ROOT}/hypothesis-log.md"), log);
    let second = ask();
    let said = String::from_utf8_lossy(&second.stdout).into_owned();
    assert_eq!(second.status.code(), Some(exit::SUCCESS), "{said}");
    repository.write(CONFIG, YAML);
}

/// The manifest of all this, and what verification says of it.
fn evidence(repository: &Repository) {
    let made = repository.perfprof(&["evidence", "--bundle"]);
    assert_eq!(
        made.status.code(),
        Some(exit::SUCCESS),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    assert!(
        repository
            .artifact("performance-evidence-bundle.zip")
            .is_file()
    );
    let text = fs::read_to_string(repository.artifact("evidence-manifest.json")).expect("written");
    let manifest: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(manifest["validators"][1]["status"], "pass");
    let artifacts = manifest["artifacts"].as_array().expect("a list");
    assert!(
        artifacts
            .iter()
            .any(|a| a["path"] == "load-test-results.json"),
        "{manifest:#}"
    );

    let verify = || repository.perfprof(&["evidence", "--verify"]);
    assert_eq!(verify().status.code(), Some(exit::SUCCESS));
    let report = repository.artifact("profiling-report.md");
    let good = fs::read(&report).expect("there");
    fs::write(&report, [&good[..], b"\n"].concat()).expect("writable");
    let changed = verify();
    assert_eq!(changed.status.code(), Some(exit::FAILED));
    assert!(String::from_utf8_lossy(&changed.stdout).contains("changed: profiling-report.md"));
    fs::write(&report, good).expect("writable");
    assert_eq!(verify().status.code(), Some(exit::SUCCESS));
}
