//! The kernel's own count of CPU time, for exactly the threads and the time that were sampled.
//!
//! In: `schedstat` of every target thread when sampling starts and when it stops, and for threads that end meanwhile
//! their total, reported by BPF: a lower bound as they exit, because the scheduler counts a thread's time only when it
//! switches away from it, and the final figure a grace period after they are gone. Without BPF the figures of ended threads are those of the last look, and
//! the sum is completed by what the sampling events counted themselves.

use std::collections::HashMap;

use crate::profile::{Accounting, CgroupCpu, ThreadCpu};
use crate::sampling::Scope;
use crate::target::process;

use super::run::SamplerCounts;

type ThreadKey = (u32, u32);

/// Collects the accounting of one recording.
#[derive(Debug, Default)]
pub struct Accountant {
    /// CPU time before the recording began.
    before: HashMap<ThreadKey, u64>,
    /// CPU time at the last look, for threads that may end unseen.
    latest: HashMap<ThreadKey, u64>,
    /// CPU time of threads that are ending, as of their exit.
    ending: HashMap<ThreadKey, u64>,
    /// CPU time within the recording of threads that are gone.
    ended: HashMap<ThreadKey, u64>,
}

impl Accountant {
    /// Notes what the threads have used so far. Called just before sampling starts.
    pub fn begin(pids: &[u32]) -> Accountant {
        Accountant {
            before: cpu_of_all(pids),
            ..Accountant::default()
        }
    }

    /// A process is part of the target from now on: what it has used so far is not looked for in samples.
    pub fn joined(&mut self, pid: u32) {
        self.before.extend(cpu_of_all(&[pid]));
    }

    /// A process is no longer part of the target: what it used counts up to now.
    pub fn left(&mut self, pid: u32) {
        for ((pid, tid), cpu_ns) in cpu_of_all(&[pid]) {
            self.thread_gone(pid, tid, cpu_ns);
        }
    }

    /// Ends a window and begins the next: answers what the window used. Threads that are on
    /// their way out have used in it what was known at their exit; the rest of them belongs to the next.
    pub fn cut(&mut self, pids: &[u32]) -> Accountant {
        let mut window = std::mem::take(self);
        // One reading for both sides, so that nothing is counted twice or never.
        window.latest.extend(cpu_of_all(pids));
        self.before = window.latest.clone();
        for (key, at_exit) in std::mem::take(&mut window.ending) {
            let before = window.before.remove(&key).unwrap_or(0);
            *window.ended.entry(key).or_default() += at_exit.saturating_sub(before);
            self.before.insert(key, at_exit);
            self.ending.insert(key, at_exit);
        }
        window
    }

    /// A thread is ending, having used at least `cpu_ns` in its life.
    pub fn thread_ending(&mut self, pid: u32, tid: u32, cpu_ns: u64) {
        self.latest.remove(&(pid, tid));
        self.ending.insert((pid, tid), cpu_ns);
    }

    /// A thread is gone, having used `cpu_ns` in its life.
    pub fn thread_gone(&mut self, pid: u32, tid: u32, cpu_ns: u64) {
        let before = self.before.remove(&(pid, tid)).unwrap_or(0);
        self.latest.remove(&(pid, tid));
        self.ending.remove(&(pid, tid));
        *self.ended.entry((pid, tid)).or_default() += cpu_ns.saturating_sub(before);
    }

