//! perfprof beside an application in one Pod, by the very manifests of `deploy/kubernetes`: the sidecar sees the
//! application's code by name, with single capabilities and as a privileged container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::support::pod::{Changes, Pod, TOKEN};
use crate::support::proc::wait_until;
use crate::support::workload::repository;
use crate::support::{Folded, Need, Workload, missing};

const DEPLOYMENT: &str = "deploy/kubernetes/sidecar/capabilities/deployment.yaml";
const DAEMONSET: &str = "deploy/kubernetes/daemonset/capabilities/daemonset.yaml";
const PRIVILEGED: &str = "deploy/kubernetes/sidecar/privileged/security-context.yaml";

/// Records the Pod's first process, which sleeps for ever: something that lasts while the test looks on.
const IDLE: (&str, &[&str]) = (
    "perfprof",
    &[
        "record",
        "--pid",
        "1",
        "-d",
        "3600",
        "--artifacts",
        "/tmp/idle",
    ],
);

const DATA: &str = "/var/lib/perfprof";
const OUTPUT: &str = "/var/lib/perfprof/out.folded";

/// Ticks for a share to be judged by.
const ENOUGH: u64 = 40;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A Pod of the sidecar manifest, with the sidecar at rest.
fn sidecar(patch: Option<&Path>, without: &[&str]) -> Pod {
    let changes = Changes {
        args: &[IDLE],
        more: &[],
        // Longer than any wait of a test; the application ends by itself even when nobody takes the Pod down.
        env: &[("app", "WORKLOAD_SECONDS", "600")],
        patch,
        without,
    };
    Pod::play(&repository().join(DEPLOYMENT), &changes)
}

/// A few seconds of the application, from inside the sidecar; what was said, and where it was written. On a machine that
/// lets the application run too little, it takes longer.
fn record(pod: &Pod) -> (String, PathBuf) {
    let application = pod.pid_inside("app");
    let mut said = String::new();
    for seconds in ["2", "10", "50"] {
        said = record_for(pod, application, seconds);
        let folded = Folded::read(&pod.path("perfprof", OUTPUT));
        if folded.total() >= ENOUGH {
            return (said, pod.path("perfprof", DATA));
        }
    }
    panic!("too few ticks: {said}");
}

/// Records process `pid` as the Pod sees it; what was said.
fn record_for(pod: &Pod, pid: u32, seconds: &str) -> String {
    let pid = pid.to_string();
    let words = [
        "/perfprof",
        "record",
        "--pid",
        &pid,
        "-d",
        seconds,
        "--artifacts",
        "/var/lib/perfprof/t",
        "-o",
        OUTPUT,
    ];
    let output = pod.exec("perfprof", &words);
    let words = said(&output);
    // A short recording may be called inconclusive; it is complete all the same.
    assert!(matches!(output.status.code(), Some(0 | 5)), "{words}");
    words
}

fn assert_sidecar_sees_the_application(pod: &Pod) {
    let doctor = pod.exec("perfprof", &["/perfprof", "doctor"]);
    let words = said(&doctor);
    assert!(doctor.status.success(), "{words}");
    assert!(words.contains("shared by the Pod"), "{words}");
    assert!(words.contains("BPF sampler    available"), "{words}");

    let (words, folder) = record(pod);
    // Names are kept in the volume, since the root file system cannot be written.
    assert!(!words.contains("Read-only file system"), "{words}");
    let stacks = Folded::read(&folder.join("out.folded"));
    let all = stacks.total();
    let named = stacks.with_below("descend", "unit_of_work");
    // What is not in the loop is the kernel's: throttling, timers.
    assert!(
        named * 10 >= all * 9,
        "{named} of {all} ticks are named: {words}"
    );

    // The quota of the manifest is the one that the application has, and that the report names.
    let capacity = fs::read(folder.join("t/capacity-analysis.json")).expect("written");
    let capacity: Value = serde_json::from_slice(&capacity).expect("JSON");
    assert!(capacity.to_string().contains("throttl"), "{capacity}");
}

#[test]
fn a_sidecar_with_single_capabilities_names_the_code_beside_it() {
    if missing(&[Need::Bpf, Need::Podman]) {
        return;
    }
    assert_sidecar_sees_the_application(&sidecar(None, &[]));
}

