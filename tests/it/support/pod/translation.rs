//! A manifest of `deploy/` for `podman kube play`, which knows less than Kubernetes does.
//!
//! In: a manifest with one Deployment, DaemonSet or Pod. Out: documents that podman 4.3 understands, which mean the same to
//! the containers. What says how the Pod is confined and what it sees (capabilities, seccomp, users, namespaces, volumes,
//! limits) is kept to the letter; what only the cluster would act on is left out (probes, ports, scheduling), and what it
//! would fill in is filled in (the downward API, the Secret).

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::images;

/// The content of every file of every Secret.
pub(crate) const TOKEN: &str = "a-token-for-tests";

/// What is different in a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes<'a> {
    /// A container's arguments.
    pub(crate) args: &'a [(&'a str, &'a [&'a str])],
    /// Arguments of perfprof's container after those of the manifest.
    pub(crate) more: &'a [&'a str],
    /// Variables of a container's environment: container, name, value.
    pub(crate) env: &'a [(&'a str, &'a str, &'a str)],
    /// A JSON patch of the same deployment, as kustomize would apply it.
    pub(crate) patch: Option<&'a Path>,
    /// Capabilities that perfprof's container does without.
    pub(crate) without: &'a [&'a str],
}

/// The Pod's name, and the documents; the Pod is the last.
pub(super) fn for_podman(manifest: &Path, changes: &Changes) -> (String, Vec<Value>) {
    let mut manifest = read(manifest);
    if let Some(patch) = changes.patch {
        apply(&read(patch), &mut manifest);
    }
    let name = manifest["metadata"]["name"]
        .as_str()
        .expect("it has a name")
        .to_string();
    let mut pod = match manifest["kind"].as_str() {
        Some("Pod") => manifest,
        _ => manifest["spec"]["template"].take(),
    };
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(name);
    let metadata = pod["metadata"].clone();
    let mut annotations = Map::new();
    for container in items(&mut pod["spec"]["containers"]) {
        change(container, changes);
        translate(container, &metadata, &mut annotations);
    }
    let mut documents = Vec::new();
    for volume in items(&mut pod["spec"]["volumes"]) {
        documents.extend(provide(volume, &metadata));
    }
    pod["metadata"]["annotations"] = Value::Object(annotations);
    documents.push(pod);
    (name, documents)
}

/// Names of a Pod's containers.
pub(super) fn containers(pod: &Value) -> Vec<String> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let names = containers.filter_map(|container| container["name"].as_str());
    names.map(str::to_string).collect()
}

fn change(container: &mut Value, changes: &Changes) {
    let name = container["name"].as_str().unwrap_or_default().to_string();
    let is_ours = name == "perfprof";
    container["image"] = json!(if is_ours {
        images::PERFPROF
    } else {
        images::WORKLOAD
    });
    container["imagePullPolicy"] = json!("Never");
    if let Some((_, args)) = changes.args.iter().find(|(of, _)| *of == name) {
        container["args"] = json!(args);
    }
    if let Some(args) = container["args"].as_array_mut().filter(|_| is_ours) {
        args.extend(changes.more.iter().map(|word| json!(word)));
    }
    for (_, variable, value) in changes.env.iter().filter(|(of, ..)| *of == name) {
        let fields = container.as_object_mut().expect("a container is a map");
        let list = fields.entry("env").or_insert_with(|| json!([]));
        let list = list.as_array_mut().expect("an environment is a list");
        list.retain(|one| one["name"] != *variable);
        list.push(json!({ "name": variable, "value": value }));
    }
    let added = container.pointer_mut("/securityContext/capabilities/add");
    if let Some(Value::Array(added)) = added.filter(|_| is_ours) {
        added.retain(|one| !changes.without.iter().any(|without| one == without));
    }
}

fn translate(container: &mut Value, metadata: &Value, annotations: &mut Map<String, Value>) {
    let name = container["name"].as_str().unwrap_or_default().to_string();
    // podman knows the older spelling only.
    if container["securityContext"]["seccompProfile"]["type"] == "Unconfined" {
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
        annotations.insert(key, json!("unconfined"));
    }
    let fields = container.as_object_mut().expect("a container is a map");
    // Ports need a network, probes need systemd.
    for key in ["ports", "readinessProbe", "livenessProbe", "startupProbe"] {
        fields.remove(key);
    }
    for variable in fields.get_mut("env").map(items).unwrap_or_default() {
        let path = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str();
        if let Some(path) = path.map(str::to_string) {
            let name = variable["name"].take();
            *variable = json!({ "name": name, "value": field(&path, metadata) });
        }
    }
}

/// What the downward API says of the Pod.
fn field(path: &str, metadata: &Value) -> String {
    match path {
        "metadata.name" => metadata["name"].as_str().unwrap_or_default().to_string(),
        "metadata.namespace" => "test".to_string(),
        "metadata.uid" => "0f8fad5b-d9cb-469f-a165-70867728950e".to_string(),
        "spec.nodeName" => "node-1".to_string(),
        "metadata.labels" => lines(&metadata["labels"]),
        "metadata.annotations" => lines(&metadata["annotations"]),
        other => panic!("the manifest asks for `{other}`, which no test provides"),
    }
}

/// A map as a file of the downward API has it.
fn lines(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect()
}

/// The document that a volume's files come from, where the cluster would have it.
fn provide(volume: &mut Value, metadata: &Value) -> Option<Value> {
    let name = volume["name"].clone();
    if let Some(items) = volume["downwardAPI"]["items"].as_array() {
        let files = items.iter().map(|item| {
            let file = item["path"]
                .as_str()
                .expect("a file has a path")
                .to_string();
            let path = item["fieldRef"]["fieldPath"].as_str().expect("of a field");
            (file, Value::String(field(path, metadata)))
        });
        let data: Map<String, Value> = files.collect();
        *volume = json!({ "name": name, "configMap": { "name": name } });
        return Some(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data,
        }));
    }
    // What would be made on the node stays within the Pod.
    if volume["hostPath"]["type"] == "DirectoryOrCreate" {
        *volume = json!({ "name": name, "emptyDir": {} });
        return None;
    }
    let secret = volume["secret"]["secretName"].as_str()?.to_string();
    // podman 4.3 hands out a Secret's files still coded in base64.
    *volume = json!({ "name": name, "configMap": { "name": secret } });
    Some(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": secret },
        "data": { "http-token": TOKEN },
    }))
}

/// Applies a JSON patch (RFC 6902) of the operations that our patches have.
fn apply(patch: &Value, document: &mut Value) {
    for operation in patch.as_array().expect("a patch is a list") {
        let path = operation["path"].as_str().expect("an operation has a path");
        let place = document.pointer_mut(path);
        let place = place.unwrap_or_else(|| panic!("the patch names `{path}`, which is not there"));
        match operation["op"].as_str() {
            Some("test") => assert_eq!(*place, operation["value"], "`{path}`"),
            Some("replace") => *place = operation["value"].clone(),
            other => panic!("no test applies the operation {other:?}"),
        }
    }
}

fn items(list: &mut Value) -> Vec<&mut Value> {
    list.as_array_mut().into_iter().flatten().collect()
}

fn read(file: &Path) -> Value {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("`{}`: {e}", file.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("`{}`: {e}", file.display()))
}
