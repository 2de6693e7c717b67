//! perfprof against real programs: each file holds the promises of one kind to users.

mod bad_input;
mod following;
mod ground_truth;
mod postgres;
mod support;
mod workloads;
