//! How ticks reach us: two samplers behind one interface.
//!
//! In: who is observed, how often, and how stacks are taken. Out: [`Timed`] events, each with the kernel's time stamp;
//! putting them in order and making sense of them is `recorder`'s work.
#![forbid(unsafe_code)]

mod bpf;
mod causes;
mod decode;
mod event;
mod perf;
mod throttle;
mod waking;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use thiserror::Error;

pub use bpf::{BpfSampler, load_filter};
pub use event::{CopiedStack, Event, RawSample, Timed, UserStack, Waited, WalkedStack};
pub use perf::{PerfSampler, can_open};

use crate::sys::books::BookMaps;
use crate::sys::bpf::RunStatistics;
use crate::sys::perf::{StackSource, Trigger};
use crate::sys::unwind_maps::UnwindMaps;
use crate::target::process;

/// Whom to observe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything on all CPUs.
    All,
    /// These processes and what they start; with `tree` also what they have started before.
    Pids { roots: Vec<u32>, tree: bool },
    /// Processes whose command name is this one, at any time.
    Name(String),
    /// Whatever a list holds at any time, and what those start.
    Selected(PidList),
}

/// A list of processes that is made anew at each look.
#[derive(Clone)]
pub struct PidList {
    /// What it lists, in words: `container 4f2a…`.
    pub what: String,
    list: Arc<dyn Fn() -> Vec<u32> + Send + Sync>,
}

impl PidList {
    pub fn new(
        what: impl Into<String>,
        list: impl Fn() -> Vec<u32> + Send + Sync + 'static,
    ) -> PidList {
        PidList {
            what: what.into(),
            list: Arc::new(list),
        }
    }

    pub fn pids(&self) -> Vec<u32> {
        (self.list)()
    }
}

impl std::fmt::Debug for PidList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PidList")
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}

impl PartialEq for PidList {
    fn eq(&self, other: &PidList) -> bool {
        Arc::ptr_eq(&self.list, &other.list)
    }
}

impl Eq for PidList {}

impl Scope {
    /// The processes meant, as of now. Read again while attaching, because more of them may start meanwhile.
    pub fn current_pids(&self) -> Vec<u32> {
        match self {
            Scope::All => process::all_pids().unwrap_or_default(),
            Scope::Pids { roots, tree: false } => roots.clone(),
            Scope::Pids { roots, tree: true } => {
                process::with_descendants(roots).unwrap_or_else(|_| roots.clone())
            }
            Scope::Name(name) => process::with_name(name).unwrap_or_default(),
            Scope::Selected(list) => list.pids(),
        }
    }
}

/// What both samplers need to know.
#[derive(Clone, Debug)]
pub struct SamplingPlan {
    pub scope: Scope,
    pub trigger: Trigger,
    pub frequency_hz: u32,
    pub stack: StackSource,
    pub kernel: bool,
    /// Numbers of the CPUs that are online.
    pub cpus: Vec<u32>,
    /// Our PID namespace's inode number; 0 when it is the initial one.
    pub pid_namespace_inum: u32,
    /// May lock large rings into memory.
    pub large_rings: bool,
    /// Also record what threads wait for; by the bpf sampler only.
    pub waits: bool,
    /// Whether a new mapping of whatever process wakes the reader up: tables are there sooner, at the cost of waking up for
    /// strangers.
    pub eager: bool,
    /// Length of a period of the target's CPU quota, nanoseconds.
    pub quota_period_ns: u64,
}

/// Samples that never arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Taken by the kernel, but the ring was full.
    pub lost: u64,
    /// Not taken, because the kernel throttled the event: throttled time × rate.
    pub throttled: u64,
    /// Records other than samples (mappings, names, exits) that were lost: frames may lack their mapping.
    pub side_band: u64,
}

impl Losses {
    /// What was lost after `before`.
    pub fn since(self, before: Losses) -> Losses {
        Losses {
            lost: self.lost.saturating_sub(before.lost),
            throttled: self.throttled.saturating_sub(before.throttled),
            side_band: self.side_band.saturating_sub(before.side_band),
        }
    }
}

