//! Files that the tools have written (`fixtures/load_tests`), and damaged ones.

use super::*;

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/load_tests")
        .join(name)
}

fn fixture(name: &str) -> LoadTest {
    read(&path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn split(name: &str, split: Split) -> Vec<LoadTest> {
    read_split(&path(name), split).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn error(text: &str) -> String {
    let error = all_from_bytes(text.as_bytes(), Split::Scenarios);
    error.expect_err("damaged").to_string()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs()
}

#[test]
fn a_name_that_nobody_can_read_is_refused_by_its_field() {
    let name = "x".repeat(100_000);
    for field in ["scenario", "service", "tool"] {
        let said = error(&format!(r#"{{"throughput": 5, "{field}": "{name}"}}"#));
        assert_eq!(said, format!("`{field}` has more than 2,000 characters"));
    }
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("results.json");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let error = read_all(&path).expect_err("no regular file");
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("is not a regular file"));
}

#[test]
fn what_tools_write_beside_their_results_is_named() {
    for head in [
        "Method,Name,Error,Occurrences",
        "Count,Message,Traceback,Nodes",
    ] {
        let error = all_from_bytes(head.as_bytes(), Split::Scenarios).expect_err("no result");
        assert!(
            error.is_beside() && error.to_string().contains("_stats.csv"),
            "{error}"
        );
    }
    for first in [
        r#"{"type":"Metric","data":{"name":"http_reqs","type":"counter"},"metric":"http_reqs"}"#,
        r#"{"metric":"http_reqs","type":"Point","data":{"value":1}}"#,
        "metric_name,timestamp,metric_value,check,error",
    ] {
        let said = error(&format!("{first}\n{first}\n"));
        assert!(said.contains("--summary-export"), "{said}");
    }
}

#[test]
fn every_tool_is_told_by_its_content_and_its_throughput_read() {
    let expected = [
        (
            "k6-summary-export.json",
            "k6",
            Some(275),
            54.146_228_826_388_44,
        ),
        (
            "k6-summary-export-legacy.json",
            "k6",
            Some(60),
            57.798_969_911_382_16,
        ),
        (
            "k6-handlesummary.json",
            "k6",
            Some(248),
            49.535_332_010_435_965,
        ),
        (
            "locust_stats.csv",
            "locust",
            Some(99),
            31.854_092_707_143_877,
        ),
        ("wrk-5s.txt", "wrk", Some(65264), 12927.12),
        ("hey-5s.txt", "hey", Some(1975), 394.3069),
        ("oha-5s.json", "oha", Some(1001), 200.107_604_794_895_87),
        // 200 requests from 1795265094.323 to 1795265099.268.
        (
            "artillery-report.json",
            "artillery",
            Some(200),
            200.0 / 4.945,
        ),
        // The earliest of the endpoints began at 48.7641835, the last request was at 51.7798438.
        ("locust.json", "locust", Some(99), 99.0 / 3.015_660_3),
        ("locust_stats_history.csv", "locust", Some(99), 99.0 / 4.0),
        // Ten samples from 1700000000000 to 1700000004100.
        ("jmeter.csv", "jmeter", Some(10), 10.0 / 4.1),
        ("jmeter-semicolons.csv", "jmeter", Some(10), 10.0 / 4.1),
        ("jmeter-no-header.csv", "jmeter", Some(10), 10.0 / 4.1),
        ("jmeter.xml", "jmeter", Some(10), 10.0 / 4.1),
    ];
    for (name, tool, requests, rate) in expected {
        let test = fixture(name);
        assert_eq!(
            (test.tool.as_str(), test.requests),
            (tool, requests),
            "{name}"
        );
        assert!(near(test.throughput_per_second, rate), "{name}: {test:?}");
    }
    // One row a request: 474 of them in 5.02 s.
    let rows = fixture("hey-5s.csv");
    assert_eq!(rows.requests, Some(474));
    assert!(
        (94.0..95.0).contains(&rows.throughput_per_second),
        "{rows:?}"
    );
}

#[test]
fn times_are_milliseconds_and_errors_are_failed_requests() {
    let k6 = fixture("k6-summary-export.json");
    assert_eq!((k6.errors, k6.peak_concurrency), (Some(24), Some(3)));
    assert!(near(k6.error_rate.expect("a rate"), 24.0 / 275.0));
    let wrk = fixture("wrk-5s.txt").latency;
    assert_eq!(
        (wrk.p50_ms, wrk.p99_ms, wrk.max_ms),
        (Some(0.213), Some(9.4), Some(23.04))
    );
    let oha = fixture("oha-5s.json").latency;
    assert!(near(oha.p95_ms.expect("p95"), 0.127_019));
    assert!(near(
        fixture("hey-5s.txt").latency.p99_ms.expect("p99"),
        9.2
    ));
    let locust = fixture("locust_stats.csv");
    assert_eq!(
        (locust.errors, locust.latency.p95_ms),
        (Some(14), Some(220.0))
    );
}

#[test]
fn the_normalized_form_needs_a_rate_or_what_makes_one() {
    let rate = |text: &str| from_bytes(text.as_bytes()).map(|test| test.throughput_per_second);
    assert_eq!(rate(r#"{"throughput_per_second": 120}"#), Ok(120.0));
    assert_eq!(rate(r#"{"throughput": 7.5, "requests": 1}"#), Ok(7.5));
    assert_eq!(rate(r#"{"requests": 600, "duration": 60}"#), Ok(10.0));
    for bad in [
        "{}",
        r#"{"requests": 600}"#,
        r#"{"throughput": 0}"#,
        r#"{"throughput": "x"}"#,
        "[]",
    ] {
        let error = rate(bad).expect_err("no rate");
        assert!(
            error.to_string().starts_with("`throughput"),
            "{bad}: {error}"
        );
    }
}

#[test]
fn a_damaged_file_is_refused_with_its_position() {
    assert_eq!(error(""), "it is empty");
    assert_eq!(error("hello"), ContentError::Unknown.to_string());
    assert!(error("{\n \"requests\": }").starts_with("line 2, column 14: "));
    let head = "Type,Name,Request Count,Failure Count,Requests/s";
    assert!(error(&format!("{head}\nGET,/,1,0,2\n")).starts_with("line 1: no row"));
    assert_eq!(
        error(&format!("{head}\n,Aggregated,1,x,2\n")),
        "line 2: column 4 (`Failure Count`) is no number"
    );
    let rows = "response-time,status-code,offset\n0.1,200,0.1\n0.1,x,0.2\n";
    assert_eq!(error(rows), "line 3: column 2 (`status-code`) is no number");
    assert_eq!(from_bytes(b"ab\xff"), Err(ContentError::NotText { at: 2 }));
    assert!(from_bytes(&b"[".repeat(100_000)).is_err(), "deep nesting");
    // Cut anywhere: an error or a test, never a panic.
    for entry in std::fs::read_dir(path("")).expect("the fixtures") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a fixture");
        for end in (0..bytes.len().min(3000)).step_by(7) {
            let _ = all_from_bytes(&bytes[..end], Split::Endpoints);
        }
    }
}

#[test]
fn a_field_that_is_wrong_or_missing_is_named() {
    let k6 = |metrics: &str| {
        error(&format!(
            r#"{{"root_group": {{}}, "metrics": {{{metrics}}}}}"#
        ))
    };
    assert_eq!(k6(""), "`metrics.http_reqs.rate` is missing");
    assert_eq!(
        k6(r#""http_reqs": {"rate": "fast"}"#),
        "`metrics.http_reqs.rate` is no number of 0 or more"
    );
    let threshold = r#""http_reqs": {"rate": 1, "count": 1, "thresholds": {"rate>0": "yes"}}"#;
    assert!(k6(threshold).starts_with("`metrics.http_reqs.thresholds.rate>0` is neither"));
    let oha = r#"{"summary": {"requestsPerSec": 1}, "statusCodeDistribution": {"200": -1}}"#;
    assert!(error(oha).starts_with("`statusCodeDistribution.200` "));
    assert_eq!(
        error(r#"{"aggregate": {}}"#),
        "`aggregate.counters.http.requests` is missing"
    );
    assert_eq!(
        error(r#"[{"num_requests": 1}]"#),
        "`[0].num_failures` is missing"
    );
    assert_eq!(
        error("Running 5s test @ http://x\n  1 threads and 8 connections\n"),
        "`requests in` is missing or no number"
    );
    let later = r#"{"version": "1", "metadata": {}, "results": {}}"#;
    assert!(error(later).starts_with("`results` "), "{}", error(later));
    let scenario = |fields: &str| {
        error(&format!(
            r#"{{"scenarios": [{{"throughput": 1}}, {{{fields}}}]}}"#
        ))
    };
    let mut wrong = vec![];
    for fields in [
        r#""scenario": "a", "throughput": "x""#,
        r#""scenario": "a", "throughput": 1, "peak_concurrency": 1.5"#,
        r#""scenario": 7, "throughput": 1"#,
        r#""scenario": "a", "throughput": 1, "latency": 3"#,
        r#""scenario": "a", "throughput": 1, "latency": {"p95_ms": null, "p99": "1s"}"#,
        r#""scenario": "a""#,
    ] {
        wrong.push(scenario(fields).split('`').nth(1).unwrap_or("").to_owned());
    }
    assert_eq!(
        wrong,
        [
            "scenarios[1].throughput",
            "scenarios[1].peak_concurrency",
            "scenarios[1].scenario",
            "scenarios[1].latency",
            "scenarios[1].latency.p99",
            "scenarios[1].throughput_per_second",
        ]
    );
    assert_eq!(
        error(r#"{"schema": "perfprof.load-test", "schema_version": 2, "scenarios": []}"#),
        "`schema_version` is not 1"
    );
    assert_eq!(
        error(r#"{"scenarios": [{"throughput": 1}, {"throughput": 2}]}"#),
        "`scenarios` holds two scenarios of one name"
    );
    assert_eq!(
        error(r#"{"scenarios": []}"#),
        "`scenarios` holds no scenario"
    );
}

#[test]
fn figures_that_contradict_each_other_are_refused() {
    let test = |fields: &str| {
        error(&format!(
            r#"{{"scenario": "a", "throughput": 9, {fields}}}"#
        ))
    };
    assert_eq!(
        test(r#""requests": 1, "errors": 2"#),
        "`errors of a` are more than the requests"
    );
    assert_eq!(
        test(r#""error_rate": 2"#),
        "`error_rate of a` is not between 0 and 1"
    );
    assert_eq!(
        test(r#""latency": {"p50_ms": 5, "p95_ms": 4}"#),
        "`latency.p50_ms of a` is above a higher percentile"
    );
}

#[test]
fn a_crossed_threshold_is_told_whichever_way_the_tool_writes_it() {
    // One script with the same thresholds: `true` in the first file and `{ok: false}` in the second mean the same.
    let failed = ["http_req_failed: rate<0.001"];
    for name in [
        "k6-summary-export.json",
        "k6-summary-export-legacy.json",
        "k6-handlesummary.json",
    ] {
        assert_eq!(fixture(name).thresholds_failed, failed, "{name}");
    }
}

#[test]
fn scenarios_of_one_k6_run_are_told_apart_where_they_are_tagged() {
    let tests = split("k6-scenarios.json", Split::Scenarios);
    let told: Vec<_> = tests
        .iter()
        .map(|test| (test.scenario.as_deref(), test.requests, test.errors))
        .collect();
    // k6 printed these counts.
    let expected = [
        (Some("browse"), Some(253), Some(0)),
        (Some("pay"), Some(170), Some(31)),
    ];
    assert_eq!(told, expected);
    assert!(
        near(tests[1].throughput_per_second, 42.106_622),
        "{tests:?}"
    );
    assert!(near(tests[1].error_rate.expect("a rate"), 31.0 / 170.0));
    assert_eq!(tests[0].thresholds_failed, [""; 0]);
    let crossed = [
        "http_req_duration{scenario:pay}: p(95)<1",
        "http_req_failed{scenario:pay}: rate<0.01",
    ];
    assert_eq!(tests[1].thresholds_failed, crossed);
    let other_shape = split("k6-handlesummary-scenarios.json", Split::Scenarios);
    assert_eq!(other_shape[1].thresholds_failed, crossed);
    assert_eq!(other_shape[0].thresholds_failed, [""; 0]);
    let whole = fixture("k6-scenarios.json");
    assert_eq!(
        whole.requests,
        Some(tests.iter().filter_map(|t| t.requests).sum())
    );
    assert_eq!((whole.scenario, whole.peak_concurrency), (None, Some(5)));
    assert!(tests.iter().all(|test| test.peak_concurrency.is_none()));
}

#[test]
fn locust_in_three_files_is_one_test() {
    let csv = fixture("locust_stats.csv");
    let json = fixture("locust.json");
    assert_eq!(
        csv.latency,
        Latency {
            max_ms: csv.latency.max_ms,
            ..json.latency
        }
    );
    assert_eq!((csv.requests, csv.errors), (json.requests, json.errors));
    let history = fixture("locust_stats_history.csv");
    assert_eq!(
        (history.peak_concurrency, history.duration_seconds),
        (Some(4), Some(4.0))
    );
    assert_eq!(
        (history.requests, history.errors),
        (csv.requests, csv.errors)
    );
    let mut whole = csv.clone();
    complete_by_history(&mut whole, &history);
    assert_eq!(whole.peak_concurrency, Some(4));
    assert_eq!(whole.start.as_deref(), Some("2026-11-21T12:44:08Z"));
    assert_eq!(whole.throughput_per_second, csv.throughput_per_second);

    // What Locust wrote of six users.
    let mut six = fixture("locust-six-users_stats.csv");
    complete_by_history(&mut six, &fixture("locust-six-users_stats_history.csv"));
    assert_eq!(
        (six.peak_concurrency, six.requests, six.errors),
        (Some(6), Some(419), Some(38))
    );

    let endpoints = split("locust_stats.csv", Split::Endpoints);
    let names: Vec<_> = endpoints
        .iter()
        .filter_map(|t| t.scenario.as_deref())
        .collect();
    assert_eq!(names, ["GET /", "GET /err"]);
    assert_eq!(endpoints[1].error_rate, Some(1.0));
    let from_json = split("locust.json", Split::Endpoints);
    for (a, b) in endpoints.iter().zip(&from_json) {
        assert_eq!(
            (&a.scenario, a.requests, a.latency),
            (&b.scenario, b.requests, b.latency)
        );
    }
}

#[test]
fn jmeter_says_the_same_in_every_form() {
    let csv = fixture("jmeter.csv");
    // Ten samples of 100, 200, … 1000 ms, one of them failed, three users at most; a transaction's sample is not counted.
    assert_eq!((csv.errors, csv.peak_concurrency), (Some(1), Some(3)));
    assert_eq!(csv.latency.p50_ms, Some(500.0));
    assert_eq!(
        (csv.latency.p95_ms, csv.latency.max_ms),
        (Some(1000.0), Some(1000.0))
    );
    assert_eq!(csv.start.as_deref(), Some("2023-11-14T22:13:20Z"));
    for name in ["jmeter.xml", "jmeter-no-header.csv"] {
        assert_eq!(fixture(name), csv, "{name}");
    }
    // Times without a zone, other columns in another order, no users.
    let other = fixture("jmeter-semicolons.csv");
    assert_eq!((other.start, other.peak_concurrency), (None, None));
    assert_eq!((other.latency, other.errors), (csv.latency, csv.errors));
    for name in ["jmeter.csv", "jmeter.xml"] {
        let labels = split(name, Split::Endpoints);
        let told: Vec<_> = labels
            .iter()
            .map(|t| (t.scenario.as_deref(), t.requests))
            .collect();
        assert_eq!(
            told,
            [(Some("GET /, all"), Some(6)), (Some("POST /pay"), Some(4))],
            "{name}"
        );
    }
}

#[test]
fn jmeter_s_mistakes_are_placed() {
    let head = "timeStamp,elapsed,label,success\n";
    assert_eq!(
        error(&format!(
            "{head}1700000000000,1,a,true\n1700000000000,x,a,true\n"
        )),
        "line 3: column 2 (`elapsed`) is no number"
    );
    assert_eq!(
        error(&format!("{head}1700000000000,1,a,maybe\n")),
        "line 2: column 4 (`success`) is neither `true` nor `false`"
    );
    assert_eq!(
        error(&format!("{head}yesterday,1,a,true\n")),
        "line 2: column 1 (`timeStamp`) is no time"
    );
    assert!(error(&format!("{head}1700000000000,1\n")).starts_with("line 2: 2 fields"));
    assert_eq!(
        error("timeStamp,label,success\n1,a,true\n"),
        "line 1: no column is called `elapsed`"
    );
    assert_eq!(error(head), "`elapsed` is missing: there is no sample");
    let xml = |inside: &str| {
        error(&format!(
            "<?xml version=\"1.0\"?>\n<testResults version=\"1.2\">\n{inside}"
        ))
    };
    assert!(
        xml("<sample t=\"1\" ts=\"2\" s=\"true\"/>\n").starts_with("line 4: the file ends before")
    );
    assert_eq!(
        xml("<sample t=\"1\" s=\"true\"/>\n</testResults>"),
        "line 3: attribute `ts` is missing"
    );
    assert_eq!(
        xml("<sample t=\"x\" ts=\"1\" s=\"true\"/>\n</testResults>"),
        "line 3: attribute `t` is no number"
    );
    assert_eq!(
        error("<html>\n</html>"),
        "line 1: the root is not `<testResults>`"
    );
    assert!(xml("<sample t=\"1\" ts=\"1\" s=\"true\"></testResults>").contains("is no XML"));
    // An entity of the document's own is not expanded, however often it names itself.
    let bomb = "<!DOCTYPE x [<!ENTITY a \"&a;&a;\">]>\n<testResults><sample t=\"&a;\" ts=\"1\" s=\"true\"/></testResults>";
    assert_eq!(error(bomb), "line 2: attribute `t` cannot be read");
}

#[test]
fn what_is_no_response_is_an_error() {
    let wrk = |extra: &str| {
        let text = format!(
            "Running 5s test @ http://x\n  1 threads and 8 connections\n  90 requests in 5.00s, 1MB read\n{extra}Requests/sec: 18\n"
        );
        from_bytes(text.as_bytes()).expect("wrk")
    };
    assert_eq!((wrk("").requests, wrk("").errors), (Some(90), Some(0)));
    let broken = wrk(
        "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n",
    );
    assert_eq!((broken.requests, broken.errors), (Some(100), Some(15)));
    let wrk2 = wrk(
        "  Latency Distribution (HdrHistogram - Recorded Latency)\n 50.000%    1.20ms\n 99.000%    1.50m\n",
    );
    assert_eq!(
        (wrk2.latency.p50_ms, wrk2.latency.p99_ms),
        (Some(1.2), Some(90_000.0))
    );
    let hey = "Summary:\n  Total:\t1.0 secs\n  Requests/sec:\t10\n\nStatus code distribution:\n  [200]\t5 responses\n  [503]\t2 responses\n\n\
               Error distribution:\n  [3]\tGet \"http://x\": connection refused\n";
    let hey = from_bytes(hey.as_bytes()).expect("hey");
    assert_eq!((hey.requests, hey.errors), (Some(10), Some(5)));
    let artillery = fixture("artillery-report.json");
    assert_eq!(
        (artillery.errors, artillery.scenario.as_deref()),
        (Some(100), Some("browse"))
    );
    assert_eq!(artillery.start.as_deref(), Some("2026-11-21T12:44:54.323Z"));
    let older = r#"{"aggregate": {"requestsCompleted": 90, "rps": {"mean": 9}, "codes": {"200": 80, "500": 10},
                    "errors": {"ETIMEDOUT": 10}, "latency": {"median": 3, "p95": 7, "p99": 9, "max": 11}}}"#;
    let older = from_bytes(older.as_bytes()).expect("version 1");
    assert_eq!(
        (older.requests, older.errors, older.duration_seconds),
        (Some(100), Some(20), Some(10.0))
    );
}

#[test]
fn the_normalized_form_is_read_back_as_it_was_written_and_conforms_to_its_schema() {
    let mut tests = split("k6-scenarios.json", Split::Scenarios);
    tests.push(LoadTest {
        service: Some("api".into()),
        source: Some(Source {
            file: "x.json".into(),
            written_at: Some("2026-01-01T00:00:00Z".into()),
        }),
        ..fixture("k6-handlesummary.json")
    });
    let document = document(&tests);
    let schema = include_str!("../../schemas/load-test-results.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<_> = validator
        .iter_errors(&document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let mut bad = document.clone();
    bad["scenarios"][0]["throughput_per_second"] = "fast".into();
    assert!(!validator.is_valid(&bad));
    let again = all_from_bytes(document.to_string().as_bytes(), Split::Scenarios);
    assert_eq!(again, Ok(tests));
    assert!(
        from_bytes(document.to_string().as_bytes()).is_err(),
        "which of them?"
    );
}
