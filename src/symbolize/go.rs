//! Functions, inlined functions, files and lines of Go programs, from the table that their runtime needs to print
//! panics, and that `-ldflags="-s -w"` and `strip` leave in place.
//!
//! In: the bytes of the table (`.gopclntab`), and where they are known those of the inlining trees; `go/file.rs`
//! finds both in a file. Out: the functions at an address. The bytes come from a file that anyone may have made: every
//! offset is checked, every walk has a bound, and an address for which the table makes no sense has no name.
//!
//! How it is built: after a header come a list of functions by address, and pools of names, files and "pc tables": a
//! value (line, file, index into the tree of what was inlined) for each address of a function, as pairs of differences.
//! Where something was inlined, line and file are those of the innermost function; its place in the tree tells an
//! address in the caller whose line is that of the call, and so on outwards.
//!
//! Source: Go `debug/gosym/pclntab.go`, `runtime/symtab.go`, `runtime/symtabinl.go`, `internal/abi/symtab.go` from 1.2
//! to 1.27; golang.org/s/go12symtab. Go up to 1.17 keeps inlining trees in another way: the innermost function's line
//! is then shown for the function that has the code.

mod file;

use thiserror::Error;

use crate::profile::{ElfAddr, go_unescaped};

use super::FoundFunction;

/// The first bytes of every table on x86-64 from the low byte of the magic number on: two zeros, instructions begin at
/// any byte, pointers have 8 bytes.
const HEADER_TAIL: [u8; 7] = [0xff, 0xff, 0xff, 0, 0, 1, 8];

const WORD: usize = 8;
/// A longer name is not one.
const MAX_NAME_BYTES: usize = 64 << 10;
/// A function has at most a step per instruction; the largest known to us, generated tables, some ten thousand.
const MAX_STEPS: usize = 1 << 18;
/// The compiler inlines to a depth of a few dozen.
const MAX_INLINED: usize = 256;
/// Bytes kept behind the last tree: no function has more inlined calls than these hold.
const MAX_TREE_BYTES: usize = 256 << 10;

/// Index of the pc table of places in the inlining tree, and of the tree among a function's data.
const PCDATA_INLINED: usize = 2;
const FUNCDATA_INLINED: usize = 3;
/// "None" among offsets.
const NONE: u32 = u32::MAX;

/// Why a table cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GoError {
    #[error("there is no Go function table")]
    NoTable,
    #[error("the Go function table is damaged: {0}")]
    Damaged(&'static str),
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
}

/// What the magic number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    /// Up to 1.15.
    Go12,
    Go116,
    Go118,
    /// And all later ones up to now.
    Go120,
}

impl Version {
    fn of(magic_low_byte: u8) -> Option<Version> {
        match magic_low_byte {
            0xfb => Some(Version::Go12),
            0xfa => Some(Version::Go116),
            0xf0 => Some(Version::Go118),
            0xf1 => Some(Version::Go120),
            _ => None,
        }
    }

    /// Bytes of an address in the list of functions; from 1.18 on they count from the beginning of the text.
    fn entry_bytes(self) -> usize {
        if self >= Version::Go118 { 4 } else { WORD }
    }

    /// Where a function's list of pc tables begins, behind its fixed fields; `None` where trees are kept otherwise.
    fn lists_at(self) -> Option<usize> {
        match self {
            Version::Go12 | Version::Go116 => None,
            Version::Go118 => Some(40),
            Version::Go120 => Some(44),
        }
    }

    /// Bytes of an entry of the inlining tree, and where in it the name and the caller's address stand.
    fn tree_entry(self) -> (usize, usize, usize) {
        match self {
            Version::Go120 => (16, 4, 8),
            _ => (20, 12, 16),
        }
    }
}

/// A program's table of functions.
#[derive(Debug)]
pub struct GoTable {
    bytes: Vec<u8>,
    version: Version,
    text_start: u64,
    count: usize,
    /// Where in `bytes` each part begins.
    names: usize,
    units: usize,
    files: usize,
    pc_tables: usize,
    functions: usize,
    list: usize,
    /// The inlining trees; empty where they were not found.
    trees: Vec<u8>,
}

/// A function as the table has it: what [`Version`] does not concern.
#[derive(Clone, Copy)]
struct Func {
    at: usize,
    entry: u64,
    bytes: u64,
}

/// What the functions say of their inlining trees.
#[derive(Default)]
struct TreeUses {
    /// Some functions that have one, and where it begins.
    first: Vec<(Func, usize)>,
    /// How far the trees can reach.
    bytes: usize,
}

