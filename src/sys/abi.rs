//! The mirror of `bpf/abi.h`: what the BPF programs write and user space reads.
//!
//! Both sides assert the same sizes and offsets, so a change on one side alone does not compile.

use std::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest user stack a sample can hold.
pub const MAX_USER_FRAMES: usize = 512;

/// `enum record_kind`.
pub const RECORD_SAMPLE: u32 = 1;
pub const RECORD_EXIT: u32 = 2;
pub const RECORD_FREE: u32 = 3;
pub const RECORD_WAIT_STACK: u32 = 4;
pub const RECORD_WAIT: u32 = 5;
pub const RECORD_WAKER: u32 = 6;
pub const RECORD_THROTTLED: u32 = 7;
pub const RECORD_WAITING: u32 = 8;

/// `enum target_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TargetMode {
    All = 0,
    Pids = 1,
    Name = 2,
}

/// `struct record_head`. PIDs are those of the profiler's namespace; time is that of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RecordHead {
    pub kind: u32,
    pub cpu: u32,
    pub time_ns: u64,
    pub pid: u32,
    pub tid: u32,
}

/// `struct sample_record`; its kernel frames and then its user frames follow as `u64`, leaf first; then, if
/// `copied_words` is not 0, [`COPY_REGISTERS`] registers and so many words of the stack.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SampleRecord {
    pub head: RecordHead,
    pub period: u64,
    pub kernel_frames: u16,
    pub user_frames: u16,
    pub end: u8,
    /// Code without rows was crossed by frame pointers.
    pub bridged: u8,
    pub copied_words: u16,
    /// [`AddressSpace::id`] of what it was walked by; 0 where there was none.
    pub space: u32,
    /// [`RECORD_WAIT_STACK`]: how many waits this one stands for, times [`SCALE_ONE`].
    pub scale: u32,
}

/// A stack that stands for one wait.
pub const SCALE_ONE: u32 = 256;

/// Registers before a copied stack, by DWARF number.
pub const COPY_REGISTERS: u16 = 17;
/// What is read of a stack at once, in words: a copy of whole pages was cut.
pub const COPY_PAGE_WORDS: u16 = 4096 / 8;

/// `struct exit_record`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExitRecord {
    pub head: RecordHead,
    pub cpu_ns: u64,
    /// One more than its place among the books; 0 where it has none.
    pub book: u32,
    pub pad: u32,
}

/// `CAUSES`: how many causes of waits there are.
pub const CAUSES: usize = 10;
/// `CAUSE_BY_FD`: the file decides.
pub const CAUSE_BY_FD: u8 = 255;
/// `SYSCALLS`: system calls with a cause of their own are numbered below.
pub const SYSCALLS: usize = 512;

/// `struct wait_record`: a wait whose stack was sent has ended.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WaitRecord {
    pub head: RecordHead,
    pub wait: u64,
    pub blocked_ns: u64,
    pub runnable_ns: u64,
    pub throttled_ns: u64,
    pub cause: u32,
    pub scale: u32,
}

/// `enum throttle_source`.
pub const THROTTLE_BY_TASK: u32 = 1;
pub const THROTTLE_BY_QUEUE: u32 = 2;

/// `enum thread_state`.
pub const STATE_ON_CPU: u32 = 1;
pub const STATE_RUNNABLE: u32 = 2;
pub const STATE_BLOCKED: u32 = 3;
pub const STATE_ENDED: u32 = 4;

/// `SITES`: places of waits that a thread remembers.
pub const SITES: usize = 8;
/// `MAX_BOOKS`: threads that can have a book at a time.
pub const MAX_BOOKS: u32 = 16_384;

/// `struct wait_site`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WaitSite {
    pub tag: u32,
    pub expected_ns: u32,
    pub cause: u8,
    pub fresh: u8,
    pub pad: u16,
}