    /// Whether threads have ended whose final figure has not come.
    pub fn waits_for_ends(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Takes the figures of zombies from `/proc`, where they stay until their parent looks; those of others stand as of
    /// their exit.
    pub fn settle_ends(&mut self) {
        for ((pid, tid), at_exit) in std::mem::take(&mut self.ending) {
            let zombie = process::thread_cpu_ns(pid, tid).filter(|cpu_ns| *cpu_ns >= at_exit);
            self.thread_gone(pid, tid, zombie.unwrap_or(at_exit));
        }
    }

    /// Looks again, so that a thread which ends unseen is known up to now.
    pub fn look(&mut self, pids: &[u32]) {
        self.latest.extend(cpu_of_all(pids));
    }

    /// Finishes after sampling has stopped and the last [`Accountant::look`].
    pub fn finish(self, counts: SamplerCounts, cgroup: Option<CgroupCpu>) -> Accounting {
        let SamplerCounts {
            losses,
            exits_reported,
            counted_cpu_ns: counted_ns,
        } = counts;
        let Accountant {
            before,
            latest,
            ended,
            ending: _,
        } = self;
        let mut used = ended;
        for (key, cpu_ns) in latest {
            let within = cpu_ns.saturating_sub(before.get(&key).copied().unwrap_or(0));
            *used.entry(key).or_default() += within;
        }
        let mut threads: Vec<ThreadCpu> = used
            .into_iter()
            .filter(|(_, cpu_ns)| *cpu_ns > 0)
            .map(|((pid, tid), cpu_ns)| ThreadCpu { pid, tid, cpu_ns })
            .collect();
        threads.sort_by_key(|t| (t.pid, t.tid));
        let known: u64 = threads.iter().map(|t| t.cpu_ns).sum();
        let mut gaps = Vec::new();
        let (source, unattributed_cpu_ns) = match (exits_reported, counted_ns) {
            (true, _) => ("schedstat at start and end, ends of threads by BPF", 0),
            (false, Some(counted)) => (
                "schedstat while running, the sampling event's own count for threads that ended",
                counted.saturating_sub(known),
            ),
            (false, None) => {
                gaps.push(
                    "CPU time of threads that ended is known only up to the last look".into(),
                );
                ("schedstat while running", 0)
            }
        };
        Accounting {
            source: source.into(),
            threads,
            unattributed_cpu_ns,
            lost: losses.lost,
            throttled: losses.throttled,
            cgroup,
            gaps,
        }
    }
}

/// CPU time of every thread of these processes since each began.
fn cpu_of_all(pids: &[u32]) -> HashMap<ThreadKey, u64> {
    let threads_of = |pid: u32| {
        let tids = process::threads(pid).unwrap_or_default();
        tids.into_iter().filter_map(move |tid| {
            process::thread_cpu_ns(pid, tid).map(|cpu_ns| ((pid, tid), cpu_ns))
        })
    };
    pids.iter().copied().flat_map(threads_of).collect()
}

/// The processes to account for at this moment: those known and those the scope lists now.
pub(super) fn pids_now(scope: &Scope, known: &[u32]) -> Vec<u32> {
    let mut pids = scope.current_pids();
    pids.extend(known);
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ended_counts_what_it_used_within_the_recording() {
        let mut accountant = Accountant::default();
        accountant.before.insert((1, 2), 100);
        accountant.thread_ending(1, 2, 300);
        assert!(accountant.waits_for_ends());
        accountant.thread_gone(1, 2, 350);
        accountant.thread_ending(1, 3, 40);
        accountant.settle_ends();
        assert!(!accountant.waits_for_ends());
        let reported = SamplerCounts {
            exits_reported: true,
            ..SamplerCounts::default()
        };
        let accounting = accountant.finish(reported, None);
        assert_eq!(accounting.cpu_ns(), Some(290));
        assert_eq!(accounting.threads.len(), 2);
    }

    #[test]
    fn a_cut_splits_what_was_used_and_forgets_none() {
        let mut accountant = Accountant::default();
        accountant.before.extend([((1, 2), 100), ((1, 3), 10)]);
        accountant.latest.insert((1, 2), 150);
        accountant.thread_ending(1, 3, 30);
        let reported = SamplerCounts {
            exits_reported: true,
            ..SamplerCounts::default()
        };
        let first = accountant.cut(&[]).finish(reported, None);
        assert_eq!(first.cpu_ns(), Some(50 + 20));
        accountant.latest.insert((1, 2), 175);
        accountant.thread_gone(1, 3, 34);
        let second = accountant.finish(reported, None);
        assert_eq!(second.cpu_ns(), Some(25 + 4));
    }

    #[test]
    fn without_reported_exits_the_event_count_fills_the_sum() {
        let mut accountant = Accountant::default();
        accountant.latest.insert((1, 2), 70);
        let counted = SamplerCounts {
            counted_cpu_ns: Some(100),
            ..SamplerCounts::default()
        };
        let accounting = accountant.finish(counted, None);
        assert_eq!(accounting.cpu_ns(), Some(100));
        assert_eq!(accounting.unattributed_cpu_ns, 30);
    }
}
