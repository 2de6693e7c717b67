//! podman with a storage of its own, below a temporary folder: nobody else's images and containers are seen or touched.
//!
//! What this machine needs told to it is told here: a cgroup manager without systemd, limits that may be set without
//! CAP_SYS_RESOURCE, a runtime that takes cgroup v1 and v2 alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use super::{host_pid, images};

/// podman asks for limits of its own, which only CAP_SYS_RESOURCE may raise. These it may have anywhere.
const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;

/// Below this, podman puts the cgroups of Pods, and leaves the folders behind.
const PARENT_CGROUP: &str = "libpod_parent";

/// Who is at work: the last one takes away what all have in common.
static AT_WORK: Mutex<u32> = Mutex::new(0);

#[derive(Debug)]
pub(super) struct Podman {
    folder: TempDir,
}

impl Podman {
    pub(super) fn new() -> Podman {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        fs::write(folder.path().join("containers.conf"), CONFIGURATION).expect("writable");
        // podman takes a folder that is called like an image for that image's build context.
        fs::create_dir(folder.path().join("empty")).expect("writable");
        *AT_WORK.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Podman { folder }
    }

    pub(super) fn command(&self) -> Command {
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new("podman");
        command
            .env("CONTAINERS_CONF", path("containers.conf"))
            .current_dir(path("empty"))
            .arg("--root")
            .arg(path("storage"))
            .arg("--runroot")
            .arg(path("run"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "file"]);
        command
    }

    pub(super) fn load(&self, archive: &Path) {
        self.must(
            self.command()
                .args(["load", "--quiet", "--input"])
                .arg(archive),
        )
        .unwrap_or_else(|words| panic!("`{}` is not loaded: {words}", archive.display()));
    }

    /// Starts what these documents describe; the last is a Pod.
    pub(super) fn play(&self, documents: &[Value]) {
        if documents.last().is_some_and(host_pid::is_asked_for) {
            for words in host_pid::runs(documents, &self.folder.path().join("volumes")) {
                self.must(self.command().arg("run").args(words))
                    .unwrap_or_else(|words| panic!("podman refuses a container: {words}"));
            }
            return;
        }
        // JSON is YAML.
        let texts: Vec<String> = documents.iter().map(Value::to_string).collect();
        let file = self.folder.path().join("documents.yaml");
        fs::write(&file, texts.join("\n---\n")).expect("writable");
        let mut command = self.command();
        command.args(["kube", "play", "--build=false", "--network", "none"]);
        self.must(command.arg(&file))
            .unwrap_or_else(|words| panic!("podman refuses the Pod: {words}"));
    }

    /// Runs a container; podman's words when that cannot be done here.
    pub(super) fn try_out(&self) -> Result<(), String> {
        self.load(images::workload());
        let mut run = self.command();
        run.args(["run", "--detach", "--network", "none", images::WORKLOAD]);
        self.must(&mut run)
    }

    fn must(&self, command: &mut Command) -> Result<(), String> {
        let output = command.output().map_err(|e| e.to_string())?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(words)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let listed = self
            .command()
            .args(["pod", "ps", "--quiet", "--no-trunc"])
            .output();
        let pods = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        // All fail only where there is nothing of the kind.
        for words in [
            &["pod", "rm", "--force", "--all", "--time", "0"][..],
            &["rm", "--force", "--all", "--time", "0"],
            &["volume", "rm", "--force", "--all"],
        ] {
            let _ = self.command().args(words).output();
        }
        let mut at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
        *at_work -= 1;
        for parent in parent_cgroups() {
            for pod in pods.iter().flat_map(|pods| pods.lines()) {
                remove_cgroup(&parent.join(pod));
            }
            if *at_work == 0 {
                remove_cgroup(&parent);
            }
        }
    }
}

/// In each hierarchy of v1, or in the one of v2.
fn parent_cgroups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = hierarchies.map(|entry| entry.path()).collect();
    folders.push(root.to_owned());
    folders.retain(|folder| folder.join(PARENT_CGROUP).is_dir());
    folders
        .iter()
        .map(|folder| folder.join(PARENT_CGROUP))
        .collect()
}

/// With those below it, as far as nobody is in them; the kernel refuses the others.
fn remove_cgroup(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for below in entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
    {
        remove_cgroup(&below);
    }
    let _ = fs::remove_dir(folder);
}
