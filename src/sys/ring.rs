//! The ring buffer the kernel writes perf records into.
//!
//! In: an [`Event`] to map. Out: whole records, one at a time, each a header and its bytes.
//! Source: `perf_event_open(2)`, "MMAP layout"; the comments of `struct perf_event_mmap_page` on the barriers.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use perf_event_open_sys::bindings::perf_event_mmap_page;

use super::perf::Event;

/// Type and flags of a record, as in `struct perf_event_header`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub kind: u32,
    pub misc: u16,
}

/// Bytes of `struct perf_event_header`.
const HEADER_BYTES: usize = 8;

/// A mapped ring. It owns the event it maps and is unmapped when dropped.
#[derive(Debug)]
pub struct Ring {
    event: Event,
    base: NonNull<u8>,
    page_bytes: usize,
    data_bytes: usize,
    /// Holds a record that wraps around the end of the ring.
    wrapped: Vec<u8>,
}

impl Ring {
    /// Maps a ring of `data_bytes`, a power of two of at least a page.
    pub fn map(event: Event, data_bytes: usize) -> Result<Ring, (Event, io::Error)> {
        let page_bytes = page_bytes();
        assert!(
            data_bytes.is_power_of_two() && data_bytes >= page_bytes,
            "whole pages, 2^n"
        );
        let length = NonZeroUsize::new(page_bytes + data_bytes).expect("not empty");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let fd = event.as_fd();
        // SAFETY: a new mapping at an address of the kernel's choosing; nothing of ours is replaced.
        let mapped = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, 0) };
        match mapped {
            Ok(base) => Ok(Ring {
                event,
                base: base.cast(),
                page_bytes,
                data_bytes,
                wrapped: Vec::new(),
            }),
            Err(errno) => Err((event, errno.into())),
        }
    }

    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Hands every waiting record to `sink` and frees its space. Returns the number of bytes read.
    pub fn drain(&mut self, mut sink: impl FnMut(RecordHeader, &[u8])) -> u64 {
        let head = self.head().load(Ordering::Acquire);
        let mut tail = self.tail().load(Ordering::Relaxed);
        let waiting = head.wrapping_sub(tail);
        while head.wrapping_sub(tail) >= HEADER_BYTES as u64 {
            let header = self.bytes_at(tail, HEADER_BYTES);
            let kind = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            let misc = u16::from_ne_bytes([header[4], header[5]]);
            let size = usize::from(u16::from_ne_bytes([header[6], header[7]]));
            if size < HEADER_BYTES || size as u64 > head.wrapping_sub(tail) {
                // The kernel never writes this; skipping to the head is the only way to stay in step.
                tail = head;
                break;
            }
            let record = self.bytes_at(tail, size);
            sink(RecordHeader { kind, misc }, &record[HEADER_BYTES..]);
            tail = tail.wrapping_add(size as u64);
            self.tail().store(tail, Ordering::Release);
        }
        self.tail().store(tail, Ordering::Release);
        waiting
    }

    /// The bytes of the ring from position `from`, put together when they wrap around its end.
    fn bytes_at(&mut self, from: u64, len: usize) -> &[u8] {
        let start = (from % self.data_bytes as u64) as usize;
        let first = len.min(self.data_bytes - start);
        if first == len {
            return self.data(start, len);
        }
        let mut wrapped = std::mem::take(&mut self.wrapped);
        wrapped.clear();
        wrapped.extend_from_slice(self.data(start, first));
        wrapped.extend_from_slice(self.data(0, len - first));
        self.wrapped = wrapped;
        &self.wrapped
    }

    fn data(&self, start: usize, len: usize) -> &[u8] {
        assert!(start + len <= self.data_bytes, "within the data area");
        // SAFETY: the data area begins one page after `base`; `start` lies within it (asserted above).
        let first = unsafe { self.base.as_ptr().add(self.page_bytes + start) };
        // SAFETY: `len` bytes from there are mapped until `self` drops (asserted above). The kernel does not write
        // between tail and head, where callers read, until the tail has moved on.
        unsafe { std::slice::from_raw_parts(first, len) }
    }

    fn head(&self) -> &AtomicU64 {
        let page: *mut perf_event_mmap_page = self.base.as_ptr().cast();
        // SAFETY: `base` points at the control page until `self` drops; only the field's address is taken.
        let field = unsafe { &raw mut (*page).data_head };
        // SAFETY: the field is an aligned u64 that the kernel publishes with release order.
        unsafe { AtomicU64::from_ptr(field) }
    }

    fn tail(&self) -> &AtomicU64 {
        let page: *mut perf_event_mmap_page = self.base.as_ptr().cast();
        // SAFETY: `base` points at the control page until `self` drops; only the field's address is taken.
        let field = unsafe { &raw mut (*page).data_tail };
        // SAFETY: the field is an aligned u64 that only we write and the kernel reads with acquire order.
        unsafe { AtomicU64::from_ptr(field) }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`, which no reference outlives: they all borrow `self`.
        let _ = unsafe { munmap(self.base.cast(), self.page_bytes + self.data_bytes) };
    }
}

/// Bytes of a memory page.
pub fn page_bytes() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .map_or(4096, |bytes| bytes as usize)
}
