//! What the kernel reports while recording, decoded but not yet interpreted.

use crate::profile::{Cause, RuntimeAddr, StackEnd, Why};
use crate::target::mappings::Region;
use crate::unwind::Registers;

/// An event and when it happened, on the monotonic clock.
#[derive(Clone, Debug)]
pub struct Timed {
    pub time_ns: u64,
    pub event: Event,
}

#[derive(Clone, Debug)]
pub enum Event {
    Sample(RawSample),
    /// Executable memory was mapped.
    Mapped {
        pid: u32,
        region: Region,
    },
    /// A thread got a name; `exec` says by starting a new program.
    Named {
        pid: u32,
        tid: u32,
        name: String,
        exec: bool,
    },
    /// A process or thread was created.
    Forked {
        pid: u32,
        tid: u32,
        parent_pid: u32,
        parent_tid: u32,
    },
    /// A thread ended.
    Exited {
        pid: u32,
        tid: u32,
    },
    /// The CPU time a thread had used as it ended, nanoseconds since it began: at least so much while it is ending, and
    /// exactly so much when it is `gone`.
    ThreadCpu {
        pid: u32,
        tid: u32,
        cpu_ns: u64,
        gone: bool,
        /// The place of its book; 0 where it has none.
        book: u32,
    },
    /// A thread left its CPU with this stack, which stands for `scale` such waits.
    WaitBegan {
        wait: u64,
        scale: f64,
        stack: RawSample,
    },
    /// A thread waited already when the recording was prepared; of its stack there are only the registers so far.
    Waiting {
        wait: u64,
        stack: RawSample,
    },
    /// It is on a CPU again.
    WaitEnded {
        wait: u64,
        waited: Waited,
    },
    /// A thread with this stack has ended the wait.
    Woken {
        wait: u64,
        waker: RawSample,
    },
    /// A thread was stopped by its cgroup's quota.
    Throttled,
}

/// What a wait consisted of, in this order; nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    pub cause: Cause,
    pub blocked_ns: u64,
    pub runnable_ns: u64,
    pub throttled_ns: u64,
}

/// A tick before any meaning.
#[derive(Clone, Debug)]
pub struct RawSample {
    pub pid: u32,
    pub tid: u32,
    /// In the event's unit: nanoseconds for the CPU clock, cycles for cycles; 0: it is the stack of a wait, and no tick.
    pub period: u64,
    /// Kernel frames, leaf first: the first is exact, the others are return addresses.
    pub kernel: Vec<RuntimeAddr>,
    pub user: UserStack,
}

/// What a tick says about the user stack.
#[derive(Clone, Debug)]
pub enum UserStack {
    /// There are no user registers: a kernel thread, or a thread that is exiting.
    Absent,
    /// Walked in the kernel.
    Walked(WalkedStack),
    /// To be walked.
    Copied(CopiedStack),
}

impl UserStack {
    /// Whether the kernel did not know the mappings of the process.
    pub fn is_warming(&self) -> bool {
        let warming = StackEnd::Truncated(Why::Warming);
        matches!(self, UserStack::Walked(walked) if walked.end == warming)
    }
}

/// A stack as the kernel walked it.
#[derive(Clone, Debug)]
pub struct WalkedStack {
    /// Leaf first.
    pub frames: Vec<RuntimeAddr>,
    pub end: StackEnd,
    /// Code without rules was crossed by frame pointers: callers may be missing in between.
    pub bridged: bool,
    /// The address space in the kernel it was walked by; 0 where it knew none.
    pub space: u32,
    /// The same stack, where the kernel could not walk it to its end and user space perhaps can.
    pub copy: Option<CopiedStack>,
}

impl WalkedStack {
    /// Without tables.
    pub fn by_frame_pointers(frames: Vec<RuntimeAddr>, end: StackEnd) -> WalkedStack {
        WalkedStack {
            frames,
            end,
            bridged: false,
            space: 0,
            copy: None,
        }
    }
}

/// Registers and the bytes from the stack pointer up.
#[derive(Clone, Debug)]
pub struct CopiedStack {
    pub registers: Box<Registers>,
    pub bytes: Vec<u8>,
    /// The copy was cut at its limit, not by the end of the stack.
    pub full: bool,
}
