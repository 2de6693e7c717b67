//! What `/proc` says about processes and threads, as of now.
//!
//! Source: `proc(5)`; for `schedstat` the kernel's `Documentation/scheduler/sched-stats.rst`.

use std::collections::BTreeSet;
use std::fs;
use std::io;

/// The kernel's own thread flag, `PF_KTHREAD` in `include/linux/sched.h`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub pid: u32,
    pub comm: String,
    pub state: char,
    pub ppid: u32,
    pub flags: u64,
    /// When it began, in ticks of 10 ms since the machine was started.
    pub start_ticks: u64,
}

impl Stat {
    pub fn of(pid: u32) -> io::Result<Stat> {
        Stat::read(&format!("/proc/{pid}/stat"))
    }

    fn read(path: &str) -> io::Result<Stat> {
        let bytes = fs::read(path)?;
        Stat::parse(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| io::Error::other(format!("`{path}` is not understood")))
    }

    /// The command name stands in parentheses and may itself hold any of ` ()`, so the last `)` ends it.
    pub fn parse(text: &str) -> Option<Stat> {
        let (head, tail) = text.rsplit_once(')')?;
        let (pid, comm) = head.split_once(" (")?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let ppid = fields.next()?.parse().ok()?;
        let flags = fields.nth(4)?.parse().ok()?;
        // Field 22; the flags were field 9.
        let start_ticks = fields.nth(12)?.parse().ok()?;
        Some(Stat {
            pid: pid.trim().parse().ok()?,
            comm: comm.to_owned(),
            state,
            ppid,
            flags,
            start_ticks,
        })
    }

    /// It has ended and only waits for its parent to read its status. A main thread that ended before the others looks
    /// the same, so they are asked, too.
    pub fn has_ended(&self) -> bool {
        self.is_dead() && !self.has_living_thread()
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    fn has_living_thread(&self) -> bool {
        let stat_of = |tid: u32| Stat::read(&format!("/proc/{}/task/{tid}/stat", self.pid)).ok();
        let tids = threads(self.pid).unwrap_or_default();
        tids.into_iter()
            .filter_map(stat_of)
            .any(|thread| !thread.is_dead())
    }

    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }
}

/// When the process began, in ticks of 10 ms since the machine was started.
pub fn start_ticks(pid: u32) -> Option<u64> {
    Stat::of(pid).ok().map(|stat| stat.start_ticks)
}

/// Whether the process exists and has not ended.
pub fn is_alive(pid: u32) -> bool {
    Stat::of(pid).is_ok_and(|stat| !stat.has_ended())
}

/// All PIDs in this PID namespace.
pub fn all_pids() -> io::Result<Vec<u32>> {
    numbered_entries("/proc")
}

/// The threads of a process.
pub fn threads(pid: u32) -> io::Result<Vec<u32>> {
    numbered_entries(&format!("/proc/{pid}/task"))
}

fn numbered_entries(dir: &str) -> io::Result<Vec<u32>> {
    let mut numbers: Vec<u32> = fs::read_dir(dir)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The command name of a thread.
pub fn thread_name(pid: u32, tid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).into_owned())
}

/// Nanoseconds the thread has spent on a CPU since it began.
pub fn thread_cpu_ns(pid: u32, tid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// `roots` and every process descended from them.
pub fn with_descendants(roots: &[u32]) -> io::Result<Vec<u32>> {
    let stats: Vec<Stat> = all_pids()?
        .into_iter()
        .filter_map(|pid| Stat::of(pid).ok())
        .collect();
    let mut family: BTreeSet<u32> = roots.iter().copied().collect();
    loop {
        let before = family.len();
        family.extend(
            stats
                .iter()
                .filter(|s| family.contains(&s.ppid))
                .map(|s| s.pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            return Ok(family.into_iter().collect());
        }
    }
}

/// Processes whose command name is `comm`, this process excepted.
pub fn with_name(comm: &str) -> io::Result<Vec<u32>> {
    let own = std::process::id();
    Ok(all_pids()?
        .into_iter()
        .filter(|pid| *pid != own && Stat::of(*pid).is_ok_and(|s| s.comm == comm && !s.has_ended()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_shift_the_fields() {
        let text = "42 (a) R 7 (x) S 1 2 3 4 5 2097152 7 8 9 10 11 12 13 14 20 0 1 0 98765 18";
        let stat = Stat::parse(text).expect("parses");
        assert_eq!((stat.pid, stat.state, stat.ppid), (42, 'S', 1));
        assert_eq!(stat.comm, "a) R 7 (x");
        assert_eq!(stat.start_ticks, 98765);
        assert!(stat.is_kernel_thread() && !stat.has_ended());
        assert_eq!(Stat::parse("42 (a"), None);
    }

    #[test]
    fn this_process_is_found_among_its_parents_descendants() {
        let own = std::process::id();
        let parent = Stat::of(own).expect("own stat").ppid;
        let family = with_descendants(&[parent]).expect("proc is readable");
        assert!(family.contains(&own) && family.contains(&parent));
        assert!(thread_cpu_ns(own, own).expect("schedstat") > 0);
    }
}