impl GoTable {
    /// Reads the header of a table. `text_start` is the address of `runtime.text`, from which Go 1.18 and later count.
    pub fn of(bytes: Vec<u8>, text_start: u64) -> Result<GoTable, GoError> {
        let head = bytes.first_chunk::<8>().ok_or(GoError::NoTable)?;
        let version = Version::of(head[0]).filter(|_| head[1..] == HEADER_TAIL);
        let version = version.ok_or(GoError::NoTable)?;
        let word = |ix: usize| usize_at(&bytes, WORD + ix * WORD);
        let count = word(0).ok_or(GoError::Damaged("it is cut off"))?;
        let part = |ix: usize| {
            let begin = word(ix).filter(|at| *at < bytes.len());
            begin.ok_or(GoError::Damaged("a part begins behind its end"))
        };
        // The word of the header that tells where the names begin; the other parts follow.
        let first = if version >= Version::Go118 { 3 } else { 2 };
        let [names, units, files, pc_tables, functions] = match version {
            Version::Go12 => [0; 5],
            _ => [
                part(first)?,
                part(first + 1)?,
                part(first + 2)?,
                part(first + 3)?,
                part(first + 4)?,
            ],
        };
        let list = functions.max(2 * WORD);
        let mut table = GoTable {
            version,
            text_start,
            count,
            names,
            units,
            files,
            pc_tables,
            functions,
            list,
            trees: Vec::new(),
            bytes,
        };
        let list_bytes = (2 * version.entry_bytes()).checked_mul(count);
        let end = list_bytes.and_then(|bytes| bytes.checked_add(list + version.entry_bytes()));
        if count == 0 || end.is_none_or(|end| end > table.bytes.len()) {
            return Err(GoError::Damaged("the list of functions is cut off"));
        }
        if version == Version::Go12 {
            let files = end.and_then(|end| table.u32_at(end)).unwrap_or(NONE);
            table.files = files as usize;
        }
        Ok(table)
    }

    /// Functions at an address of the text, innermost inlined function first.
    pub fn look_up(&self, addr: ElfAddr) -> Option<Vec<FoundFunction>> {
        let func = self.func_at(addr.0)?;
        let mut found = Vec::new();
        let mut at = addr.0 - func.entry;
        while let Some((name, call)) = self.inlined_at(&func, at) {
            found.push(self.function(name, &func, at));
            at = call;
            if found.len() > MAX_INLINED {
                break;
            }
        }
        let name = self.name(self.u32_at(func.at + self.version.entry_bytes())?)?;
        found.push(self.function(name, &func, at));
        Some(found)
    }

