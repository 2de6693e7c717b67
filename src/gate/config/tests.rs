//! What a config may say, and what it is told when it may not.

use super::*;

fn of(text: &str) -> Result<Config, String> {
    Config::of("18.yaml", text.as_bytes()).map_err(|error| error.to_string())
}

fn error(text: &str) -> String {
    of(text).expect_err(text)
}

#[test]
fn foreign_keys_are_left_alone_whatever_they_hold() {
    let text = r#"
protocol_id: 18
protocol_title: "Performance"
notes: [1, {a: ~}]
validators:
  - name: gate
    command: "perfprof gate diagnostics --coverage 0.90"
    prerequisite: false
artifacts:
  - {path: .artifacts/protocol-18/coverage.json, description: coverage, status: required}
  - just-a-path.md
  - 7
quality_thresholds: {coverage: .nan}
gates: {nested: {deeply: [yes, no]}}
perfprof:
  edition: 18
  services:
    - {name: cart, critical: true}
    - name: db
  diagnostics:
    weights: {load: 2}
    scenarios:
      - {name: peak, concurrency: 64, weight: 3}
"#;
    let config = of(text).expect("a config");
    assert_eq!(config.protocol_id.as_deref(), Some("18"));
    assert_eq!(config.artifacts_listed.len(), 2);
    assert_eq!(config.artifacts_listed[0].description, "coverage");
    let own = &config.own;
    assert!(own.services[0].critical && !own.services[1].critical);
    assert_eq!(own.diagnostics.weights.load, Weight(2.0));
    assert_eq!(own.diagnostics.weights.capacity, Weight(1.0));
    assert_eq!(own.diagnostics.coverage, Share(0.90));
    assert_eq!(own.diagnostics.scenarios[0].concurrency, Some(64));
    assert_eq!(config.min_critical_services(Edition::Eighteen), 2);
    assert_eq!(config.min_critical_services(Edition::Fourteen), 0);
}

#[test]
fn nothing_at_all_is_the_default() {
    for text in [
        "",
        "# only a comment\n",
        "protocol_id: \"14\"\n",
        "perfprof:\n",
    ] {
        let config = of(text).expect(text);
        assert_eq!(config.own.baseline.min_hypotheses, 3);
    }
}

#[test]
fn a_mistake_is_named_with_file_line_and_key() {
    let cases = [
        (
            "perfprof:\n  diagnostics:\n    covrage: 0.9\n",
            "line 3",
            "covrage",
        ),
        (
            "perfprof:\n  diagnostics:\n    coverage: 90\n",
            "line 3",
            "90 is not a share",
        ),
        ("perfprof:\n  edition: 15\n", "line 2", "neither 14 nor 18"),
        (
            "perfprof:\n  services:\n  - {name: a}\n  - {name: a}\n",
            "line 4",
            "`a` is there twice",
        ),
        (
            "perfprof:\n  services:\n  - critical: true\n",
            "line 3",
            "name",
        ),
        ("perfprof:\n  services:\n  - name: ''\n", "line 3", "empty"),
        ("perfprof:\n  services: cart\n", "line 2", "sequence"),
        (
            "perfprof:\n  diagnostics:\n    weights: {load: -1}\n",
            "line 3",
            "not a weight",
        ),
        ("a: [1\nb: 2\n", "line", ""),
        ("a: 1\na: 2\n", "line 2", "duplicate"),
    ];
    for (text, line, words) in cases {
        let error = error(text);
        for expected in ["18.yaml", line, words] {
            assert!(error.contains(expected), "`{expected}` is not in: {error}");
        }
        assert!(!error.contains('\n'), "one line: {error}");
    }
    assert!(error("\u{0}").contains("18.yaml"));
    let weights =
        error("perfprof:\n  diagnostics:\n    weights: {load: 0, capacity: 0, profiling: 0}\n");
    assert!(weights.contains("all weights are 0"), "{weights}");
}

#[test]
fn aliases_cannot_make_a_small_file_huge() {
    let mut text = String::from("l0: &l0 [a, a, a, a, a, a, a, a, a, a]\n");
    for level in 1..12 {
        let list = vec![format!("*l{}", level - 1); 10].join(", ");
        text.push_str(&format!("l{level}: &l{level} [{list}]\n"));
    }
    text.push_str("protocol_title: *l11\n");
    error(&text);
    error(&format!("notes: {}", "[".repeat(100_000)));
    error(&"- ".repeat(100_000));
    let own = "perfprof:\n  services: &s [{name: a}]\n  diagnostics: {scenarios: *s}\n";
    of(own).expect("an alias as such is fine");
}
