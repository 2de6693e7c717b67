//! Figures from documents that perfprof wrote, files as others write them, and what a gate asks.

use super::*;
use crate::load_test::{Latency, LoadTest, Source};
use serde_json::json;

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

const NOON: &str = "2026-11-28T12:00:00Z";

fn value(found: &[Measurement], service: &str, metric: &str) -> Option<f64> {
    let mut found = found
        .iter()
        .filter(|m| m.service == service && m.metric == metric);
    let first = found.next()?;
    assert!(found.next().is_none(), "{metric} of {service} twice");
    Some(first.value)
}

fn load(scenario: &str, p95: f64, rate: f64) -> LoadTest {
    LoadTest {
        tool: "k6".into(),
        scenario: Some(scenario.into()),
        throughput_per_second: rate,
        latency: Latency {
            p95_ms: Some(p95),
            ..Latency::default()
        },
        error_rate: Some(0.01),
        source: Some(Source {
            file: "k6.json".into(),
            written_at: Some("2026-11-28T11:00:00Z".into()),
        }),
        ..LoadTest::default()
    }
}

/// One service, as the documents of a root have it.
fn documents() -> Sources {
    Sources {
        coverage: vec![json!({
            "service": "api", "recorded_at": "2026-11-28T10:00:00Z", "cpu_seconds": 12.5,
            "metrics": {"stacks": {"value": 0.99}, "service": {"value": null}},
        })],
        bottlenecks: vec![json!({
            "service": "api", "recorded_at": "2026-11-28T10:00:00Z",
            "hot_paths": {"by_self": [{"function": "parse(int)", "canonical": "parse", "share": 0.4},
                                       {"function": "[libx.so: no-symbol]", "canonical": "[libx.so: no-symbol]", "share": 0.3}]},
        })],
        capacity: vec![json!({
            "service": "api", "recorded_at": null,
            "utilization": {"cores": {"mean": 1.1, "p95": 1.5}, "p95_share_of_limit": 0.75},
            "memory": {"max_bytes": 1_000_000}, "throttling": {"share": 0.02},
            "pressure": {"cpu_some_share": null},
            "advice": {"cost": {"cpu_ms_per_request": 4.0}},
        })],
        written_at: [(
            "capacity-analysis.json".to_owned(),
            time("2026-11-28T09:00:00Z"),
        )]
        .into(),
        ..Sources::default()
    }
}

#[test]
fn neither_a_fifo_nor_an_endless_name_gets_in() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for name in ["coverage.json", JSON_FILE] {
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&dir.path().join(name), mode).expect("made");
    }
    Sources::of_root(dir.path()).expect_err("no regular file");
    read(&dir.path().join(JSON_FILE)).expect_err("no regular file");
    let row = format!("api,{},7,ms,{NOON}", "x".repeat(100_000));
    let csv = format!("service,metric,value,unit,timestamp\n{row}\n");
    let error = from_bytes(csv.as_bytes())
        .expect_err("too long")
        .to_string();
    assert!(
        error.contains("metric") && error.contains("4,000"),
        "{error}"
    );
}

