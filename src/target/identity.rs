//! The build ID of a file that may be anything.
//!
//! In: an open file. Out: its build ID, or nothing. However the file lies about its size and number of sections, no
//! more than [`MAX_BYTES`] of it are read.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ReadCache, ReadRef};

use crate::profile::BuildId;

/// Section headers, their names, and notes. A kernel module built with a section per function has 50,000 sections of
/// 64 bytes.
const MAX_BYTES: u64 = 32 << 20;

/// What a 64-bit ELF file says of itself.
pub fn build_id(file: &File) -> Option<BuildId> {
    let cache = ReadCache::new(file);
    let left = Cell::new(MAX_BYTES);
    let bounded = Bounded {
        cache: &cache,
        left: &left,
    };
    let elf = ElfFile64::<Endianness, _>::parse(bounded).ok()?;
    BuildId::from_bytes(elf.build_id().ok()??)
}

/// Reads until what may be read is used up.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    cache: &'a ReadCache<&'a File>,
    left: &'a Cell<u64>,
}

impl Bounded<'_> {
    fn spend(self, bytes: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(bytes).ok_or(())?);
        Ok(())
    }
}

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.spend(size)?;
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let found = self.cache.read_bytes_at_until(range, delimiter)?;
        self.spend(found.len() as u64)?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// Offsets of `e_shoff` and `e_shnum` in a 64-bit ELF header, and of `sh_size` in a section header; elf(5).
    const E_SHOFF: u64 = 0x28;
    const E_SHNUM: u64 = 0x3c;
    const SH_SIZE: u64 = 0x20;

    #[test]
    fn every_library_has_the_build_id_that_object_reads() {
        let own = File::open("/proc/self/exe").expect("own binary");
        let bytes = std::fs::read("/proc/self/exe").expect("own binary");
        let elf = object::File::parse(&*bytes).expect("ELF");
        let expected = elf
            .build_id()
            .expect("readable")
            .and_then(BuildId::from_bytes);
        assert_eq!(build_id(&own), expected);
    }

    #[test]
    fn what_is_no_program_has_none() {
        let file = tempfile::tempfile().expect("temporary file");
        for text in [&b""[..], b"\x7fELF", b"<html>not found</html>"] {
            file.write_all_at(text, 0).expect("written");
            assert_eq!(build_id(&file), None);
        }
        assert_eq!(build_id(&File::open("/").expect("a folder")), None);
    }

    #[test]
    fn a_section_count_that_would_need_gigabytes_is_not_believed() {
        let file = tempfile::tempfile().expect("temporary file");
        let own = std::fs::read("/proc/self/exe").expect("own binary");
        file.write_all_at(&own, 0).expect("written");
        // A count of 0 says that the first section's size is the count.
        file.write_all_at(&[0; 2], E_SHNUM).expect("written");
        let at = u64::from_le_bytes(own[0x28..0x30].try_into().expect("eight bytes"));
        assert_eq!(E_SHOFF, 0x28);
        file.write_all_at(&(1u64 << 26).to_le_bytes(), at + SH_SIZE)
            .expect("written");
        file.set_len(8 << 30).expect("a hole");
        assert_eq!(build_id(&file), None);
    }
}
