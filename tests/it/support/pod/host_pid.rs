//! Containers of a Pod with `hostPID`, which `podman kube play` 4.3 passes over in silence: each is run by `podman run`, with
//! the same meaning.
//!
//! In: translated documents, and a folder for files of volumes. Out: the words behind `podman run`, per container. A field
//! that this does not know is not kept, so what confines a container is listed here, and nothing else.

use std::fs;
use std::path::Path;

use serde_json::Value;

pub(super) fn is_asked_for(pod: &Value) -> bool {
    pod["spec"]["hostPID"] == true
}

/// `documents` end with the Pod.
pub(super) fn runs(documents: &[Value], folder: &Path) -> Vec<Vec<String>> {
    let (pod, others) = documents.split_last().expect("there is a Pod");
    let name = pod["metadata"]["name"].as_str().expect("it has a name");
    let containers = pod["spec"]["containers"]
        .as_array()
        .expect("it has containers");
    containers
        .iter()
        .map(|container| {
            let mut words = vec!["--detach".to_string(), "--pid=host".into()];
            words.push(format!("--name={name}-{}", text(&container["name"])));
            words.push("--network=none".into());
            words.extend(confinement(&container["securityContext"]));
            words.extend(limits(&container["resources"]["limits"]));
            for variable in list(&container["env"]) {
                let (name, value) = (text(&variable["name"]), text(&variable["value"]));
                words.push(format!("--env={name}={value}"));
            }
            for mount in list(&container["volumeMounts"]) {
                words.push(mounted(mount, &pod["spec"]["volumes"], others, folder));
            }
            words.push(text(&container["image"]).to_string());
            words.extend(list(&container["args"]).map(|word| text(word).to_string()));
            words
        })
        .collect()
}

fn confinement(context: &Value) -> Vec<String> {
    let mut words = Vec::new();
    let mut when = |holds: bool, word: String| words.extend(holds.then_some(word));
    when(context["privileged"] == true, "--privileged".into());
    when(
        context["readOnlyRootFilesystem"] == true,
        "--read-only".into(),
    );
    let escalates = context["allowPrivilegeEscalation"] != false;
    when(!escalates, "--security-opt=no-new-privileges".into());
    let unconfined = context["seccompProfile"]["type"] == "Unconfined";
    when(unconfined, "--security-opt=seccomp=unconfined".into());
    when(
        context["runAsUser"].is_u64(),
        format!("--user={}", context["runAsUser"]),
    );
    for dropped in list(&context["capabilities"]["drop"]) {
        when(true, format!("--cap-drop={}", text(dropped)));
    }
    for added in list(&context["capabilities"]["add"]) {
        when(true, format!("--cap-add={}", text(added)));
    }
    words
}

/// `500m` and `2` of CPUs, `64Mi` of memory.
fn limits(limits: &Value) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(cpu) = limits["cpu"].as_str() {
        let cpus = match cpu.strip_suffix('m') {
            Some(thousandths) => thousandths.parse::<f64>().map(|n| n / 1000.0),
            None => cpu.parse(),
        };
        words.push(format!("--cpus={}", cpus.expect("CPUs are a number")));
    }
    if let Some(memory) = limits["memory"].as_str() {
        let mebibytes = memory.strip_suffix("Mi").expect("memory is given in Mi");
        words.push(format!("--memory={mebibytes}m"));
    }
    words
}

/// The option that puts a volume where a container wants it.
fn mounted(mount: &Value, volumes: &Value, others: &[Value], folder: &Path) -> String {
    let (name, path) = (text(&mount["name"]), text(&mount["mountPath"]));
    let volume = list(volumes).find(|volume| volume["name"] == name);
    let volume = volume.unwrap_or_else(|| panic!("no volume is called `{name}`"));
    let mode = if mount["readOnly"] == true {
        "ro"
    } else {
        "rw"
    };
    if let Some(source) = volume["hostPath"]["path"].as_str() {
        return format!("--volume={source}:{path}:{mode}");
    }
    if let Some(map) = volume["configMap"]["name"].as_str() {
        let files = others
            .iter()
            .find(|document| document["metadata"]["name"] == map);
        let place = folder.join(map);
        fs::create_dir_all(&place).expect("writable");
        for (file, content) in files
            .and_then(|files| files["data"].as_object())
            .into_iter()
            .flatten()
        {
            fs::write(place.join(file), text(content)).expect("writable");
        }
        return format!("--volume={}:{path}:{mode}", place.display());
    }
    format!("--tmpfs={path}")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
