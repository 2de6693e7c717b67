//! Makes good ELF files lie, byte by byte.
//!
//! In: a program that runs. Out: one that still runs, since the kernel and the loader do not look at sections. Source of
//! the offsets: elf(5).

use std::ops::Range;

/// Fields of the file's head.
const E_SHOFF: usize = 0x28;
const E_SHNUM: usize = 0x3c;
const E_SHSTRNDX: usize = 0x3e;

/// Fields of a section's head, and its size.
const SH_OFFSET: usize = 0x18;
const SH_SIZE: usize = 0x20;
const SH_ENTSIZE: usize = 0x38;
const SECTION_HEAD_BYTES: usize = 0x40;

/// Where a compressed section says how large it is unpacked (`Elf64_Chdr`).
const CH_SIZE: usize = 8;

/// Fields of an xz stream with one block: its head, 12 bytes; the head of the block, which begins with its length in
/// words less one; in it the size of LZMA2's dictionary. Source: the xz file format, 2.1.1, 3.1 and 5.3.1.
const XZ_BLOCK: usize = 12;
const XZ_FILTER_LZMA2: [u8; 2] = [0x21, 1];

/// The largest that can be said: 4 GiB less a byte.
const XZ_LARGEST_DICTIONARY: u8 = 40;

/// A 64-bit little-endian ELF file in memory.
#[derive(Debug)]
pub(crate) struct Elf(pub(crate) Vec<u8>);

impl Elf {
    pub(crate) fn many_sections(&mut self) {
        self.put(E_SHNUM, &0xfff0_u16.to_le_bytes());
    }

    pub(crate) fn sections_outside(&mut self) {
        self.put(E_SHOFF, &0x7fff_ffff_ffff_f000_u64.to_le_bytes());
    }

    /// The size of a section reaches over the end of all numbers.
    pub(crate) fn endless(&mut self, section: &str) {
        let at = self.head(section) + SH_SIZE;
        self.put(at, &(u64::MAX - 8).to_le_bytes());
    }

    pub(crate) fn outside(&mut self, section: &str) {
        let at = self.head(section) + SH_OFFSET;
        self.put(at, &(1_u64 << 40).to_le_bytes());
    }

    pub(crate) fn entries_without_size(&mut self, section: &str) {
        let at = self.head(section) + SH_ENTSIZE;
        self.put(at, &0_u64.to_le_bytes());
    }

    /// A compressed section claims to have so many bytes unpacked.
    pub(crate) fn claims(&mut self, section: &str, bytes: u64) {
        let at = self.content(section).start + CH_SIZE;
        self.put(at, &bytes.to_le_bytes());
    }

    pub(crate) fn noise(&mut self, section: &str) {
        let mut seed = 88_172_645_463_325_252_u64;
        for at in self.content(section) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            self.0[at] = seed as u8;
        }
    }

    /// MiniDebugInfo that wants 4 GiB to be unpacked. The block's checksum is that of the lie.
    pub(crate) fn large_dictionary(&mut self) {
        let content = self.content(".gnu_debugdata");
        let block = &mut self.0[content][XZ_BLOCK..];
        let len = (usize::from(block[0]) + 1) * 4;
        let filter = block.windows(2).position(|two| two == XZ_FILTER_LZMA2);
        let filter = filter.expect("the block is packed by LZMA2");
        block[filter + 2] = XZ_LARGEST_DICTIONARY;
        let mut crc = flate2::Crc::new();
        crc.update(&block[..len - 4]);
        block[len - 4..len].copy_from_slice(&crc.sum().to_le_bytes());
    }

    /// Puts `to` over each `from`, filled up with zeros.
    pub(crate) fn replace(&mut self, from: &str, to: &str) {
        assert!(to.len() <= from.len(), "`{to}` is longer than `{from}`");
        let (from, mut to) = (from.as_bytes(), to.as_bytes().to_vec());
        to.resize(from.len(), 0);
        let hits = self.0.windows(from.len()).enumerate();
        let hits: Vec<usize> = hits
            .filter(|(_, bytes)| *bytes == from)
            .map(|(at, _)| at)
            .collect();
        assert!(!hits.is_empty(), "{from:?} is in the file");
        for at in hits {
            self.put(at, &to);
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn number(&self, at: usize, bytes: usize) -> usize {
        let bytes = self.0[at..at + bytes].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    /// Where the head of a section is.
    fn head(&self, name: &str) -> usize {
        let head = |index: usize| self.number(E_SHOFF, 8) + index * SECTION_HEAD_BYTES;
        let names = self.number(head(self.number(E_SHSTRNDX, 2)) + SH_OFFSET, 8);
        let has_name = |head: &usize| {
            let at = names + self.number(*head, 4);
            self.0[at..].starts_with(name.as_bytes()) && self.0[at + name.len()] == 0
        };
        let found = (0..self.number(E_SHNUM, 2)).map(head).find(has_name);
        found.unwrap_or_else(|| panic!("the file has a section `{name}`"))
    }

    fn content(&self, name: &str) -> Range<usize> {
        let head = self.head(name);
        let start = self.number(head + SH_OFFSET, 8);
        start..start + self.number(head + SH_SIZE, 8)
    }
}
