//! Functions without unwind information that keep a frame pointer all the same, and functions whose unwind information
//! does not say that they change stacks.
//!
//! In: the symbol table and the code of a file. Out: whether the function at an address begins by making a frame, or is
//! one whose generator promises it. Then the frame pointer leads from a return address in it to its very caller, and
//! crossing it skips nobody.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol, ReadCache, SymbolKind};

use crate::arch::{ENDBR64, PROLOGUES};
use crate::profile::ElfAddr;

use super::binary::Segment;

/// More symbols than this are not listed: Chromium has about a million.
const MAX_SYMBOLS: usize = 4 << 20;

/// V8's built-in functions: each has a frame, or runs in the frame of the one that jumped to it.
/// Source: V8, `src/codegen/x64/macro-assembler-x64.h`, `EnterFrame`.
const V8_BUILTIN: &[u8] = b"Builtins_";

/// How a function of Go's runtime changes from a goroutine's stack to the thread's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackSwitch {
    /// For a call; its frame stays on the goroutine's stack.
    ForCall,
    /// For good: what follows is the scheduler's own work.
    ForGood,
}

/// Functions of Go's runtime that change stacks and do not say so in their unwind information.
/// Source: Go, `src/runtime/{sys_linux,time_linux,asm}_amd64.s`.
const GO_SWITCHERS: [(&str, StackSwitch); 8] = [
    ("time.now", StackSwitch::ForCall),
    ("time.now.abi0", StackSwitch::ForCall),
    ("runtime.nanotime1", StackSwitch::ForCall),
    ("runtime.nanotime1.abi0", StackSwitch::ForCall),
    ("runtime.walltime", StackSwitch::ForCall),
    ("runtime.walltime.abi0", StackSwitch::ForCall),
    ("runtime.morestack", StackSwitch::ForGood),
    ("runtime.morestack.abi0", StackSwitch::ForGood),
];

/// A function by its symbol.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u64,
    end: u64,
    promised: bool,
    switches: Option<StackSwitch>,
}

/// The functions of one file, listed when first asked for.
#[derive(Debug, Default)]
pub(super) struct FramedFunctions(OnceLock<Vec<Extent>>);

impl FramedFunctions {
    fn extents(&self, file: &File) -> &[Extent] {
        self.0.get_or_init(|| list(file).unwrap_or_default())
    }

    /// Where functions begin that change stacks.
    pub fn stack_switchers(&self, file: &File) -> HashMap<ElfAddr, StackSwitch> {
        let extents = self.extents(file).iter();
        extents
            .filter_map(|extent| Some((ElfAddr(extent.start), extent.switches?)))
            .collect()
    }

    /// Whether the function at `addr` keeps a frame pointer.
    pub fn holds(&self, file: &File, segments: &[Segment], addr: ElfAddr) -> bool {
        let extents = self.extents(file);
        let after = extents.partition_point(|extent| extent.start <= addr.0);
        let found = after.checked_sub(1).map(|ix| extents[ix]);
        found.is_some_and(|extent| {
            addr.0 < extent.end && (extent.promised || makes_frame(file, segments, extent.start))
        })
    }
}

fn list(file: &File) -> Result<Vec<Extent>, object::Error> {
    let cache = ReadCache::new(file);
    let elf = ElfFile64::<Endianness, _>::parse(&cache)?;
    let mut extents: Vec<Extent> = elf
        .symbols()
        .chain(elf.dynamic_symbols())
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .take(MAX_SYMBOLS)
        .map(|symbol| Extent {
            start: symbol.address(),
            end: symbol.address().saturating_add(symbol.size()),
            promised: symbol
                .name_bytes()
                .is_ok_and(|name| name.starts_with(V8_BUILTIN)),
            switches: symbol.name().ok().and_then(stack_switch),
        })
        .collect();
    extents.sort_unstable_by_key(|extent| extent.start);
    Ok(extents)
}

fn stack_switch(name: &str) -> Option<StackSwitch> {
    let found = GO_SWITCHERS.iter().find(|(known, _)| *known == name);
    found.map(|(_, switch)| *switch)
}

fn makes_frame(file: &File, segments: &[Segment], start: u64) -> bool {
    let mut code = [0; 8];
    let segment = segments
        .iter()
        .find(|s| s.executable && start >= s.vaddr && start - s.vaddr < s.file_bytes);
    let Some(offset) = segment.and_then(|s| s.file_offset.checked_add(start - s.vaddr)) else {
        return false;
    };
    if file.read_exact_at(&mut code, offset).is_err() {
        return false;
    }
    let code = code.strip_prefix(ENDBR64).unwrap_or(&code);
    PROLOGUES.iter().any(|prologue| code.starts_with(prologue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::MappingKind;
    use crate::target::binary::Binary;
    use std::process::Command;

    const SOURCE: &str = "
        .text
        .globl framed, bare
        .type framed, @function
        framed: push %rbp; mov %rsp,%rbp; call *%rax; pop %rbp; ret
        .size framed, . - framed
        .type bare, @function
        bare: sub $8,%rsp; call *%rax; add $8,%rsp; ret
        .size bare, . - bare
        .type Builtins_Handler, @function
        Builtins_Handler: call *%rax; jmp *%rcx
        .size Builtins_Handler, . - Builtins_Handler
        .globl _start
        _start: hlt
    ";

    #[test]
    fn a_prologue_or_a_promise_is_a_frame_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("folder");
        let (source, output) = (folder.path().join("a.s"), folder.path().join("a"));
        std::fs::write(&source, SOURCE).expect("written");
        let built = Command::new("gcc")
            .args(["-nostdlib", "-static", "-o"])
            .args([&output, &source])
            .status();
        assert!(built.expect("gcc runs").success());
        let file = File::open(&output).expect("built");
        let binary = Binary::read(3, MappingKind::File, "/a".into(), file, None);
        let bytes = std::fs::read(&output).expect("built");
        let elf = ElfFile64::<Endianness>::parse(&*bytes).expect("an ELF file");
        let holds = |name: &str, offset| {
            let symbol = elf.symbol_by_name(name).expect("a symbol");
            binary.keeps_frame_pointer(ElfAddr(symbol.address() + offset))
        };
        assert!(holds("framed", 0) && holds("framed", 6));
        assert!(!holds("bare", 0) && !holds("bare", 5));
        assert!(holds("Builtins_Handler", 2));
        assert!(!holds("_start", 0), "it has no size");
        assert!(!Binary::anonymous(0).keeps_frame_pointer(ElfAddr(4)));
    }
}
