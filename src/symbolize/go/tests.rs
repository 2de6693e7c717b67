//! Tables of releases that are not at hand any more, made by hand, and damaged ones.

use super::*;

/// A table as Go 1.15 (`Version::Go12`) or 1.17 wrote it, made by hand: `main.f` from 0x1000 on, whose first 16 bytes
/// are line 7 and the next line 9, and `main.g` from 0x1020 to 0x1030, line 3, all in `/src/a.go`.
fn by_hand(version: Version) -> Vec<u8> {
    let old = version == Version::Go12;
    let header = if old { 16 } else { 8 + 7 * WORD };
    let mut bytes = vec![if old { 0xfb } else { 0xfa }];
    bytes.extend(HEADER_TAIL);
    bytes.extend(2u64.to_le_bytes());
    bytes.resize(header, 0);
    // Up to 1.15 everything counts from the beginning of the table; the list of functions comes first.
    let list = bytes.len();
    bytes.resize(list + 5 * WORD + 4, 0);
    let mut place = |contents: &[u8]| {
        let at = bytes.len();
        bytes.extend(contents);
        at as u32
    };
    let names = place(b"main.f\0main.g\0/src/a.go\0");
    let pc_tables = place(&[0, 0]);
    let [line_f, line_g, file] = [
        // -1 + 8, then + 2; -1 + 4; the first file has number 1 up to 1.15, else 0.
        place(&[16, 16, 4, 16, 0]),
        place(&[8, 16, 0]),
        place(&[if old { 4 } else { 2 }, 32, 0]),
    ];
    let files = place(&[]);
    match old {
        true => [2, names + 14].iter().for_each(|word| {
            place(&word.to_le_bytes());
        }),
        false => {
            place(b"/src/a.go\0\0\0");
        }
    }
    let units = place(&0u32.to_le_bytes());
    let base = if old { 0 } else { list as u32 };
    let pc_base = if old { 0 } else { pc_tables };
    let name_base = if old { names } else { 0 };
    let mut funcs = Vec::new();
    for (entry, name, line) in [(0x1000u64, 0, line_f), (0x1020, 7, line_g)] {
        funcs.push((entry, place(&entry.to_le_bytes()) - base));
        for word in [
            name_base + name,
            0,
            0,
            0,
            file - pc_base,
            line - pc_base,
            0,
            0,
            0,
        ] {
            place(&u32::to_le_bytes(word));
        }
    }
    let mut set = |at: usize, word: u64| bytes[at..at + WORD].copy_from_slice(&word.to_le_bytes());
    for (ix, (entry, offset)) in funcs.into_iter().enumerate() {
        set(list + 2 * ix * WORD, entry);
        set(list + (2 * ix + 1) * WORD, offset.into());
    }
    set(list + 4 * WORD, 0x1030);
    let parts = [names, units, files, pc_tables, list as u32];
    if !old {
        (0..)
            .zip(parts)
            .for_each(|(ix, part)| set(8 + (2 + ix) * WORD, part.into()));
    }
    let fileoff = list + 5 * WORD;
    bytes[fileoff..fileoff + 4].copy_from_slice(&files.to_le_bytes());
    bytes
}

#[test]
fn tables_of_older_releases_are_read() {
    for version in [Version::Go12, Version::Go116] {
        let table = GoTable::of(by_hand(version), 0).expect("a table");
        assert_eq!(table.version(), version);
        for (addr, expected) in [
            (0x0fff, None),
            (0x1000, Some(("main.f", 7))),
            (0x100f, Some(("main.f", 7))),
            (0x1010, Some(("main.f", 9))),
            (0x1020, Some(("main.g", 3))),
            (0x102f, Some(("main.g", 3))),
            (0x1030, None),
        ] {
            let found = table.look_up(ElfAddr(addr)).map(|mut found| {
                let function = found.pop().expect("never empty");
                assert_eq!((found.len(), function.file.as_str()), (0, "/src/a.go"));
                (function.name, function.line)
            });
            let expected = expected.map(|(name, line)| (name.to_owned(), line));
            assert_eq!(found, expected, "{version:?} {addr:#x}");
        }
    }
}

#[test]
fn any_byte_of_a_table_may_be_anything() {
    for version in [Version::Go12, Version::Go116] {
        let whole = by_hand(version);
        for at in 0..whole.len() {
            for change in [1, 0x7f, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = damaged[at].wrapping_add(change);
                let Ok(table) = GoTable::of(damaged, 0) else {
                    continue;
                };
                (0x0ff0..0x1040).for_each(|addr| drop(table.look_up(ElfAddr(addr))));
            }
            let Ok(table) = GoTable::of(whole[..at].to_vec(), 0) else {
                continue;
            };
            (0x0ff0..0x1040).for_each(|addr| drop(table.look_up(ElfAddr(addr))));
        }
    }
}
