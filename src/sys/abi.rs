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
    pub pad: u32,
}

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
const _: () = assert!(size_of::<ExitRecord>() == 32);
const _: () = assert!(size_of::<Counters>() == 72);
const _: () = assert!(size_of::<UnwindPage>() == 8 && size_of::<UnwindTableEntry>() == 20);
const _: () = assert!(size_of::<UnwindSpan>() == 32 && offset_of!(UnwindSpan, table) == 24);
const _: () = assert!(size_of::<AddressSpace>() == 12);
