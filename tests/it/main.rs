//! What perfprof promises its users, one file per promise.

mod capacity;
mod golden;
mod interop;
mod sandbox;