#[test]
fn every_figure_has_a_usual_name_its_unit_and_its_time() {
    let mut sources = documents();
    sources.load_tests = vec![load("checkout", 20.0, 300.0)];
    let found = collect(&sources, time(NOON)).expect("valid documents");
    let expected = [
        ("profiled_cpu_seconds", 12.5, "s", "10"),
        ("coverage_stacks", 0.99, "ratio", "10"),
        ("hot_path_share[parse]", 0.4, "ratio", "10"),
        ("cpu_cores_mean", 1.1, "cores", "09"),
        ("cpu_cores_p95", 1.5, "cores", "09"),
        ("cpu_utilization_p95", 0.75, "ratio", "09"),
        ("memory_peak", 1e6, "bytes", "09"),
        ("throttled_share", 0.02, "ratio", "09"),
        ("cpu_seconds_per_request", 0.004, "s", "09"),
        ("p95_latency", 20.0, "ms", "11"),
        ("throughput", 300.0, "requests/s", "11"),
        ("error_rate", 0.01, "ratio", "11"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (metric, value, unit, hour) in expected {
        let m = found.iter().find(|m| m.metric == metric).expect(metric);
        assert_eq!(
            (m.value, m.unit.as_str(), m.service.as_str()),
            (value, unit, "api")
        );
        assert_eq!(
            m.timestamp,
            time(&format!("2026-11-28T{hour}:00:00Z")),
            "{metric}"
        );
    }
}

#[test]
fn of_several_scenarios_the_worst_stands_for_the_service() {
    let mut sources = documents();
    sources.load_tests = vec![load("browse", 9.0, 100.0), load("checkout", 20.0, 300.0)];
    let found = collect(&sources, time(NOON)).expect("valid");
    let api = |metric: &str| value(&found, "api", metric);
    assert_eq!(api("p95_latency[browse]"), Some(9.0));
    assert_eq!(api("p95_latency[checkout]"), Some(20.0));
    assert_eq!(
        (api("p95_latency"), api("throughput")),
        (Some(20.0), Some(100.0))
    );
    assert_eq!(metrics::base("p95_latency[checkout]"), "p95_latency");
}

#[test]
fn a_load_test_is_of_the_service_it_names_or_that_there_is() {
    let mut sources = documents();
    let mut named = load("a", 1.0, 1.0);
    named.service = Some("db".into());
    sources.load_tests = vec![named, load("b", 2.0, 1.0)];
    let found = collect(&sources, time(NOON)).expect("valid");
    assert_eq!(value(&found, "db", "p95_latency"), Some(1.0));
    assert_eq!(value(&found, "api", "p95_latency"), Some(2.0));
    // With two services, the scenario's own name decides, and else it stands for itself.
    sources
        .coverage
        .push(json!({"service": "web", "metrics": {}}));
    sources.load_tests = vec![load("web", 3.0, 1.0), load("c", 4.0, 1.0)];
    let found = collect(&sources, time(NOON)).expect("valid");
    assert_eq!(value(&found, "web", "p95_latency"), Some(3.0));
    assert_eq!(value(&found, "c", "p95_latency"), Some(4.0));
    sources.service = Some("web".into());
    let found = collect(&sources, time(NOON)).expect("valid");
    assert_eq!(value(&found, "web", "p95_latency[c]"), Some(4.0));
}

#[test]
fn a_damaged_document_is_named_with_its_field() {
    let mut sources = documents();
    sources.capacity[0]["utilization"]["cores"]["p95"] = json!("many");
    let error = collect(&sources, time(NOON)).expect_err("a text");
    let text = error.to_string();
    assert!(
        text.contains("capacity-analysis.json") && text.contains("`utilization.cores.p95`"),
        "{text}"
    );

    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("coverage.json");
    for (text, at) in [
        ("{", "line 1, column 1"),
        (r#"{"schema": "x"}"#, "`schema`"),
        (
            r#"{"schema": "perfprof.coverage", "schema_version": 9}"#,
            "`schema_version`",
        ),
        (
            r#"{"schema": "perfprof.coverage", "schema_version": 1, "services": [{}]}"#,
            "`services[0].service`",
        ),
    ] {
        std::fs::write(&path, text).expect("writable");
        let error = Sources::of_root(dir.path()).expect_err(text).to_string();
        assert!(error.contains(at), "{error}");
    }
}

#[test]
fn both_files_are_read_back_and_conform_to_the_schema() {
    let mut sources = documents();
    sources.load_tests = vec![load("check, \"out\"", 20.0, 300.0), load("b", 1.0, 2.0)];
    let baseline = Baseline::new(collect(&sources, time(NOON)).expect("valid"));
    let document = to_json(&baseline);
    let schema = include_str!("../../schemas/baseline-metrics.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<_> = validator
        .iter_errors(&document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let mut bad = document.clone();
    bad["metrics"][0]["value"] = json!("high");
    assert!(!validator.is_valid(&bad));
    assert_eq!(
        from_bytes(document.to_string().as_bytes()),
        Ok(baseline.clone())
    );
    assert_eq!(from_bytes(to_csv(&baseline).as_bytes()), Ok(baseline));
}

#[test]
fn an_error_names_row_and_column_or_field() {
    let error = |text: &str| {
        from_bytes(text.as_bytes())
            .expect_err("damaged")
            .to_string()
    };
    let head = "service,metric,value,unit,timestamp,source\n";
    let good = "a,p95_latency,1,ms,2026-01-01T00:00:00Z,x\n";
    assert_eq!(error(""), "it is empty");
    assert_eq!(
        error("service,metric,unit,timestamp\n"),
        "line 1: no column is called `value`"
    );
    assert_eq!(
        error(&format!(
            "{head}{good}a,p99_latency,fast,ms,2026-01-01T00:00:00Z,x\n"
        )),
        "line 3: column 3 (`value`) is no number"
    );
    assert_eq!(
        error(&format!("{head}a,p99_latency,1,ms,yesterday,x\n")),
        "line 2: column 5 (`timestamp`) is no RFC 3339 time"
    );
    assert_eq!(
        error(&format!("{head},m,1,ms,2026-01-01T00:00:00Z,x\n")),
        "line 2: column 1 (`service`) is empty"
    );
    assert!(error(&format!("{head}a,m,1\n")).starts_with("line 2: 3 fields"));
    let json = |metrics: &str| {
        error(&format!(
            r#"{{"schema": "perfprof.baseline", "schema_version": 1, "metrics": {metrics}}}"#
        ))
    };
    assert_eq!(
        json(r#"[{"service": "a", "metric": "m"}]"#),
        "`metrics[0].timestamp` is missing"
    );
    let entry = r#"[{"service": "a", "metric": "m", "unit": "s", "timestamp": "2026-01-01T00:00:00Z", "value": "x"}]"#;
    assert_eq!(json(entry), "`metrics[0].value` is no number");
    assert_eq!(json("3"), "`metrics` is no array");
    assert_eq!(error("{}"), "`schema` is not `perfprof.baseline`");
}

#[test]
fn completeness_and_age_are_counted_and_the_latest_figure_counts() {
    let text = "service,metric,value,unit,timestamp\n\
                a,p95_latency,2,ms,2026-11-28T11:00:00Z\n\
                a,p95_latency,1,ms,2026-11-28T06:00:00Z\n\
                b,throughput,5,requests/s,2026-11-28T10:00:00Z\n";
    let baseline = from_bytes(text.as_bytes()).expect("valid");
    assert_eq!(baseline.get("a", "p95_latency").map(|m| m.value), Some(2.0));
    assert_eq!(baseline.services(), ["a", "b"]);
    let whole = baseline.completeness(&["a", "b"], &["p95_latency", "throughput"]);
    assert_eq!((whole.score, whole.present, whole.required), (0.5, 2, 4));
    let missing: Vec<_> = whole
        .missing
        .iter()
        .map(|m| (m.service.as_str(), m.metric.as_str()))
        .collect();
    assert_eq!(missing, [("a", "throughput"), ("b", "p95_latency")]);
    assert_eq!(baseline.completeness::<&str, &str>(&[], &[]).score, 1.0);
    let age = baseline.age(time(NOON)).expect("figures");
    assert_eq!((age.oldest_seconds, age.newest_seconds), (7200.0, 3600.0));
    let of_a = baseline.age_where(time("2026-11-28T10:00:00Z"), |service, _| service == "a");
    assert_eq!(
        of_a.map(|age| age.newest_seconds),
        Some(-3600.0),
        "measured after now"
    );
    assert_eq!(Baseline::default().age(time(NOON)), None);
}

#[test]
fn a_new_measurement_takes_the_place_of_the_old_and_of_its_parts() {
    let row = |metric: &str, value: f64, at: &str| Measurement {
        service: "a".into(),
        metric: metric.into(),
        value,
        unit: "ms".into(),
        timestamp: time(at),
        source: String::new(),
    };
    let late = "2026-11-28T12:00:00Z";
    let early = "2026-11-28T06:00:00Z";
    let mut baseline = Baseline::new([
        row("own", 1.0, late),
        row("p95_latency", 1.0, late),
        row("p95_latency[gone]", 1.0, late),
    ]);
    // Also an older test can be made the baseline.
    baseline.replace([
        row("p95_latency", 2.0, early),
        row("p95_latency[b]", 3.0, early),
    ]);
    let told: Vec<_> = baseline
        .measurements()
        .iter()
        .map(|m| (m.metric.as_str(), m.value))
        .collect();
    assert_eq!(
        told,
        [("own", 1.0), ("p95_latency", 2.0), ("p95_latency[b]", 3.0)]
    );
}
