//! A file that its writer still adds to, read piece by piece and never beyond what is permitted.
//!
//! In: an open regular file. Out: for each look, whether there is news, when it may have been written, and the bytes.
//! It also notices when the file was begun anew: it is shorter, or what was read last reads differently now.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::sys::usage::{monotonic_ns, unix_ns};

/// So many bytes before where reading stopped are remembered, to notice that a file was written anew. A line of a map is
/// about as long, and holds an address.
const TAIL_BYTES: usize = 96;

/// When something was written, on the monotonic clock: after the last look that found nothing more, and by the time
/// stamp of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub after_ns: u64,
    pub by_ns: u64,
}

impl Written {
    /// When the `ix`-th of `count` pieces was written: lines are taken to have come evenly, the last one at the end.
    pub fn at(&self, ix: usize, count: usize) -> u64 {
        let span = u128::from(self.by_ns.saturating_sub(self.after_ns));
        let part = span * (ix as u128 + 1) / (count.max(1) as u128);
        self.after_ns.saturating_add(part as u64)
    }
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Nothing,
    /// There are bytes from [`GrowingFile::offset`] on.
    More(Written),
    /// The same, and the file has been begun anew.
    Anew(Written),
}

#[derive(Debug)]
pub struct GrowingFile {
    file: File,
    /// Read up to here.
    offset: u64,
    tail: Vec<u8>,
    /// As the last look found it: length, and nanoseconds of the last change of status and of content.
    stamp: Option<(u64, i128, i128)>,
    len: u64,
    /// When all of it had been read.
    caught_up_ns: u64,
    /// What stands before this offset was there at the first look.
    first_len: Option<u64>,
}

impl GrowingFile {
    /// Begins at `offset`.
    pub fn new(file: File, offset: u64) -> GrowingFile {
        GrowingFile {
            file,
            offset,
            tail: Vec::new(),
            stamp: None,
            len: 0,
            caught_up_ns: 0,
            first_len: None,
        }
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// As the last look found it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the last look found more than has been read since.
    pub fn is_behind(&self) -> bool {
        self.offset < self.len
    }

    /// Whether its name is gone, or leads elsewhere by now.
    pub fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    pub fn look(&mut self) -> Look {
        let Ok(meta) = self.file.metadata() else {
            return Look::Nothing;
        };
        let now_ns = monotonic_ns();
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        let changed_ns = ns(meta.ctime(), meta.ctime_nsec());
        let stamp = (meta.len(), changed_ns, ns(meta.mtime(), meta.mtime_nsec()));
        let same = self.stamp == Some(stamp);
        if same && self.offset >= self.len {
            self.caught_up_ns = now_ns;
            return Look::Nothing;
        }
        self.stamp = Some(stamp);
        self.len = meta.len();
        let by_ns = (i128::from(now_ns) - (i128::from(unix_ns()) - changed_ns))
            .clamp(i128::from(self.caught_up_ns), i128::from(now_ns)) as u64;
        let anew = !same && self.was_begun_anew();
        if anew {
            self.offset = 0;
            self.tail.clear();
            self.first_len = Some(0);
        }
        let at_first = self.offset < *self.first_len.get_or_insert(self.len);
        let written = match at_first {
            true => Written::default(),
            false => Written {
                after_ns: self.caught_up_ns,
                by_ns,
            },
        };
        match anew {
            true => Look::Anew(written),
            false if self.offset < self.len => Look::More(written),
            false => {
                self.caught_up_ns = now_ns;
                Look::Nothing
            }
        }
    }

    fn was_begun_anew(&self) -> bool {
        if self.len < self.offset {
            return true;
        }
        let mut again = [0; TAIL_BYTES];
        let again = &mut again[..self.tail.len()];
        let at = self.offset.saturating_sub(self.tail.len() as u64);
        self.file.read_exact_at(again, at).is_err() || *again != *self.tail
    }

    /// Bytes at `offset`, as many as fit and are there.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) | Err(_) => break,
                Ok(count) => filled += count,
            }
        }
        filled
    }

    /// Goes on behind `bytes` that were read at [`Self::offset`].
    pub fn consume(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        let from = bytes.len().saturating_sub(TAIL_BYTES);
        self.tail.extend_from_slice(&bytes[from..]);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        if self.offset >= self.len {
            self.caught_up_ns = monotonic_ns();
        }
    }

    /// What follows up to the present end is not needed, or waits for its writer.
    pub fn wait_for_more(&mut self) {
        self.len = self.offset;
        self.caught_up_ns = monotonic_ns();
    }

    /// Goes on at `offset`, without having read what lies before it.
    pub fn skip_to(&mut self, offset: u64) {
        self.offset = offset;
        self.tail.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(file: &mut GrowingFile) -> String {
        let mut buffer = [0; 4096];
        let count = file.read_at(&mut buffer, file.offset());
        file.consume(&buffer[..count]);
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn what_is_added_is_news_once_and_a_new_beginning_is_noticed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("map");
        std::fs::write(&path, "one\n").expect("written");
        let mut growing = GrowingFile::new(File::open(&path).expect("opened"), 0);
        assert_eq!(growing.look(), Look::More(Written::default()));
        assert_eq!(read(&mut growing), "one\n");
        let before = monotonic_ns();
        assert_eq!(growing.look(), Look::Nothing);

        let mut appending = File::options().append(true).open(&path).expect("opened");
        appending.write_all(b"two\n").expect("written");
        let Look::More(written) = growing.look() else {
            panic!("there is more");
        };
        assert!(written.after_ns >= before && written.by_ns <= monotonic_ns());
        assert_eq!(read(&mut growing), "two\n");

        // Longer than before, so only its bytes tell.
        std::fs::write(&path, "one\nand two others\n").expect("written");
        assert!(matches!(growing.look(), Look::Anew(_)));
        assert_eq!(read(&mut growing), "one\nand two others\n");
        std::fs::write(&path, "").expect("written");
        assert!(matches!(growing.look(), Look::Anew(_)));
        assert!(!growing.is_unlinked());
        std::fs::remove_file(&path).expect("removed");
        assert!(growing.is_unlinked());
    }

    #[test]
    fn lines_of_one_look_came_one_after_the_other() {
        let written = Written {
            after_ns: 100,
            by_ns: 200,
        };
        assert_eq!((written.at(0, 1), written.at(0, 4)), (200, 125));
        assert_eq!(written.at(3, 4), 200);
        assert_eq!(Written::default().at(5, 6), 0);
    }
}