/// `struct thread_book`: a thread's time, in which state.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ThreadBook {
    /// Odd while it is being changed.
    pub version: u32,
    pub pid: u32,
    pub tid: u32,
    pub state: u32,
    pub since_ns: u64,
    pub woken_ns: u64,
    pub queue: u64,
    pub throttle_clock_ns: u64,
    pub run_delay_ns: u64,
    pub waits: u32,
    pub scale: u32,
    pub cause: u8,
    pub site: u8,
    pub from_before: u8,
    pub pad: u8,
    pub runnable_count: u32,
    pub began_ns: u64,
    pub on_cpu_ns: u64,
    pub runnable_ns: u64,
    pub throttled_ns: u64,
    pub from_before_ns: u64,
    pub blocked_ns: [u64; CAUSES],
    pub blocked_count: [u32; CAUSES],
    pub sites: [WaitSite; SITES],
}

/// `struct counters`, of one CPU.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    pub ticks: u64,
    pub lost: u64,
    pub exits_lost: u64,
    pub walks: u64,
    pub frames: u64,
    pub reads: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub copies: u64,
    pub wait_stacks: u64,
    pub waker_stacks: u64,
    pub wakings: u64,
    pub waits_lost: u64,
    pub without_book: u64,
}

/// `enum stack_end`: the binary's table found no room.
pub const END_TABLE_EVICTED: u32 = 13;

/// Words of 4 bytes in a chunk of the heap of unwind tables.
pub const CHUNK_WORDS: u32 = 1 << 18;
/// Binaries that can have a table at a time.
pub const MAX_TABLES: u32 = 16_384;
/// Executable mappings of one process.
pub const MAX_SPANS: usize = 16_384;
/// Highest [`AddressSpace::id`]. The low [`ADDRESS_SPACE_BITS`] of one are never 0.
pub const MAX_ADDRESS_SPACE_ID: u32 = (1 << 23) - 1;
/// See `struct address_space`.
pub const ADDRESS_SPACE_BITS: u32 = 17;

/// A page of so many rows has an index before them: for each of [`PAGE_BUCKETS`] as many addresses, how many rows lie
/// before it, as `u16`.
pub const INDEXED_ROWS: usize = 17;
/// Parts of a page that its index tells apart.
pub const PAGE_BUCKETS: usize = 256;

/// `struct unwind_page`: rows of 64 KiB of a binary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct UnwindPage {
    pub rows_at: u32,
    pub rows: u32,
}

/// `struct unwind_table`: where a binary's pages and rules stand in the heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct UnwindTableEntry {
    pub first_page: u32,
    pub pages: u32,
    pub pages_at: u32,
    pub rules_at: u32,
    /// A `Why`, as a number: the reason where there are no rules.
    pub without: u32,
}

/// `struct unwind_span`: an executable mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct UnwindSpan {
    pub start: u64,
    pub end: u64,
    pub bias: u64,
    pub table: u32,
    pub pad: u32,
}

/// `struct address_space`: the mappings of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct AddressSpace {
    pub id: u32,
    pub spans: u32,
    pub spans_at: u32,
}

const _: () = assert!(size_of::<RecordHead>() == 24);
const _: () = assert!(size_of::<SampleRecord>() == 48 && offset_of!(SampleRecord, end) == 36);
const _: () = assert!(offset_of!(SampleRecord, bridged) == 37);
const _: () = assert!(offset_of!(SampleRecord, copied_words) == 38);
const _: () = assert!(size_of::<ExitRecord>() == 40);
const _: () = assert!(size_of::<Counters>() == 112);
const _: () = assert!(size_of::<WaitRecord>() == 64 && size_of::<WaitSite>() == 12);
const _: () = assert!(size_of::<ThreadBook>() == 328);
const _: () = assert!(offset_of!(ThreadBook, began_ns) == 72);
const _: () = assert!(offset_of!(ThreadBook, blocked_ns) == 112);
const _: () = assert!(size_of::<UnwindPage>() == 8 && size_of::<UnwindTableEntry>() == 20);
const _: () = assert!(size_of::<UnwindSpan>() == 32 && offset_of!(UnwindSpan, table) == 24);
const _: () = assert!(size_of::<AddressSpace>() == 12);
