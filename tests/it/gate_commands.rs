//! `perfprof gate`, `evidence` and `init` as a user meets them: what they print, write, and end with.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::recording::{exit, perfprof};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn run(at: &Path, args: &[&str]) -> Output {
    let output = Command::new(perfprof()).args(args).current_dir(at).output();
    output.expect("perfprof can be run")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_fits(schema: &str, document: &Value) {
    let schema: Value = serde_json::from_str(schema).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}\n{document:#}");
}

#[test]
fn a_newcomer_is_led_from_nothing_to_the_first_command() {
    let folder = folder();
    let asked = run(
        folder.path(),
        &["gate", "diagnostics", "--coverage", "0.90"],
    );
    assert_eq!(asked.status.code(), Some(exit::FAILED));
    let said = out(&asked);
    for words in [
        "FAIL",
        "perfprof record --pid PID",
        "perfprof init --edition",
        "PID is the service's process",
    ] {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }

    let init = run(folder.path(), &["init", "--edition", "18"]);
    assert_eq!(init.status.code(), Some(exit::SUCCESS), "{}", error(&init));
    let path = folder.path().join("config/protocol_gates/18.yaml");
    let written = fs::read_to_string(&path).expect("written");
    let again = run(folder.path(), &["init", "--edition", "18"]);
    assert_eq!(again.status.code(), Some(exit::NOT_WRITTEN));
    assert!(
        error(&again).contains("is there already"),
        "{}",
        error(&again)
    );
    assert_eq!(fs::read_to_string(&path).expect("there"), written);

    let asked = run(folder.path(), &["gate", "all"]);
    assert_eq!(asked.status.code(), Some(exit::FAILED));
    let said = out(&asked);
    for words in [
        "gate 1 baseline",
        "gate 2",
        "gate 3",
        "gate 4",
        "`checkout` was not recorded",
        "config/protocol_gates/18.yaml",
    ] {
        let words = words.replace("`checkout` was not recorded", "critical service `checkout`");
        assert!(said.contains(&words), "`{words}` is not in:\n{said}");
    }
    for gate in ["baseline", "diagnostics", "optimization", "governance"] {
        let path = folder
            .path()
            .join(format!(".artifacts/protocol-18/gate-results/{gate}.json"));
        let verdict: Value =
            serde_json::from_str(&fs::read_to_string(path).expect("written")).expect("JSON");
        assert_eq!(
            (&verdict["verdict"], &verdict["edition"]),
            (&json!("fail"), &json!(18))
        );
    }
}

#[test]
fn json_is_all_that_is_printed_when_it_is_asked_for() {
    let folder = folder();
    let one = run(folder.path(), &["gate", "governance", "--json"]);
    let document: Value = serde_json::from_str(&out(&one)).expect("JSON alone");
    assert_eq!(document["gate"], "governance");
    let schema = include_str!("../../schemas/gate-result.schema.json");
    assert_fits(schema, &document);
    let all = run(folder.path(), &["gate", "all", "--json"]);
    let document: Value = serde_json::from_str(&out(&all)).expect("JSON alone");
    assert_fits(
        include_str!("../../schemas/gate-results.schema.json"),
        &document,
    );
    let gates = document["gates"].as_array().expect("a list");
    assert_eq!(gates.len(), 4);
    gates.iter().for_each(|gate| assert_fits(schema, gate));

    let made = run(folder.path(), &["evidence", "--json"]);
    assert_eq!(made.status.code(), Some(exit::SUCCESS), "{}", error(&made));
    let document: Value = serde_json::from_str(&out(&made)).expect("JSON alone");
    assert_fits(
        include_str!("../../schemas/evidence-manifest.schema.json"),
        &document,
    );
    fs::write(folder.path().join(".artifacts/performance/new"), "x").expect("writable");
    let verified = run(folder.path(), &["evidence", "--verify", "--json"]);
    assert_eq!(
        verified.status.code(),
        Some(exit::FAILED),
        "{}",
        error(&verified)
    );
    let document: Value = serde_json::from_str(&out(&verified)).expect("JSON alone");
    assert_fits(
        include_str!("../../schemas/evidence-verification.schema.json"),
        &document,
    );
    assert_eq!(document["findings"][0]["kind"], "unlisted");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_reason() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("config/protocol_gates")).expect("writable");
    let config = folder.path().join("config/protocol_gates/18.yaml");
    fs::write(&config, "perfprof:\n  diagnostics:\n    covrage: 0.9\n").expect("writable");
    let cases: [(&[&str], i32, &[&str]); 7] = [
        (
            &["gate", "diagnostics"],
            exit::BAD_INPUT,
            &["18.yaml", "line 3", "covrage"],
        ),
        (
            &["gate", "diagnostics", "--config", "no.yaml"],
            exit::BAD_INPUT,
            &["no gate config `no.yaml`"],
        ),
        (
            &["gate", "baseline", "--coverage", "0.9"],
            exit::USAGE,
            &["--coverage", "perfprof gate diagnostics"],
        ),
        (
            &["gate", "diagnostics", "--coverage", "90"],
            exit::USAGE,
            &["from 0 to 1"],
        ),
        (
            &["gate", "all", "--report", "x"],
            exit::USAGE,
            &["--report"],
        ),
        (
            &["gate", "diagnostics", "--edition", "15"],
            exit::USAGE,
            &["14 and 18"],
        ),
        (
            &["evidence", "--verify", "--config", "/dev/null"],
            exit::BAD_INPUT,
            &["regular file"],
        ),
    ];
    for (args, code, words) in cases {
        let output = run(folder.path(), args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            error(&output)
        );
        for word in words {
            assert!(
                error(&output).contains(word),
                "`{word}`, {args:?}: {}",
                error(&output)
            );
        }
    }
}

