//! A Pod as Kubernetes would run it, by `podman kube play`: containers of their own, PIDs in common, limits.
//!
//! In: a manifest of `deploy/`, and what is to be different in the test. Out: a running Pod to run commands in and to look
//! into. No registry and no network: images are [made here](images), and the Pod's network has a loopback interface only.
//! Everything podman keeps is in a temporary folder of the Pod's own.

mod host_pid;
mod images;
mod podman;
mod translation;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use super::proc::wait_until;
use podman::Podman;

pub(crate) use translation::{Changes, TOKEN};

/// Longest wait for something that a Pod does by itself; only bounds a failure.
const LIMIT: Duration = Duration::from_secs(60);

/// Why Pods cannot be run here; `None` when they can. Found out once, by running a container.
pub(crate) fn unusable() -> Option<String> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON.get_or_init(|| Podman::new().try_out().err()).clone()
}

/// Removed when dropped, with all it left on disk and in the cgroup hierarchies.
#[derive(Debug)]
pub(crate) struct Pod {
    podman: Podman,
    name: String,
}

impl Pod {
    /// Runs the Deployment, DaemonSet or Pod of `manifest` with images that hold [the workload and perfprof](images), and
    /// waits until all its containers run. Panics with podman's words and the containers' when they do not.
    pub(crate) fn play(manifest: &Path, changes: &Changes) -> Pod {
        let podman = Podman::new();
        podman.load(images::perfprof());
        podman.load(images::workload());
        let (name, documents) = translation::for_podman(manifest, changes);
        podman.play(&documents);
        let pod = Pod { podman, name };
        let containers = translation::containers(documents.last().expect("the Pod is last"));
        for container in &containers {
            pod.wait_until_it_runs(container);
        }
        pod
    }

    /// A command in a container, run to its end. The image has no shell: `words` begin with the path of a program.
    pub(crate) fn exec(&self, container: &str, words: &[&str]) -> Output {
        let container = self.name_of(container);
        let mut command = self.podman.command();
        command.arg("exec").arg(container).args(words);
        command.output().expect("podman can be run")
    }

    /// What the container has said so far, on both streams.
    pub(crate) fn logs(&self, container: &str) -> String {
        let mut command = self.podman.command();
        command.arg("logs").arg(self.name_of(container));
        let output = command.output().expect("podman can be run");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The PID of a container's first process, as we see it.
    pub(crate) fn pid(&self, container: &str) -> u32 {
        let state = self.state(container);
        let pid = state["Pid"].as_u64().and_then(|pid| pid.try_into().ok());
        pid.filter(|pid| *pid != 0).unwrap_or_else(|| {
            panic!(
                "`{container}` does not run: {state}\n{}",
                self.logs(container)
            )
        })
    }

    /// The same PID as the Pod sees it.
    pub(crate) fn pid_inside(&self, container: &str) -> u32 {
        let pid = self.pid(container);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.expect("a running process has a status");
        // The innermost namespace's is the last one; proc_pid_status(5).
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inside = ids.and_then(|ids| ids.split_whitespace().next_back()?.parse().ok());
        inside.expect("the kernel has PID namespaces")
    }

    /// Where a path in a container, volumes included, is found from outside.
    pub(crate) fn path(&self, container: &str, path: &str) -> PathBuf {
        let pid = self.pid(container);
        PathBuf::from(format!("/proc/{pid}/root/{}", path.trim_start_matches('/')))
    }

    /// A program of this machine in the Pod's network, to talk to what listens there.
    pub(crate) fn in_network(&self, program: &str) -> Command {
        let pid = self.pid(&self.any_container());
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .arg("--")
            .arg(program);
        command
    }

    /// Sends a signal, such as `SIGTERM`, to a container's first process.
    pub(crate) fn signal(&self, container: &str, signal: &str) {
        let mut command = self.podman.command();
        command
            .args(["kill", "--signal", signal])
            .arg(self.name_of(container));
        let output = command.output().expect("podman can be run");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn wait_until_it_runs(&self, container: &str) {
        wait_until(&format!("`{container}` runs"), LIMIT, || {
            let state = self.state(container);
            let ended = ["exited", "stopped"].contains(&state["Status"].as_str().unwrap_or(""));
            assert!(!ended, "`{container}` has ended: {}", self.logs(container));
            state["Running"] == true
        });
    }

    fn state(&self, container: &str) -> Value {
        let mut command = self.podman.command();
        command.args(["container", "inspect", "--format", "{{json .State}}"]);
        let output = command.arg(self.name_of(container)).output();
        let output = output.expect("podman can be run");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!(
                "no container `{container}`: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    fn any_container(&self) -> String {
        let mut command = self.podman.command();
        command.args(["ps", "--filter", "status=running", "--format", "{{.Names}}"]);
        let output = command.output().expect("podman can be run");
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        let prefix = format!("{}-", self.name);
        let mut ours = names.lines().filter_map(|name| name.strip_prefix(&prefix));
        ours.next().expect("a container runs").to_string()
    }

    /// podman's name for a container of the Pod.
    fn name_of(&self, container: &str) -> String {
        format!("{}-{container}", self.name)
    }
}
