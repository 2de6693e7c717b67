//! pprof: the profile perfprof keeps, gzip'd protobuf that other tools read too.
//!
//! Everything a [`Profile`](crate::profile::Profile) knows survives `decode(encode(p))`, tables in the same order, so
//! every report can be made again from the file. What pprof has no place for is written where other tools do no harm:
//!
//! * a sample's thread, slice and stack end are labels; an incomplete stack also has its reason frame as a location at
//!   the root, which is taken off again on reading;
//! * an unresolved frame's function has the reason as its system name, `[unresolved: no-symbol]`;
//! * waits, the ticks that used a quota up, and wakers are rows with values in columns of their own; a waker's stack
//!   stands upside down on the stack that it woke;
//! * recording, accounting and the order of threads are JSON in comments. They begin with `#`, which pprof's own tool
//!   takes as a mark not to print them in every header.
//!
//! Mappings hold addresses as their file has them, not those of one process, so mappings of two files may overlap;
//! locations name theirs by ID. They claim to be fully symbolized, so that no tool names our unresolved frames anew from
//! whatever file now lies at that path.
//!
//! Profiles of other tools are read as well (`foreign.rs`): whatever they do not say is marked as not stated.

mod decode;
mod encode;
mod foreign;
mod lean;
mod proto;
mod tables;
mod wait_rows;
mod wire;

pub use decode::decode;
pub use encode::encode;
pub use lean::lean;

/// Label keys.
mod label {
    pub(super) const SLICE: &str = "slice";
    pub(super) const PID: &str = "pid";
    pub(super) const TID: &str = "tid";
    pub(super) const THREAD: &str = "thread";
    pub(super) const PROCESS: &str = "process";
    pub(super) const STACK_END: &str = "stack_end";
    /// What was waited for; on rows of waits and of wakers.
    pub(super) const WAIT: &str = "wait";
    /// How many stacks were taken for a row of waits; how many waits a row of wakers stands for; ticks of a row of quotas.
    pub(super) const STACKS: &str = "stacks";
    pub(super) const WAITS: &str = "waits";
    pub(super) const TICKS: &str = "ticks";
}

/// Columns of a profile that has waits, behind ticks and CPU time: waits and their time; CPU time in periods of the quota
/// that ended with the target stopped; and waited time by the stack that ended it. A row has values in one of them.
mod column {
    pub(super) const WAITS: usize = 2;
    pub(super) const OFF_CPU: usize = 3;
    pub(super) const QUOTA: usize = 4;
    pub(super) const WOKEN: usize = 5;
    pub(super) const ALL: usize = 6;
}

/// Beginnings of comments; JSON follows.
mod comment {
    pub(super) const RECORDING: &str = "#perfprof.recording=";
    pub(super) const ACCOUNTING: &str = "#perfprof.accounting=";
    /// `[[pid, tid, name, process], …]`: the order of [`Profile::threads`](crate::profile::Profile::threads).
    pub(super) const THREADS: &str = "#perfprof.threads=";
    /// [`WaitFacts`](crate::profile::WaitFacts): the profile has waits.
    pub(super) const WAITS: &str = "#perfprof.waits=";
    /// `{path: kind}` for the paths that [`super::kind_by_path`] would take for another kind.
    pub(super) const MAPPING_KINDS: &str = "#perfprof.mapping_kinds=";
}

/// System name of the functions that stand for [`crate::profile::StackEnd::reason_frame`].
const REASON_MARK: &str = "[stack-end]";
/// Name of the function between a waiting stack and the one that woke it, which stands above it from leaf to root.
const WOKEN_BY: &str = "[woken by]";
/// System name of an unresolved frame's function: this, the reason's identifier, and `]`.
const UNRESOLVED_MARK: &str = "[unresolved: ";
/// File name of a mapping that only says: kernel code, mapping unknown.
const UNMAPPED_KERNEL: &str = "[kernel: no mapping]";

use crate::profile::MappingKind;

/// The kind a mapping has by the conventions of its path.
fn kind_by_path(path: &str) -> MappingKind {
    match path {
        "[vdso]" | "[vsyscall]" => MappingKind::Vdso,
        "" | "//anon" | "[anon]" | "[heap]" | "[stack]" => MappingKind::Anonymous,
        _ if path.starts_with('[') => MappingKind::Kernel,
        _ => MappingKind::File,
    }
}

/// Why bytes are not a readable pprof profile. Offsets are in the unpacked file; rows count from 0.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("{problem} at byte {offset}")]
    Wire {
        offset: usize,
        problem: &'static str,
    },
    #[error("{table} {row} at byte {offset} is not a valid message")]
    Message {
        table: &'static str,
        row: usize,
        offset: usize,
        source: prost::DecodeError,
    },
    #[error("{table} {row} at byte {offset} names {what} {id}, which does not exist")]
    Reference {
        table: &'static str,
        row: usize,
        offset: usize,
        what: &'static str,
        id: u64,
    },
    #[error("{table} {row} at byte {offset}: {problem}")]
    Value {
        table: &'static str,
        row: usize,
        offset: usize,
        problem: &'static str,
    },
    #[error("more than {limit} {what}, the most that is read")]
    TooMany { what: &'static str, limit: usize },
    #[error("not a CPU profile: its sample types are {found}")]
    NotCpu { found: String },
    #[error("comment `{key}` is not readable")]
    Comment {
        key: &'static str,
        source: serde_json::Error,
    },
    #[error("it holds no profile")]
    Empty,
}

#[cfg(test)]
mod tests;
