//! A file as bytes, mapped instead of read: of a program of 300 MB only the touched pages take memory.
//!
//! Whoever may write to the file can change the bytes, and by shortening it make reading them fatal (`SIGBUS`, `mmap(2)`).
//! So files of others are mapped only in a process that may die of it: the worker that names frames.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, UncheckedAdvice};

/// The content of a file, read-only.
#[derive(Debug)]
pub struct FileMap(Mmap);

impl FileMap {
    /// Maps all of `file`; an empty file is an error.
    pub fn of(file: &File) -> io::Result<FileMap> {
        if file.metadata()?.len() == 0 {
            return Err(io::Error::other("an empty file"));
        }
        // SAFETY: the bytes are only read, as plain numbers, by parsers that check each of them. That they may change
        // meanwhile can mislead a parser but not its memory: none keeps a decision about a byte apart from the byte, and
        // what is computed from them is bounds-checked. A shortened file ends the worker process, see above.
        let map = unsafe { Mmap::map(file) }?;
        Ok(FileMap(map))
    }
}

impl FileMap {
    /// Gives back the memory of pages that were read; they come again from the page cache when they are needed.
    pub fn forget(&self) {
        // SAFETY: nothing was written to the mapping, so there is nothing that dropping its pages could lose.
        let _ = unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) };
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
