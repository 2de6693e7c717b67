//! perfprof: a sampling profiler that says how much of the truth it saw.
//!
//! The house is an hourglass, walked in the order the data flows. The recording side touches the kernel and the disk
//! and can fail; the waist is plain data; the reading side computes values or bytes from a `&Profile`, needs no
//! privileges, and gives the same bytes for the same profile.

// The waist.
pub mod profile;

// The reading side.
pub mod render;
pub mod store;