#[test]
fn too_little_data_is_neither_a_pass_nor_a_failure() {
    let folder = folder();
    let root = folder.path().join("a");
    fs::create_dir(&root).expect("writable");
    let comparison = |verdict: &str, change: f64, width: f64| {
        let interval = json!({"low": change - width, "high": change + width});
        let document = json!({"schema": "perfprof.comparison", "schema_version": 1, "verdict": verdict, "reason": "few samples",
            "measure": "cost", "unit": "ms", "functions": [],
            "total": {"before": 1.0, "after": 1.0 + change, "change": change, "interval": interval, "verdict": verdict}});
        fs::write(
            root.join("performance-comparison.json"),
            document.to_string(),
        )
        .expect("writable");
    };
    let ask = || {
        let output = run(
            folder.path(),
            &[
                "gate",
                "optimization",
                "--improvement-threshold",
                "0.15",
                "--artifacts",
                "a",
            ],
        );
        (output.status.code(), out(&output))
    };
    comparison("improved", -0.2, 0.02);
    assert_eq!(ask().0, Some(exit::SUCCESS), "{}", ask().1);
    comparison("inconclusive", -0.2, 0.4);
    let (code, said) = ask();
    assert_eq!(code, Some(exit::INCONCLUSIVE), "{said}");
    assert!(
        said.contains("INCONCLUSIVE") && said.contains("few samples"),
        "{said}"
    );
    comparison("regressed", 0.3, 0.02);
    assert_eq!(ask().0, Some(exit::FAILED));
}

#[test]
fn what_compare_writes_is_what_the_gate_reads() {
    let folder = folder();
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/corpus/go-cpu.pb.gz");
    let profile = profile.to_str().expect("UTF-8");
    let compared = run(
        folder.path(),
        &[
            "compare",
            "--before",
            profile,
            "--after",
            profile,
            "--artifacts",
            "a",
        ],
    );
    let code = compared.status.code();
    assert!(
        matches!(code, Some(exit::SUCCESS | exit::INCONCLUSIVE)),
        "{}",
        error(&compared)
    );
    let report = "a/optimization-validation-report.json";
    for args in [
        &["--artifacts", "a"][..],
        &["--artifacts", "b", "--report", report],
    ] {
        let asked = run(
            folder.path(),
            &[&["gate", "optimization"][..], args].concat(),
        );
        // A profile is no better than itself, and one of each is too little to be sure.
        let code = asked.status.code();
        assert!(
            matches!(code, Some(exit::FAILED | exit::INCONCLUSIVE)),
            "{}",
            out(&asked)
        );
        let words = "comparison of before and after";
        assert!(
            out(&asked).contains(words) && !out(&asked).contains("there is no"),
            "{}",
            out(&asked)
        );
    }
}

#[test]
fn names_cannot_move_the_cursor() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("config/protocol_gates")).expect("writable");
    let config = "perfprof: {services: [{name: \"a\\e[2Jb; reboot\", critical: true}]}\n";
    fs::write(folder.path().join("config/protocol_gates/18.yaml"), config).expect("writable");
    let said = out(&run(folder.path(), &["gate", "diagnostics"]));
    assert!(
        said.contains("a\\x1b[2Jb") && !said.contains('\u{1b}'),
        "{said}"
    );
    assert!(said.contains("--service 'a\\x1b[2Jb; reboot'"), "{said}");
}

#[test]
fn a_second_edition_s_config_has_commands_that_say_which() {
    let folder = folder();
    for (edition, flag) in [("14", false), ("18", true)] {
        let init = run(folder.path(), &["init", "--edition", edition]);
        assert_eq!(init.status.code(), Some(exit::SUCCESS), "{}", error(&init));
        assert_eq!(
            error(&init).contains("add `--edition 14`"),
            flag,
            "{}",
            error(&init)
        );
        let path = format!("config/protocol_gates/{edition}.yaml");
        let written = fs::read_to_string(folder.path().join(path)).expect("written");
        let command = format!("\"perfprof gate diagnostics --edition {edition} --coverage 0.90\"");
        assert_eq!(written.contains(&command), flag);
    }
}

#[test]
fn lists_of_locust_beside_its_figures_are_skipped() {
    let folder = folder();
    let figures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/load_tests/locust_stats.csv"
    );
    let list = folder.path().join("locust_failures.csv");
    fs::write(&list, "Method,Name,Error,Occurrences\nGET,/,x,1\n").expect("written");
    let list = list.to_string_lossy().into_owned();
    let both = run(
        folder.path(),
        &["load-test", figures, &list, "--concurrency", "4"],
    );
    assert_eq!(both.status.code(), Some(exit::SUCCESS), "{}", error(&both));
    assert!(
        error(&both).contains("is skipped: it is Locust's list of failures"),
        "{}",
        error(&both)
    );
    let alone = run(folder.path(), &["load-test", &list]);
    assert_eq!(
        alone.status.code(),
        Some(exit::BAD_INPUT),
        "{}",
        error(&alone)
    );
}
