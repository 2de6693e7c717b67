//! Which kernel ran and where it was loaded, so that its frames can be compared and named later.
//!
//! In: `/sys/kernel/notes` and the first lines of `/proc/kallsyms`. Out: the [`Mapping`] of kernel frames. Its start is
//! `_stext`, so that an address less the start is the same in every boot, wherever the kernel was put (KASLR). Where
//! addresses are hidden the start is 0 and addresses stay raw; the build ID is there all the same.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::profile::{BuildId, ElfAddr, FileOffset, Mapping, MappingKind};

const NOTES: &str = "/sys/kernel/notes";
const MAX_NOTES_BYTES: u64 = 64 << 10;
/// The list is by address but for what belongs to each CPU, which comes first.
const MAX_LIST_BYTES: u64 = 4 << 20;

/// The mapping of all kernel frames.
pub(super) fn mapping() -> Mapping {
    let mut notes = Vec::new();
    if let Ok(file) = File::open(NOTES) {
        // What was read before an error is looked at; a note that is cut off is none.
        let _ = file.take(MAX_NOTES_BYTES).read_to_end(&mut notes);
    }
    let list = File::open("/proc/kallsyms").ok();
    let start = list.and_then(|file| text_start(file.take(MAX_LIST_BYTES)));
    Mapping {
        kind: MappingKind::Kernel,
        path: "[kernel]".into(),
        build_id: build_id(&notes),
        start: ElfAddr(start.unwrap_or(0)),
        end: ElfAddr(u64::MAX),
        file_offset: FileOffset(0),
    }
}

/// The address of `_stext`.
fn text_start(list: impl Read) -> Option<u64> {
    let mut lines = BufReader::new(list).lines().map_while(Result::ok);
    let line = lines.find(|line| line.ends_with(" _stext"))?;
    u64::from_str_radix(line.split(' ').next()?, 16).ok()
}

/// The GNU build ID among notes: sizes of name and contents, type, then both, each padded to four bytes.
///
/// Source: elf(5), "Notes"; type `NT_GNU_BUILD_ID` is 3.
fn build_id(mut notes: &[u8]) -> Option<BuildId> {
    const GNU_BUILD_ID: u32 = 3;
    while notes.len() >= 12 {
        let word = |ix: usize| {
            let four = notes.get(4 * ix..)?.first_chunk()?;
            Some(u32::from_le_bytes(*four))
        };
        let (name_bytes, bytes) = (word(0)? as usize, word(1)? as usize);
        let begin = 12 + name_bytes.checked_next_multiple_of(4)?;
        let end = begin.checked_add(bytes)?;
        let name = notes.get(12..12 + name_bytes)?;
        let contents = notes.get(begin..end)?;
        if word(2)? == GNU_BUILD_ID && name == b"GNU\0" {
            return BuildId::from_bytes(contents);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, contents: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [name.len() as u32, contents.len() as u32, kind] {
            note.extend(word.to_le_bytes());
        }
        for part in [name, contents] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_build_id_is_found_among_other_notes_and_damaged_ones_are_none() {
        let id = BuildId::from_hex("0123456789");
        let notes = [
            note(b"Xen\0", 3, b"12345"),
            note(b"GNU\0", 1, b"abi"),
            note(b"GNU\0", 3, &[0x01, 0x23, 0x45, 0x67, 0x89]),
        ];
        let notes = notes.concat();
        assert_eq!(build_id(&notes), id);
        for len in 0..notes.len() - 3 {
            assert_eq!(build_id(&notes[..len]), None, "{len}");
        }
        for at in 0..notes.len() {
            let mut damaged = notes.clone();
            damaged[at] = 0xff;
            build_id(&damaged);
        }
    }

    #[test]
    fn the_running_kernel_begins_with_its_text() {
        let list = "0000000000000000 A fixed_percpu_data\nffffffff92a00000 T _stext\n";
        assert_eq!(text_start(list.as_bytes()), Some(0xffff_ffff_92a0_0000));
        assert_eq!(text_start(&b"ffffffff92a00000 T x_stext\n"[..]), None);
        let mapping = mapping();
        assert_eq!(mapping.kind, MappingKind::Kernel);
        assert!(mapping.start.0 == 0 || mapping.start.0 > u64::MAX / 2);
    }
}
