//! Files as the engines write them, shortened to the keys around those that are read.

use super::*;

const A: &str = "40c03570b6f4c30bc8d69923d37ee698f5cfcced92c7b7df1c47f6f7887378a9";
const B: &str = "8afe480d66074930353da456a1344caca810fe31c1e31f6e08c95a66887235d6";
const C: &str = "f52987fbdcc7b29175fb52e01c7917e9d6d2e14550e3a2a7abf739da5a067e31";
const D: &str = "c81572302e4a00c05810fc436ebc0952ed7a0806c58a2b7eddbfb58de4539206";
const UID: &str = "73dc8baf-43a0-413e-aac2-5eb0868f6c1a";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    std::fs::write(path, text).expect("written");
}

/// A machine with docker (A), podman and CRI-O (B, C) and containerd (D).
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("temporary folder");
    let docker = format!(
        r#"{{"StreamConfig":{{}},"State":{{"Running":true,"Pid":4711}},"ID":"{A}","Created":"2026-01-02T03:04:05Z","Path":"nginx","Name":"/web","Driver":"overlay2","RestartCount":0}}"#
    );
    write(
        root.path(),
        &format!("var/lib/docker/containers/{A}/config.v2.json"),
        &docker,
    );
    let stored = format!(
        r#"[{{"id":"{B}","names":["db"],"image":"17e0","layer":"5a1c","metadata":"{{\"name\":\"db\"}}","created":"2026-01-02T03:04:05Z"}},
           {{"id":"{C}","names":["k8s_api_api-7f9c6d5b8-x2x4q_shop_{UID}_0"],"image":"17e0","layer":"5a1d","metadata":"{{}}"}},
           {{"id":"short","names":["short"]}},{{"id":"{}","names":null}}]"#,
        "0".repeat(64)
    );
    write(
        root.path(),
        "var/lib/containers/storage/overlay-containers/containers.json",
        &stored,
    );
    let bundle = format!(
        r#"{{"ociVersion":"1.1.0","process":{{"args":["/api"]}},"annotations":{{"io.kubernetes.cri.container-name":"proxy","io.kubernetes.cri.container-type":"container","io.kubernetes.cri.image-name":"docker.io/envoyproxy/envoy:v1.30","io.kubernetes.cri.sandbox-id":"0123","io.kubernetes.cri.sandbox-name":"api-7f9c6d5b8-x2x4q","io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-uid":"{UID}"}},"linux":{{}}}}"#
    );
    let task = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
    write(root.path(), &format!("{task}/{D}/config.json"), &bundle);
    root
}

fn ids(named: Vec<Named>) -> Vec<String> {
    let mut ids: Vec<String> = named.into_iter().map(|named| named.id).collect();
    ids.sort();
    ids
}

#[test]
fn containers_of_all_engines_are_found_by_name() {
    let root = machine();
    let files = StateFiles::below(root.path()).expect("opened");
    for (name, id) in [("web", A), ("db", B), ("api", C), ("proxy", D)] {
        assert_eq!(ids(files.containers_named(name)), [id], "{name}");
    }
    for name in ["api-7f9c6d5b8-x2x4q/api", "shop/api-7f9c6d5b8-x2x4q/api"] {
        let named = files.containers_named(name);
        assert_eq!(named.len(), 1, "{name}");
        let shown = format!("`shop/api-7f9c6d5b8-x2x4q/api` ({})", &C[..12]);
        assert_eq!(named[0].to_string(), shown);
    }
    for name in ["", "/web", "other/api-7f9c6d5b8-x2x4q/api", "short", "k8s"] {
        assert!(files.containers_named(name).is_empty(), "{name}");
    }
}

#[test]
fn pods_are_found_by_name_and_by_their_containers() {
    let root = machine();
    let files = StateFiles::below(root.path()).expect("opened");
    for name in ["api-7f9c6d5b8-x2x4q", "shop/api-7f9c6d5b8-x2x4q"] {
        assert_eq!(ids(files.pods_named(name)), [UID], "{name}");
    }
    assert!(files.pods_named("other/api-7f9c6d5b8-x2x4q").is_empty());
    let pod = |id: &str| files.pod_container(id).map(|container| container.path());
    assert_eq!(pod(D).as_deref(), Some("shop/api-7f9c6d5b8-x2x4q/proxy"));
    assert_eq!(pod(A), None);
    let identity = ContainerIdentity::of_path(&format!("/../crio-{C}.scope")).expect("a container");
    assert_eq!(files.pod_of(&identity).as_deref(), Some(UID));
}

#[test]
fn a_file_is_read_again_when_it_has_changed() {
    let root = machine();
    let files = StateFiles::below(root.path()).expect("opened");
    let mut read = ReadFiles::new();
    let called = |found: &Found| found[A].called();
    assert_eq!(called(&files.look(&mut read)), "web");
    let before = read.clone();
    files.look(&mut read);
    let same = |path: &PathBuf| Arc::ptr_eq(&before[path].1, &read[path].1);
    assert!(before.len() == 2 && before.keys().all(same));
    let path = format!("var/lib/docker/containers/{A}/config.v2.json");
    // Docker writes a new file and renames it.
    write(root.path(), "new", r#"{"Name":"/renamed"}"#);
    std::fs::rename(root.path().join("new"), root.path().join(path)).expect("renamed");
    assert_eq!(called(&files.look(&mut read)), "renamed");
}

#[test]
fn damaged_and_hostile_files_have_no_names() {
    let root = tempfile::tempdir().expect("temporary folder");
    let folder = "var/lib/docker/containers";
    let long = format!(r#"{{"Name":"/{}"}}"#, "a".repeat(300));
    let huge = format!(
        r#"{{"Name":"/web","Pad":"{}"}}"#,
        "a".repeat(MAX_FILE_BYTES as usize)
    );
    let nested = format!(r#"{{"Name":"/web","Deep":{}"#, "[".repeat(100_000));
    let texts = [
        "",
        "{",
        "[]",
        r#"{"Name":7}"#,
        r#"{"Name":"/we\u001bb"}"#,
        r#"{"Name":"/a b"}"#,
        &long,
        &huge,
        &nested,
    ];
    for (n, text) in texts.into_iter().enumerate() {
        write(
            root.path(),
            &format!("{folder}/{n:064}/config.v2.json"),
            text,
        );
    }
    // Not of a container, and a link out of the root.
    write(
        root.path(),
        &format!("{folder}/not-an-id/config.v2.json"),
        r#"{"Name":"/web"}"#,
    );
    let outside = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(outside.path(), r#"{"Name":"/web"}"#).expect("written");
    let link = root.path().join(folder).join(A);
    std::fs::create_dir_all(&link).expect("made");
    std::os::unix::fs::symlink(outside.path(), link.join("config.v2.json")).expect("linked");
    write(
        root.path(),
        "var/lib/containers/storage/overlay-containers/containers.json",
        "{}",
    );
    let files = StateFiles::below(root.path()).expect("opened");
    assert!(files.containers_named("web").is_empty());
    assert!(files.all().values().all(|entry| entry.names.is_empty()));
    assert!(StateFiles::below(&root.path().join("none")).is_err());
}
