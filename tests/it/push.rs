//! Profiles reach their backends, whatever happens in between, and what does not is counted.
//!
//! The backends are built from the official protocol definitions (`fixtures/push`) and refuse whatever breaks a rule.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use perfprof::profile::{canned, canned_with_waits};
use perfprof::push::{Batch, DropReason, Pusher, SinkConfig, SinkFigures, SinkKind};
use perfprof::store::pprof;
use serde_json::{Value, json};

use crate::support::backend::{Backend, PATIENCE, sink};
use crate::support::debuginfod::free_port;
use crate::support::proc::wait_until;
use crate::support::{Need, missing};

const BUDGET_BYTES: u64 = 64 << 20;

/// One batch of a hundred ticks and one second of CPU time.
pub(crate) fn batch(service: &str) -> Batch {
    Batch {
        service: service.to_owned(),
        labels: BTreeMap::from([
            ("namespace".to_owned(), "prod".to_owned()),
            ("pod".to_owned(), "shop-5d8f".to_owned()),
        ]),
        started_unix_ns: 1_700_000_000_000_000_000,
        duration_ns: 1_000_000_000,
        pprof_gz: pprof::encode(&canned()),
    }
}

pub(crate) fn start(folder: &Path, sinks: &[SinkConfig]) -> Pusher {
    Pusher::start(folder, sinks, BUDGET_BYTES).expect("a good folder")
}

pub(crate) fn only(pusher: &Pusher) -> SinkFigures {
    let mut figures = pusher.figures();
    assert_eq!(figures.len(), 1);
    figures.remove(0)
}

/// Waits until nothing is queued any more.
pub(crate) fn drained(pusher: &Pusher) -> SinkFigures {
    wait_until("the queue is empty", PATIENCE, || {
        pusher.figures().iter().all(|one| one.queued_items == 0)
    });
    only(pusher)
}

pub(crate) fn files_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".batch"))
        .count()
}

#[test]
fn every_backend_gets_exactly_what_was_recorded() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    let backends = SinkKind::ALL.map(|kind| Backend::start(kind, ""));
    let folder = tempfile::tempdir().expect("temporary folder");
    let sinks: Vec<SinkConfig> = backends.iter().map(Backend::sink).collect();
    let pusher = start(folder.path(), &sinks);
    let mut hostile = batch("shop \"\n\0\u{202e}é");
    for (name, value) in [
        ("app.kubernetes.io/name", "a\"}\r\nX-Evil: 1"),
        ("__name__", "evil"),
        ("service.name", "evil"),
        ("0", "\u{1b}[31m\0"),
        ("", "nameless"),
        ("empty", ""),
        ("host", &"é".repeat(1500)),
    ] {
        hostile.labels.insert(name.to_owned(), value.to_owned());
    }
    for i in 0..50 {
        hostile.labels.insert(format!("label-{i}"), "x".to_owned());
    }
    let waiting = Batch {
        pprof_gz: pprof::encode(&canned_with_waits()),
        ..batch("waiting")
    };
    for batch in [&batch("shop"), &hostile, &waiting] {
        pusher.offer(batch).expect("room");
    }
    for backend in &backends {
        let requests = backend.wait_for(3);
        for request in &requests {
            assert_eq!(request["problems"], json!([]), "{request}");
            assert_eq!(request["headers"]["authorization"], "Bearer hunter2");
        }
        let services: Vec<&Value> = requests.iter().map(|one| &one["service"]).collect();
        assert_eq!(services, ["shop", &hostile.service, "waiting"]);
        for request in &requests {
            let sums = &request["sums"];
            assert_eq!(sums["samples/count"], 100, "{request}");
            assert_eq!(sums["cpu/nanoseconds"], 1_000_000_000, "{request}");
        }
        assert_eq!(requests[2]["sums"]["off_cpu/nanoseconds"], 200_000_001);
    }
    let figures = pusher.finish(PATIENCE);
    for one in &figures {
        assert_eq!(
            (one.sent, one.queued_items, one.failures),
            (3, 0, 0),
            "{one:?}"
        );
        assert!(one.dropped.is_empty(), "{one:?}");
        assert_eq!(files_in(&folder.path().join(&one.sink)), 0);
    }
    labels_are_told_in_each_backend_s_words(&backends);
}

