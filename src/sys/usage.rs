//! What this process itself has used and may use, and what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;

/// Own CPU time and peak memory so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnUsage {
    pub cpu_ns: u64,
    pub max_rss_bytes: u64,
}

impl OwnUsage {
    pub fn now() -> OwnUsage {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
            return OwnUsage::default();
        };
        let cpu_us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        OwnUsage {
            cpu_ns: cpu_us as u64 * 1000,
            max_rss_bytes: usage.max_rss() as u64 * 1024,
        }
    }
}

/// Raises the limit of open files as far as an unprivileged process may: each binary of the target is one, and each
/// perf event. A child started later inherits it.
pub fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Refused or not, recording goes on; a limit that is reached is reported where it is.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Gives memory that was freed back to the kernel, of all threads (malloc_trim(3)): an allocator keeps it for the next time,
/// which for who works once a minute is long.
pub fn give_back_memory() {
    // SAFETY: takes a plain number, and locks what it touches.
    unsafe { nix::libc::malloc_trim(0) };
}

/// Nanoseconds since the Unix epoch, by the wall clock.
pub fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// Nanoseconds of the monotonic clock, the one every record carries.
pub fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(|t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
        .expect("every Linux has CLOCK_MONOTONIC")
}
