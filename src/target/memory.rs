//! Memory of a process, read from outside. In: a PID and an address. Out: what can be read from there up, copied.
//!
//! Whether it changes meanwhile is the caller's business.

use std::io::IoSliceMut;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::host::page_size_bytes;

/// The bytes from `addr` up, at most `limit`, fewer where memory ends or may not be read (`process_vm_readv(2)`).
pub fn read_up(pid: u32, addr: u64, limit: usize) -> Vec<u8> {
    let mut bytes = vec![0; limit];
    let remote = by_pages(addr, limit, page_size_bytes().max(1));
    let pid = Pid::from_raw(pid as i32);
    let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &remote);
    bytes.truncate(read.unwrap_or(0));
    bytes
}

/// Piece by piece to each page's end: what cannot be read fails by piece.
fn by_pages(addr: u64, limit: usize, page_bytes: u64) -> Vec<RemoteIoVec> {
    let mut pieces = Vec::new();
    let (mut at, mut left) = (addr, limit as u64);
    while left > 0 {
        let len = (page_bytes - at % page_bytes).min(left);
        let Some(next) = at.checked_add(len) else {
            break;
        };
        pieces.push(RemoteIoVec {
            base: at as usize,
            len: len as usize,
        });
        (at, left) = (next, left - len);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_with_pages_and_add_up() {
        let lens = |addr, limit| -> Vec<usize> {
            let pieces = by_pages(addr, limit, 4096);
            pieces.iter().map(|piece| piece.len).collect()
        };
        assert_eq!(lens(4096 + 4000, 8192), [96, 4096, 4000]);
        assert_eq!(lens(u64::MAX - 10, 100), [] as [usize; 0]);
    }

    #[test]
    fn own_memory_is_read_and_nothing_where_there_is_none() {
        let known = [7u8; 5000];
        let read = read_up(std::process::id(), known.as_ptr() as u64, known.len());
        assert_eq!(read, known);
        assert!(read_up(std::process::id(), 8, 100).is_empty());
    }
}
