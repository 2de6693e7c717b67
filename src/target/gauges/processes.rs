//! CPU time, threads, memory and run delay of a set of processes that comes and goes.
//!
//! In: PIDs. Out: sums that never go back: a process that has ended keeps what it had used.
//! CPU time comes from each process's CPU clock (one system call, nanoseconds, all threads, ended ones included); the
//! rest is read from `/proc` once a second.

use std::collections::BTreeMap;
use std::fs::read_dir;
use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::target::host::page_size_bytes;
use crate::target::small_file::read_text;

/// Reading `schedstat` costs some 10 µs a thread: beyond this many a reading would itself be a load.
const MAX_THREADS: usize = 2000;

/// Less missed CPU time than this is mostly the rounding of ticks.
const MISSED_NS: u64 = 100_000_000;

/// What is read once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slow {
    pub(super) threads: u32,
    /// Time runnable threads waited for a CPU; `None` when there are too many threads to ask.
    pub(super) run_delay_ns: Option<u64>,
    /// Private pages of all processes, and the largest shared part once.
    pub(super) memory_bytes: Option<u64>,
}

#[derive(Debug)]
struct Process {
    clock: ClockId,
    /// CPU time by the last reading, and what of it is from before the gauges were opened; nanoseconds.
    last_ns: u64,
    joined_ns: u64,
    /// CPU time of its ended children by then.
    reaped_ns: u64,
}

/// A process that was noticed only some time after it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latecomer {
    /// CPU time it had used until then, and how long ago it began; nanoseconds.
    pub(super) used_ns: u64,
    pub(super) age_ns: u64,
}

#[derive(Debug, Default)]
pub(super) struct Processes {
    live: BTreeMap<u32, Process>,
    /// When the gauges were opened, since boot: a process that began later counts from zero.
    opened_ns: u64,
    /// What ended processes used, nanoseconds; and what their parents have been told of them as far as it was seen, from
    /// before they joined included.
    ended_ns: u64,
    ended_told_ns: u64,
    /// Run delay by TID, and the sum of ended threads.
    delay_ns: BTreeMap<u32, u64>,
    ended_delay_ns: u64,
    too_many_threads: bool,
}

impl Processes {
    pub(super) fn open(pids: &[u32]) -> Processes {
        let mut processes = Processes {
            opened_ns: since_boot_ns().unwrap_or(u64::MAX),
            ..Processes::default()
        };
        processes.add(pids);
        processes
    }

    /// Takes in processes not known yet, and returns those that began since the gauges were opened: their CPU time
    /// from before this look is in the sum from now on. That one has ended shows at its CPU clock, not in its absence here.
    pub(super) fn add(&mut self, pids: &[u32]) -> Vec<Latecomer> {
        let mut late = Vec::new();
        for pid in pids {
            if self.live.contains_key(pid) {
                continue;
            }
            let Some((process, age_ns)) = Process::open(*pid, self.opened_ns) else {
                continue;
            };
            late.extend(age_ns.map(|age_ns| Latecomer {
                used_ns: process.used_ns(),
                age_ns,
            }));
            self.live.insert(*pid, process);
        }
        late
    }

    /// CPU time of all processes since they joined, nanoseconds.
    pub(super) fn cpu_ns(&mut self) -> u64 {
        let mut gone = Vec::new();
        for (pid, process) in &mut self.live {
            match cpu_clock_ns(process.clock) {
                Some(ns) if ns >= process.last_ns => process.last_ns = ns,
                // Gone, or its PID belongs to a younger process now.
                _ => gone.push(*pid),
            }
        }
        for pid in gone {
            self.end(pid);
        }
        let live: u64 = self.live.values().map(Process::used_ns).sum();
        live + self.ended_ns
    }

    pub(super) fn read_slowly(&mut self) -> Slow {
        let tids: Vec<(u32, u32)> = self
            .live
            .keys()
            .flat_map(|pid| threads_of(*pid).into_iter().map(|tid| (*pid, tid)))
            .collect();
        Slow {
            threads: tids.len() as u32,
            run_delay_ns: self.run_delay_ns(&tids),
            memory_bytes: self.memory_bytes(),
        }
    }