#[test]
fn a_privileged_sidecar_names_the_code_beside_it() {
    if missing(&[Need::Bpf, Need::Podman]) {
        return;
    }
    let patch = repository().join(PRIVILEGED);
    assert_sidecar_sees_the_application(&sidecar(Some(&patch), &[]));
}

/// What the manifest gives to the agent is there: token, labels, a place to write; and what it does not, is not.
#[test]
fn a_sidecar_finds_what_the_manifest_gives_it() {
    if missing(&[Need::Bpf, Need::Podman]) {
        return;
    }
    let pod = sidecar(None, &[]);
    let read = |path: &str| {
        let path = pod.path("perfprof", path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()))
    };
    assert_eq!(read("/etc/perfprof/http-token"), TOKEN);
    assert!(read("/etc/podinfo/labels").contains("app.kubernetes.io/name="));
    let pid = pod.pid("perfprof");
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).expect("readable");
    assert!(environment.contains("POD_NAME=app\0"), "{environment:?}");
    assert!(
        environment.contains("NODE_NAME=node-1\0"),
        "{environment:?}"
    );
    assert!(pod.logs("app").contains("ready"));

    let mut interfaces = pod.in_network("cat");
    let interfaces = said(
        &interfaces
            .arg("/proc/self/net/dev")
            .output()
            .expect("cat can be run"),
    );
    assert!(interfaces.contains("lo:"), "{interfaces}");
    assert!(!interfaces.contains("eth0:"), "{interfaces}");

    // The root file system cannot be written, the volume can.
    assert!(fs::write(pod.path("perfprof", "/var/lib/perfprof/x"), "x").is_ok());
    let words = [
        "/perfprof",
        "record",
        "--pid",
        "1",
        "-d",
        "1",
        "--artifacts",
        "/x",
    ];
    let refused = pod.exec("perfprof", &words);
    assert_eq!(refused.status.code(), Some(7), "{}", said(&refused));

    pod.signal("perfprof", "SIGINT");
    wait_until("the idle recording ends", Duration::from_secs(60), || {
        pod.logs("perfprof").contains("wrote /tmp/idle")
    });
}

/// The negative control of the two above: the manifest's capabilities are what the sidecar has, and it takes them.
#[test]
fn a_sidecar_without_ptrace_is_honest_about_code_it_cannot_name() {
    if missing(&[Need::Bpf, Need::Podman]) {
        return;
    }
    let pod = sidecar(None, &["SYS_PTRACE"]);
    let (words, folder) = record(&pod);
    assert!(words.contains("inconclusive"), "{words}");
    let stacks = Folded::read(&folder.join("out.folded"));
    let named = stacks.with("unit_of_work");
    assert_eq!(named, 0, "{words}");
}

/// The DaemonSet's container sees processes of the whole machine, here one that is in no Pod at all.
#[test]
fn a_daemonset_names_code_of_all_the_node() {
    if missing(&[Need::Bpf, Need::Podman]) {
        return;
    }
    // Something that lasts: this test.
    let own = std::process::id().to_string();
    let idle = [
        "record",
        "--pid",
        &own,
        "-d",
        "3600",
        "--artifacts",
        "/tmp/idle",
    ];
    let changes = Changes {
        args: &[("perfprof", &idle)],
        ..Changes::default()
    };
    let pod = Pod::play(&repository().join(DAEMONSET), &changes);
    let workload = Workload::start("steady.c", &["1"]);
    record_for(&pod, workload.pid(), "2");
    let stacks = Folded::read(&pod.path("perfprof", OUTPUT));
    assert!(stacks.with("unit_of_work") > 0, "{stacks:?}");

    // The cgroup of a process outside, which a container by itself does not see.
    let cgroups = fs::read_to_string("/proc/self/cgroup").expect("readable");
    let line = cgroups
        .lines()
        .next()
        .expect("every process is in a cgroup");
    let path = line.rsplit(':').next().expect("a line ends with a path");
    let hierarchies = fs::read_dir(pod.path("perfprof", "/sys/fs/cgroup")).expect("mounted");
    let mut hierarchies = hierarchies.flatten().map(|entry| entry.path());
    let seen = |folder: PathBuf| {
        folder
            .join(path.trim_start_matches('/'))
            .join("cgroup.procs")
            .exists()
    };
    assert!(
        hierarchies.any(seen) || seen(pod.path("perfprof", "/sys/fs/cgroup")),
        "`{path}`"
    );
}
