//! What backends answer, and what happens when they do not, or when there is no room: every batch arrives, waits or is counted.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use perfprof::push::{DropReason, Pusher, SinkFigures, SinkKind};
use serde_json::Value;

use crate::push::{batch, drained, files_in, only, start};
use crate::support::backend::{Backend, PATIENCE, sink};
use crate::support::debuginfod::free_port;
use crate::support::proc::wait_until;
use crate::support::{Need, missing};

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

#[test]
fn what_can_be_sent_is_sent_at_the_end_unless_the_backend_asked_to_be_left_alone() {
    if missing(&[Need::PyGrpc]) {
        return;
    }
    for (answers, sent) in [("", 5), ("429:3600", 0)] {
        let backend = Backend::start(SinkKind::OtlpHttp, answers);
        let folder = tempfile::tempdir().expect("temporary folder");
        let pusher = start(folder.path(), &[backend.sink()]);
        for i in 0..5 {
            pusher.offer(&batch(&format!("s{i}"))).expect("room");
        }
        if !answers.is_empty() {
            wait_until("it is told to wait", PATIENCE, || {
                only(&pusher).failures > 0
            });
        }
        let figures = pusher.finish(PATIENCE);
        assert_eq!(figures[0].sent, sent, "{figures:?}");
        assert_eq!(figures[0].queued_items, 5 - sent, "{figures:?}");
    }
}
