//! Whose profile it is, as attributes of an OpenTelemetry resource.
//!
//! In: a batch's service and labels, and what the profile says of its machine. Out: attributes, each key once, in order of
//! the keys. Source: semantic conventions, registry of `service.*`, `k8s.*`, `container.*`, `host.*`, `os.*`, `process.*`.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::dictionary::Scalar;
use crate::profile::Profile;
use crate::push::Batch;
use crate::push::labels::cut;

/// Longer values are cut.
const MAX_VALUE_BYTES: usize = 4096;
/// What the agent's labels are called.
const KEYS: [(&str, &str); 10] = [
    ("namespace", "k8s.namespace.name"),
    ("pod", "k8s.pod.name"),
    ("pod_uid", "k8s.pod.uid"),
    ("container", "k8s.container.name"),
    ("node", "k8s.node.name"),
    ("container_id", "container.id"),
    ("image", "container.image.name"),
    ("host", "host.name"),
    ("hostname", "host.name"),
    ("service_namespace", "service.namespace"),
];

pub(super) fn of(batch: &Batch, profile: &Profile) -> Resource {
    let mut attributes: BTreeMap<&str, Scalar> = BTreeMap::new();
    // Labels of users first, so that what is known for sure stands.
    for (name, value) in &batch.labels {
        if !name.is_empty() && !value.is_empty() && !KEYS.iter().any(|(label, _)| label == name) {
            attributes.insert(name, text(value));
        }
    }
    let recording = &profile.recording;
    if !recording.hostname.is_empty() {
        attributes.insert("host.name", text(&recording.hostname));
    }
    for (label, key) in KEYS {
        if let Some(value) = batch.labels.get(label).filter(|value| !value.is_empty()) {
            attributes.insert(key, text(value));
        }
    }
    if let Some(arch) = arch(&recording.arch) {
        attributes.insert("host.arch", text(arch));
    }
    attributes.insert("os.type", text("linux"));
    if !recording.kernel.is_empty() {
        attributes.insert("os.version", text(&recording.kernel));
    }
    attributes.insert("service.name", text(&batch.service));
    let mut processes = profile.threads.iter().map(|thread| thread.pid);
    if let Some(pid) = processes.next()
        && processes.all(|other| other == pid)
    {
        attributes.insert("process.pid", pid.into());
    }
    let attributes = attributes.into_iter().map(|(key, value)| KeyValue {
        key: key.to_owned(),
        value: Some(value.into_value()),
        ..KeyValue::default()
    });
    Resource {
        attributes: attributes.collect(),
        ..Resource::default()
    }
}

fn text(value: &str) -> Scalar {
    cut(value, MAX_VALUE_BYTES).into()
}

/// As `host.arch` has it; nothing for what it does not know.
fn arch(machine: &str) -> Option<&str> {
    match machine {
        "x86_64" => Some("amd64"),
        "aarch64" => Some("arm64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;
    use crate::profile::canned;

    #[test]
    fn labels_become_attributes_by_the_conventions() {
        let labels = [
            ("namespace", "prod"),
            ("pod", "shop-1"),
            ("container", "app"),
            ("node", "n1"),
            ("team", "blue"),
            ("empty", ""),
            ("service.name", "evil"),
            ("host.name", "evil"),
        ];
        let batch = Batch {
            service: "shop".into(),
            labels: labels
                .iter()
                .map(|(n, v)| ((*n).into(), (*v).into()))
                .collect(),
            ..Batch::default()
        };
        let mut profile = canned();
        profile.recording.hostname = "h".into();
        profile.recording.arch = "x86_64".into();
        let resource = of(&batch, &profile);
        let pairs: Vec<(&str, String)> = resource
            .attributes
            .iter()
            .map(|pair| match &pair.value.as_ref().expect("a value").value {
                Some(Value::StringValue(text)) => (&*pair.key, text.clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            ("host.arch", "amd64"),
            ("host.name", "h"),
            ("k8s.container.name", "app"),
            ("k8s.namespace.name", "prod"),
            ("k8s.node.name", "n1"),
            ("k8s.pod.name", "shop-1"),
            ("os.type", "linux"),
            ("service.name", "shop"),
            ("team", "blue"),
        ];
        assert_eq!(pairs, expected.map(|(key, value)| (key, value.to_owned())));
    }
}
