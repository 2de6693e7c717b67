//! Manifests, what verification finds, and bundles.

use super::*;
use crate::evidence::bundle::unpack;
use crate::evidence::{BUNDLE, Finding, Kind, MANIFEST, verify, write_bundle};
use std::fs;
use std::os::unix::fs::symlink;

struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    fn new() -> Root {
        let root = Root {
            dir: tempfile::tempdir().expect("temporary directory"),
        };
        fs::create_dir_all(root.path().join("diagnostics")).expect("made");
        fs::create_dir_all(root.path().join("gate-results")).expect("made");
        root.write(
            "coverage.json",
            r#"{"services": [{"service": "a", "recorded_at": "2026-01-03T00:00:00Z"}]}"#,
        );
        root.write("diagnostics/a-20260103T000000Z.svg", "<svg><rect/></svg>");
        root.write("profiling-report.md", "# Report\n");
        root.write(
            "gate-results/diagnostics.json",
            r#"{"verdict": "pass", "score": 0.95, "generated_at": "2026-01-04T00:00:00Z"}"#,
        );
        root.write(
            "gate-results/optimization.json",
            r#"{"verdict": "fail", "first_failure": "slower"}"#,
        );
        root
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn context(&self) -> Context {
        let upstream = self.dir.path().join("DEPLOYMENT-REPORT.md");
        fs::write(&upstream, "deployed").expect("written");
        Context {
            protocol_id: "18".into(),
            protocol_name: Some("Performance".into()),
            edition: 18,
            expected: vec![
                Expected {
                    path: "coverage.json".into(),
                    description: "how much was seen".into(),
                },
                Expected {
                    path: "PERFORMANCE-REPORT.md".into(),
                    description: "the report".into(),
                },
            ],
            upstream: vec![Upstream {
                path: upstream,
                description: "context".into(),
            }],
            epoch: Some(1_767_225_600),
        }
    }

    fn make(&self) -> Value {
        let made = manifest(&self.path(), &self.context()).expect("readable");
        self.write(MANIFEST, &format!("{:#}\n", made.document));
        made.document
    }

    fn findings(&self) -> Vec<(Kind, String)> {
        let (findings, _) = verify(&self.path()).expect("readable");
        findings
            .into_iter()
            .map(|Finding { kind, path, .. }| (kind, path))
            .collect()
    }
}

#[test]
fn the_manifest_lists_everything_with_its_hash_and_the_verdicts() {
    let root = Root::new();
    let document = root.make();
    let schema: Value =
        serde_json::from_str(include_str!("../../schemas/evidence-manifest.schema.json"))
            .expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");

    let paths: Vec<&str> = document["artifacts"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|a| a["path"].as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "coverage.json",
            "diagnostics/a-20260103T000000Z.svg",
            "gate-results/diagnostics.json",
            "gate-results/optimization.json",
            "profiling-report.md",
            "PERFORMANCE-REPORT.md",
        ]
    );
    let coverage = &document["artifacts"][0];
    assert_eq!(coverage["generated_at"], "2026-01-03T00:00:00Z");
    assert_eq!(coverage["description"], "how much was seen");
    assert_eq!(document["artifacts"][5]["status"], "missing");
    let statuses: Vec<&str> = document["validators"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|v| v["status"].as_str())
        .collect();
    assert_eq!(statuses, ["not-run", "pass", "fail", "not-run"]);
    assert_eq!(document["validators"][2]["notes"], "slower");
    let summary = &document["summary"];
    assert_eq!(
        (&summary["artifacts_present"], &summary["artifacts_total"]),
        (&json!(5), &json!(6))
    );
    assert_eq!(
        (&summary["validators_passed"], &summary["validators_total"]),
        (&json!(1), &json!(4))
    );
    assert_eq!(
        document["upstream"][0]["bundled_as"],
        "upstream/DEPLOYMENT-REPORT.md"
    );
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let (one, two) = (Root::new(), Root::new());
    let same = |a: &mut Value| a["upstream"][0]["path"] = json!("");
    let (mut a, mut b) = (one.make(), two.make());
    same(&mut a);
    same(&mut b);
    assert_eq!(a.to_string(), b.to_string());
    assert_eq!(
        one.make(),
        one.make(),
        "a manifest that is there changes nothing"
    );
    write_bundle(&one.path()).expect("bundled");
    let first = fs::read(one.path().join(BUNDLE)).expect("there");
    write_bundle(&one.path()).expect("bundled");
    assert!(first == fs::read(one.path().join(BUNDLE)).expect("there"));
    one.make();
    assert_eq!(one.findings(), [], "nor does the bundle");
}

