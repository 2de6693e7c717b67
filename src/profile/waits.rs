//! What threads did while they were not on a CPU: a book for each thread, in which its whole time is added up, and stacks
//! that waited.
//!
//! A book is exact: every switch of the thread was entered. The stacks are a sample of the waits, chosen by the time they
//! were expected to take; each carries the number of waits and the time that it stands for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{StackEnd, StackIx, ThreadIx};

/// What a thread that is not on a CPU waits for. The first ten are those of `enum wait_cause` in `bpf/abi.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Cause {
    Other = 0,
    /// A lock, a condition, a semaphore: whatever a C library makes of `futex(2)`.
    Futex = 1,
    /// A file system or a block device.
    Disk = 2,
    /// A socket.
    Network = 3,
    Pipe = 4,
    /// Whichever of several files is ready first: `poll(2)`, `select(2)`, `epoll(7)`.
    Poll = 5,
    Sleep = 6,
    /// A page of its memory that has to be brought or made.
    PageFault = 7,
    /// The end of a child process.
    Child = 8,
    /// It was stopped by a signal or a debugger.
    Stopped = 9,
    /// It could run, and something else had the CPU: run-queue latency.
    Runnable = 10,
    /// It could run, and its cgroup's CPU quota was used up.
    Throttled = 11,
}

/// How many causes of [`Cause::is_blocked`] there are.
pub const BLOCKED_CAUSES: usize = 10;

impl Cause {
    pub const ALL: [Cause; 12] = [
        Cause::Other,
        Cause::Futex,
        Cause::Disk,
        Cause::Network,
        Cause::Pipe,
        Cause::Poll,
        Cause::Sleep,
        Cause::PageFault,
        Cause::Child,
        Cause::Stopped,
        Cause::Runnable,
        Cause::Throttled,
    ];

    /// Whether the thread could not have run if it had been given a CPU.
    pub fn is_blocked(self) -> bool {
        !matches!(self, Cause::Runnable | Cause::Throttled)
    }

    /// Stable identifier for files.
    pub fn id(self) -> &'static str {
        match self {
            Cause::Other => "other",
            Cause::Futex => "futex",
            Cause::Disk => "disk",
            Cause::Network => "network",
            Cause::Pipe => "pipe",
            Cause::Poll => "poll",
            Cause::Sleep => "sleep",
            Cause::PageFault => "page-fault",
            Cause::Child => "child",
            Cause::Stopped => "stopped",
            Cause::Runnable => "runnable",
            Cause::Throttled => "throttled",
        }
    }

    /// For people.
    pub fn explain(self) -> &'static str {
        match self {
            Cause::Other => "something else in the kernel",
            Cause::Futex => "a lock or a condition (futex)",
            Cause::Disk => "a file or a disk",
            Cause::Network => "a socket",
            Cause::Pipe => "a pipe",
            Cause::Poll => "any of several files (poll, select, epoll)",
            Cause::Sleep => "time to pass (sleep)",
            Cause::PageFault => "a page of memory",
            Cause::Child => "the end of a child process",
            Cause::Stopped => "being continued after a stop",
            Cause::Runnable => "a CPU (run queue)",
            Cause::Throttled => "the CPU quota's next period",
        }
    }

    pub fn from_id(id: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.id() == id)
    }

    /// As `bpf/abi.h` numbers it.
    pub fn from_code(code: u32) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| *cause as u32 == code)
    }
}

/// Time of one thread within the recording, by state; nanoseconds. All but `wall_ns` add up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadTime {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
    /// From the recording's or the thread's beginning to the end of either.
    pub wall_ns: u64,
    /// Between coming to a CPU and leaving it; the scheduler's own figure is in [`super::Accounting`].
    pub on_cpu_ns: u64,
    pub runnable_ns: u64,
    pub throttled_ns: u64,
    /// By [`Cause`], and how many waits ended.
    pub blocked_ns: [u64; BLOCKED_CAUSES],
    pub blocked_count: [u64; BLOCKED_CAUSES],
    /// How often it came to a CPU.
    pub switches: u64,
}

impl ThreadTime {
    pub fn all_blocked_ns(&self) -> u64 {
        self.blocked_ns.iter().sum()
    }

