//! The manifests in `deploy/kubernetes` are what Kubernetes understands, to the last field, and belong together.
//!
//! By the schemas of `kubernetes-validate`, offline; kustomize itself (in kubectl) is asked where it is installed. What a
//! manifest does is another question: `pods.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::need::skip;
use crate::support::workload::repository;
use crate::support::{Need, missing};

const FOLDER: &str = "deploy/kubernetes";

/// Kustomize generates a Secret from it; the user makes it, and it is never committed.
const TOKEN_FILE: &str = "http-token";

/// Where `cargo xtask setup --tests` puts the validator.
fn validator() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let folder = target.expect("in the target folder").join("linters");
    folder.join("kubernetes")
}

fn has_validator() -> bool {
    let there = validator().join("kubernetes_validate").is_dir();
    if !there {
        let reason = "not installed by `cargo xtask setup --tests`";
        skip("kubernetes-validate", reason);
    }
    there
}

/// What the validator says, and whether it accepts the file.
fn validate(file: &Path) -> (bool, String) {
    let output = Command::new("python3")
        .env("PYTHONPATH", validator())
        .args(["-m", "kubernetes_validate", "--strict"])
        .arg(file)
        .output()
        .expect("python3 can be run");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// All YAML files below the folder.
fn files() -> Vec<PathBuf> {
    let mut folders = vec![repository().join(FOLDER)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("can be listed").flatten() {
            let path = entry.path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "yaml" => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

fn is_kustomization(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name == "kustomization.yaml")
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()));
    Value::Array(documents)
}

/// Patches are lists of operations, not objects.
fn manifests() -> Vec<PathBuf> {
    let mut files = files();
    files.retain(|path| !is_kustomization(path) && read(path)[0].is_object());
    files
}

#[test]
fn every_manifest_is_valid_by_kubernetes_schemas_and_a_misspelt_field_is_not() {
    if missing(&[Need::Program("python3")]) || !has_validator() {
        return;
    }
    let manifests = manifests();
    assert!(manifests.len() >= 6, "{manifests:?}");
    for manifest in &manifests {
        let (accepted, words) = validate(manifest);
        assert!(accepted, "`{}`: {words}", manifest.display());
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let deployment = manifests
        .iter()
        .find(|path| path.ends_with("deployment.yaml"));
    let text = fs::read_to_string(deployment.expect("the sidecar's")).expect("there");
    for (there, broken) in [
        ("shareProcessNamespace:", "shareProcessNamespaces:"),
        ("seccompProfile:", "secompProfile:"),
        ("drop: [ALL]", "drop: ALL"),
    ] {
        assert!(text.contains(there), "{there}");
        let other = folder.path().join("broken.yaml");
        fs::write(&other, text.replace(there, broken)).expect("writable");
        assert!(!validate(&other).0, "`{broken}` is accepted");
    }
}

/// Strings below `key` of a kustomization: paths, or maps with a `path`.
fn named(kustomization: &Value, key: &str) -> Vec<String> {
    let items = kustomization[key].as_array().into_iter().flatten();
    let path = |item: &Value| item.as_str().or(item["path"].as_str()).map(str::to_string);
    items.filter_map(path).collect()
}

#[test]
fn kustomizations_name_files_that_exist_and_leave_none_out() {
    let mut used = BTreeSet::new();
    for file in files().iter().filter(|path| is_kustomization(path)) {
        let folder = file.parent().expect("in a folder");
        let kustomization = read(file)[0].clone();
        for name in ["resources", "patches"]
            .iter()
            .flat_map(|key| named(&kustomization, key))
        {
            let path = folder.join(&name);
            let path = path.canonicalize();
            let path = path.unwrap_or_else(|e| panic!("`{name}` of `{}`: {e}", file.display()));
            let is_base = path.is_dir() && path.join("kustomization.yaml").is_file();
            assert!(path.is_file() || is_base, "`{}`", path.display());
            used.insert(path);
        }
        for generated in kustomization["secretGenerator"]
            .as_array()
            .into_iter()
            .flatten()
        {
            assert_eq!(generated["files"], serde_json::json!([TOKEN_FILE]));
            assert!(!folder.join(TOKEN_FILE).exists(), "a token is committed");
        }
    }
    for file in files().iter().filter(|path| !is_kustomization(path)) {
        let file = file.canonicalize().expect("listed above");
        assert!(
            used.contains(&file),
            "no kustomization uses `{}`",
            file.display()
        );
    }
}

#[test]
fn kustomize_builds_what_the_schemas_accept() {
    if missing(&[Need::Program("kubectl"), Need::Program("python3")]) || !has_validator() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut copy = Command::new("cp");
    copy.arg("-r")
        .arg(repository().join(FOLDER))
        .arg(folder.path());
    assert!(
        copy.status().is_ok_and(|status| status.success()),
        "{copy:?}"
    );
    for kind in ["sidecar", "daemonset"] {
        let base = folder.path().join("kubernetes").join(kind);
        fs::write(base.join("capabilities").join(TOKEN_FILE), "secret").expect("writable");
        for variant in ["capabilities", "privileged"] {
            let mut kustomize = Command::new("kubectl");
            kustomize.arg("kustomize").arg(base.join(variant));
            let output = kustomize.output().expect("kubectl can be run");
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{kind}/{variant}: {words}");
            let built = folder.path().join("built.yaml");
            fs::write(&built, &output.stdout).expect("writable");
            let (accepted, words) = validate(&built);
            assert!(accepted, "{kind}/{variant}: {words}");

            let objects = read(&built);
            let privileged = perfprof_container(&objects)["securityContext"]["privileged"] == true;
            assert_eq!(privileged, variant == "privileged", "{kind}/{variant}");
            assert!(
                objects.to_string().contains("perfprof-token-"),
                "a generated Secret"
            );
        }
    }
}

/// perfprof's container in the workload among these objects.
fn perfprof_container(objects: &Value) -> &Value {
    let objects = objects.as_array().into_iter().flatten();
    let mut containers = objects
        .filter_map(|object| object.pointer("/spec/template/spec/containers")?.as_array())
        .flatten();
    let ours = containers.find(|container| container["name"] == "perfprof");
    ours.expect("one of them is perfprof")
}

/// What the example promises about how little it takes: a reader copies it.
#[test]
fn with_single_capabilities_everything_else_is_given_up() {
    for file in manifests() {
        let objects = read(&file);
        let workload = objects.as_array().into_iter().flatten();
        if workload
            .filter(|object| object.pointer("/spec/template/spec").is_some())
            .count()
            == 0
        {
            continue;
        }
        let container = perfprof_container(&objects);
        let context = &container["securityContext"];
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert!(context["privileged"].is_null());
        for bound in ["requests", "limits"] {
            let resources = &container["resources"][bound];
            assert!(
                resources["memory"].is_string() && resources["cpu"].is_string(),
                "{bound}"
            );
        }
        // perfprof ends before the kubelet would kill it.
        let text = objects.to_string();
        assert!(
            text.contains("\"--grace=20s\"")
                && text.contains("\"terminationGracePeriodSeconds\":30")
        );
    }
}
