//! What perfprof promises its users, one file per promise.

mod bad_input;
mod capacity;
mod following;
mod golden;
mod ground_truth;
mod interop;
mod kernel_walks;
mod postgres;
mod report;
mod sandbox;
mod support;
mod unwind_tables;
mod verifier;
mod workloads;
