//! What the agent records reaches a backend, also one that was away for a while.

use perfprof::push::SinkKind;
use serde_json::{Value, json};

use super::{busy, folder};
use crate::support::agent::AgentCommand;
use crate::support::backend::Backend;
use crate::support::{Need, missing};

#[test]
fn every_window_arrives_with_its_names_also_after_the_receiver_was_away() {
    if missing(&[Need::Bpf, Need::PyGrpc, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let mut backend = Backend::start(SinkKind::OtlpGrpc, "");
    let mut agent = AgentCommand::new(folder.path())
        .args([
            "--comm",
            &name,
            "--label",
            "namespace=shop",
            "--label",
            "pod=cart-0",
        ])
        .args([
            "--label",
            "container=api",
            "--push-otlp-grpc",
            &backend.url(),
        ])
        .args(["--push-header", "authorization=Bearer hunter2"])
        .start();
    backend.wait_for(2);
    backend.kill();
    let failures = "perfprof_push_failures_total{sink=\"otlp-grpc\"}";
    agent.wait_for_metric("the loss is noticed", |m| m.value(failures) >= 1.0);
    let before = agent.windows().len();
    agent.wait_for_windows(before + 2);
    agent.wait_for_word("pushing to otlp-grpc fails: ");
    assert!(
        agent
            .metrics()
            .value("perfprof_push_queue_items{sink=\"otlp-grpc\"}")
            >= 1.0
    );
    assert!(
        agent
            .metrics()
            .value("perfprof_push_queue_bytes{sink=\"otlp-grpc\"}")
            >= 1.0
    );
    backend.restart();
    agent.wait_for_metric("nothing waits", |m| {
        m.value("perfprof_push_queue_items{sink=\"otlp-grpc\"}") == 0.0
    });
    agent.wait_for_word("pushing to otlp-grpc works again");
    agent.end();
    assert_eq!(agent.log().matches("pushing to otlp-grpc fails").count(), 1);
    let windows = agent.windows().len();
    let requests = backend.requests();
    let taken: Vec<&Value> = requests.iter().filter(|one| one["taken"] == true).collect();
    assert!(taken.len() >= windows, "{} of {windows}", taken.len());
    let mut ids: Vec<String> = taken.iter().map(|one| one["ids"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), windows, "each window once, by its ID");
    for request in taken {
        assert_eq!(request["problems"], json!([]), "{request}");
        assert_eq!(request["service"], json!(name));
        assert_eq!(request["headers"]["authorization"], "Bearer hunter2");
        let labels = &request["labels"];
        for (attribute, value) in [
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "cart-0"),
            ("k8s.container.name", "api"),
        ] {
            assert_eq!(labels[attribute], value, "{labels}");
        }
    }
}
