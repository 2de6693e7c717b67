//! The waist of the hourglass: a `Profile` is plain data, complete enough that every report can be computed from it
//! again, on another machine, years later.
//!
//! In: nothing (this room imports no other). Out: the types both sides share.
//! It knows no file system, no kernel and no output format.
//!
//! Shape: like pprof, tables that point into each other by index. A [`Sample`] names a thread, a time slice, a stack
//! and how that stack ended; a stack is a leaf node in the [`StackTree`]; a [`Frame`] carries its mapping, its address
//! in that file and the functions (inlined ones included) found there.
#![forbid(unsafe_code)]

mod accounting;
mod addr;
mod build_id;
mod builder;
mod canned;
mod canonical;
mod canonical_scan;
mod display;
mod end;
mod frame;
mod mapping;
mod off_cpu_view;
mod package;
mod recording;
mod stack;
mod waits;

pub use accounting::{Accounting, CgroupCpu, ThreadCpu};
pub use addr::{ElfAddr, FileOffset, FrameAddr, RuntimeAddr};
pub use build_id::BuildId;
pub use builder::ProfileBuilder;
#[doc(hidden)]
pub use canned::{canned, canned_with_waits};
pub use canonical::{canonical_name, go_unescaped, without_version};
pub use display::{DisplayFrame, KERNEL_SUFFIX, Role};
pub use end::{StackEnd, Why};
pub use frame::{Frame, FrameKind, Function, FunctionIx, Line, Unresolved};
pub use mapping::{Mapping, MappingIx, MappingKind};
pub use package::PackageFact;
pub use recording::{
    CapacityFacts, CapacityPoint, CpuBusy, LimitFacts, MemoryEvents, Origin, Recording, SelfCost,
};
pub use stack::{FrameIx, StackIx, StackTree};
pub use waits::{
    BLOCKED_CAUSES, Cause, QuotaTicks, ThreadTime, WaitFacts, WaitSample, Waits, Waker,
};

/// Index into [`Profile::threads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadIx(pub u32);

/// One thread under one command name: after `exec` or `prctl(PR_SET_NAME)` the samples go to a new entry.
///
/// PIDs are those of the profiler's own PID namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    pub pid: u32,
    pub tid: u32,
    /// Command name of the thread (`/proc/PID/task/TID/comm`), at most 15 bytes.
    pub name: String,
    /// Command name of its process (that of the thread-group leader).
    pub process: String,
}

/// Ticks of one thread with one stack within one time slice, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Number of the time slice since the recording began; the slice's length is [`Recording::slice_ns`].
    pub slice: u32,
    pub thread: ThreadIx,
    pub stack: StackIx,
    pub end: StackEnd,
    /// Number of ticks.
    pub count: u64,
    /// CPU time those ticks stand for, in nanoseconds.
    pub cpu_ns: u64,
}

/// Everything one recording of one service knows. Made by [`ProfileBuilder`] only.
#[derive(Clone, Debug)]
pub struct Profile {
    pub recording: Recording,
    pub accounting: Accounting,
    pub threads: Vec<Thread>,
    pub mappings: Vec<Mapping>,
    pub functions: Vec<Function>,
    pub frames: Vec<Frame>,
    pub stacks: StackTree,
    /// In order of (slice, thread, stack, end); no two equal in all four.
    pub samples: Vec<Sample>,
    /// Where the time off the CPU was recorded, too.
    pub waits: Option<Waits>,
}

impl Profile {
    pub fn thread(&self, ix: ThreadIx) -> &Thread {
        &self.threads[ix.0 as usize]
    }

    pub fn frame(&self, ix: FrameIx) -> &Frame {
        &self.frames[ix.0 as usize]
    }

    pub fn function(&self, ix: FunctionIx) -> &Function {
        &self.functions[ix.0 as usize]
    }

    pub fn mapping(&self, ix: MappingIx) -> &Mapping {
        &self.mappings[ix.0 as usize]
    }

    /// Ticks in the whole profile.
    pub fn total_count(&self) -> u64 {
        self.samples.iter().map(|s| s.count).sum()
    }

    /// CPU time all samples stand for, in nanoseconds.
    pub fn total_cpu_ns(&self) -> u64 {
        self.samples.iter().map(|s| s.cpu_ns).sum()
    }

    /// Number of time slices the recording spans, counting slices without samples; 0 where it has no slices.
    pub fn slice_count(&self) -> u32 {
        match self.recording.slice_ns {
            0 => 0,
            slice_ns => {
                let by_time = self.recording.duration_ns.div_ceil(slice_ns) as u32;
                let by_samples = self.samples.last().map_or(0, |s| s.slice + 1);
                by_time.max(by_samples)
            }
        }
    }
}
