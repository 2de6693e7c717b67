//! Whose generated code it is: what has to be known of a process before its map can be looked for and believed.
//!
//! In: a PID, at first sight of generated code. Out: an [`Owner`], which holds the process's root open, so that its map
//! can be found also after the process has gone.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};

use crate::sys::usage::{monotonic_ns, unix_ns};
use crate::target::process;
use crate::target::small_file;

/// Start times are in ticks of 10 ms, and files are stamped with a clock that moves every 4 or 10 ms.
const CLOCKS_DIFFER_NS: u64 = 30_000_000;

/// Source: `proc_pid_stat(5)`; the kernel counts in USER_HZ, which is 100 wherever Linux runs.
const TICK_NS: u64 = 10_000_000;

/// A process that generates code.
#[derive(Debug)]
pub struct Owner {
    /// Its PID as it knows it itself: in the innermost of its PID namespaces.
    pub own_pid: u32,
    /// Its user IDs, as numbered here: real, effective, saved, of the file system.
    pub uids: Vec<u32>,
    /// When it began, or became another program, on the wall clock; 0 where unknown.
    started_unix_ns: u64,
    pub root: OwnedFd,
}

impl Owner {
    /// `None` when the process is gone, or out of reach. `began_ns` is when its program began, as far as that is known,
    /// on the monotonic clock.
    pub fn of(pid: u32, began_ns: u64) -> Option<Owner> {
        let root = open(
            format!("/proc/{pid}/root").as_str(),
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        );
        let status = small_file::read_text(Path::new(&format!("/proc/{pid}/status"))).ok()?;
        let (own_pid, uids) = identity(&status)?;
        Some(Owner {
            own_pid: own_pid.unwrap_or(pid),
            uids,
            started_unix_ns: started_unix_ns(pid)
                .unwrap_or(0)
                .max(unix_ns().saturating_sub(monotonic_ns().saturating_sub(began_ns))),
            root: root.ok()?,
        })
    }

    /// Whether a file that was last written then was written by an earlier process with the same PID.
    pub fn began_after(&self, written_unix_ns: u64) -> bool {
        written_unix_ns.saturating_add(CLOCKS_DIFFER_NS) < self.started_unix_ns
    }

    /// Whether a file of this user may tell of the process: it is the process's own, or root's.
    pub fn may_be_of(&self, uid: u32) -> bool {
        uid == 0 || self.uids.contains(&uid)
    }
}

/// The innermost PID, which old kernels do not tell, and the user IDs. Source: `proc_pid_status(5)`.
fn identity(status: &str) -> Option<(Option<u32>, Vec<u32>)> {
    let numbers = |key| {
        let text = small_file::field(status, key).unwrap_or("");
        text.split_ascii_whitespace()
            .filter_map(|number| number.parse().ok())
    };
    let uids: Vec<u32> = numbers("Uid:").collect();
    (!uids.is_empty()).then(|| (numbers("NSpid:").next_back(), uids))
}

fn started_unix_ns(pid: u32) -> Option<u64> {
    let ticks = process::start_ticks(pid)?;
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
    let age_ns = now_ns.saturating_sub(ticks.saturating_mul(TICK_NS));
    Some(unix_ns().saturating_sub(age_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_pid_is_the_last_and_may_be_missing() {
        let status = "Name:\tx\nUid:\t1000\t0\t0\t1000\nNSpid:\t4242\t17\t3\n";
        assert_eq!(identity(status), Some((Some(3), vec![1000, 0, 0, 1000])));
        assert_eq!(identity("Uid:\t5\t5\t5\t5\n"), Some((None, vec![5; 4])));
        assert_eq!(identity("Name:\tx\n"), None);
    }

    #[test]
    fn a_file_written_before_the_process_began_is_not_its_own() {
        let owner = Owner::of(std::process::id(), 0).expect("own process");
        let now = unix_ns();
        assert!(owner.started_unix_ns > 0 && owner.started_unix_ns <= now + CLOCKS_DIFFER_NS);
        assert!(!owner.began_after(now));
        assert!(owner.began_after(owner.started_unix_ns - 1_000_000_000));
        assert!(owner.may_be_of(nix::unistd::getuid().as_raw()) && owner.may_be_of(0));
        assert!(Owner::of(1 << 30, 0).is_none());
    }
}
