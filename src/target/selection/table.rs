//! All processes, looked at about twice a second for hours: what cannot change is read once.
//!
//! In: `/proc`. Out: for each process its command name, container and kind. A process is told from an earlier one with
//! the same PID by the inode number that the directory listing of `/proc` shows, which costs no system call of its own;
//! its start time decides where that number is new. What can change (a name by `exec`, a cgroup by being moved) is
//! looked at again at each call in a process's first seconds, then the name about every 15 seconds and the cgroup every 30.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::target::container::ContainerIdentity;
use crate::target::process::Stat;
use crate::target::small_file::{field, read_text};

/// So long a process may still be on its way into its container, or to its program.
const YOUTH: Duration = Duration::from_secs(3);
/// Then it is looked at again after this and up to 4 s more, so that not all come at once.
const RECHECK: Duration = Duration::from_secs(12);
const SPREAD: Duration = Duration::from_millis(250);
const SPREAD_STEPS: u32 = 16;
/// Command names of the process that holds a pod's namespaces: of Kubernetes, of podman.
const PAUSE: [&str; 2] = ["pause", "catatonit"];
/// `USER_HZ`, 100 on all architectures that Linux runs on today.
const TICK_MS: u64 = 10;

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Known {
    inode: u64,
    pub start_ticks: u64,
    /// When it was last looked at; its parent may have ended since.
    parent: u32,
    pub comm: String,
    pub is_kernel_thread: bool,
    pub has_ended: bool,
    /// It does nothing but hold a pod's namespaces.
    pub is_pause: bool,
    pub container: Option<Arc<ContainerIdentity>>,
    check_at: Instant,
    /// Its cgroup was not looked at the last time.
    is_cgroup_due: bool,
}

/// The living processes.
#[derive(Debug, Default)]
pub(super) struct Table {
    known: HashMap<u32, Known>,
    /// Files read since the beginning, for tests and measurements.
    pub files_read: u64,
}

impl Table {
    /// Brings the table up to date.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn refresh(&mut self, now: Instant) -> io::Result<()> {
        let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        let mut next = HashMap::with_capacity(self.known.len() + 16);
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let before = self.known.remove(&pid);
            if let Some(known) = self.look(pid, entry.ino(), before, now, uptime) {
                next.insert(pid, known);
            }
        }
        self.known = next;
        Ok(())
    }

    fn look(
        &mut self,
        pid: u32,
        inode: u64,
        before: Option<Known>,
        now: Instant,
        uptime: Duration,
    ) -> Option<Known> {
        let before = before.filter(|known| known.inode == inode);
        if let Some(known) = &before
            && now < known.check_at
        {
            return before;
        }
        self.files_read += 1;
        let stat = Stat::of(pid).ok()?;
        let before = before.filter(|known| known.start_ticks == stat.start_ticks);
        let is_kernel_thread = stat.is_kernel_thread();
        let has_ended = stat.has_ended();
        let began = Duration::from_millis(stat.start_ticks.saturating_mul(TICK_MS));
        let is_young = uptime.saturating_sub(began) < YOUTH;
        let (container, is_cgroup_due) = match before {
            Some(known) if !is_young && !known.is_cgroup_due => (known.container, true),
            _ if is_kernel_thread || has_ended => (None, false),
            _ => {
                self.files_read += 1;
                (
                    ContainerIdentity::of(pid).ok().flatten().map(Arc::new),
                    false,
                )
            }
        };
        let wait = match is_young {
            true => Duration::ZERO,
            false => RECHECK + SPREAD * (pid % SPREAD_STEPS),
        };
        Some(Known {
            inode,
            start_ticks: stat.start_ticks,
            parent: stat.ppid,
            is_pause: PAUSE.contains(&stat.comm.as_str()) && is_first_of_its_namespace(pid),
            comm: stat.comm,
            is_kernel_thread,
            has_ended,
            container,
            check_at: now + wait,
            is_cgroup_due,
        })
    }

    pub fn get(&self, pid: u32) -> Option<&Known> {
        self.known.get(&pid)
    }

    /// Those that have not ended.
    pub fn living(&self) -> impl Iterator<Item = (u32, &Known)> {
        let all = self.known.iter().map(|(pid, known)| (*pid, known));
        all.filter(|(_, known)| !known.has_ended)
    }
}

