//! Who is profiled, and what can be measured on this machine.
#![forbid(unsafe_code)]

pub mod capabilities;
pub mod cgroup;
pub mod doctor;
pub mod gauges;
pub mod host;
pub mod mountinfo;
pub mod small_file;
