//! The skeleton that `libbpf-cargo` generated from `bpf/sample.bpf.c`: its maps and programs as Rust fields.
#![allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block
)]
#![allow(missing_debug_implementations, unreachable_pub, unsafe_op_in_unsafe_fn)]

include!(concat!(env!("OUT_DIR"), "/sample.skel.rs"));
