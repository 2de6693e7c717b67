//! Names from symbol tables.
//!
//! In: the addresses that were sampled. Out: the symbol that covers each. Nothing is sorted or kept: one pass over the
//! table asks of each symbol which of the (few) addresses it covers, so that a million symbols cost some milliseconds
//! and no memory.

use object::LittleEndian;
use object::elf::{STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};
use object::read::elf::{Sym, SymbolTable};

use super::image::Image;

/// A symbol without a size is hand-written assembly; beyond this it would claim code that is not its own.
const SIZELESS_REACH_BYTES: u64 = 4096;

/// A longer name is not read.
const MAX_NAME_BYTES: usize = 64 << 10;

/// The symbol an address belongs to, as far as the pass has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// The nearest beginning wins, then the best rank; then the first in the table.
    start: u64,
    rank: u8,
    /// Offset of the name in the string table.
    name: u32,
    sized: bool,
}

/// The symbol that covers each of `addrs` (ascending), by the tables of one file.
pub(super) fn look_up(image: &Image, addrs: &[u64]) -> Vec<Option<&'static str>> {
    let mut names = in_table(image.elf.elf_symbol_table(), addrs);
    if names.iter().any(Option::is_none) {
        let dynamic = in_table(image.elf.elf_dynamic_symbol_table(), addrs);
        for (name, other) in names.iter_mut().zip(dynamic) {
            *name = name.or(other);
        }
    }
    names
}

type Table = SymbolTable<'static, object::elf::FileHeader64<LittleEndian>, &'static [u8]>;

fn in_table(table: &Table, addrs: &[u64]) -> Vec<Option<&'static str>> {
    let mut best: Vec<Option<Candidate>> = vec![None; addrs.len()];
    // The last beginning of any symbol at or before each address: code behind it is not an earlier one's.
    let mut nearest = vec![0; addrs.len()];
    for symbol in table.iter() {
        if !is_code(symbol) {
            continue;
        }
        let (start, size) = (symbol.st_value(LittleEndian), symbol.st_size(LittleEndian));
        let reach = if size > 0 { size } else { SIZELESS_REACH_BYTES };
        let end = start.saturating_add(reach);
        let found = Candidate {
            start,
            rank: rank(symbol),
            name: symbol.st_name(LittleEndian),
            sized: size > 0,
        };
        let from = addrs.partition_point(|addr| *addr < start);
        if let Some(nearest) = nearest.get_mut(from) {
            *nearest = start.max(*nearest);
        }
        for ix in from..addrs.len() {
            if addrs[ix] >= end {
                break;
            }
            let better = best[ix].is_none_or(|best| {
                (found.sized, found.start, found.rank) > (best.sized, best.start, best.rank)
            });
            if better {
                best[ix] = Some(found);
            }
        }
    }
    let mut last = 0;
    for nearest in &mut nearest {
        last = last.max(*nearest);
        *nearest = last;
    }
    let name = |(candidate, nearest): (Option<Candidate>, u64)| {
        let candidate = candidate.filter(|c| c.sized || c.start == nearest)?;
        text(table, candidate.name)
    };
    best.into_iter().zip(nearest).map(name).collect()
}

/// Whether it may name code: a function, or a label of hand-written assembly.
fn is_code(symbol: &object::elf::Sym64<LittleEndian>) -> bool {
    let kind = symbol.st_type();
    let section = symbol.st_shndx(LittleEndian);
    let defined = section != object::elf::SHN_UNDEF && section != object::elf::SHN_ABS;
    let code = kind == STT_FUNC || kind == STT_GNU_IFUNC || kind == STT_NOTYPE;
    defined && code && symbol.st_name(LittleEndian) != 0
}

/// Of several names for one place: functions before labels, and what is known outside the file before what is not.
fn rank(symbol: &object::elf::Sym64<LittleEndian>) -> u8 {
    let function = u8::from(symbol.st_type() != STT_NOTYPE) * 4;
    function
        + match symbol.st_bind() {
            STB_GLOBAL => 2,
            STB_WEAK => 1,
            _ => 0,
        }
}

fn text(table: &Table, offset: u32) -> Option<&'static str> {
    let bytes = table.strings().get(offset).ok()?;
    if bytes.is_empty() || bytes.len() > MAX_NAME_BYTES {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}
