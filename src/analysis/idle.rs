//! Waiting for work to come, told from waiting within the work.
//!
//! In: a profile with waits. Out: which of them are idle. A pool's worker, an event loop, a main thread that joins the
//! others: each has a function that everything it does stands below, and waits for the next piece of work right there. So a
//! wait is idle when it could be one for work by its cause, is no lock, and is called from the innermost function that
//! all of its thread's work stands in or below; functions that do nothing but this wait count as part of it. A thread that
//! does nothing but wait is idle.

use std::collections::BTreeMap;

use super::waits::is_library;
use crate::profile::{Cause, Frame, Profile, StackEnd, StackIx, ThreadIx, WaitSample, Waits};

/// Of a thread's work, what may stand elsewhere: its beginning, a signal.
const ELSEWHERE: f64 = 0.02;
/// A function with less of its thread's work than this counts as one that only waits: the call itself takes CPU time, and
/// so does the lock around a queue.
const SOME_WORK: f64 = 0.2;

/// Where a thread has fewer ticks of work, they do not tell where it works: then the wait closest to the thread's root is the one for
/// work.
const FEW_TICKS: u64 = 10;

/// A place with less of what its thread waits, if it is for work, is passed by now and then only.
const SOME_WAITING: f64 = 0.1;

/// Parts of names of functions that wait for a lock: that is never waiting for work.
const LOCKS: [&str; 16] = [
    "mutex_lock",
    "mutex_timedlock",
    "lll_lock",
    "lll_mutex_lock",
    "rwlock_",
    "spin_lock",
    "Mutex::lock",
    "RawMutex",
    "RawRwLock",
    "lock_contended",
    "lock_slow",
    "lockSlow",
    "take_gil",
    "ObjectMonitor::enter",
    "LockAcquire",
    "ProcSleep",
];

/// Innermost frames of the program in which such a function is looked for: run-times have locks of their own.
const LOCK_FRAMES: usize = 12;

/// Which waits are idle, by their place in [`Waits::samples`].
#[derive(Debug, Default)]
pub(super) struct Idle {
    idle: Vec<bool>,
}

/// The functions of the program itself in a stack, root first, and the library function it went on into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OwnPath {
    functions: Vec<u32>,
    into: Option<u32>,
}

/// A function below those it was called from.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// Time of work here and below, and of all, idle or not.
    work: f64,
    all: f64,
}

impl Idle {
    pub(super) fn of(profile: &Profile, waits: &Waits) -> Idle {
        let mut paths: BTreeMap<StackIx, (OwnPath, bool)> = BTreeMap::new();
        let mut path_of = |stack: StackIx| {
            paths
                .entry(stack)
                .or_insert_with(|| own_path(profile, stack))
                .clone()
        };
        let mut by_thread: BTreeMap<ThreadIx, Thread> = BTreeMap::new();
        // An incomplete stack does not say below what it stands, and where a thread was preempted says nothing of waits.
        let says_where =
            |sample: &WaitSample| sample.end == StackEnd::Root && sample.cause.is_blocked();
        for (ix, sample) in waits.samples.iter().enumerate() {
            if !says_where(sample) {
                continue;
            }
            let (path, is_lock) = path_of(sample.stack);
            let thread = by_thread.entry(sample.thread).or_default();
            thread.wait(ix, sample, path, is_lock);
        }
        for sample in profile.samples.iter().filter(|s| s.end == StackEnd::Root) {
            if let Some(thread) = by_thread.get_mut(&sample.thread) {
                let (path, _) = path_of(sample.stack);
                let weight = sample.cpu_ns.max(sample.count) as f64;
                thread.ticks(path, sample.count, weight);
            }
        }
        let mut idle = vec![false; waits.samples.len()];
        for thread in by_thread.into_values() {
            for ix in thread.idle() {
                idle[ix] = true;
            }
        }
        Idle { idle }
    }

    pub(super) fn is_idle(&self, ix: usize) -> bool {
        self.idle.get(ix).copied().unwrap_or(false)
    }

    pub(super) fn into_flags(self) -> Vec<bool> {
        self.idle
    }
}

/// What one thread did.
#[derive(Debug, Default)]
struct Thread {
    candidates: Vec<(usize, OwnPath)>,
    /// Functions that call what waits: what they take on a CPU in libraries and the kernel is part of the wait.
    waiting: BTreeMap<Vec<u32>, f64>,
    nodes: BTreeMap<Vec<u32>, Node>,
    work: Vec<(OwnPath, u64, f64)>,
}

impl Thread {
    fn wait(&mut self, ix: usize, sample: &WaitSample, path: OwnPath, is_lock: bool) {
        let weight = sample.wait_ns as f64;
        if is_lock {
            return self.add(&path.functions, 0.0, weight);
        }
        if !may_be_idle(sample.cause) {
            return self.add(&path.functions, weight, weight);
        }
        self.add(&path.functions, 0.0, weight);
        *self.waiting.entry(path.functions.clone()).or_default() += weight;
        self.candidates.push((ix, path));
    }

    fn ticks(&mut self, path: OwnPath, count: u64, weight: f64) {
        self.work.push((path, count, weight));
    }

    fn add(&mut self, functions: &[u32], work: f64, all: f64) {
        for depth in 0..=functions.len() {
            let node = self.nodes.entry(functions[..depth].to_vec()).or_default();
            node.work += work;
            node.all += all;
        }
    }

