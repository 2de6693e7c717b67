//! One file per command, from top to bottom.
#![forbid(unsafe_code)]

pub mod doctor;