    /// What the figures above leave out, in words.
    pub(super) fn gaps(&self) -> Vec<String> {
        let mut gaps = vec![
            "processes that begin and end between two looks, 0.1 to 1 s apart, are not in the service's CPU time, nor what \
             an ended one used after the last reading"
                .to_owned(),
            "memory is the private pages of all processes and the largest shared part once"
                .to_owned(),
        ];
        let missed_ns = self.missed_ns();
        if missed_ns > MISSED_NS {
            gaps.push(format!(
                "ended children used {:.1} s of CPU time more than was read: the use told here is too low by that",
                missed_ns as f64 / 1e9
            ));
        }
        if self.too_many_threads {
            gaps.push(format!(
                "run delay is not read for more than {MAX_THREADS} threads"
            ));
        }
        gaps
    }

    fn end(&mut self, pid: u32) {
        if let Some(process) = self.live.remove(&pid) {
            self.ended_ns += process.used_ns();
            self.ended_told_ns += process.last_ns + process.reaped_ns;
        }
    }

    /// What parents were told of their ended children, and no reading holds. Those that have no parent here any more are
    /// not in it.
    fn missed_ns(&self) -> u64 {
        let told = self.live.iter().filter_map(|(pid, process)| {
            let now_ns = parse_reaped_ticks(&read_stat(*pid)?)?.saturating_mul(tick_ns());
            now_ns.checked_sub(process.reaped_ns)
        });
        told.sum::<u64>().saturating_sub(self.ended_told_ns)
    }

    fn run_delay_ns(&mut self, tids: &[(u32, u32)]) -> Option<u64> {
        if tids.len() > MAX_THREADS {
            self.too_many_threads = true;
        }
        if self.too_many_threads {
            return None;
        }
        let mut now = BTreeMap::new();
        for (pid, tid) in tids {
            let path = PathBuf::from(format!("/proc/{pid}/task/{tid}/schedstat"));
            let Some(delay) = read_text(&path).ok().and_then(|t| parse_run_delay_ns(&t)) else {
                continue;
            };
            now.insert(*tid, delay);
        }
        for (tid, before) in &self.delay_ns {
            if now.get(tid).is_none_or(|delay| delay < before) {
                self.ended_delay_ns += before;
            }
        }
        self.delay_ns = now;
        Some(self.delay_ns.values().sum::<u64>() + self.ended_delay_ns)
    }

    fn memory_bytes(&self) -> Option<u64> {
        let mut private = 0u64;
        let mut shared = 0u64;
        let mut any = false;
        for pid in self.live.keys() {
            let text = read_text(&PathBuf::from(format!("/proc/{pid}/statm"))).ok();
            let Some((resident, its_shared)) = text.as_deref().and_then(parse_statm) else {
                continue;
            };
            any = true;
            private = private.saturating_add(resident.saturating_sub(its_shared));
            shared = shared.max(its_shared);
        }
        any.then(|| {
            private
                .saturating_add(shared)
                .saturating_mul(page_size_bytes())
        })
    }
}

impl Process {
    /// And how long ago it began, when that was after `opened_ns`. `None` when it is gone already.
    fn open(pid: u32, opened_ns: u64) -> Option<(Process, Option<u64>)> {
        let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
        let now_ns = cpu_clock_ns(clock)?;
        let stat = read_stat(pid)?;
        // Rounded down to a tick: it looks older than it is by a tick at most, never younger.
        let began_ns = parse_start_ticks(&stat)?.saturating_mul(tick_ns());
        let age_ns = since_boot_ns()
            .filter(|_| began_ns > opened_ns)
            .map(|now_ns| now_ns.saturating_sub(began_ns));
        let reaped_ns = parse_reaped_ticks(&stat)?.saturating_mul(tick_ns());
        let (joined_ns, reaped_ns) = match age_ns {
            Some(_) => (0, 0),
            None => (now_ns, reaped_ns),
        };
        let process = Process {
            clock,
            joined_ns,
            last_ns: now_ns,
            reaped_ns,
        };
        Some((process, age_ns))
    }

