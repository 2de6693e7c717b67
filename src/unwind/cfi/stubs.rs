//! Rules for code of known layouts that has none: procedure linkage tables, for which lld and mold write no call frame
//! information, and the functions that C libraries put together from pieces in `.init` and `.fini`.
//!
//! In: the bytes of the section, which tell the few layouts apart. Out: rows. Any other layout has no rule.

use crate::arch::ENDBR64;
use crate::target::binary::Section;
use crate::unwind::row::{CfaKind, Rule};

/// Bytes of an entry, on which entries are aligned.
const ENTRY_BYTES: usize = 16;

/// `push m64`, which begins the table's first entry and is 6 bytes long.
const PUSH_MEMORY: &[u8] = &[0xff, 0x35];
/// `push imm32`.
const PUSH_NUMBER: u8 = 0x68;
/// `jmp *m64`, 6 bytes long; also behind `endbr64`, and with a `bnd` prefix.
const JUMP: &[u8] = &[0xff, 0x25];
const BND: u8 = 0xf2;

/// `sub $8,%rsp`, with which `_init` and `_fini` begin, and `add $8,%rsp; ret`, with which they end.
/// Source: glibc, `sysdeps/x86_64/crti.S` and `crtn.S`.
const MAKE_ROOM: &[u8] = &[0x48, 0x83, 0xec, 0x08];
const LEAVE: &[u8] = &[0x48, 0x83, 0xc4, 0x08, 0xc3];

/// Addresses and rules, in ascending order, from the section's start on.
pub(in crate::unwind) fn rows(section: &Section) -> Vec<(u64, Rule)> {
    let pieced_together = pieced_together(section);
    if !pieced_together.is_empty() {
        return pieced_together;
    }
    linkage_table(section)
}

/// `_init` or `_fini`: pieces of several files, between the first file's beginning and the last one's end.
fn pieced_together(section: &Section) -> Vec<(u64, Rule)> {
    let bytes = &section.bytes;
    let begins = if bytes.starts_with(ENDBR64) { 4 } else { 0 };
    if !bytes[begins..].starts_with(MAKE_ROOM) || !bytes.ends_with(LEAVE) {
        return Vec::new();
    }
    let last = bytes.len() - 1;
    [(0, 8), (begins + MAKE_ROOM.len(), 16), (last, 8)]
        .map(|(offset, above_rsp)| {
            let rule = Rule::from_register(CfaKind::Rsp, above_rsp);
            (section.vaddr.wrapping_add(offset as u64), rule)
        })
        .into()
}

/// An entry jumps on, and in a lazily bound table pushes a number before it does; the first entry of such a table pushes
/// once more.
fn linkage_table(section: &Section) -> Vec<(u64, Rule)> {
    let above_rsp = |bytes| Rule::from_register(CfaKind::Rsp, bytes);
    let at = |offset: u64| section.vaddr.wrapping_add(offset);
    if jumps(&section.bytes) {
        return vec![(at(0), above_rsp(8))];
    }
    let is_lazy = section.bytes.starts_with(PUSH_MEMORY) && section.vaddr.is_multiple_of(16);
    let Some(pushed_at) = pushed_at(&section.bytes).filter(|_| is_lazy) else {
        return Vec::new();
    };
    vec![
        (at(0), above_rsp(16)),
        (at(6), above_rsp(24)),
        (
            at(ENTRY_BYTES as u64),
            Rule::from_other(CfaKind::Plt, pushed_at, 0),
        ),
    ]
}

/// Whether the table's first entry does nothing but jump.
fn jumps(bytes: &[u8]) -> bool {
    let code = bytes.strip_prefix(ENDBR64).unwrap_or(bytes);
    let code = code.strip_prefix(&[BND]).unwrap_or(code);
    code.starts_with(JUMP) && code.get(6) != Some(&PUSH_NUMBER)
}

/// Where in the second entry the push is done.
fn pushed_at(bytes: &[u8]) -> Option<i16> {
    let entry = bytes.get(ENTRY_BYTES..)?;
    let push = match entry {
        _ if entry.starts_with(JUMP) => 6,
        _ if entry.starts_with(ENDBR64) => 4,
        _ => return None,
    };
    (entry.get(push) == Some(&PUSH_NUMBER)).then_some(push as i16 + 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(entries: &[[u8; 8]]) -> Vec<(u64, Rule)> {
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| entry.iter().copied().chain([0x90; 8]))
            .collect();
        rows(&Section {
            vaddr: 0x1000,
            bytes: bytes.into(),
        })
    }

    #[test]
    fn a_function_pieced_together_has_a_word_between_its_beginning_and_its_end() {
        let rows_of = |code: &[u8]| {
            let section = Section {
                vaddr: 0x1000,
                bytes: code.into(),
            };
            rows(&section)
        };
        let above_rsp = |bytes| Rule::from_register(CfaKind::Rsp, bytes);
        let body = [MAKE_ROOM, &[0xff, 0xd0], LEAVE].concat();
        assert_eq!(
            rows_of(&body),
            [
                (0x1000, above_rsp(8)),
                (0x1004, above_rsp(16)),
                (0x100a, above_rsp(8))
            ]
        );
        assert_eq!(rows_of(&[ENDBR64, &body].concat())[1].0, 0x1008);
        assert!(rows_of(&[MAKE_ROOM, &[0xc3]].concat()).is_empty());
        assert!(rows_of(LEAVE).is_empty() && rows_of(ENDBR64).is_empty());
    }

    #[test]
    fn each_layout_is_told_by_its_bytes() {
        const FIRST: [u8; 8] = [0xff, 0x35, 1, 0, 0, 0, 0xff, 0x25];
        let lazy = rows_of(&[FIRST, [0xff, 0x25, 1, 0, 0, 0, 0x68, 0]]);
        assert_eq!(lazy[1], (0x1006, Rule::from_register(CfaKind::Rsp, 24)));
        assert_eq!(lazy[2], (0x1010, Rule::from_other(CfaKind::Plt, 11, 0)));
        let marked = rows_of(&[FIRST, [0xf3, 0x0f, 0x1e, 0xfa, 0x68, 0, 0, 0]]);
        assert_eq!(marked[2].1, Rule::from_other(CfaKind::Plt, 9, 0));
        let bound = rows_of(&[[0xff, 0x25, 1, 0, 0, 0, 0x66, 0x90]]);
        assert_eq!(bound, [(0x1000, Rule::from_register(CfaKind::Rsp, 8))]);
        assert!(rows_of(&[[0x90; 8], [0x90; 8]]).is_empty());
        assert!(rows_of(&[FIRST]).is_empty());
        assert!(rows_of(&[]).is_empty());
    }
}
