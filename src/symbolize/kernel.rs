//! Names of kernel functions, from `/proc/kallsyms`, and where the kernel's code lies.
//!
//! In: addresses of the running kernel. Out: a function each, or the reason why there is none. The list is read once,
//! line by line, only when there is something to look up, and nothing of it is kept but what surrounds an address: it has
//! a hundred thousand lines and more.
//!
//! It has no sizes: a function ends where the next symbol begins, of whatever kind. The last one of the kernel, of a
//! module or of a BPF program reaches no further than [`MAX_LAST_FUNCTION_BYTES`]: what lies in a gap has no name. Where
//! addresses are hidden, frames keep them raw.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use crate::profile::{ElfAddr, Unresolved};

use super::demangle::demangle;
use super::{Found, FoundFunction};

const LIST: &str = "/proc/kallsyms";

/// How far into the list one has to look to know whether addresses are hidden: hidden ones are all zero.
const LINES_TO_CHECK: usize = 100;

/// A longer list is cut. With all symbols and modules of a distribution's kernel it has about 15 MB.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// How far a function may reach that no symbol follows. The largest ones are interpreters and generated tables of
/// state machines; most have a few hundred bytes.
const MAX_LAST_FUNCTION_BYTES: u64 = 64 << 10;

/// Whether and how the kernel can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelNames {
    Visible,
    /// `kernel.kptr_restrict` or a missing CAP_SYSLOG makes all addresses zero.
    Hidden,
}

impl KernelNames {
    pub fn inspect() -> KernelNames {
        let Ok(file) = File::open(LIST) else {
            return KernelNames::Hidden;
        };
        let shows_address = |line: &String| !line.starts_with("0000000000000000");
        let lines = BufReader::new(file).lines().take(LINES_TO_CHECK);
        if lines.map_while(Result::ok).any(|line| shows_address(&line)) {
            KernelNames::Visible
        } else {
            KernelNames::Hidden
        }
    }

    /// One result for each address, in order. `early` was read a while ago; code that is newer is looked up anew.
    pub(super) fn look_up(self, addrs: &[ElfAddr], early: Option<&EarlyList>) -> Vec<Found> {
        if self == KernelNames::Hidden {
            return vec![Found::Nothing(Unresolved::KernelHidden); addrs.len()];
        }
        let mut found = match early {
            Some(EarlyList(text)) => look_up(&text[..], addrs),
            None => vec![Found::Nothing(Unresolved::NoSymbol); addrs.len()],
        };
        let unknown = |found: &Found| matches!(found, Found::Nothing(_));
        if found.iter().any(unknown)
            && let Ok(file) = File::open(LIST)
        {
            found = look_up(file.take(MAX_LIST_BYTES), addrs);
        }
        found
    }
}

/// The list as it was while recording: writing it takes the kernel longer than reading it takes us.
#[derive(Debug)]
pub(super) struct EarlyList(Vec<u8>);

/// A longer list is not kept.
const MAX_EARLY_BYTES: u64 = 32 << 20;

impl EarlyList {
    pub fn read() -> Option<EarlyList> {
        let mut text = Vec::new();
        let file = File::open(LIST).ok()?;
        file.take(MAX_EARLY_BYTES).read_to_end(&mut text).ok()?;
        ((text.len() as u64) < MAX_EARLY_BYTES).then_some(EarlyList(text))
    }
}

/// The same in any list.
fn look_up(list: impl Read, addrs: &[ElfAddr]) -> Vec<Found> {
    let mut around = Around::new(addrs);
    let mut reader = BufReader::new(list);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        if let Some(symbol) = Symbol::of(&line) {
            around.add(&symbol);
        }
        line.clear();
    }
    around.spread();
    addrs.iter().map(|addr| around.found(addr.0)).collect()
}

/// A line of the list: `ffffffff81000010 t name`, behind a tab `[module]`.
///
/// Source: proc(5); the kinds are those of nm(1).
struct Symbol<'a> {
    addr: u64,
    kind: u8,
    /// The rest of the line, of which few are read.
    names: &'a [u8],
}

