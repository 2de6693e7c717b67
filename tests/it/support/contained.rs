//! A container of sorts: a program with PIDs and a `/tmp` of its own, in our network and file system for the rest.
//!
//! In: a shell command and the command name it will have. Out: the running process, or nothing where namespaces may not
//! be made.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::proc::wait_until;

/// Longest wait for the program; only bounds a failure.
const LIMIT: Duration = Duration::from_secs(20);

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Contained {
    outer: Child,
    inner: u32,
}

impl Contained {
    pub(crate) fn start(command: &str, name: &str) -> Option<Contained> {
        let script = format!("mount -t tmpfs none /tmp || exit 99; exec {command}");
        let outer = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount"])
            .args(["sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("`unshare` can be run");
        let pid = outer.id();
        let mut contained = Contained { outer, inner: 0 };
        wait_until("the contained program runs", LIMIT, || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            contained.inner = children.map_or(0, |list| list.trim().parse().unwrap_or(0));
            let comm = fs::read_to_string(format!("/proc/{}/comm", contained.inner));
            !contained.runs() || comm.is_ok_and(|comm| comm.trim() == name)
        });
        contained.runs().then_some(contained)
    }

    fn runs(&mut self) -> bool {
        let ended = self.outer.try_wait();
        ended.expect("a child can be waited for").is_none()
    }

    /// The program's PID as seen from here. For itself it is 1.
    pub(crate) fn pid(&self) -> u32 {
        self.inner
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        // Both fail only when it is gone already. The program goes with it.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}
