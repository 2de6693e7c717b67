//! What a thread waits for, by the system call it is in.
//!
//! Out: a table by the system call's number, for `bpf/sched.bpf.h`. Calls that take a file leave it to the kind of file;
//! what is not here is [`Cause::Other`]. Source: syscalls(2); numbers by the C library of the build's architecture.

use nix::libc;

use crate::profile::Cause;
use crate::sys::abi::{CAUSE_BY_FD, SYSCALLS};

/// Newer than the C library's headers: `include/uapi/asm-generic/unistd.h`, the same number on all architectures.
const FUTEX_WAITV: i64 = 449;
const FUTEX_WAIT: i64 = 455;

const FUTEX: [i64; 3] = [libc::SYS_futex, FUTEX_WAITV, FUTEX_WAIT];

/// Files are opened, named and brought to disk.
const DISK: [i64; 18] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat2,
    libc::SYS_io_getevents,
];

const NETWORK: [i64; 9] = [
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_connect,
    libc::SYS_accept,
    libc::SYS_accept4,
];

const POLL: [i64; 7] = [
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
];

const SLEEP: [i64; 2] = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep];

const CHILD: [i64; 2] = [libc::SYS_wait4, libc::SYS_waitid];

/// The first argument is the file that may not be ready.
const BY_FD: [i64; 12] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_splice,
];

/// The cause that each system call waits for.
pub(super) fn by_syscall() -> Box<[u8; SYSCALLS]> {
    let mut table = Box::new([Cause::Other as u8; SYSCALLS]);
    let groups: [(&[i64], u8); 7] = [
        (&FUTEX, Cause::Futex as u8),
        (&DISK, Cause::Disk as u8),
        (&NETWORK, Cause::Network as u8),
        (&POLL, Cause::Poll as u8),
        (&SLEEP, Cause::Sleep as u8),
        (&CHILD, Cause::Child as u8),
        (&BY_FD, CAUSE_BY_FD),
    ];
    for (numbers, cause) in groups {
        for number in numbers {
            if let Some(entry) = table.get_mut(*number as usize) {
                *entry = cause;
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_wait_for_what_they_are_made_for() {
        let table = by_syscall();
        let of = |number: i64| table[number as usize];
        assert_eq!(of(libc::SYS_futex), Cause::Futex as u8);
        assert_eq!(of(libc::SYS_read), CAUSE_BY_FD);
        assert_eq!(of(libc::SYS_epoll_wait), Cause::Poll as u8);
        assert_eq!(of(libc::SYS_getpid), Cause::Other as u8);
        let named = table.iter().filter(|cause| **cause != Cause::Other as u8);
        assert_eq!(named.count(), 3 + 18 + 9 + 7 + 2 + 2 + 12);
    }
}
