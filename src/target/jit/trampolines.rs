//! CPython's trampolines for perf: how to unwind through them.
//!
//! With `-X perf` CPython (3.12 and later) calls each Python function through a piece of generated code of its own, all
//! alike, so that the piece's name tells the function. They keep no frame pointer and come without unwind information,
//! so that every walk would end at the innermost. But they fill whole arenas from end to end, which is easily recognised,
//! and what they do to the stack is known.
//!
//! In: executable memory without a file, at first sight. Out: where in it arenas stand, and unwind information for one.
//!
//! Source: CPython, `Python/asm_trampoline.S` and `Python/perf_trampoline.c` (`new_code_arena`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::profile::MappingKind;
use crate::target::binary::{Binary, Section, Segment, UnwindSections};
use crate::target::mappings::Region;

/// An arena is mapped as one.
pub const ARENA_BYTES: u64 = 64 << 10;

/// More arenas than this side by side (a million functions) are not looked at.
const MAX_ARENAS: u64 = 128;

/// `sub $8,%rsp; call *%rcx; add $8,%rsp; ret`. Up to CPython 3.12.x one follows the other, later they are aligned.
const TRAMPOLINE: [u8; 11] = [
    0x48, 0x83, 0xec, 0x08, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3,
];
const DISTANCES: [usize; 2] = [11, 16];

/// Of a trampoline, the instruction after `sub` and the one after `add`.
const AFTER_SUB: u8 = 4;
const AFTER_ADD: u8 = 10;

/// Where an arena stands in the address space of its unwind information: not at zero, which stands for code that a linker
/// has removed.
const ARENA_VADDR: u64 = 0x1000;

/// Distance between the trampolines that fill a region of a process; `None` for anything else. Memory that the process
/// itself would have to bring (`userfaultfd(2)`) cannot be read this way, and nobody waits for it.
pub fn distance_in(pid: u32, region: &Region) -> Option<usize> {
    let bytes = region.end.0.checked_sub(region.start.0)?;
    let arenas = bytes / ARENA_BYTES;
    if !bytes.is_multiple_of(ARENA_BYTES) || !(1..=MAX_ARENAS).contains(&arenas) {
        return None;
    }
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let distance = |arena: u64| {
        let mut begin = [0; DISTANCES[1] + TRAMPOLINE.len()];
        let at = region.start.0 + arena * ARENA_BYTES;
        memory.read_exact_at(&mut begin, at).ok()?;
        distance_of(&begin)
    };
    let first = distance(0)?;
    (1..arenas)
        .all(|arena| distance(arena) == Some(first))
        .then_some(first)
}

fn distance_of(begin: &[u8]) -> Option<usize> {
    let stands_at = |at| begin.get(at..).is_some_and(|b| b.starts_with(&TRAMPOLINE));
    let next = DISTANCES.into_iter().find(|distance| stands_at(*distance));
    next.filter(|_| stands_at(0))
}

/// An arena of trampolines as something that can be unwound. All arenas with that distance share it.
pub fn arena(ix: u32, distance: usize) -> Binary {
    let mut binary = Binary::anonymous(ix);
    debug_assert_eq!(binary.kind, MappingKind::Anonymous);
    binary.segments = vec![Segment {
        file_offset: 0,
        file_bytes: ARENA_BYTES,
        vaddr: ARENA_VADDR,
        memory_bytes: ARENA_BYTES,
        executable: true,
    }];
    binary.unwind = UnwindSections {
        eh_frame: vec![Section {
            vaddr: 0,
            bytes: Arc::from(eh_frame(distance)),
        }],
        ..UnwindSections::default()
    };
    binary
}

/// One description for all trampolines of an arena. Source: Linux Standard Base, "Exception Frames"; DWARF 5 §6.4.2 and
/// §7.24; System V x86-64 psABI for register numbers (7 is rsp, 16 the return address).
fn eh_frame(distance: usize) -> Vec<u8> {
    const DEF_CFA: u8 = 0x0c;
    const DEF_CFA_OFFSET: u8 = 0x0e;
    const ADVANCE: u8 = 0x40;
    const OFFSET_OF_RETURN_ADDRESS: u8 = 0x80 | 16;
    // Version 1, no augmentation, code in units of 1, data in units of -8, return address in 16; CFA = rsp + 8, return
    // address at CFA - 8.
    let common = [
        1,
        0,
        1,
        0x78,
        16,
        DEF_CFA,
        7,
        8,
        OFFSET_OF_RETURN_ADDRESS,
        1,
    ];
    let mut bytes = entry(0, &common);
    let mut one = ARENA_VADDR.to_le_bytes().to_vec();
    one.extend(ARENA_BYTES.to_le_bytes());
    for _ in 0..ARENA_BYTES as usize / distance {
        one.extend([ADVANCE | AFTER_SUB, DEF_CFA_OFFSET, 16]);
        one.extend([ADVANCE | (AFTER_ADD - AFTER_SUB), DEF_CFA_OFFSET, 8]);
        one.push(ADVANCE | (distance as u8 - AFTER_ADD));
    }
    // How far back the common entry stands, counted from here.
    let back = bytes.len() as u32 + 4;
    bytes.extend(entry(back, &one));
    bytes.extend([0; 4]);
    bytes
}

/// An entry with its length, filled up to a multiple of 8 by instructions that do nothing.
fn entry(id: u32, content: &[u8]) -> Vec<u8> {
    let filled = (8 + content.len()).next_multiple_of(8);
    let mut bytes = (filled as u32 - 4).to_le_bytes().to_vec();
    bytes.extend(id.to_le_bytes());
    bytes.extend(content);
    bytes.resize(filled, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimli::{
        BaseAddresses, CfaRule, EhFrame, LittleEndian, Register, UnwindContext, UnwindSection,
    };

    #[test]
    fn only_two_trampolines_in_a_row_are_an_arena() {
        let with = |distance: usize| {
            let mut begin = vec![0; 27];
            begin[..11].copy_from_slice(&TRAMPOLINE);
            begin[distance..distance + 11].copy_from_slice(&TRAMPOLINE);
            begin
        };
        assert_eq!(distance_of(&with(11)), Some(11));
        assert_eq!(distance_of(&with(16)), Some(16));
        assert_eq!(distance_of(&with(12)), None);
        assert_eq!(distance_of(&with(11)[1..]), None);
        assert_eq!(distance_of(&TRAMPOLINE), None);
    }

    #[test]
    fn a_return_address_in_any_trampoline_has_its_caller_two_words_up() {
        for distance in DISTANCES {
            let bytes = eh_frame(distance);
            let frames = EhFrame::new(&bytes, LittleEndian);
            let bases = BaseAddresses::default().set_eh_frame(0);
            let mut context = UnwindContext::new();
            let mut cfa_at = |addr| {
                let of = EhFrame::cie_from_offset;
                let row = frames.unwind_info_for_address(&bases, &mut context, addr, of);
                row.map(|row| row.cfa().clone())
            };
            let last = ARENA_BYTES as usize / distance - 1;
            for slot in [0, 1, 100, last] {
                let begin = ARENA_VADDR + (slot * distance) as u64;
                for (within, offset) in [(0, 8), (3, 8), (4, 16), (5, 16), (9, 16), (10, 8)] {
                    let register = Register(7);
                    let expected = CfaRule::RegisterAndOffset { register, offset };
                    assert_eq!(cfa_at(begin + within), Ok(expected), "{distance}, {slot}");
                }
            }
            assert!(cfa_at(ARENA_VADDR + ARENA_BYTES).is_err());
        }
    }
}
