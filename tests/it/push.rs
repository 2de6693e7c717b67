//! Profiles reach their backends, whatever happens in between, and what does not is counted.
//!
//! The backends are built from the official protocol definitions (`fixtures/push`) and refuse whatever breaks a rule.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

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
fn batch(service: &str) -> Batch {
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

fn start(folder: &Path, sinks: &[SinkConfig]) -> Pusher {
    Pusher::start(folder, sinks, BUDGET_BYTES).expect("a good folder")
}

fn only(pusher: &Pusher) -> SinkFigures {
    let mut figures = pusher.figures();
    assert_eq!(figures.len(), 1);
    figures.remove(0)
}

/// Waits until nothing is queued any more.
fn drained(pusher: &Pusher) -> SinkFigures {
    wait_until("the queue is empty", PATIENCE, || {
        pusher.figures().iter().all(|one| one.queued_items == 0)
    });
    only(pusher)
}

fn files_in(folder: &Path) -> usize {
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
    while then == "hang" {
        std::thread::park();
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

/// What a backend that gives `answers` first, and then takes all, makes of two batches.
fn judged(kind: SinkKind, answers: &str) -> (SinkFigures, Vec<Value>) {
    let backend = Backend::start(kind, answers);
    let folder = tempfile::tempdir().expect("temporary folder");
    let pusher = start(folder.path(), &[backend.sink()]);
    for name in ["one", "two"] {
        pusher.offer(&batch(name)).expect("room");
    }
    (drained(&pusher), backend.requests())
}

#[test]
fn a_busy_backend_is_left_alone_for_as_long_as_it_asks() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    for (kind, answer) in [
        (SinkKind::OtlpHttp, "429:2"),
        (SinkKind::OtlpHttp, "503:2"),
        (SinkKind::Pyroscope, "429:2"),
        (SinkKind::OtlpGrpc, "RESOURCE_EXHAUSTED:2"),
        (SinkKind::OtlpGrpc, "UNAVAILABLE:2"),
        (SinkKind::Parca, "UNAVAILABLE:2"),
    ] {
        let (figures, requests) = judged(kind, answer);
        assert_eq!(
            (figures.sent, figures.failures),
            (2, 1),
            "{answer}: {figures:?}"
        );
        assert!(figures.dropped.is_empty(), "{answer}: {figures:?}");
        let at = |ix: usize| requests[ix]["at"].as_f64().expect("a number");
        assert!(at(1) - at(0) >= 2.0, "{answer}: {requests:?}");
        assert_eq!(requests[1]["service"], "one");
        assert_eq!(requests[0]["ids"], requests[1]["ids"], "known by its ID");
    }
}

#[test]
fn what_is_rejected_is_counted_and_not_sent_again() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    for (kind, answer) in [
        (SinkKind::OtlpHttp, "400"),
        (SinkKind::OtlpHttp, "500"),
        (SinkKind::OtlpHttp, "413"),
        (SinkKind::Pyroscope, "401"),
        (SinkKind::OtlpGrpc, "INVALID_ARGUMENT"),
        (SinkKind::OtlpGrpc, "RESOURCE_EXHAUSTED"),
        (SinkKind::Parca, "UNAUTHENTICATED"),
    ] {
        let (figures, requests) = judged(kind, answer);
        assert_eq!(
            (figures.sent, figures.failures),
            (1, 0),
            "{answer}: {figures:?}"
        );
        assert_eq!(figures.dropped, BTreeMap::from([(DropReason::Rejected, 1)]));
        assert_eq!(requests.len(), 2, "{answer}");
        let why = figures.last_error.expect("it was rejected");
        assert!(why.contains(answer) && why.contains("told to"), "{why}");
    }
}

#[test]
fn what_fails_by_accident_is_sent_again() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    for (kind, answers) in [
        (SinkKind::OtlpHttp, "502,504,reset"),
        (SinkKind::Pyroscope, "500,reset"),
        (SinkKind::OtlpGrpc, "ABORTED,DATA_LOSS"),
    ] {
        let (figures, _) = judged(kind, answers);
        let failures = answers.split(',').count() as u64;
        assert_eq!(
            (figures.sent, figures.failures),
            (2, failures),
            "{figures:?}"
        );
        assert!(figures.dropped.is_empty(), "{figures:?}");
    }
}

#[test]
fn a_partial_success_is_a_success_and_what_was_left_out_is_counted() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    for kind in [SinkKind::OtlpHttp, SinkKind::OtlpGrpc] {
        let (figures, _) = judged(kind, "partial:2");
        assert_eq!(figures.sent, 2);
        assert_eq!(
            figures.dropped,
            BTreeMap::from([(DropReason::PartlyRejected, 2)])
        );
        assert!(
            figures
                .last_error
                .expect("a note")
                .contains("left some out")
        );
    }
}

