//! Giving up capabilities for good, for this process and all it starts.
//!
//! In: the numbers of the capabilities to keep. Out: the others are in no set any more, and no program that is started can bring
//! them back. Source: capabilities(7), capset(2), `linux/capability.h`.

use std::io;

use nix::libc;
use nix::sys::prctl;

/// `_LINUX_CAPABILITY_VERSION_3`: two words a set.
const VERSION: u32 = 0x2008_0522;
/// The kernel has fewer; one that does not exist ends the list.
const MOST: u32 = 64;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Keeps those capabilities of `keep` (a bit each) that the process has, in every set, so that a program it starts has them, too.
/// Must be called while there is one thread: each has sets of its own (capset(2)).
pub fn keep_only(keep: u64) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    let held = held()?;
    let kept = held & keep;
    // A process that may not change what its children can get gets no more than it has, but for root's programs.
    let mut may_bound = true;
    for capability in 0..MOST {
        if keep & 1 << capability == 0 && may_bound {
            may_bound = leave_out_of_bounds(capability)?;
        }
    }
    set(kept)?;
    for capability in (0..MOST).filter(|bit| kept & 1 << bit != 0) {
        raise_ambient(capability)?;
    }
    Ok(())
}

/// Gives up all of them.
pub fn keep_none() -> io::Result<()> {
    set(0)
}

fn held() -> io::Result<u64> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut words = [Word::default(); 2];
    // SAFETY: `capget` writes two words for version 3, and there is room for two.
    let done = unsafe { libc::syscall(libc::SYS_capget, &mut header, words.as_mut_ptr()) };
    match done {
        0 => Ok(u64::from(words[0].permitted) | u64::from(words[1].permitted) << 32),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(capabilities: u64) -> io::Result<()> {
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    let word = |bits: u32| Word {
        effective: bits,
        permitted: bits,
        inheritable: bits,
    };
    let words = [word(capabilities as u32), word((capabilities >> 32) as u32)];
    // SAFETY: `capset` reads two words for version 3, and there are two.
    let done = unsafe { libc::syscall(libc::SYS_capset, &header, words.as_ptr()) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// False when that is not permitted, or there is no such capability.
fn leave_out_of_bounds(capability: u32) -> io::Result<bool> {
    // SAFETY: takes plain numbers.
    let done = unsafe {
        libc::prctl(
            libc::PR_CAPBSET_DROP,
            libc::c_ulong::from(capability),
            0,
            0,
            0,
        )
    };
    match (done, io::Error::last_os_error()) {
        (0, _) => Ok(true),
        (_, error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL)) => Ok(false),
        (_, error) => Err(error),
    }
}

/// A program that is started keeps it although its file has none. Kernels that do not know this refuse by EINVAL.
fn raise_ambient(capability: u32) -> io::Result<()> {
    // SAFETY: takes plain numbers.
    let done = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE,
            libc::c_ulong::from(capability),
            0,
            0,
        )
    };
    match (done, io::Error::last_os_error()) {
        (0, _) => Ok(()),
        (_, error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => Ok(()),
        (_, error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CapPrm` of this thread.
    fn permitted() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("there");
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        u64::from_str_radix(line.expect("there").trim(), 16).expect("hexadecimal")
    }

    #[test]
    fn what_is_given_up_is_gone_from_this_thread() {
        // Sets belong to threads, so the test's other threads keep theirs.
        let ran = std::thread::spawn(|| {
            let before = permitted();
            let kill = 1 << 5;
            keep_only(kill).expect("giving up is permitted");
            assert_eq!(permitted(), before & kill);
            keep_none().expect("giving up is permitted");
            assert_eq!(permitted(), 0);
        });
        ran.join().expect("no assertion failed");
    }
}
