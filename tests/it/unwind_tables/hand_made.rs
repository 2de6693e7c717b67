//! Unwind tables of a library made for the purpose, and of files that somebody damaged.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use perfprof::profile::ElfAddr;
use perfprof::target::binary::Binary;
use perfprof::unwind::UnwindTable;
use perfprof::unwind::row::{CfaKind, RbpKind, Rule};

use super::{check, compare, mapped, open};
use crate::support::need::{Need, missing};

/// Compiles `fixtures/elf/odd_frames.c` with more flags.
fn odd_frames(flags: &[&str]) -> Binary {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/elf/odd_frames.c");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = folder.path().join("odd_frames.so");
    let gcc = Command::new("gcc")
        .args(["-O2", "-mavx2", "-shared", "-fPIC"])
        .args(flags)
        .arg(&source)
        .arg("-o")
        .arg(&library)
        .output()
        .expect("gcc runs");
    assert!(
        gcc.status.success(),
        "{}",
        String::from_utf8_lossy(&gcc.stderr)
    );
    open(&library)
}

fn has(table: &UnwindTable, what: impl Fn(&Rule) -> bool) -> bool {
    table.rules().iter().any(what)
}

#[test]
fn frames_of_unusual_layout_have_rules() {
    if missing(&[Need::Program("gcc")]) {
        return;
    }
    let binary = odd_frames(&[]);
    check(&binary, 1);
    let table = UnwindTable::of(&binary);
    assert_eq!(table.gaps().iter().count(), 0);
    let larger_than = |bytes: i32| {
        has(&table, |rule| {
            rule.cfa == CfaKind::Rsp && rule.full_cfa_offset() > bytes
        })
    };
    assert!(larger_than(65_536) && larger_than(4 << 20));
    assert!(has(&table, |rule| rule.cfa == CfaKind::Rbp));
    assert!(has(&table, |rule| rule.cfa == CfaKind::R10));
    assert!(has(&table, |rule| rule.cfa == CfaKind::DerefRbp
        && rule.rbp == RbpKind::AtRbp));
}

/// Without `.eh_frame` for its own functions, the file has `.debug_frame`.
#[test]
fn debug_frame_serves_where_eh_frame_is_silent() {
    if missing(&[Need::Program("gcc")]) {
        return;
    }
    let flags = [
        "-g",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
    ];
    let binary = odd_frames(&flags);
    let table = UnwindTable::of(&binary);
    assert!(binary.unwind.debug_frame.is_some());
    assert!(has(&table, |rule| rule.cfa == CfaKind::Rsp
        && rule.full_cfa_offset() > 65_536));
    assert!(has(&table, |rule| rule.cfa == CfaKind::DerefRbp));
}

fn with_eh_frame(original: &Binary, bytes: &[u8]) -> Binary {
    let mut binary = Binary::anonymous(0);
    binary.segments = original.segments.clone();
    binary.unwind = original.unwind.clone();
    binary.unwind.eh_frame[0].bytes = Arc::from(bytes);
    binary
}

/// A row costs at least a byte of the section, or is the first of a page.
fn is_bounded(binary: &Binary) {
    let bytes: usize = binary.unwind.eh_frame.iter().map(|s| s.bytes.len()).sum();
    let table = UnwindTable::of(binary);
    let pages = table.pages().len();
    assert!(table.rows().len() <= 2 * bytes + pages + 16, "{table:?}");
    for addr in (0..0x40_0000).step_by(0x1001) {
        table.look_up(ElfAddr(addr));
    }
}

#[test]
fn a_damaged_section_gives_a_table_and_never_a_panic() {
    let Some(path) = mapped("ld-linux") else {
        crate::support::need::skip("ld.so", "not mapped");
        return;
    };
    let original = open(&path);
    let sound = original.unwind.eh_frame[0].bytes.clone();
    for length in (0..sound.len()).step_by(97) {
        is_bounded(&with_eh_frame(&original, &sound[..length]));
    }
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..400 {
        let mut bytes = sound.to_vec();
        for _ in 0..32 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = random as usize % bytes.len();
            bytes[at] = (random >> 56) as u8;
        }
        is_bounded(&with_eh_frame(&original, &bytes));
    }
}

/// As BOLT and careless linkers leave it.
#[test]
fn functions_behind_a_terminator_and_in_a_second_section_count() {
    let Some(path) = mapped("ld-linux") else {
        crate::support::need::skip("ld.so", "not mapped");
        return;
    };
    let mut binary = open(&path);
    let expected = UnwindTable::of(&binary);
    let section = binary.unwind.eh_frame[0].clone();
    let mut shifted = vec![0; 8];
    shifted.extend_from_slice(&section.bytes);
    let mut behind = section.clone();
    behind.vaddr -= 8;
    behind.bytes = shifted.into();
    binary.unwind.eh_frame = vec![behind.clone()];
    assert_eq!(UnwindTable::of(&binary).rows(), expected.rows());
    binary.unwind.eh_frame = vec![section, behind];
    assert_eq!(UnwindTable::of(&binary).rows(), expected.rows());
    compare(&open(&path), &expected, 1);
}