    /// Nanoseconds of one cause.
    pub fn of(&self, cause: Cause) -> u64 {
        match cause {
            Cause::Runnable => self.runnable_ns,
            Cause::Throttled => self.throttled_ns,
            blocked => self.blocked_ns[blocked as usize],
        }
    }
}

/// Waits of one thread for one cause with one stack that ended within one time slice, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitSample {
    /// In which the waits ended.
    pub slice: u32,
    pub thread: ThreadIx,
    pub stack: StackIx,
    pub end: StackEnd,
    pub cause: Cause,
    /// Stacks that were taken.
    pub stacks: u64,
    /// Waits that those stand for, and their time.
    pub count: u64,
    pub wait_ns: u64,
}

/// Who ended waits: the stack that woke a waiting one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waker {
    /// The stack that waited, and for what.
    pub waiter: StackIx,
    pub cause: Cause,
    pub thread: ThreadIx,
    pub stack: StackIx,
    pub end: StackEnd,
    /// Waits, and their time.
    pub count: u64,
    pub wait_ns: u64,
}

/// Ticks in periods of the CPU quota that ended with the target stopped: this code used the quota up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaTicks {
    pub thread: ThreadIx,
    pub stack: StackIx,
    pub end: StackEnd,
    pub count: u64,
    pub cpu_ns: u64,
}

/// How the waits were measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WaitFacts {
    /// What told throttled from runnable: `task` (6.18), `queue`, or `nothing`.
    pub throttled_by: String,
    pub threads: Vec<ThreadTime>,
    /// Stacks taken of waits and of wakers; records that were lost.
    pub stacks_taken: u64,
    pub wakers_taken: u64,
    pub lost: u64,
    /// Threads for which there was no room.
    pub without_book: u64,
}

/// Everything known of the time off the CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    pub facts: WaitFacts,
    /// In order of (slice, thread, stack, end, cause); no two equal in all five.
    pub samples: Vec<WaitSample>,
    /// In order of (waiter, cause, thread, stack, end).
    pub wakers: Vec<Waker>,
    /// In order of (thread, stack, end).
    pub quota: Vec<QuotaTicks>,
}

impl Waits {
    /// All waited time, nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.samples.iter().map(|sample| sample.wait_ns).sum()
    }

    /// The same with slices longer by so many powers of two, equal entries added up, and all in order.
    pub(super) fn settled(self, shift: u32) -> Waits {
        let mut samples = BTreeMap::new();
        for sample in self.samples {
            let key = WaitSample {
                slice: sample.slice >> shift,
                stacks: 0,
                count: 0,
                wait_ns: 0,
                ..sample
            };
            let order = (key.slice, key.thread, key.stack, key.end, key.cause);
            let sum: &mut WaitSample = samples.entry(order).or_insert(key);
            sum.stacks += sample.stacks;
            sum.count += sample.count;
            sum.wait_ns += sample.wait_ns;
        }
        let mut wakers = BTreeMap::new();
        for waker in self.wakers {
            let key = Waker {
                count: 0,
                wait_ns: 0,
                ..waker
            };
            let order = (key.waiter, key.cause, key.thread, key.stack, key.end);
            let sum: &mut Waker = wakers.entry(order).or_insert(key);
            sum.count += waker.count;
            sum.wait_ns += waker.wait_ns;
        }
        let mut quota = BTreeMap::new();
        for ticks in self.quota {
            let key = QuotaTicks {
                count: 0,
                cpu_ns: 0,
                ..ticks
            };
            let order = (key.thread, key.stack, key.end);
            let sum: &mut QuotaTicks = quota.entry(order).or_insert(key);
            sum.count += ticks.count;
            sum.cpu_ns += ticks.cpu_ns;
        }
        Waits {
            facts: self.facts,
            samples: samples.into_values().collect(),
            wakers: wakers.into_values().collect(),
            quota: quota.into_values().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_one_id_and_one_code() {
        for cause in Cause::ALL {
            assert_eq!(Cause::from_id(cause.id()), Some(cause));
            assert_eq!(Cause::from_code(cause as u32), Some(cause));
        }
        assert_eq!(Cause::from_code(12), None);
        let blocked = Cause::ALL.iter().filter(|cause| cause.is_blocked());
        assert_eq!(blocked.count(), BLOCKED_CAUSES);
    }
}
