//! What perfprof promises its users, one file per promise.

mod golden;
mod interop;
