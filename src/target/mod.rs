//! Who is profiled, and on what machine: processes, their threads, their mappings and the files behind them; their
//! cgroup; the host and what can be measured on it.
//!
//! In: PIDs and names from the command line, and the kernel's side-band records while recording. Out: for any moment,
//! which process had what mapped where; for any 100 ms, what the service used. Everything here reads `/proc` of
//! processes that others control: sizes are bounded, and no link is followed out of the target's root.
#![forbid(unsafe_code)]

pub mod binaries;
pub mod binary;
pub mod capabilities;
pub mod cgroup;
pub mod container;
pub mod container_names;
pub mod doctor;
mod framed;
pub mod gauges;
pub mod host;
pub mod identity;
pub mod jit;
pub mod kubernetes;
pub mod labels;
pub mod mappings;
pub mod memory;
pub mod mountinfo;
pub mod open;
pub mod packages;
pub mod process;
pub mod processes;
pub mod root;
pub mod selection;
pub mod small_file;