#[test]
fn what_is_missing_changed_or_new_is_found() {
    let root = Root::new();
    root.make();
    assert_eq!(root.findings(), []);
    root.write(
        "coverage.json",
        r#"{"services": [{"service": "b", "recorded_at": "2026-01-03T00:00:00Z"}]}"#,
    );
    fs::remove_file(root.path().join("profiling-report.md")).expect("there");
    root.write("PERFORMANCE-REPORT.md", "new");
    let svg = root.path().join("diagnostics/a-20260103T000000Z.svg");
    fs::remove_file(&svg).expect("there");
    symlink("/etc/passwd", &svg).expect("linked");
    symlink("/etc", root.path().join("etc")).expect("linked");
    fs::write(
        root.dir.path().join("DEPLOYMENT-REPORT.md"),
        "deployed twice",
    )
    .expect("written");
    let found = root.findings();
    let paths = |kind| -> Vec<&str> {
        found
            .iter()
            .filter(|(k, _)| *k == kind)
            .map(|(_, path)| path.rsplit('/').next().expect("a name"))
            .collect()
    };
    assert_eq!(paths(Kind::Missing), ["profiling-report.md"]);
    assert_eq!(
        paths(Kind::Changed),
        [
            "DEPLOYMENT-REPORT.md",
            "coverage.json",
            "a-20260103T000000Z.svg"
        ]
    );
    assert_eq!(paths(Kind::Unlisted), ["PERFORMANCE-REPORT.md", "etc"]);
    write_bundle(&root.path()).expect_err("what has changed does not get in");
    assert!(!root.path().join(BUNDLE).exists());
}

#[test]
fn a_bundle_holds_what_is_listed_and_can_be_verified_elsewhere() {
    let root = Root::new();
    root.make();
    let (path, count) = write_bundle(&root.path()).expect("bundled");
    assert_eq!(count, 6);
    let elsewhere = tempfile::tempdir().expect("temporary directory");
    for (name, bytes) in unpack(&path) {
        let target = elsewhere.path().join(&name);
        fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        fs::write(target, bytes).expect("written");
    }
    fs::remove_file(root.dir.path().join("DEPLOYMENT-REPORT.md")).expect("there");
    let (findings, compared) = verify(elsewhere.path()).expect("readable");
    assert_eq!((findings, compared), (Vec::new(), 5));
    fs::write(elsewhere.path().join("upstream/DEPLOYMENT-REPORT.md"), "x").expect("written");
    assert_eq!(
        verify(elsewhere.path()).expect("readable").0[0].kind,
        Kind::Changed
    );
}

#[test]
fn a_manifest_that_is_none_is_an_error() {
    let root = Root::new();
    for text in [
        "",
        "{",
        "{}",
        r#"{"schema": "perfprof.evidence-manifest", "schema_version": 1}"#,
        r#"{"schema": "perfprof.evidence-manifest", "schema_version": 1, "artifacts": [{}], "upstream": []}"#,
    ] {
        root.write(MANIFEST, text);
        verify(&root.path()).expect_err(text);
    }
    // One that was made to read other people's files.
    root.write(MANIFEST, r#"{"schema": "perfprof.evidence-manifest", "schema_version": 1, "upstream": [],
        "artifacts": [{"path": "../DEPLOYMENT-REPORT.md", "status": "exists", "sha256": "0", "size_bytes": 8}]}"#);
    root.context();
    assert_eq!(root.findings()[0].0, Kind::Changed);
    write_bundle(&root.path()).expect_err("it leads out of the root");
}

#[test]
fn a_verdict_carries_its_threshold_and_is_stale_when_what_it_rests_on_is_not_as_it_was() {
    let root = Root::new();
    let shown = |name: &str| format!("x/{name}");
    let verdict = json!({"verdict": "pass", "score": 0.6, "threshold": 0.5, "artifacts": "x",
        "generated_at": "2026-01-04T00:00:00Z",
        "checks": [{"id": "profiling:a", "status": "pass", "evidence": shown("diagnostics/a-20260103T000000Z.svg")},
                   {"status": "waived", "evidence": shown("never-there.json")},
                   {"status": "pass", "evidence": "elsewhere/report.md"}]});
    root.write("gate-results/diagnostics.json", &verdict.to_string());
    let of = |root: &Root| root.make()["validators"][1].clone();
    let fresh = of(&root);
    assert_eq!(
        (fresh["threshold"].as_f64(), &fresh["stale"]),
        (Some(0.5), &Value::Null)
    );
    let newer = r#"{"services": [{"service": "a", "recorded_at": "2026-01-05T00:00:00Z"}]}"#;
    root.write("coverage.json", newer);
    assert_eq!(
        of(&root)["stale"],
        "`coverage.json`, which it rests on, is newer"
    );
    assert_eq!(root.make()["summary"]["validators_stale"], 1);
    fs::remove_file(root.path().join("coverage.json")).expect("was there");
    assert_eq!(
        of(&root)["stale"],
        "`coverage.json`, which it rests on, is missing"
    );
}
