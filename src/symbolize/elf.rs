//! Names from ELF symbol tables and DWARF, by blazesym, through the descriptor opened at first sight.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use crate::profile::{ElfAddr, MappingKind, Unresolved};
use crate::target::binary::{Binary, Problem};

use super::demangle::demangle;
use super::{Found, FoundFunction};

/// A symbol without a size is hand-written assembly; beyond this it would claim code that is not its own.
const SIZELESS_REACH_BYTES: usize = 4096;

/// Looks up addresses of one binary; one result each, in order.
pub(super) fn look_up(symbolizer: &Symbolizer, binary: &Binary, addrs: &[ElfAddr]) -> Vec<Found> {
    let all = |reason| vec![Found::Nothing(reason); addrs.len()];
    let Some(file) = &binary.file else {
        return all(reason_without_file(binary));
    };
    // The link leads to the very file that was mapped, even if it has been deleted since.
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mut elf = Elf::new(path);
    elf.debug_syms = binary.debug_info_stays_within;
    let source = Source::Elf(elf);
    let offsets: Vec<u64> = addrs.iter().map(|addr| addr.0).collect();
    match symbolizer.symbolize(&source, Input::VirtOffset(&offsets)) {
        Ok(results) => results.iter().map(found).collect(),
        Err(_) => all(Unresolved::BadFile),
    }
}

fn reason_without_file(binary: &Binary) -> Unresolved {
    match (&binary.problem, binary.kind) {
        (Some(Problem::Malformed(_)), _) => Unresolved::BadFile,
        (None, MappingKind::Anonymous) => Unresolved::Jit,
        _ => Unresolved::FileGone,
    }
}

/// What blazesym says, unless it claims more than the symbol covers.
pub(super) fn found(result: &Symbolized) -> Found {
    match result.as_sym() {
        Some(sym) if covers(sym) => Found::Functions(functions(sym)),
        _ => Found::Nothing(Unresolved::NoSymbol),
    }
}

/// A function that debug information gives several ranges (its rarely used part lies elsewhere) was looked up by them;
/// blazesym then tells no beginning and no size.
fn covers(sym: &Sym) -> bool {
    let by_ranges = sym.addr == 0 && sym.size.is_none() && sym.code_info.is_some();
    by_ranges
        || sym.offset
            < sym
                .size
                .filter(|size| *size > 0)
                .unwrap_or(SIZELESS_REACH_BYTES)
}

/// Innermost first; blazesym lists inlined functions outermost first.
fn functions(sym: &Sym) -> Vec<FoundFunction> {
    let inlined = sym
        .inlined
        .iter()
        .rev()
        .map(|f| function(&f.name, f.code_info.as_ref()));
    inlined
        .chain([function(&sym.name, sym.code_info.as_deref())])
        .collect()
}

fn function(linkage_name: &str, code: Option<&CodeInfo>) -> FoundFunction {
    FoundFunction {
        name: demangle(linkage_name),
        linkage_name: linkage_name.to_owned(),
        file: code.map_or_else(String::new, |code| {
            code.to_path().to_string_lossy().into_owned()
        }),
        line: code.and_then(|code| code.line).unwrap_or(0),
    }
}
