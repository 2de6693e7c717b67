//! The BPF maps that hold unwind tables, written through memory both sides share.
//!
//! In: places in the heap (word numbers, see `bpf/abi.h`) and bytes for them; entries for binaries and processes. What
//! stands where, and what gives way when memory is short, is decided in `unwind::upload`.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapImpl, MapType};
use nix::sys::mman::{self, ProtFlags, mmap, munmap};
use zerocopy::IntoBytes;

use super::abi::{AddressSpace, CHUNK_WORDS, END_TABLE_EVICTED, MAX_TABLES, UnwindTableEntry};
use super::ring::page_bytes;

/// Bytes of a chunk of the heap.
const CHUNK_BYTES: usize = CHUNK_WORDS as usize * 4;

/// A word's number has 32 bits, of which the upper 14 are the chunk's.
const MAX_CHUNKS: u64 = 1 << 14;

/// `enum` of `bpf(2)`: the map's values can be mapped into memory (kernel 5.5).
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// Chunks that fit into so many bytes.
pub fn chunks_within(bytes: u64) -> u32 {
    (bytes / CHUNK_BYTES as u64).min(MAX_CHUNKS) as u32
}

/// The values of an array map, mapped into our memory, which BPF programs read and write; unmapped when dropped.
#[derive(Debug)]
pub(super) struct SharedValues {
    base: NonNull<u8>,
    bytes: usize,
}

impl SharedValues {
    pub(super) fn map(fd: BorrowedFd, bytes: usize) -> libbpf_rs::Result<SharedValues> {
        let bytes = bytes.next_multiple_of(page_bytes());
        let length = NonZeroUsize::new(bytes).expect("no map is empty");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choosing; nothing of ours is replaced.
        let base = unsafe { mmap(None, length, protection, mman::MapFlags::MAP_SHARED, fd, 0) }
            .map_err(|errno| libbpf_rs::Error::from_raw_os_error(errno as i32))?;
        Ok(SharedValues {
            base: base.cast(),
            bytes,
        })
    }

    /// Copies bytes out; what a BPF program writes meanwhile may be in part there.
    pub(super) fn read(&self, offset: usize, bytes: &mut [u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.bytes), "within the map");
        // SAFETY: `offset` lies within the mapping (asserted above).
        let from = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: so do all bytes from there, which are plain numbers; `bytes` is ours.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.bytes), "within the map");
        // SAFETY: `offset` lies within the mapping (asserted above).
        let to = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: so do all bytes from there; no reference into the mapping exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }
}

impl Drop for SharedValues {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`, of which no reference exists.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
    }
}

/// The maps of `bpf/unwind.bpf.h`. They live on, for the programs, when this is dropped.
#[derive(Debug)]
pub struct UnwindMaps {
    heap: MapHandle,
    max_chunks: u32,
    chunks: Vec<SharedValues>,
    tables: SharedValues,
    address_spaces: MapHandle,
}

impl UnwindMaps {
    pub(super) fn open<T: std::fmt::Debug>(
        heap: &MapImpl<'_, T>,
        tables: &MapImpl<'_, T>,
        address_spaces: &MapImpl<'_, T>,
    ) -> libbpf_rs::Result<UnwindMaps> {
        let bytes = MAX_TABLES as usize * size_of::<UnwindTableEntry>().next_multiple_of(8);
        Ok(UnwindMaps {
            max_chunks: heap.max_entries(),
            heap: MapHandle::try_from(heap)?,
            chunks: Vec::new(),
            tables: SharedValues::map(tables.as_fd(), bytes)?,
            address_spaces: MapHandle::try_from(address_spaces)?,
        })
    }

    /// Chunks there are.
    pub fn chunks(&self) -> u32 {
        self.chunks.len() as u32
    }

    /// Chunks there may be.
    pub fn max_chunks(&self) -> u32 {
        self.max_chunks
    }

    /// Adds a chunk behind the last one.
    pub fn add_chunk(&mut self) -> libbpf_rs::Result<()> {
        let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as _,
            map_flags: BPF_F_MMAPABLE,
            ..Default::default()
        };
        let map = MapHandle::create(
            MapType::Array,
            Some("chunk"),
            4,
            CHUNK_BYTES as u32,
            1,
            &options,
        )?;
        let chunk = SharedValues::map(map.as_fd(), CHUNK_BYTES)?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&map.as_fd());
        self.heap.update(
            &self.chunks().to_ne_bytes(),
            &fd.to_ne_bytes(),
            MapFlags::ANY,
        )?;
        self.chunks.push(chunk);
        Ok(())
    }

    /// Writes bytes from word `at` on. They must not cross the end of the chunk.
    pub fn write(&mut self, at: u32, bytes: &[u8]) {
        let chunk = &mut self.chunks[(at / CHUNK_WORDS) as usize];
        chunk.write((at % CHUNK_WORDS) as usize * 4, bytes);
    }

    /// Makes a table known, or tells why there is none. What it points at has been written before.
    pub fn set_table(&mut self, number: u32, entry: &UnwindTableEntry) {
        assert!(number < MAX_TABLES, "a number of a table");
        // The kernel rounds an array's values up to eight bytes.
        let offset = number as usize * size_of::<UnwindTableEntry>().next_multiple_of(8);
        // Until all is there, a look-up must find no table, rather than one without a rule.
        let empty = UnwindTableEntry {
            pages: 0,
            without: END_TABLE_EVICTED,
            ..*entry
        };
        fence(Ordering::Release);
        self.tables.write(offset, empty.as_bytes());
        fence(Ordering::Release);
        self.tables.write(offset, entry.as_bytes());
    }

    /// From now on, frames of process `pid` are looked up there.
    pub fn set_address_space(&self, pid: u32, space: &AddressSpace) -> libbpf_rs::Result<()> {
        fence(Ordering::Release);
        self.address_spaces
            .update(&pid.to_ne_bytes(), space.as_bytes(), MapFlags::ANY)
    }

    /// Nothing is known of the process any more; it need not have been.
    pub fn remove_address_space(&self, pid: u32) {
        let _ = self.address_spaces.delete(&pid.to_ne_bytes());
    }
}