#[test]
fn a_redirect_gets_neither_profile_nor_token() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a free port");
    elsewhere.set_nonblocking(true).expect("a socket");
    let address = elsewhere.local_addr().expect("bound");
    for status in [302, 307, 308] {
        let answer = format!("{status}=http://{address}/");
        let (figures, _) = judged(SinkKind::OtlpHttp, &answer);
        assert_eq!(figures.dropped, BTreeMap::from([(DropReason::Rejected, 1)]));
        let why = figures.last_error.expect("it was rejected");
        assert!(why.contains("redirects are not followed"), "{why}");
    }
    assert!(elsewhere.accept().is_err(), "nobody came");
}

#[test]
fn a_batch_that_its_backend_fails_at_holds_up_no_others_for_ever() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    let backend = Backend::start(SinkKind::Pyroscope, "poison?reset");
    let folder = tempfile::tempdir().expect("temporary folder");
    let pusher = start(folder.path(), &[backend.sink()]);
    pusher.offer(&batch("poison")).expect("room");
    for i in 0..20 {
        pusher.offer(&batch(&format!("s{i}"))).expect("room");
    }
    let figures = drained(&pusher);
    assert_eq!(figures.sent, 20, "{figures:?}");
    assert_eq!(figures.dropped, BTreeMap::from([(DropReason::Poison, 1)]));
}

#[test]
fn a_backend_that_never_answers_does_not_hold_up_the_end() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    for kind in [SinkKind::OtlpHttp, SinkKind::OtlpGrpc] {
        let backend = Backend::start(kind, "hang");
        let folder = tempfile::tempdir().expect("temporary folder");
        let pusher = start(folder.path(), &[backend.sink()]);
        pusher.offer(&batch("one")).expect("room");
        backend.wait_for(1);
        let figures = pusher.finish(Duration::from_millis(500));
        assert_eq!((figures[0].sent, figures[0].queued_items), (0, 1));
        assert_eq!(files_in(&folder.path().join(kind.id())), 1);
    }
}

#[test]
fn over_budget_the_newest_stay_and_the_others_are_counted() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let url = format!("http://127.0.0.1:{}", free_port());
    let sinks = [sink(SinkKind::OtlpHttp, &url), sink(SinkKind::Parca, &url)];
    let size = batch("s00").pprof_gz.len() as u64;
    let budget = 10 * (size + 300);
    let pusher = Pusher::start(folder.path(), &sinks, budget).expect("a good folder");
    for i in 0..30 {
        pusher.offer(&batch(&format!("s{i:02}"))).expect("room");
    }
    let figures = pusher.finish(PATIENCE);
    let queued: u64 = figures.iter().map(|one| one.queued_bytes).sum();
    assert!(queued <= budget && queued > budget / 2, "{figures:?}");
    for one in &figures {
        assert_eq!(one.queued_items + one.dropped[&DropReason::Budget], 30);
        assert_eq!(
            one.queued_items,
            files_in(&folder.path().join(&one.sink)) as u64
        );
    }
}

#[test]
fn a_full_disk_is_counted_and_what_comes_when_there_is_room_again_arrives() {
    if missing(&[Need::PyGrpc, Need::Root, Need::Program("mount")]) {
        return;
    }
    let disk = SmallDisk::mount();
    let backend = Backend::start(SinkKind::OtlpHttp, "");
    let pusher = start(&disk.folder.path().join("push"), &[backend.sink()]);
    pusher.offer(&batch("before")).expect("room");
    drained(&pusher);
    let filler = disk.folder.path().join("filler");
    let filled = fs::write(&filler, vec![1; 1 << 20]).expect_err("more than fits");
    assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull);
    let error = pusher.offer(&batch("lost")).expect_err("the disk is full");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    fs::remove_file(&filler).expect("it is ours");
    pusher.offer(&batch("after")).expect("room again");
    assert_eq!(backend.wait_for_services(2), ["before", "after"]);
    let figures = drained(&pusher);
    assert_eq!(figures.dropped, BTreeMap::from([(DropReason::Disk, 1)]));
}

/// A file system of 256 KiB.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> SmallDisk {
        let folder = tempfile::tempdir().expect("temporary folder");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "none"])
            .arg(folder.path())
            .status();
        assert!(status.expect("mount runs").success());
        SmallDisk { folder }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
    }
}
