//! Unwind tables say what the file says: at every address, and nothing where it says nothing.
//!
//! The truth is gimli's own interpreter and its evaluation of expressions, on a machine of made-up memory.

mod hand_made;
mod machine;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindContext, UnwindSection};
use perfprof::profile::{ElfAddr, MappingKind};
use perfprof::target::binaries::Binaries;
use perfprof::target::binary::{Binary, Segment};
use perfprof::target::mappings::Region;
use perfprof::unwind::UnwindTable;
use perfprof::unwind::row::{CfaKind, Rule};

use crate::support::need::skip;
use machine::{Caller, by_row, by_rule};

/// Gaps between functions are looked at this far from either end.
const GAP_BYTES: u64 = 4096;

/// What a comparison found.
#[derive(Debug, Default)]
struct Compared {
    functions: usize,
    addresses: u64,
    /// Addresses for which the file has a rule and the table has none.
    without_rule: u64,
    /// Addresses at which only the frame pointer is lost.
    without_frame_pointer: u64,
    /// Addresses between functions.
    between: u64,
    /// Functions whose program gimli cannot run.
    not_run: usize,
    overlapping: usize,
}

fn open(path: &Path) -> Binary {
    let file = File::open(path).expect("opened");
    let name = path.display().to_string();
    let binary = Binary::read(0, MappingKind::File, name, file, None);
    assert_eq!(binary.problem, None, "{}", path.display());
    binary
}

fn is_code(segment: &Segment, addr: u64) -> bool {
    segment.executable && (segment.vaddr..segment.vaddr + segment.memory_bytes).contains(&addr)
}

/// Procedure linkage tables have rules also where the file says none.
fn is_stub(binary: &Binary, addr: u64) -> bool {
    let mut tables = binary.unwind.stubs.iter();
    tables.any(|table| (table.vaddr..table.vaddr + table.bytes.len() as u64).contains(&addr))
}

/// Compares a table with gimli's rows at every `step`th address of every function.
fn compare(binary: &Binary, table: &UnwindTable, step: usize) -> Compared {
    let mut found = Compared::default();
    let mut extents = extents(binary);
    extents.sort_unstable();
    extents.dedup_by_key(|extent| extent.0);
    let mut context = UnwindContext::new();
    for (ix, &(_, end, section, offset)) in extents.iter().enumerate() {
        let next = extents.get(ix + 1).map_or(u64::MAX, |extent| extent.0);
        found.overlapping += usize::from(next < end);
        found.functions += 1;
        let section = &binary.unwind.eh_frame[section];
        let bases = bases(binary, section.vaddr);
        let eh_frame = EhFrame::new(&section.bytes, LittleEndian);
        let entry = eh_frame
            .fde_from_offset(&bases, offset.into(), EhFrame::cie_from_offset)
            .expect("listed before");
        let mut rows = entry
            .rows(&eh_frame, &bases, &mut context)
            .expect("a sound common entry");
        loop {
            let row = match rows.next_row() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(_) => {
                    found.not_run += 1;
                    break;
                }
            };
            let until = row.end_address().min(end).min(next);
            let mut last: Option<(Rule, Caller)> = None;
            for pc in (row.start_address()..until).step_by(step) {
                found.addresses += 1;
                let rule = table.look_up(ElfAddr(pc));
                let ours = by_rule(rule, pc);
                let theirs = match last {
                    Some((former, theirs)) if former == rule && rule.cfa != CfaKind::Plt => theirs,
                    _ => by_row(row, &eh_frame, pc),
                };
                last = Some((rule, theirs));
                agree(&mut found, ours, theirs)
                    .unwrap_or_else(|()| panic!("{pc:#x}: {rule:?}: {ours:x?}, not {theirs:x?}"));
            }
        }
        for pc in (end..next.min(end + GAP_BYTES)).step_by(step) {
            if is_stub(binary, pc) {
                continue;
            }
            found.between += 1;
            assert_eq!(table.look_up(ElfAddr(pc)), Rule::NONE, "{pc:#x}");
        }
    }
    let first = extents.first().map_or(0, |extent| extent.0);
    for pc in (first.saturating_sub(GAP_BYTES)..first).filter(|pc| !is_stub(binary, *pc)) {
        assert_eq!(table.look_up(ElfAddr(pc)), Rule::NONE, "{pc:#x}");
    }
    found
}

fn agree(found: &mut Compared, ours: Caller, theirs: Caller) -> Result<(), ()> {
    match (ours, theirs) {
        _ if ours == theirs => {}
        (Caller::None, Caller::Frame { .. }) => found.without_rule += 1,
        (
            Caller::Frame { ip, sp, bp: None },
            Caller::Frame {
                ip: their_ip,
                sp: their_sp,
                ..
            },
        ) if (ip, sp) == (their_ip, their_sp) => found.without_frame_pointer += 1,
        _ => return Err(()),
    }
    Ok(())
}

