//! Pods as the Kubernetes API lists them.
//!
//! In: the JSON of a `v1` `PodList`. Out: [`Pod`]s with what labels are made of. All else is skipped while it is read.
//! Source: the Kubernetes API reference, `Pod` v1 core.

use std::sync::Arc;

use serde::Deserialize;

use crate::target::container;
use crate::target::container_names::PodContainer;
use crate::target::labels::Labels;

/// Containers of one pod that are kept, init containers included.
const MAX_CONTAINERS: usize = 256;

/// A pod on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub namespace: String,
    pub name: String,
    /// As its cgroup is named.
    pub uid: String,
    pub node: Option<String>,
    /// What made it: kind and name, of a Deployment rather than of its ReplicaSet.
    workload: Option<(String, String)>,
    app: Option<String>,
    /// Name and ID of each container that has run.
    containers: Vec<(String, String)>,
}

impl Pod {
    /// Its containers' IDs, and what each is called.
    pub fn containers(self: &Arc<Pod>) -> impl Iterator<Item = (&str, PodContainer)> {
        self.containers.iter().map(|(name, id)| {
            let container = PodContainer {
                namespace: self.namespace.clone(),
                pod: self.name.clone(),
                pod_uid: self.uid.clone(),
                container: name.clone(),
            };
            (id.as_str(), container)
        })
    }

    /// `namespace`, `pod`, `pod_uid`, `node`, `workload`, `workload_kind`, `app_kubernetes_io_name`.
    pub fn labels(&self) -> Labels {
        let mut labels = Labels::default();
        labels.set("namespace", &self.namespace);
        labels.set("pod", &self.name);
        labels.set("pod_uid", &self.uid);
        labels.set("node", self.node.as_deref().unwrap_or_default());
        if let Some((kind, name)) = &self.workload {
            labels.set("workload", name);
            labels.set("workload_kind", kind);
        }
        labels.set(
            "app_kubernetes_io_name",
            self.app.as_deref().unwrap_or_default(),
        );
        labels
    }
}

/// A page of pods, and the word to ask for the next one with.
pub(super) fn parse(json: &[u8]) -> Result<(Vec<Pod>, Option<String>), String> {
    let list: PodList = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if list.kind.as_deref() != Some("PodList") {
        return Err("it is no `PodList`".to_owned());
    }
    let next = list.metadata.and_then(|metadata| metadata.next);
    let pods = list.items.unwrap_or_default().into_iter().filter_map(pod);
    Ok((pods.collect(), next.filter(|next| !next.is_empty())))
}

/// `None` for one without a UID, which is in no cgroup.
fn pod(item: Item) -> Option<Pod> {
    let Item {
        metadata,
        spec,
        status,
    } = item;
    // The kubelet has made the pod itself, from a file, and the API server only mirrors it, under another UID.
    let hash = metadata
        .annotations
        .and_then(|annotations| annotations.config_hash);
    let uid = container::pod_uid(hash.as_deref().or(metadata.uid.as_deref())?)?;
    let labels = metadata.labels.unwrap_or_default();
    let status = status.unwrap_or_default();
    let lists = [status.containers, status.init, status.ephemeral];
    let containers = lists.into_iter().flatten().flatten().take(MAX_CONTAINERS);
    let with_id = |status: ContainerStatus| {
        let (_runtime, id) = status.id.as_deref()?.split_once("://")?;
        container::is_id_prefix(id).then(|| (status.name, id.to_owned()))
    };
    Some(Pod {
        workload: workload(
            metadata.owners.unwrap_or_default(),
            labels.template_hash.as_deref(),
        ),
        namespace: metadata.namespace.unwrap_or_else(|| "default".to_owned()),
        name: metadata.name,
        uid,
        node: spec.and_then(|spec| spec.node),
        app: labels.app,
        containers: containers.filter_map(with_id).collect(),
    })
}

/// A Deployment's ReplicaSet has the name of the Deployment, and the hash that its pods have as a label.
fn workload(owners: Vec<Owner>, template_hash: Option<&str>) -> Option<(String, String)> {
    let owner = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))?;
    if owner.kind == "Node" {
        return None; // of a static pod
    }
    let deployment = template_hash
        .filter(|_| owner.kind == "ReplicaSet")
        .and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
    match deployment {
        Some(name) => Some(("Deployment".to_owned(), name.to_owned())),
        None => Some((owner.kind, owner.name)),
    }
}

#[derive(Deserialize)]
struct PodList {
    kind: Option<String>,
    metadata: Option<ListMetadata>,
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct ListMetadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    labels: Option<PodLabels>,
    annotations: Option<Annotations>,
    #[serde(rename = "ownerReferences")]
    owners: Option<Vec<Owner>>,
}

