//! What perfprof promises its users, one file per promise.

mod bad_input;
mod capacity;
mod capacity_command;
mod changing_code;
mod debuginfod;
mod detours;
mod following;
mod go_names;
mod golden;
mod ground_truth;
mod interop;
mod jit;
mod kernel_walks;
mod linking;
mod packages;
mod packaging;
mod postgres;
mod report;
mod runtimes;
mod sandbox;
mod support;
mod table_memory;
mod twin_walkers;
mod unwind_tables;
mod verifier;
mod workloads;
