//! What depends on the processor architecture: registers, saved contexts, instructions that tell a frame.
//!
//! Plain constants, each with its source. Another architecture is another file here, another header beside
//! `bpf/x86_64.h`, and the kinds of rules its compilers write (`unwind::row`, `unwind::cfi`); nothing else changes.
#![forbid(unsafe_code)]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("perfprof runs on x86-64 only: no other architecture has been tried");

mod x86_64;

pub use x86_64::*;
