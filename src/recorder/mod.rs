//! The recording loop: from events in any order to a tally of stacks, with nothing lost on the way.
//!
//! In: an armed [`crate::sampling::Sampler`] and who is meant. Out: a [`Recorded`]: raw stacks by thread and time slice, the binaries
//! they ran through, and the kernel's accounting of the same time. Names come later, in `symbolize`.
//!
//! A tick is taken through: order of time (`order`), the process as it was at that moment (`target`), the walk if the
//! kernel has not walked already (`unwind`), the tally (`tally`). What threads do off the CPU goes the same way into books
//! and waits (`off_cpu`).
#![forbid(unsafe_code)]

mod accounting;
mod books;
mod events;
mod filter;
mod interpret;
mod jvms;
mod kernel_tables;
mod off_cpu;
mod order;
mod quota;
mod recent;
mod run;
mod selected;
mod tally;
mod waits;

pub use accounting::Accountant;
pub use jvms::JvmAsked;
pub use kernel_tables::{EvictedTable, KernelWalks};
pub use run::{
    Pace, Progress, Recorded, RecordingLoop, RunError, SLICE_NS, SamplerCounts, StopReason,
    StopSignals,
};
pub use tally::{Code, RawFrame, Tally};