impl Table {
    /// `roots` and all that descend from them. Of this process and its own children nobody is one of them, unless
    /// itself a root or of one that is.
    pub fn descendants(&self, roots: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
        let own = std::process::id();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for (pid, known) in &self.known {
            // A parent began no later; what did has the PID of one that has ended.
            let parent = self.known.get(&known.parent);
            if *pid != own && parent.is_some_and(|parent| parent.start_ticks <= known.start_ticks) {
                children.entry(known.parent).or_default().push(*pid);
            }
        }
        let mut open: Vec<u32> = roots.into_iter().collect();
        let mut family = BTreeSet::new();
        while let Some(pid) = open.pop() {
            if self.known.contains_key(&pid) && family.insert(pid) {
                open.extend(children.get(&pid).into_iter().flatten());
            }
        }
        family
    }
}

/// Whether it is process 1 of its PID namespace.
fn is_first_of_its_namespace(pid: u32) -> bool {
    let status = read_text(Path::new(&format!("/proc/{pid}/status"))).unwrap_or_default();
    let innermost = field(&status, "NSpid:").and_then(|pids| pids.split_whitespace().last());
    innermost == Some("1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::process;
    use std::process::{Child, Command, Stdio};

    fn sleeper() -> Child {
        let mut command = Command::new("sleep");
        let command = command.arg("1000").stdin(Stdio::null());
        command.spawn().expect("`sleep` can be started")
    }

    #[test]
    fn old_processes_are_read_once_and_new_ones_at_each_call() {
        let mut table = Table::default();
        let begin = Instant::now();
        table.refresh(begin).expect("listed");
        let own = table.get(std::process::id()).expect("listed").clone();
        assert!(!own.is_kernel_thread && !own.has_ended && !own.is_pause);
        assert_eq!(
            Some(own.start_ticks),
            process::start_ticks(std::process::id())
        );
        let mut child = sleeper();
        table.refresh(begin).expect("listed");
        let young = table.get(child.id()).expect("listed").clone();
        assert!(young.check_at <= begin);
        // Long after, everything is looked at anew.
        let later = begin + RECHECK + SPREAD * SPREAD_STEPS;
        let read = table.files_read;
        table.refresh(later).expect("listed");
        assert!(table.files_read > read);
        child.kill().expect("killed");
        // Not waited for yet: it is listed still, but has ended.
        let deadline = Instant::now() + Duration::from_secs(20);
        while table.living().any(|(pid, _)| pid == child.id()) {
            assert!(Instant::now() < deadline, "a killed process does not end");
            table.refresh(later + RECHECK * 3).expect("listed");
        }
        child.wait().expect("ended");
        table.refresh(later + RECHECK * 6).expect("listed");
        assert!(table.get(child.id()).is_none());
    }

    #[test]
    fn families_are_told_by_parents_and_leave_this_process_out() {
        let (own, mut child) = (std::process::id(), sleeper());
        let mut table = Table::default();
        table.refresh(Instant::now()).expect("listed");
        assert!(
            table
                .descendants([own])
                .is_superset(&[own, child.id()].into())
        );
        let parent = table.known[&own].parent;
        let siblings = table.descendants([parent, u32::MAX]);
        assert!(!siblings.contains(&own) && !siblings.contains(&child.id()));
        assert_eq!(table.descendants([child.id()]), [child.id()].into());
        // The PID of a parent that has ended was given to a younger process.
        let own_start = table.known[&own].start_ticks;
        table
            .known
            .get_mut(&child.id())
            .expect("listed")
            .start_ticks = own_start - 1;
        assert!(!table.descendants([own]).contains(&child.id()));
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    #[test]
    fn another_inode_is_another_look() {
        let mut table = Table::default();
        let (own, now) = (std::process::id(), Instant::now());
        let seen = table.look(own, 7, None, now, Duration::MAX);
        let (known, read) = (seen.expect("lives"), table.files_read);
        let again = table.look(own, 7, Some(known.clone()), now, Duration::MAX);
        assert_eq!((again.expect("lives").inode, table.files_read), (7, read));
        table.look(own, 8, Some(known), now, Duration::MAX);
        assert!(table.files_read > read);
    }
}