impl<'a> Symbol<'a> {
    fn of(line: &'a [u8]) -> Option<Symbol<'a>> {
        let (addr, rest) = line.split_at_checked(line.iter().position(|c| *c == b' ')?)?;
        let [b' ', kind, b' ', names @ ..] = rest else {
            return None;
        };
        let addr = std::str::from_utf8(addr).ok()?;
        Some(Symbol {
            addr: u64::from_str_radix(addr, 16).ok()?,
            kind: *kind,
            names,
        })
    }

    /// The symbol's name, and its module's, empty for the kernel itself.
    fn names(&self) -> (Cow<'a, str>, Cow<'a, str>) {
        let line = self.names.trim_ascii_end();
        let (name, module) = match line.iter().position(|c| *c == b'\t') {
            Some(tab) => (&line[..tab], &line[tab + 1..]),
            None => (line, &[][..]),
        };
        let module = module.strip_prefix(b"[").unwrap_or(module);
        let module = module.strip_suffix(b"]").unwrap_or(module);
        (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(module),
        )
    }

    fn is_code(&self) -> bool {
        matches!(self.kind, b't' | b'T' | b'w' | b'W')
    }

    /// Of several names for one address, the one to show: marks of the linker's (`_stext`, `__entry_text_start`) and
    /// aliases begin with underscores, and what others may call is better known than what they may not.
    fn rank(&self) -> Rank {
        let underscores = self.names.iter().take_while(|c| **c == b'_').count();
        let is_local = self.kind.is_ascii_lowercase();
        (!self.is_code(), underscores, is_local, self.names.len())
    }
}

/// Whether it is data; underscores in front; whether it is local; its length.
type Rank = (bool, usize, bool, usize);

/// What was found at or below an address so far.
#[derive(Clone, Debug)]
struct Below {
    addr: u64,
    rank: Rank,
    name: String,
    module: String,
}

/// The symbols around each address.
struct Around {
    /// Sorted, each once.
    addrs: Vec<u64>,
    /// The highest symbol that is not above the address of the same place, but above the one before.
    below: Vec<Option<Below>>,
    /// The lowest symbol that is above the address of the same place, but not above the next.
    above: Vec<u64>,
}

impl Around {
    fn new(addrs: &[ElfAddr]) -> Around {
        let mut addrs: Vec<u64> = addrs.iter().map(|addr| addr.0).collect();
        addrs.sort_unstable();
        addrs.dedup();
        Around {
            below: vec![None; addrs.len()],
            above: vec![u64::MAX; addrs.len()],
            addrs,
        }
    }

    fn add(&mut self, symbol: &Symbol) {
        let next = self.addrs.partition_point(|addr| *addr < symbol.addr);
        if let Some(before) = next.checked_sub(1) {
            self.above[before] = self.above[before].min(symbol.addr);
        }
        let Some(slot) = self.below.get_mut(next) else {
            return;
        };
        let best = slot.as_ref().map(|best| (best.addr, best.rank));
        if best.is_some_and(|(addr, _)| symbol.addr < addr) {
            return;
        }
        let rank = symbol.rank();
        if best.is_none_or(|(addr, best)| symbol.addr > addr || rank < best) {
            let (name, module) = symbol.names();
            *slot = Some(Below {
                addr: symbol.addr,
                rank,
                name: name.into_owned(),
                module: module.into_owned(),
            });
        }
    }

    /// Where no symbol lies between two addresses, they have the same neighbours.
    fn spread(&mut self) {
        for ix in 1..self.addrs.len() {
            if self.below[ix].is_none() {
                self.below[ix] = self.below[ix - 1].clone();
            }
        }
        for ix in (1..self.addrs.len()).rev() {
            self.above[ix - 1] = self.above[ix - 1].min(self.above[ix]);
        }
    }

    fn found(&self, addr: u64) -> Found {
        let nothing = Found::Nothing(Unresolved::NoSymbol);
        let Ok(ix) = self.addrs.binary_search(&addr) else {
            return nothing;
        };
        match &self.below[ix] {
            Some(symbol) if !symbol.rank.0 && self.reaches(symbol, ix) => {
                Found::Functions(vec![function(symbol)])
            }
            _ => nothing,
        }
    }

