//! perfprof: a sampling profiler that says how much of the truth it saw.
//!
//! The house is an hourglass, walked in the order the data flows. The recording side touches the kernel and the disk
//! and can fail; the waist is plain data; the reading side computes values or bytes from a `&Profile`, needs no
//! privileges, and gives the same bytes for the same profile. Neither side imports the other; `cli` joins them.

// The recording side: from the timer to named frames.
pub mod arch;
pub mod recorder;
pub mod sampling;
pub mod symbolize;
pub mod sys;
pub mod target;
pub mod unwind;

// The waist.
pub mod profile;

// The reading side: from a profile to values, documents and files.
pub mod analysis;
pub mod artifacts;
pub mod baseline;
pub mod capacity;
pub mod compare;
pub mod evidence;
pub mod gate;
pub mod history;
pub mod load_test;
pub mod push;
pub mod render;
pub mod store;

// What joins them: for one recording, and for ever.
pub mod agent;
pub mod cli;
