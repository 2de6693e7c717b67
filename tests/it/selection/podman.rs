//! Podman with storage of its own: an image of one static program, and containers of it, all taken away at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Limits that need no privilege to raise, so that containers start where a hard limit cannot be raised.
const LIMITS: [&str; 4] = [
    "--ulimit",
    "nofile=20000:20000",
    "--ulimit",
    "nproc=32768:32768",
];
const PROGRAM: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";

pub(crate) struct Podman {
    folder: TempDir,
}

impl Podman {
    /// With an image of a program that sleeps, built without a registry.
    pub(crate) fn new() -> Result<Podman, String> {
        Podman::of(PROGRAM)
    }

    /// With an image of this program, in C.
    pub(crate) fn of(program: &str) -> Result<Podman, String> {
        let podman = Podman {
            folder: tempfile::tempdir().map_err(|e| e.to_string())?,
        };
        let context = podman.folder.path().join("context");
        fs::create_dir(&context).map_err(|e| e.to_string())?;
        fs::write(context.join("app.c"), program).map_err(|e| e.to_string())?;
        let recipe = "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n";
        fs::write(context.join("Containerfile"), recipe).map_err(|e| e.to_string())?;
        let mut cc = Command::new("cc");
        succeed(
            cc.args(["-static", "-O", "-o"])
                .arg(context.join("app"))
                .arg(context.join("app.c")),
        )?;
        let mut build = podman.command("buildah");
        build
            .args(["bud", "-t", "localhost/perfprof-app:1"])
            .arg(&context);
        succeed(build.env("BUILDAH_ISOLATION", "chroot"))?;
        Ok(podman)
    }

    /// The folder in which the storage lies where it does in a machine's root.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a container and gives its ID.
    pub(crate) fn run(&self, name: &str) -> Result<String, String> {
        let mut run = self.podman();
        run.args([
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "none",
            "--cgroups",
            "enabled",
        ]);
        run.args(["--cgroup-parent", &format!("/{}", self.cgroup())]);
        run.args(LIMITS).arg("localhost/perfprof-app:1");
        succeed(&mut run).map(|id| id.trim().to_owned())
    }

    pub(crate) fn pid_of(&self, id: &str) -> u32 {
        let mut inspect = self.podman();
        let pid = succeed(inspect.args(["inspect", "-f", "{{.State.Pid}}", id]));
        pid.expect("inspected").trim().parse().expect("a PID")
    }

    pub(crate) fn remove(&self, name: &str) {
        succeed(self.podman().args(["rm", "-f", "-t", "0", name])).expect("removed");
    }

    fn cgroup(&self) -> String {
        format!("perfprof-podman-{}", std::process::id())
    }

    fn podman(&self) -> Command {
        let mut command = self.command("podman");
        command.args([
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--runtime",
            "runc",
        ]);
        command
    }

    fn command(&self, program: &str) -> Command {
        let storage: PathBuf = self.root().join("var/lib/containers/storage");
        let mut command = Command::new(program);
        command.arg("--root").arg(storage);
        command.arg("--runroot").arg(self.root().join("run"));
        command.args(["--storage-driver", "vfs"]);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What is left of them must not fail a test that has its answer.
        let _ = succeed(self.podman().args(["rm", "-f", "-a", "-t", "0"]));
        // Podman leaves the parent that it was told, and conmon's cgroup in it.
        let mounts = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let mounts = mounts.map(|mount| mount.path());
        for mount in mounts.chain([PathBuf::from("/sys/fs/cgroup")]) {
            super::remove_cgroups(&mount.join(self.cgroup()));
        }
    }
}

/// What the command prints.
fn succeed(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("`{:?}`: {e}", command.get_program()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(text.lines().last().unwrap_or_default().to_owned())
        }
    }
}