    /// Places of waits that are idle.
    fn idle(mut self) -> Vec<usize> {
        let mut ticks = 0;
        for (path, count, weight) in std::mem::take(&mut self.work) {
            if path.into.is_none() || !self.waiting.contains_key(&path.functions) {
                ticks += count;
                self.add(&path.functions, weight, weight);
            }
        }
        let whole = self.nodes.get(&Vec::new()).copied().unwrap_or_default();
        let waited: f64 = self.waiting.values().sum();
        let often = self
            .waiting
            .iter()
            .filter(|(_, ns)| **ns > SOME_WAITING * waited);
        let shallowest = often.map(|(functions, _)| functions.len()).min();
        let idle = |path: &OwnPath| {
            if ticks < FEW_TICKS {
                return Some(path.functions.len()) == shallowest;
            }
            let works = |depth: &usize| {
                let node = self.nodes.get(&path.functions[..*depth]);
                node.is_some_and(|node| node.work > SOME_WORK * whole.work)
            };
            let depth = (0..=path.functions.len()).rev().find(works);
            let Some(depth) = depth else {
                return true;
            };
            let all = self.nodes.get(&path.functions[..depth]);
            let all = all.map_or(0.0, |node| node.all);
            whole.all - all <= ELSEWHERE * whole.all
        };
        let candidates = self.candidates.iter().filter(|(_, path)| idle(path));
        candidates.map(|(ix, _)| *ix).collect()
    }
}

/// Whether a wait for this can be one for work.
fn may_be_idle(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::Futex | Cause::Poll | Cause::Network | Cause::Pipe | Cause::Child | Cause::Other
    )
}

/// The path of a stack's own functions, and whether it waits for a lock.
fn own_path(profile: &Profile, stack: StackIx) -> (OwnPath, bool) {
    let frames: Vec<&Frame> = profile
        .stacks
        .root_to_leaf(stack)
        .map(|ix| profile.frame(ix))
        .collect();
    let own = frames
        .iter()
        .rposition(|frame| !is_library(profile, frame))
        .map_or(0, |ix| ix + 1);
    let function = |frame: &&Frame| frame.lines.last().map_or(0, |line| line.function.0);
    let is_lock = frames[own.saturating_sub(LOCK_FRAMES)..]
        .iter()
        .any(|frame| {
            let mut names = frame.lines.iter();
            names.any(|line| {
                let name = &profile.function(line.function).name;
                LOCKS.iter().any(|part| name.contains(part))
            })
        });
    let path = OwnPath {
        functions: frames[..own].iter().map(function).collect(),
        into: frames.get(own).map(function),
    };
    (path, is_lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(functions: &[u32], into: u32) -> OwnPath {
        OwnPath {
            functions: functions.to_vec(),
            into: Some(into),
        }
    }

    fn wait(cause: Cause, wait_ns: u64) -> WaitSample {
        WaitSample {
            slice: 0,
            thread: ThreadIx(0),
            stack: StackIx::EMPTY,
            end: StackEnd::Root,
            cause,
            stacks: 1,
            count: 1,
            wait_ns,
        }
    }

    const WORKER: u32 = 1;
    const AWAIT_JOB: u32 = 2;
    const HANDLE_JOB: u32 = 3;
    const ASK: u32 = 4;
    const LIBC: u32 = 9;

    #[test]
    fn a_worker_is_idle_where_it_waits_for_jobs_and_not_within_one() {
        let mut thread = Thread::default();
        thread.wait(
            0,
            &wait(Cause::Futex, 500),
            path(&[WORKER, AWAIT_JOB], LIBC),
            false,
        );
        thread.wait(
            1,
            &wait(Cause::Pipe, 400),
            path(&[WORKER, HANDLE_JOB, ASK], LIBC),
            false,
        );
        thread.ticks(path(&[WORKER, HANDLE_JOB], LIBC), 100, 100.0);
        thread.ticks(path(&[WORKER, AWAIT_JOB], LIBC), 90, 90.0);
        assert_eq!(thread.idle(), [0]);
    }

    #[test]
    fn waiting_for_a_lock_or_for_time_to_pass_is_not_idle() {
        let mut thread = Thread::default();
        thread.wait(0, &wait(Cause::Futex, 500), path(&[WORKER], LIBC), true);
        thread.wait(1, &wait(Cause::Sleep, 500), path(&[WORKER], LIBC), false);
        thread.ticks(path(&[WORKER], LIBC), 100, 100.0);
        assert_eq!(thread.idle(), [] as [usize; 0]);
    }

    #[test]
    fn with_few_ticks_the_wait_closest_to_the_root_is_the_one_for_work() {
        let mut thread = Thread::default();
        thread.wait(
            0,
            &wait(Cause::Futex, 500),
            path(&[WORKER, AWAIT_JOB], LIBC),
            false,
        );
        thread.wait(
            1,
            &wait(Cause::Pipe, 400),
            path(&[WORKER, HANDLE_JOB, ASK], LIBC),
            false,
        );
        thread.ticks(path(&[WORKER, AWAIT_JOB], LIBC), 1, 1.0);
        assert_eq!(thread.idle(), [0]);
    }

    #[test]
    fn a_thread_that_only_waits_is_idle() {
        let mut thread = Thread::default();
        thread.wait(0, &wait(Cause::Futex, 500), path(&[WORKER], LIBC), false);
        assert_eq!(thread.idle(), [0]);
    }
}
