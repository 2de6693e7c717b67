//! Whose a profile is: labels that were typed, from the downward API, and from the Kubernetes API.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use super::{busy, folder};
use crate::support::agent::{AgentCommand, LIMIT, document};
use crate::support::need::skip;
use crate::support::proc::wait_until;
use crate::support::{Need, Workload, build, missing};

const POD: &str = "73dc8baf-43a0-413e-aac2-5eb0868f6c1a";
const CONTAINER: &str = "40c03570b6f4c30bc8d69923d37ee698f5cfcced92c7b7df1c47f6f7887378a9";

fn labels_of(window: &Path) -> BTreeMap<String, String> {
    let document = document(window);
    let labels = document["services"][0]["labels"].clone();
    serde_json::from_value(labels).expect("texts")
}

#[test]
fn labels_come_from_flags_the_environment_and_the_downward_api() {
    if missing(&[Need::Bpf, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let (_workload, name) = busy(folder.path());
    let downward = folder.path().join("podinfo");
    fs::create_dir(&downward).expect("a folder can be made");
    fs::write(
        downward.join("labels"),
        "app.kubernetes.io/name=\"cart\"\nteam=\"from the pod\"\n",
    )
    .expect("writable");
    let mut agent = AgentCommand::new(folder.path())
        .args([
            "--comm",
            &name,
            "--label",
            "team=typed",
            "--label",
            "tier=back end",
        ])
        .args([
            "--labels-dir",
            downward.to_str().expect("text"),
            "--node-name",
            "node-7",
        ])
        .env("POD_NAME", "cart-0")
        .env("POD_NAMESPACE", "shop")
        .env("POD_UID", POD)
        .env("NODE_NAME", "not this")
        .start();
    let windows = agent.wait_for_windows(1);
    let labels = labels_of(&windows[0]);
    for (label, value) in [("team", "typed"), ("tier", "back end"), ("node", "node-7")] {
        assert_eq!(
            labels.get(label).map(String::as_str),
            Some(value),
            "{labels:?}"
        );
    }
    let metric = format!("perfprof_target_cpu_seconds_total{{service=\"{name}\"");
    let page = agent.get("/metrics").text();
    assert!(page.contains(&metric), "{page}");
    agent.end();
}

/// Gives whoever asks for pods this list, as long as the test runs.
fn serve(list: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("bound");
    let list = Arc::new(list);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let list = list.clone();
            // Watches are held open by others than those who list.
            std::thread::spawn(move || answer(socket, &list));
        }
    });
    address
}

fn answer(socket: TcpStream, list: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(socket.try_clone()?).lines();
    let mut request = String::new();
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        request += &line;
    }
    let is_watch = request.contains("watch=");
    let body = if is_watch { "" } else { list };
    let mut socket = socket;
    write!(
        socket,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The list of pods with one: the container that `runtime://id` names.
fn pods(id: &str) -> String {
    json!({
        "kind": "PodList", "apiVersion": "v1",
        "metadata": {"resourceVersion": "1"},
        "items": [{
            "metadata": {
                "name": "cart-5d8f-x", "namespace": "shop", "uid": POD,
                "labels": {"app.kubernetes.io/name": "cart"},
                "ownerReferences": [{"kind": "StatefulSet", "name": "cart", "controller": true}]
            },
            "spec": {"nodeName": "node-1", "containers": [{"name": "api"}]},
            "status": {"containerStatuses": [{"name": "api", "containerID": format!("containerd://{id}")}]}
        }]
    })
    .to_string()
}

/// A cgroup such as the kubelet makes; removed when dropped, with nobody in it any more.
struct PodCgroup(std::path::PathBuf);

impl PodCgroup {
    /// In the first hierarchy that one may make them in.
    fn new() -> Result<PodCgroup, String> {
        let mut why = "no hierarchy".to_owned();
        for hierarchy in ["cpuacct", "cpu,cpuacct", "."] {
            let mount = Path::new("/sys/fs/cgroup").join(hierarchy);
            if !mount.join("cgroup.procs").exists() {
                continue;
            }
            let dir = mount.join(format!(
                "perfprof-agent-{}/pod{POD}/{CONTAINER}",
                std::process::id()
            ));
            match fs::create_dir_all(&dir) {
                Ok(()) => return Ok(PodCgroup(dir)),
                Err(error) => why = format!("`{}`: {error}", dir.display()),
            }
        }
        Err(why)
    }
}

impl Drop for PodCgroup {
    fn drop(&mut self) {
        for dir in self.0.ancestors().take(3) {
            wait_until("a cgroup can be removed", LIMIT, || {
                fs::remove_dir(dir).is_ok() || !dir.exists()
            });
        }
    }
}

#[test]
fn a_container_is_called_what_the_kubernetes_api_says() {
    if missing(&[Need::Bpf, Need::Root, Need::Program("g++")]) {
        return;
    }
    let folder = folder();
    let cgroup = match PodCgroup::new() {
        Ok(cgroup) => cgroup,
        Err(reason) => return skip("cgroup", &reason),
    };
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec {} 1",
        cgroup.0.display(),
        build("split_70_30.cpp").display()
    );
    let mut shell = Command::new("sh");
    let workload = Workload::spawn(shell.args(["-c", &script]));
    let api = format!("http://{}", serve(pods(CONTAINER)));
    let mut agent = AgentCommand::new(folder.path())
        .args([
            "--container",
            CONTAINER,
            "--kubernetes-api",
            &api,
            "--node-name",
            "node-1",
        ])
        .start();
    // The first windows may be older than the first answer.
    let labelled = "namespace=\"shop\",pod=\"cart-5d8f-x\",container=\"api\"}";
    agent.wait_for_metric("the labels come", |metrics| {
        let mut samples = metrics.samples.keys();
        samples.any(|sample| sample.contains("target_cpu_seconds") && sample.ends_with(labelled))
    });
    let windows = agent.windows();
    let labels = labels_of(windows.last().expect("there is one"));
    for (label, value) in [
        ("namespace", "shop"),
        ("pod", "cart-5d8f-x"),
        ("container", "api"),
        ("pod_uid", POD),
        ("container_id", CONTAINER),
        ("node", "node-1"),
        ("workload", "cart"),
    ] {
        assert_eq!(
            labels.get(label).map(String::as_str),
            Some(value),
            "{labels:?}"
        );
    }
    agent.end();
    drop(workload);
    drop(cgroup);
}