    /// Number of functions, and the address of the first byte of each.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = ElfAddr> + '_ {
        (0..self.count).map(|ix| ElfAddr(self.entry(ix).unwrap_or(0)))
    }

    /// Whether inlined functions can be told.
    pub fn has_trees(&self) -> bool {
        !self.trees.is_empty()
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.trees.capacity()
    }

    fn version(&self) -> Version {
        self.version
    }

    fn set_text_start(&mut self, text_start: u64) {
        self.text_start = text_start;
    }

    /// Takes the trees if they fit the functions; `bytes` begin where the functions' data count from (`go:func.*`).
    fn set_trees(&mut self, bytes: Vec<u8>, uses: &TreeUses) -> bool {
        self.trees = bytes;
        if !uses.first.iter().all(|(func, tree)| self.fits(func, *tree)) {
            self.trees = Vec::new();
        }
        self.has_trees()
    }

    /// `None` when no function has a tree.
    fn tree_uses(&self) -> Option<TreeUses> {
        const LOOKED_AT: usize = 64;
        let funcs = (0..self.count).filter_map(|ix| self.func(ix));
        let mut uses = TreeUses::default();
        for (func, tree) in funcs.filter_map(|func| Some((func, self.tree_of(&func)?))) {
            if uses.first.len() < LOOKED_AT {
                uses.first.push((func, tree));
            }
            uses.bytes = uses.bytes.max(tree + MAX_TREE_BYTES);
        }
        (!uses.first.is_empty()).then_some(uses)
    }

    /// Whether the first entry of a tree has a name, and a caller within the function.
    fn fits(&self, func: &Func, tree: usize) -> bool {
        let (_, name_at, call_at) = self.version.tree_entry();
        let name = u32_at(&self.trees, tree + name_at);
        let call = u32_at(&self.trees, tree + call_at);
        name.is_some_and(|name| self.begins_name(name))
            && call.is_some_and(|call| u64::from(call) < func.bytes)
    }

    /// Whether the byte before is the end of another name.
    fn begins_name(&self, offset: u32) -> bool {
        let at = self.names.saturating_add(offset as usize);
        let first = self.bytes.get(at).is_some_and(|c| c.is_ascii_graphic());
        first && (offset == 0 || self.bytes[at - 1] == 0)
    }

    fn entry(&self, ix: usize) -> Option<u64> {
        let at = self.list + ix * 2 * self.version.entry_bytes();
        match self.version {
            Version::Go12 | Version::Go116 => usize_at(&self.bytes, at).map(|entry| entry as u64),
            _ => self.text_start.checked_add(self.u32_at(at)?.into()),
        }
    }

    fn func_at(&self, addr: u64) -> Option<Func> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)? <= addr {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let func = self.func(low.checked_sub(1)?)?;
        (addr >= func.entry && addr - func.entry < func.bytes).then_some(func)
    }

    /// A gap between functions, which the linker marks, is none.
    fn func(&self, ix: usize) -> Option<Func> {
        let entry = self.entry(ix)?;
        let bytes = self.entry(ix + 1)?.checked_sub(entry)?;
        let width = self.version.entry_bytes();
        let offset_at = self.list + (2 * ix + 1) * width;
        let offset = match width {
            WORD => usize_at(&self.bytes, offset_at)?,
            _ => self.u32_at(offset_at)? as usize,
        };
        let at = self.functions.checked_add(offset)?;
        let own = match width {
            WORD => usize_at(&self.bytes, at)? as u64,
            _ => self.text_start.checked_add(self.u32_at(at)?.into())?,
        };
        (own == entry).then_some(Func { at, entry, bytes })
    }

    /// A fixed field of four bytes, counted from the one behind the entry.
    fn field(&self, func: &Func, ix: usize) -> Option<u32> {
        self.u32_at(func.at + self.version.entry_bytes() + 4 * ix)
    }

    fn function(&self, name: String, func: &Func, at: u64) -> FoundFunction {
        let value = |ix| self.value(self.field(func, ix)?, at);
        let line = value(PC_LINE).and_then(|line| u32::try_from(line).ok());
        let file = value(PC_FILE).and_then(|number| self.file(func, u32::try_from(number).ok()?));
        FoundFunction {
            name: go_unescaped(&name).into_owned(),
            linkage_name: name,
            file: file.unwrap_or_default(),
            line: line.unwrap_or(0),
        }
    }

    fn file(&self, func: &Func, number: u32) -> Option<String> {
        let offset = match self.version {
            Version::Go12 => {
                let count = self.u32_at(self.files)?;
                let listed = (number > 0 && number < count).then_some(number as usize)?;
                self.u32_at(self.files + 4 * listed)? as usize
            }
            _ => {
                let ix = self.field(func, UNIT)?.checked_add(number)? as usize;
                let offset = self.u32_at(self.units.checked_add(4 * ix)?)?;
                self.files
                    .checked_add(Some(offset).filter(|at| *at != NONE)? as usize)?
            }
        };
        text_at(&self.bytes, offset)
    }

    /// The name of the function inlined at an address of `func`, counted from its beginning, and the address that
    /// stands for the place where it was called.
    fn inlined_at(&self, func: &Func, at: u64) -> Option<(String, u64)> {
        let lists = func.at + self.version.lists_at()?;
        let tables = self.field(func, TABLES)? as usize;
        let table =
            (PCDATA_INLINED < tables).then(|| self.u32_at(lists + 4 * PCDATA_INLINED))??;
        let tree = self.tree_of(func)?;
        let ix = usize::try_from(self.value(Some(table).filter(|at| *at != 0)?, at)?).ok()?;
        let (bytes, name_at, call_at) = self.version.tree_entry();
        let entry = tree.checked_add(ix.checked_mul(bytes)?)?;
        let name = self.name(u32_at(&self.trees, entry + name_at)?)?;
        let call = u64::from(u32_at(&self.trees, entry + call_at)?);
        (call < func.bytes).then_some((name, call))
    }

    /// Where the function's inlining tree begins.
    fn tree_of(&self, func: &Func) -> Option<usize> {
        let lists = self.version.lists_at()?;
        let tables = self.field(func, TABLES)? as usize;
        let count = *self.bytes.get(func.at + lists - 1)?;
        let listed = FUNCDATA_INLINED < usize::from(count);
        let ix = tables.checked_add(FUNCDATA_INLINED).filter(|_| listed)?;
        let offset = self.u32_at((func.at + lists).checked_add(ix.checked_mul(4)?)?)?;
        (offset != NONE).then_some(offset as usize)
    }

    /// The value of a pc table at an address, counted from the function's beginning.
    ///
    /// Shape: pairs of (difference of the value, zigzag; bytes of code it holds for), as variable-length integers; a
    /// difference of 0 ends the table, except at its beginning. The first value counts from -1.
    fn value(&self, table: u32, at: u64) -> Option<i32> {
        let mut rest = self
            .bytes
            .get(self.pc_tables.checked_add(table as usize)?..)?;
        let (mut value, mut end) = (-1i32, 0u64);
        for step in 0..MAX_STEPS {
            let change = varint(&mut rest)?;
            if change == 0 && step > 0 {
                return None;
            }
            value = value.wrapping_add(((change >> 1) as i32) ^ -((change & 1) as i32));
            end += u64::from(varint(&mut rest)?);
            if at < end {
                return Some(value);
            }
        }
        None
    }

    fn name(&self, offset: u32) -> Option<String> {
        text_at(&self.bytes, self.names.checked_add(offset as usize)?).filter(|n| !n.is_empty())
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        u32_at(&self.bytes, at)
    }
}

/// Fields by their number behind the entry and the name.
const PC_FILE: usize = 4;
const PC_LINE: usize = 5;
const TABLES: usize = 6;
const UNIT: usize = 7;

fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*four))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    let eight = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*eight) as usize)
}

/// The text from `at` to its zero.
fn text_at(bytes: &[u8], at: usize) -> Option<String> {
    let from = bytes.get(at..)?;
    let end = from.iter().take(MAX_NAME_BYTES).position(|c| *c == 0)?;
    Some(String::from_utf8_lossy(&from[..end]).into_owned())
}

#[cfg(test)]
mod tests;