#[derive(Default, Deserialize)]
struct PodLabels {
    #[serde(rename = "pod-template-hash")]
    template_hash: Option<String>,
    #[serde(rename = "app.kubernetes.io/name")]
    app: Option<String>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.hash")]
    config_hash: Option<String>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "nodeName")]
    node: Option<String>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(rename = "containerStatuses")]
    containers: Option<Vec<ContainerStatus>>,
    #[serde(rename = "initContainerStatuses")]
    init: Option<Vec<ContainerStatus>>,
    #[serde(rename = "ephemeralContainerStatuses")]
    ephemeral: Option<Vec<ContainerStatus>>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    name: String,
    /// `containerd://ID`; absent or empty before it has been made.
    #[serde(rename = "containerID")]
    id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(json: &str) -> Arc<Pod> {
        let (mut pods, _) = parse(json.as_bytes()).expect("a list");
        assert_eq!(pods.len(), 1);
        Arc::new(pods.remove(0))
    }

    /// The list around one item.
    fn list(item: &str) -> String {
        format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"1"}},"items":[{item}]}}"#
        )
    }

    #[test]
    fn a_recorded_answer_gives_the_containers_of_each_pod() {
        let json = include_bytes!("../../../fixtures/kubernetes/pods.json");
        let (pods, next) = parse(json).expect("a list");
        assert_eq!(next.as_deref(), Some("eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ"));
        let shown = |pod: &Pod| {
            let labels = pod.labels();
            let get = |name| labels.get(name).unwrap_or("-").to_owned();
            let names = [
                "namespace",
                "pod",
                "workload",
                "workload_kind",
                "app_kubernetes_io_name",
            ];
            (names.map(get).join(" "), pod.containers.len())
        };
        let shown: Vec<(String, usize)> = pods.iter().map(shown).collect();
        let expected = [
            ("shop api-7f9c6d5b8-x2x4q api Deployment the-api", 3),
            ("kube-system fluentd-q8s7d fluentd DaemonSet -", 1),
            ("kube-system etcd-kind-control-plane - - -", 1),
            ("shop starting-0 starting StatefulSet -", 0),
        ];
        assert_eq!(shown, expected.map(|(text, n)| (text.to_owned(), n)));
        // The static pod's cgroup is named after its hash, not after its mirror's UID.
        assert_eq!(pods[2].uid, "7260904bbd08e72e4dff95d9fccd2ee8");
    }

    #[test]
    fn a_replica_set_of_its_own_is_no_deployment() {
        let owned = |kind: &str, name: &str, controller: bool| {
            let owner = Owner {
                kind: kind.to_owned(),
                name: name.to_owned(),
                controller: Some(controller),
            };
            workload(vec![owner], Some("abc12")).map(|(kind, name)| format!("{kind}/{name}"))
        };
        assert_eq!(
            owned("ReplicaSet", "web-abc12", true).as_deref(),
            Some("Deployment/web")
        );
        assert_eq!(
            owned("ReplicaSet", "webabc12", true).as_deref(),
            Some("ReplicaSet/webabc12")
        );
        assert_eq!(
            owned("Job", "job-abc12", true).as_deref(),
            Some("Job/job-abc12")
        );
        assert_eq!(owned("ReplicaSet", "web-abc12", false), None);
        assert_eq!(owned("Node", "node-1", true), None);
    }

    #[test]
    fn missing_and_odd_parts_are_left_out() {
        let pod = only(&list(
            r#"{"metadata":{"name":"p","uid":"73dc8baf-43a0-413e-aac2-5eb0868f6c1a","labels":null},"status":{"containerStatuses":[{"name":"a","containerID":""},{"name":"b","containerID":"containerd://../../etc"},{"name":"c"}]}}"#,
        ));
        assert_eq!(
            (pod.namespace.as_str(), pod.containers().count()),
            ("default", 0)
        );
        let no_uid = list(r#"{"metadata":{"name":"p"}},{"metadata":{"name":"q","uid":"../x"}}"#);
        assert!(parse(no_uid.as_bytes()).expect("a list").0.is_empty());
        let empty = parse(br#"{"kind":"PodList","items":null,"metadata":{"continue":""}}"#);
        assert_eq!(empty, Ok((Vec::new(), None)));
        let nested = format!(
            r#"{{"kind":"PodList","items":[{{"x":{}"#,
            "[".repeat(1 << 20)
        );
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"kind":"Status"}"#,
            r#"{"kind":"PodList","items":[{}]}"#,
            &nested,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{:.40}", bad);
        }
    }
}