/// Where samples come from.
pub trait Sampler {
    /// Begins to tick. Before this only side-band events arrive.
    fn start(&mut self) -> Result<(), SamplingError>;

    /// Descriptors that become readable when there is something to read.
    fn wakeup_fds(&self) -> Vec<BorrowedFd<'_>>;

    /// Appends all that has arrived, in no particular order.
    fn read(&mut self, out: &mut Vec<Timed>) -> Result<(), SamplingError>;

    /// Stops ticking. What was taken before can still be read, and ends of threads are still reported.
    fn stop_ticks(&mut self);

    fn losses(&self) -> Losses;

    /// Whether ended threads report their CPU time ([`Event::ThreadCpu`]).
    fn reports_exits(&self) -> bool;

    /// CPU time the sampling events themselves counted, ended threads included; nanoseconds.
    fn counted_cpu_ns(&self) -> Option<u64>;

    fn bpf_statistics(&self) -> Option<RunStatistics>;

    /// Where unwind tables go, for a sampler that walks by them; handed out once.
    fn take_unwind_maps(&mut self) -> Option<UnwindMaps> {
        None
    }

    /// The books of the target's threads, where they are kept; handed out once.
    fn take_books(&mut self) -> Option<BookMaps> {
        None
    }

    /// Makes a process, with all its threads, part of the target while it is sampled. False where that is not possible.
    fn add_target(&mut self, _pid: u32) -> Result<bool, SamplingError> {
        Ok(false)
    }

    /// Lets go of a process.
    fn remove_target(&mut self, _pid: u32) -> Result<(), SamplingError> {
        Ok(())
    }

    /// Called about ten times a second while recording, for what is adapted to the target.
    fn adapt(&mut self, _now_ns: u64) {}

    /// What recording waits took, so far, where they are recorded.
    fn wait_figures(&self) -> Option<WaitFigures> {
        None
    }

    /// What walking by tables took, so far.
    fn walk_figures(&self) -> Option<WalkFigures> {
        None
    }
}

/// What recording waits took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitFigures {
    pub wait_stacks: u64,
    pub waker_stacks: u64,
    /// Records that found no room.
    pub lost: u64,
    /// Threads for which there was no book.
    pub without_book: u64,
    pub throttle_source: ThrottleSource,
}

/// What tells a thread that its cgroup's quota has stopped from one that waits for a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThrottleSource {
    /// This kernel says neither: both count as runnable.
    #[default]
    Nothing,
    /// The thread itself (6.18).
    Task,
    /// Its cgroup's run queue.
    Queue,
}

/// What walking in the kernel took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkFigures {
    /// Stacks, and the user frames in them.
    pub walks: u64,
    pub frames: u64,
    /// Reads of user memory.
    pub reads: u64,
    /// Rules that were remembered, and those that had to be searched for.
    pub cache_hits: u64,
    pub cache_misses: u64,
    /// Stacks that were copied, to be walked in user space.
    pub copies: u64,
}

/// Why sampling is not possible.
#[derive(Debug, Error)]
pub enum SamplingError {
    #[error("not permitted to open a perf event on {what}")]
    EventNotPermitted { what: String, source: io::Error },
    #[error("failed to open a perf event on {what}")]
    EventFailed { what: String, source: io::Error },
    #[error("too many open files: {events} perf events are needed")]
    TooManyEvents { events: usize, source: io::Error },
    #[error("failed to map a ring buffer of {bytes} bytes")]
    RingFailed { bytes: usize, source: io::Error },
    #[error("not permitted to load BPF programs")]
    BpfNotPermitted { source: libbpf_rs::Error },
    #[error("failed to {doing}")]
    Bpf {
        doing: &'static str,
        source: libbpf_rs::Error,
    },
    #[error(
        "this kernel hides user registers from BPF programs while in kernel code (5.15 and later show them)"
    )]
    NoUserRegisters,
    #[error("the target has ended")]
    TargetEnded,
}

impl SamplingError {
    /// Whether more privilege would help.
    pub fn is_permission(&self) -> bool {
        matches!(
            self,
            SamplingError::EventNotPermitted { .. } | SamplingError::BpfNotPermitted { .. }
        )
    }
}
