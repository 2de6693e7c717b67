//! The governance gate on documents whose completeness is known.

use super::*;
use crate::gate::{Config, Documents, Edition, Given, Outcome};
use serde_json::Value;
use std::fs;
use std::path::Path;

const YAML: &str = "
perfprof:
  governance:
    documents: [{path: PERFORMANCE-REPORT.md, sections: [Summary, Results]}, {path: slo-update-record.json}]
    approvals: [SRE lead]
";

fn setting(root: &Path) -> Setting {
    Setting {
        edition: Edition::Eighteen,
        config: Config::of("18.yaml", YAML.as_bytes()).expect("a config"),
        documents: Documents::new(root),
        now: "2026-06-15T12:00:00Z".parse().expect("a time"),
        given: Given::default(),
    }
}

fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let write = |name: &str, text: String| fs::write(dir.path().join(name), text).expect("written");
    write(
        "PERFORMANCE-REPORT.md",
        "# Report\n\n## Summary\n\nFaster.\n\n## Results\n\n-20 %\n".into(),
    );
    let approvals =
        json!([{"role": "SRE lead", "name": "Ann", "date": "2026-06-01", "status": "approved"}]);
    write(
        "slo-update-record.json",
        json!({"approvals": approvals, "changes": [{"slo": "p95", "to": 250}]}).to_string(),
    );
    write(
        "performance-report-manifest.json",
        json!({"distribution": ["SRE", "Product", "Support"]}).to_string(),
    );
    dir
}

fn changed(name: &str, text: &str) -> (Outcome, String) {
    let dir = root();
    fs::write(dir.path().join(name), text).expect("written");
    let result = ask(&setting(dir.path())).expect("readable");
    let first = result
        .obstacles()
        .first()
        .map(|c| format!("{}: {}", c.title, c.actual));
    (result.outcome(), first.unwrap_or_default())
}

#[test]
fn complete_signed_and_distributed_passes() {
    let dir = root();
    let result = ask(&setting(dir.path())).expect("readable");
    assert_eq!(result.outcome(), Outcome::Pass, "{:#?}", result.checks);
    assert_eq!(result.score.map(|score| score.value), Some(1.0));
}

#[test]
fn each_lack_fails_for_its_own_reason() {
    for (name, text, words) in [
        (
            "PERFORMANCE-REPORT.md",
            "## Summary\n\nTODO\n\n## Results\n\nx\n",
            "section `Summary` holds a placeholder",
        ),
        (
            "PERFORMANCE-REPORT.md",
            "## Summary\n\nx\n",
            "section `Results` is missing",
        ),
        (
            "slo-update-record.json",
            r#"{"approvals": [{"role": "SRE lead", "name": "Ann"}], "changes": 1}"#,
            "no date",
        ),
        (
            "slo-update-record.json",
            r#"{"approvals": [{"role": "QA", "name": "Ann", "date": "2026-06-01"}], "changes": 1}"#,
            "not among the approvals",
        ),
        (
            "performance-report-manifest.json",
            r#"{"distribution": ["SRE", "sre", "Product"]}"#,
            "2: SRE, Product",
        ),
    ] {
        let (outcome, first) = changed(name, text);
        assert_eq!(outcome, Outcome::Fail, "{words}");
        assert!(first.contains(words), "{words}: {first}");
    }
    let empty = tempfile::tempdir().expect("temporary directory");
    let result = ask(&setting(empty.path())).expect("readable");
    assert_eq!(result.outcome(), Outcome::Fail);
    let missing: Vec<&Value> = result.figures.iter().map(|(_, value)| value).collect();
    assert_eq!(missing, [&json!(0), &json!(0)]);
}