fn bases(binary: &Binary, eh_frame: u64) -> BaseAddresses {
    BaseAddresses::default()
        .set_eh_frame(eh_frame)
        .set_text(binary.unwind.text.map_or(0, |(start, _)| start))
}

/// Start, end, section and offset of every function with rules.
fn extents(binary: &Binary) -> Vec<(u64, u64, usize, usize)> {
    let mut extents = Vec::new();
    for (ix, section) in binary.unwind.eh_frame.iter().enumerate() {
        let bases = bases(binary, section.vaddr);
        let eh_frame = EhFrame::new(&section.bytes, LittleEndian);
        let mut entries = eh_frame.entries(&bases);
        while let Some(entry) = entries.next().expect("a sound section") {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let entry = partial.parse(EhFrame::cie_from_offset).expect("sound");
            let (start, end) = (entry.initial_address(), entry.end_address());
            if start < end
                && binary
                    .segments
                    .iter()
                    .any(|segment| is_code(segment, start))
            {
                extents.push((start, end, ix, entry.offset()));
            }
        }
    }
    extents
}

/// A table that says all the file says.
fn check(binary: &Binary, step: usize) {
    let table = UnwindTable::of(binary);
    let found = compare(binary, &table, step);
    let gaps: Vec<_> = table.gaps().iter().collect();
    eprintln!(
        "{}: {} rows, {} rules, {} bytes; {found:?}; {gaps:?}",
        binary.path,
        table.rows().len(),
        table.rules().len(),
        table.bytes(),
    );
    assert!(found.functions > 0 && found.addresses > 0);
    assert_eq!(
        table.functions(),
        found.functions,
        "each function has its rows"
    );
    let lost = found.without_rule + found.without_frame_pointer;
    assert!(lost == 0 || !gaps.is_empty(), "{found:?}");
    assert!(
        lost * 1000 <= found.addresses,
        "more than one address in 1000 lost its rule: {found:?}, {gaps:?}"
    );
}

fn check_installed(need: &str, path: Option<PathBuf>, step: usize) {
    match path.filter(|path| path.exists()) {
        Some(path) => check(&open(&path), step),
        None => skip(need, "not installed"),
    }
}

/// The library that this process has mapped.
fn mapped(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
    let mut paths = maps.lines().filter_map(Region::parse).map(|r| r.path);
    paths.find(|path| path.contains(name)).map(PathBuf::from)
}

/// The first entry of a folder whose name begins so, continued by `rest`.
fn in_folder(folder: &Path, begins: &str, rest: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(begins))
        .map(|entry| {
            if rest.is_empty() {
                entry.path()
            } else {
                entry.path().join(rest)
            }
        })
        .find(|path| path.exists())
}

#[test]
fn libc_is_unwound_as_gimli_says_at_every_address() {
    check_installed("libc", mapped("libc.so"), 1);
}

#[test]
fn the_dynamic_linker_is_unwound_as_gimli_says_at_every_address() {
    check_installed("ld.so", mapped("ld-linux"), 1);
}

#[test]
fn libstdcxx_is_unwound_as_gimli_says_at_every_address() {
    let path = mapped("libc.so").map(|path| path.with_file_name("libstdc++.so.6"));
    check_installed("libstdc++", path, 1);
}

#[test]
fn python_is_unwound_as_gimli_says_at_every_address() {
    check_installed("python3", Some("/usr/bin/python3".into()), 1);
}

#[test]
fn postgres_is_unwound_as_gimli_says_at_every_address() {
    let path = in_folder(Path::new("/usr/lib/postgresql"), "", "bin/postgres");
    check_installed("postgres", path, 1);
}

#[test]
fn the_vdso_is_unwound_as_gimli_says_at_every_address() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("own maps");
    let vdso = maps
        .lines()
        .filter_map(Region::parse)
        .find(|region| region.path == "[vdso]");
    let Some(region) = vdso else {
        skip("vdso", "this process has none");
        return;
    };
    let binary: Arc<Binary> = Binaries::new().of_region(std::process::id(), &region);
    check(&binary, 1);
}

/// 100 million addresses: without optimization every 7th of them.
#[test]
fn the_rust_compiler_is_unwound_as_gimli_says() {
    let step = if cfg!(debug_assertions) { 7 } else { 1 };
    let root = Command::new("rustc").args(["--print", "sysroot"]).output();
    let driver = root.ok().and_then(|output| {
        let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        in_folder(&root.join("lib"), "librustc_driver", "")
    });
    check_installed("rustc", driver, step);
}
