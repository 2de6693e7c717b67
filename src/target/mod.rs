//! Who is profiled: processes, their threads, their mappings and the files behind them.
//!
//! In: PIDs and names from the command line, and the kernel's side-band records while recording. Out: for any moment,
//! which process had what mapped where. Everything here reads `/proc` of processes that others control: sizes are
//! bounded, and no link is followed out of the target's root.
#![forbid(unsafe_code)]

pub mod binaries;
pub mod binary;
pub mod mappings;
pub mod open;
pub mod process;
pub mod processes;