    fn used_ns(&self) -> u64 {
        self.last_ns.saturating_sub(self.joined_ns)
    }
}

fn cpu_clock_ns(clock: ClockId) -> Option<u64> {
    let now = Duration::from(clock.now().ok()?);
    u64::try_from(now.as_nanos()).ok()
}

/// The clock of start times in `/proc`.
fn since_boot_ns() -> Option<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    u64::try_from(now.as_nanos()).ok()
}

fn threads_of(pid: u32) -> Vec<u32> {
    let Ok(entries) = read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn read_stat(pid: u32) -> Option<String> {
    read_text(&PathBuf::from(format!("/proc/{pid}/stat"))).ok()
}

/// Start time in ticks since boot.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    stat_field(stat, 22)
}

/// User and system time of children that were waited for, theirs included, in ticks. Never below 0.
fn parse_reaped_ticks(stat: &str) -> Option<u64> {
    stat_field(stat, 16)?.checked_add(stat_field(stat, 17)?)
}

/// A field by its number in proc(5), from 3 on; the command name before it may hold blanks and brackets.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let field = after_name.split_whitespace().nth(number - 3)?;
    field.parse().ok()
}

/// Length of the ticks in which start times are told.
fn tick_ns() -> u64 {
    let hz = match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(hz)) if hz > 0 => hz as u64,
        _ => 100,
    };
    1_000_000_000 / hz
}

/// `run-time-ns run-delay-ns timeslices`.
fn parse_run_delay_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

/// Resident and shared pages: the second and third number.
fn parse_statm(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_whitespace().skip(1);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_a_hostile_name() {
        let stat = "9708 (a) R 1 (b) S 9669 9669 7898 0 -1 4194304 138 0 0 0 0 0 0 0 20 0 1 0 80907 3133440";
        assert_eq!(parse_start_ticks(stat), Some(80907));
        assert_eq!(parse_start_ticks("9708 (a"), None);
        let parent = "1 (sh) S 1 1 1 0 -1 0 1 0 0 0 7 8 30 12 20 0 1 0 80907 3133440";
        assert_eq!(parse_reaped_ticks(parent), Some(42));
    }

    #[test]
    fn what_an_ended_process_used_stays_in_the_sum() {
        let mut processes = Processes::open(&[]);
        let mut child = std::process::Command::new("sh")
            .args([
                "-c",
                "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; read x",
            ])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh");
        processes.add(&[child.id()]);
        let mut used = 0;
        while used < 10_000_000 {
            let now = processes.cpu_ns();
            assert!(now >= used, "the sum went back");
            used = now;
        }
        drop(child.stdin.take());
        child.wait().expect("wait");
        let after = processes.cpu_ns();
        assert!(after >= used);
        assert_eq!(processes.cpu_ns(), after);
        assert!(processes.live.is_empty());
    }

    #[test]
    fn a_process_that_was_there_before_counts_from_when_it_joined() {
        let before = cpu_clock_ns(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("clock");
        let mut processes = Processes::open(&[std::process::id()]);
        let used = processes.cpu_ns();
        let after = cpu_clock_ns(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("clock");
        assert!(
            used <= after - before,
            "{used} is more than {}",
            after - before
        );
        let slow = processes.read_slowly();
        assert!(slow.threads >= 1 && slow.run_delay_ns.is_some());
        assert!(slow.memory_bytes.expect("memory") > 1 << 20);
    }

    #[test]
    fn unreadable_text_is_no_figure() {
        assert_eq!(parse_run_delay_ns("100 27682 1\n"), Some(27682));
        assert_eq!(parse_run_delay_ns("100"), None);
        assert_eq!(parse_statm("765 438 410 5 0 88 0"), Some((438, 410)));
        assert_eq!(parse_statm("765 x"), None);
    }
}