    /// Symbols are dense where there is code: the next one stands behind a function, unless that is the last.
    fn reaches(&self, symbol: &Below, ix: usize) -> bool {
        let distance = self.addrs[ix] - symbol.addr;
        let is_inner = symbol.module.is_empty() && self.above[ix] != u64::MAX;
        is_inner || distance < MAX_LAST_FUNCTION_BYTES
    }
}

/// What is no module, though it stands in its place.
const NO_MODULES: [&str; 3] = ["bpf", "__builtin__ftrace", "__builtin__kprobes"];

fn function(symbol: &Below) -> FoundFunction {
    let name = demangle(&symbol.name);
    let has_module = !symbol.module.is_empty() && !NO_MODULES.contains(&symbol.module.as_str());
    FoundFunction {
        name: match has_module {
            true => format!("{name} [{}]", symbol.module),
            false => name,
        },
        linkage_name: symbol.name.clone(),
        file: String::new(),
        line: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "\
ffffffff81000000 T _stext
ffffffff81000000 T first
ffffffff81000000 t __local_first
ffffffff81000100 t do_exit.cold
ffffffff81000200 t _RNvC6_123foo3bar
ffffffff81000300 T _etext
ffffffff81000400 R __start_rodata
ffffffff82000000 B _end
ffffffffc0200000 t ext4_write\t[ext4]
ffffffffc0200080 t ext4_read.isra.0\t[ext4]
ffffffffc0200090 d ext4_ops\t[ext4]
ffffffffc0301000 t bpf_prog_6deef7357e7b4530_egress\t[bpf]
nonsense
ffffffffc0400000
";

    fn name(list: &str, addr: u64) -> Option<String> {
        match &look_up(list.as_bytes(), &[ElfAddr(addr)])[0] {
            Found::Functions(functions) => Some(functions[0].name.clone()),
            Found::Nothing(_) => None,
        }
    }

    #[test]
    fn functions_end_where_the_next_symbol_begins_and_gaps_have_no_name() {
        let addrs = [
            (0xffff_ffff_80ff_ffff, None),
            (0xffff_ffff_8100_0000, Some("first")),
            (0xffff_ffff_8100_00ff, Some("first")),
            (0xffff_ffff_8100_0100, Some("do_exit.cold")),
            (0xffff_ffff_8100_0210, Some("123foo::bar")),
            (0xffff_ffff_8100_0450, None),
            (0xffff_ffff_8200_0010, None),
            (0xffff_ffff_c01f_ffff, None),
            (0xffff_ffff_c020_0010, Some("ext4_write [ext4]")),
            (0xffff_ffff_c020_0088, Some("ext4_read.isra.0 [ext4]")),
            (0xffff_ffff_c020_00a0, None),
            (
                0xffff_ffff_c030_1010,
                Some("bpf_prog_6deef7357e7b4530_egress"),
            ),
            (0xffff_ffff_c031_2000, None),
            (u64::MAX, None),
        ];
        for (addr, expected) in addrs {
            assert_eq!(name(KERNEL, addr).as_deref(), expected, "{addr:#x}");
        }
        // All at once, in another order and some twice, gives the same.
        let many: Vec<ElfAddr> = addrs
            .iter()
            .rev()
            .chain(&addrs)
            .map(|a| ElfAddr(a.0))
            .collect();
        let found = look_up(KERNEL.as_bytes(), &many);
        for ((addr, expected), found) in addrs.iter().rev().chain(&addrs).zip(&found) {
            let is_named =
                matches!(found, Found::Functions(f) if Some(f[0].name.as_str()) == *expected);
            assert!(is_named == expected.is_some(), "{addr:#x} {found:?}");
        }
    }

    #[test]
    fn hidden_addresses_are_said_to_be_hidden() {
        let found = KernelNames::Hidden.look_up(&[ElfAddr(1)], None);
        assert_eq!(found, [Found::Nothing(Unresolved::KernelHidden)]);
    }

    #[test]
    fn every_function_of_the_running_kernel_has_the_name_in_its_list() {
        if KernelNames::inspect() == KernelNames::Hidden {
            return;
        }
        let list = std::fs::read_to_string(LIST).expect("readable");
        let symbols: Vec<Symbol> = list
            .lines()
            .filter_map(|l| Symbol::of(l.as_bytes()))
            .collect();
        let code: Vec<&Symbol> = symbols.iter().filter(|s| s.is_code()).step_by(97).collect();
        let addrs: Vec<ElfAddr> = code.iter().map(|s| ElfAddr(s.addr)).collect();
        for (symbol, found) in code.iter().zip(KernelNames::Visible.look_up(&addrs, None)) {
            let Found::Functions(functions) = found else {
                panic!("{:#x} is not found", symbol.addr);
            };
            let named = functions[0].linkage_name.as_str();
            let is_it = |s: &Symbol| s.addr == symbol.addr && s.names().0 == named;
            assert!(symbols.iter().any(is_it), "{:#x} {named}", symbol.addr);
        }
    }
}
