//! The mirror of `bpf/abi.h`: what the BPF programs write and user space reads.
//!
//! Both sides assert the same sizes and offsets, so a change on one side alone does not compile.

use std::mem::offset_of;

use zerocopy::{FromBytes, Immutable, KnownLayout};

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

/// `struct sample_record`; its kernel frames and then its user frames follow as `u64`, leaf first.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SampleRecord {
    pub head: RecordHead,
    pub period: u64,
    pub kernel_frames: u16,
    pub user_frames: u16,
    pub end: u8,
    pub pad: [u8; 3],
}

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
}

const _: () = assert!(size_of::<RecordHead>() == 24);
const _: () = assert!(size_of::<SampleRecord>() == 40 && offset_of!(SampleRecord, end) == 36);
const _: () = assert!(size_of::<ExitRecord>() == 32);
const _: () = assert!(size_of::<Counters>() == 24);
