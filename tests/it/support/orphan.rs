//! A process that does not descend from the test: it sleeps, under a command name of its own.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::proc::wait_until;

/// Only bounds a failure.
const LIMIT: Duration = Duration::from_secs(30);

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Orphan {
    pid: u32,
    _folder: TempDir,
}

impl Orphan {
    /// `comm` has at most 15 bytes.
    pub(crate) fn start(comm: &str) -> Orphan {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let program = folder.path().join(comm);
        fs::copy("/bin/sleep", &program).expect("`sleep` can be copied");
        // The shell ends at once, and what it has started goes to init.
        let script = format!("{} 100000 >/dev/null 2>&1 & echo $!", program.display());
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", &script]).stdin(Stdio::null());
        let output = shell.output().expect("`sh` can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        let pid = text.trim().parse().expect("a PID");
        let orphan = Orphan {
            pid,
            _folder: folder,
        };
        wait_until("it runs its program", LIMIT, || {
            let now = fs::read_to_string(format!("/proc/{pid}/comm"));
            now.is_ok_and(|now| now.trim() == comm)
        });
        orphan
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // It is gone already, or goes now.
        let _ = kill(Pid::from_raw(self.pid as i32), Signal::SIGKILL);
        let pid = self.pid;
        wait_until("a killed process is gone", LIMIT, || {
            fs::read_to_string(format!("/proc/{pid}/cgroup")).is_err()
                || super::proc::state(pid) == Some('Z')
        });
    }
}
