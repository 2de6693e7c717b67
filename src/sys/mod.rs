//! Safe doors to the kernel, and the only home of `unsafe`.
//!
//! In: plain Rust values. Out: safe types whose methods cannot be misused. Policy (which events, which target, what a
//! record means) lives in the rooms that call these.

pub mod abi;
pub mod books;
pub mod bpf;
pub mod channel;
pub mod child;
pub mod confined;
pub mod file_map;
pub mod perf;
pub mod privileges;
pub mod ring;
mod skel;
pub mod unwind_maps;
pub mod usage;
pub mod verifier;
