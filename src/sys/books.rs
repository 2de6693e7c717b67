//! The books of the target's threads, written by `bpf/sched.bpf.h` and read through memory both sides share.
//!
//! In: the maps. Out: books as they stand, each consistent in itself. A book whose thread is gone is given back here, so
//! that its place can be used again.

use std::sync::atomic::{Ordering, fence};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapImpl};
use zerocopy::FromBytes;

use super::abi::{MAX_BOOKS, ThreadBook};
use super::unwind_maps::SharedValues;
use std::os::fd::AsFd;

/// A book that is being changed all the time is read this often before it is taken as it is.
const MAX_READS: usize = 100;

/// The books of a recording.
#[derive(Debug)]
pub struct BookMaps {
    books: SharedValues,
    free: MapHandle,
}

impl BookMaps {
    pub(super) fn open<T: std::fmt::Debug>(
        books: &MapImpl<'_, T>,
        free: &MapImpl<'_, T>,
    ) -> libbpf_rs::Result<BookMaps> {
        let bytes = MAX_BOOKS as usize * size_of::<ThreadBook>();
        Ok(BookMaps {
            books: SharedValues::map(books.as_fd(), bytes)?,
            free: MapHandle::try_from(free)?,
        })
    }

    /// The book at a place, counted from 1; `None` where there is none.
    pub fn read(&self, place: u32) -> Option<ThreadBook> {
        let index = place.checked_sub(1).filter(|index| *index < MAX_BOOKS)? as usize;
        let mut bytes = [0; size_of::<ThreadBook>()];
        let mut book = None;
        for _ in 0..MAX_READS {
            self.books.read(index * bytes.len(), &mut bytes);
            fence(Ordering::Acquire);
            let before = ThreadBook::read_from_bytes(&bytes).ok()?;
            self.books.read(index * bytes.len(), &mut bytes);
            let after = ThreadBook::read_from_bytes(&bytes).ok()?;
            book = Some(after);
            if before.version == after.version && after.version.is_multiple_of(2) {
                break;
            }
        }
        book.filter(|book| book.tid != 0)
    }

    /// All books there are, with their places.
    pub fn all(&self) -> Vec<(u32, ThreadBook)> {
        let places = 1..=MAX_BOOKS;
        places
            .filter_map(|place| Some((place, self.read(place)?)))
            .collect()
    }

    /// The thread of this book is gone: another may have its place.
    pub fn give_back(&mut self, place: u32) {
        let Some(index) = place.checked_sub(1).filter(|index| *index < MAX_BOOKS) else {
            return;
        };
        let empty = [0; size_of::<ThreadBook>()];
        self.books.write(index as usize * empty.len(), &empty);
        fence(Ordering::Release);
        // A full queue holds all places there are; one that is lost is only not used again.
        let _ = self.free.update(&[], &place.to_ne_bytes(), MapFlags::ANY);
    }
}