fn labels_are_told_in_each_backend_s_words(backends: &[Backend; 4]) {
    for (backend, kind) in backends.iter().zip(SinkKind::ALL) {
        let requests = backend.requests();
        let (labels, attributes) = (&requests[0]["labels"], &requests[0]["attributes"]);
        match kind {
            SinkKind::Pyroscope => assert_eq!(attributes, &json!({})),
            SinkKind::Parca => assert_eq!(attributes["process"], json!(["cron", "shop"])),
            SinkKind::OtlpGrpc | SinkKind::OtlpHttp => {
                assert_eq!(labels["k8s.namespace.name"], "prod");
                assert_eq!(labels["k8s.pod.name"], "shop-5d8f");
                assert_eq!(attributes["thread.name"], json!(["cron", "shop", "worker"]));
                assert_eq!(attributes["process.pid"], json!([100, 200]));
                assert_eq!(requests[0]["ids"].as_array().map(Vec::len), Some(2));
                assert_eq!(requests[0]["scope"], "perfprof");
                assert_eq!(
                    requests[1]["labels"]["app.kubernetes.io/name"],
                    "a\"}\r\nX-Evil: 1"
                );
                continue;
            }
        }
        let expected = json!({
            "__name__": "process_cpu",
            "service_name": "shop",
            "namespace": "prod",
            "pod": "shop-5d8f",
        });
        assert_eq!(labels, &expected);
        assert_eq!(
            requests[1]["labels"]["app_kubernetes_io_name"],
            "a\"}\r\nX-Evil: 1"
        );
    }
}

/// Some arrive, the backend dies, more are offered, it comes back.
fn comes_back(kind: SinkKind) {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    let mut backend = Backend::start(kind, "");
    let folder = tempfile::tempdir().expect("temporary folder");
    let pusher = start(folder.path(), &[backend.sink()]);
    let names: Vec<String> = (0..40).map(|i| format!("s{i:02}")).collect();
    for name in &names[..20] {
        pusher.offer(&batch(name)).expect("room");
    }
    backend.wait_for(2);
    backend.kill();
    let before = backend.services().len();
    for name in &names[20..] {
        pusher.offer(&batch(name)).expect("room");
    }
    wait_until("the loss is noticed", PATIENCE, || {
        only(&pusher).failures > 0
    });
    assert!(only(&pusher).last_error.is_some());
    backend.restart();
    assert_eq!(
        backend.wait_for_services(40),
        names,
        "in order, {before} before it died"
    );
    let figures = drained(&pusher);
    assert_eq!(
        (figures.sent, figures.dropped.len()),
        (40, 0),
        "{figures:?}"
    );
}

#[test]
fn an_otlp_receiver_over_grpc_that_dies_gets_everything_after_it_returns() {
    comes_back(SinkKind::OtlpGrpc);
}

#[test]
fn an_otlp_receiver_over_http_that_dies_gets_everything_after_it_returns() {
    comes_back(SinkKind::OtlpHttp);
}

#[test]
fn a_pyroscope_that_dies_gets_everything_after_it_returns() {
    comes_back(SinkKind::Pyroscope);
}

#[test]
fn a_parca_that_dies_gets_everything_after_it_returns() {
    comes_back(SinkKind::Parca);
}

#[test]
fn what_a_killed_process_had_queued_arrives_with_the_next_start() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut child = pushing_process(folder.path(), SinkKind::OtlpGrpc, &nobody, "hang");
    let queue = folder.path().join("otlp-grpc");
    wait_until("all is queued", PATIENCE, || {
        files_in(&queue) == ITEMS_OF_PROCESS
    });
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    fs::write(queue.join("99999999999999999999.batch"), "x").expect("not one of ours");
    fs::write(queue.join("00000000000000000000.batch"), "damaged").expect("writable");
    let backend = Backend::start(SinkKind::OtlpGrpc, "");
    let pusher = start(folder.path(), &[backend.sink()]);
    // Names of its batches; the first was damaged since.
    assert_eq!(
        backend.wait_for_services(ITEMS_OF_PROCESS - 1),
        ["p1", "p2", "p3", "p4"]
    );
    let figures = drained(&pusher);
    assert_eq!((figures.sent, figures.dropped.len()), (4, 1));
    assert_eq!(figures.dropped[&DropReason::Damaged], 1);
}

const ITEMS_OF_PROCESS: usize = 5;
const PROCESS: &str = "push::pushing_in_a_process_of_its_own";

/// This program again, which offers [`ITEMS_OF_PROCESS`] batches and then hangs or finishes.
fn pushing_process(folder: &Path, kind: SinkKind, url: &str, then: &str) -> std::process::Child {
    Command::new(std::env::current_exe().expect("known"))
        .args([PROCESS, "--exact", "--ignored", "--nocapture"])
        .env(
            "PERFPROF_TEST_PUSH",
            format!("{}\n{url}\n{then}", kind.id()),
        )
        .env("PERFPROF_TEST_FOLDER", folder)
        .env("SSL_CERT_FILE", folder.join("authority.pem"))
        .stdout(Stdio::null())
        .spawn()
        .expect("this very program")
}

