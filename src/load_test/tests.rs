//! Files that the tools have written (`fixtures/load_tests`), and damaged ones.

use super::*;

fn fixture(name: &str) -> LoadTest {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/load_tests")
        .join(name);
    read(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs()
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
    ];
    for (name, tool, requests, rate) in expected {
        let test = fixture(name);
        assert_eq!((test.tool, test.requests), (tool, requests), "{name}");
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
    let error = |text: &str| {
        from_bytes(text.as_bytes())
            .expect_err("damaged")
            .to_string()
    };
    assert_eq!(error(""), "it is empty");
    assert_eq!(error("hello"), ContentError::Unknown.to_string());
    assert!(error("{\n \"requests\": }").starts_with("line 2, column 14: "));
    assert!(error("Type,Name,Request Count,\nGET,/,1\n").starts_with("line 1: no row"));
    let rows = "response-time,status-code,offset\n0.1,200,0.1\n0.1,x,0.2\n";
    assert_eq!(error(rows), "line 3: column 2 is no number");
    assert_eq!(from_bytes(b"ab\xff"), Err(ContentError::NotText { at: 2 }));
    assert!(from_bytes(&b"[".repeat(100_000)).is_err(), "deep nesting");
    // Cut anywhere: an error or a test, never a panic.
    for name in [
        "wrk-5s.txt",
        "hey-5s.txt",
        "locust_stats.csv",
        "oha-5s.json",
        "hey-5s.csv",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/load_tests")
            .join(name);
        let bytes = std::fs::read(path).expect("a fixture");
        for end in (0..bytes.len().min(3000)).step_by(7) {
            let _ = from_bytes(&bytes[..end]);
        }
    }
}