#[test]
#[ignore = "what other tests start"]
fn pushing_in_a_process_of_its_own() {
    let Ok(asked) = std::env::var("PERFPROF_TEST_PUSH") else {
        return;
    };
    let [kind, url, then]: [&str; 3] = asked
        .split('\n')
        .collect::<Vec<_>>()
        .try_into()
        .expect("three lines");
    let kind = SinkKind::ALL.into_iter().find(|one| one.id() == kind);
    let folder = PathBuf::from(std::env::var_os("PERFPROF_TEST_FOLDER").expect("given"));
    let pusher = start(&folder, &[sink(kind.expect("a kind"), url)]);
    for i in 0..ITEMS_OF_PROCESS {
        pusher.offer(&batch(&format!("p{i}"))).expect("room");
    }
    if then == "hang" {
        loop {
            std::thread::park();
        }
    }
    wait_until("all is sent", PATIENCE, || only(&pusher).queued_items == 0);
    let figures = pusher.finish(PATIENCE);
    assert_eq!(figures[0].sent, ITEMS_OF_PROCESS as u64, "{figures:?}");
}

#[test]
fn over_tls_the_machine_s_authorities_are_trusted_and_no_others() {
    if missing(&[Need::PyGrpc, Need::Program("openssl")]) {
        return;
    }
    for kind in [SinkKind::OtlpGrpc, SinkKind::OtlpHttp] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let [cert, key] = ["authority.pem", "key.pem"].map(|name| folder.path().join(name));
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost",
            ])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-out")
            .arg(&cert)
            .arg("-keyout")
            .arg(&key)
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{made:?}");
        let backend = Backend::start_with(kind, "", Some([cert, key]));
        let mut child = pushing_process(folder.path(), kind, &backend.url(), "finish");
        assert!(child.wait().expect("it is our child").success());
        assert_eq!(backend.services().len(), ITEMS_OF_PROCESS);
        // Here nobody trusts it.
        let other = tempfile::tempdir().expect("temporary folder");
        let pusher = start(other.path(), &[backend.sink()]);
        pusher.offer(&batch("secret")).expect("room");
        wait_until("it fails", PATIENCE, || only(&pusher).failures > 0);
        let why = only(&pusher).last_error.expect("it failed");
        assert!(why.contains("certificate"), "{why}");
        assert!(!backend.services().contains(&"secret".to_owned()));
    }
}

/// The judge is judged: a request that breaks one rule is refused.
#[test]
fn the_backend_refuses_whatever_breaks_a_rule() {
    use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest as Request;
    use opentelemetry_proto::tonic::profiles::v1development::{Profile, ProfilesDictionary};

    if missing(&[Need::PyGrpc]) {
        return;
    }
    fn tables(request: &mut Request) -> &mut ProfilesDictionary {
        request.dictionary.as_mut().expect("one")
    }
    fn first(request: &mut Request) -> &mut Profile {
        &mut request.resource_profiles[0].scope_profiles[0].profiles[0]
    }
    type Break = (&'static str, fn(&mut Request));
    let breaks: [Break; 10] = [
        ("string_table[0]", |r| {
            tables(r).string_table[0] = "x".into()
        }),
        ("mapping_table[0]", |r| {
            drop(tables(r).mapping_table.remove(0))
        }),
        ("stack 99999", |r| first(r).samples[0].stack_index = 99999),
        ("outside of its mapping", |r| {
            tables(r).location_table[1].address = u64::MAX;
        }),
        ("attribute 99999", |r| {
            first(r).samples[0].attribute_indices.push(99999);
        }),
        ("there twice", |r| {
            let known = first(r).samples[0].attribute_indices[0];
            first(r).samples[0].attribute_indices.push(known);
        }),
        ("nothing refers to", |r| {
            tables(r).string_table.push("x".into())
        }),
        ("not one value", |r| first(r).samples[0].values.clear()),
        ("no profile ID", |r| first(r).profile_id.clear()),
        ("no service.name", |r| {
            r.resource_profiles[0].resource = None
        }),
    ];
    let backend = Backend::start(SinkKind::OtlpHttp, "");
    let good = perfprof::push::export_request(&batch("shop"), &canned()).expect("small");
    let post = |request: &Request| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let bytes = prost::Message::encode_to_vec(request);
        std::io::Write::write_all(&mut gzip, &bytes).expect("memory");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build();
        let answer = agent
            .new_agent()
            .post(format!("{}/v1development/profiles", backend.url()))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "gzip")
            .send(&gzip.finish().expect("memory")[..]);
        answer.expect("an answer").status().as_u16()
    };
    assert_eq!(post(&good), 200);
    for (rule, break_it) in breaks {
        let mut bad = good.clone();
        break_it(&mut bad);
        assert_eq!(post(&bad), 400, "{rule}");
        let requests = backend.requests();
        let problem = requests.last().expect("just now")["problems"][0].to_string();
        assert!(problem.contains(rule), "{rule}: {problem}");
    }
}
