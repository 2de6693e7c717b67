//! Where Go's function table is in a file, stripped or not: [`GoTable::read`].
//!
//! In: an open ELF file. Out: its [`GoTable`], with the inlining trees where they are found. Only a section says where
//! the table is, and only symbols where the text begins and where the trees are, so without them:
//!
//! - the table is found by its first eight bytes, in segments that are no code;
//! - the runtime's `moduledata`, which says the rest, is found by its first word, the table's address. In a
//!   position-independent program that word is written by the dynamic linker: there its relocation is found instead.
//!
//! `moduledata` grows from release to release without saying so. Where it keeps the address of the trees is tried out:
//! the right one makes sense with the table.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ReadCache, elf};

use super::{GoError, GoTable, HEADER_TAIL, Version};

/// A larger table is not read; Kubernetes' largest programs have 40 MiB.
const MAX_TABLE_BYTES: u64 = 128 << 20;
/// Data and relocations of a program beyond this are not searched.
const MAX_SEARCHED_BYTES: u64 = 256 << 20;
const MAX_SEGMENTS: usize = 64;
/// Places that look like a table, or like `moduledata`, beyond these are not tried.
const MAX_TABLES: usize = 4;
const MAX_MODULES: usize = 16;
const CHUNK_BYTES: usize = 1 << 20;

/// Words of `moduledata`: the first is the table's address.
///
/// Source: Go `runtime/symtab.go`, 1.16 to 1.27.
mod word {
    pub(super) const MIN_PC: usize = 20;
    pub(super) const TEXT: usize = 22;
    pub(super) const END_OF_TEXT: usize = 23;
    /// `gofunc` in 1.18 and 1.19; from 1.20 on; in 1.27; and in case another comes or goes.
    pub(super) const TREES: [usize; 7] = [38, 40, 43, 41, 42, 44, 45];
    pub(super) const COUNT: usize = 46;
}
const WORD: usize = 8;

/// Words of `moduledata`, as the running program has them.
type ModuleData = [u64; word::COUNT];

struct Segment {
    vaddr: u64,
    offset: u64,
    bytes: u64,
    executable: bool,
}

struct GoFile<'a> {
    file: &'a File,
    segments: Vec<Segment>,
    /// Address and bytes of the table, and address of the text, where sections tell.
    table: Option<(u64, u64)>,
    text: Option<u64>,
    /// Address and bytes of the relocations with addends.
    relocations: Option<(u64, u64)>,
}

impl GoTable {
    /// Finds and reads the table of a 64-bit little-endian ELF file.
    pub fn read(file: &File) -> Result<GoTable, GoError> {
        let unreadable = |error: object::Error| GoError::Unreadable(error.to_string());
        let go = GoFile::of(file).map_err(unreadable)?;
        let places = match go.table {
            Some(place) => vec![place],
            None => go.tables(),
        };
        let mut failure = GoError::NoTable;
        for (vaddr, bytes) in places {
            match go.read_table(vaddr, bytes) {
                Ok(table) => return Ok(table),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl<'a> GoFile<'a> {
    fn of(file: &'a File) -> Result<GoFile<'a>, object::Error> {
        let cache = ReadCache::new(file);
        let elf = ElfFile64::<Endianness, _>::parse(&cache)?;
        let endian = elf.endian();
        let headers = elf.elf_program_headers().iter();
        let loaded = headers.filter(|header| header.p_type(endian) == elf::PT_LOAD);
        let segments = loaded.take(MAX_SEGMENTS).map(|header| Segment {
            vaddr: header.p_vaddr(endian),
            offset: header.p_offset(endian),
            bytes: header.p_filesz(endian),
            executable: header.p_flags(endian).contains(elf::PF_X),
        });
        let section = |name| {
            let section = elf.section_by_name(name)?;
            Some((section.address(), section.size()))
        };
        let dynamic = elf.elf_program_headers().iter();
        let dynamic = dynamic.filter(|header| header.p_type(endian) == elf::PT_DYNAMIC);
        let dynamic = dynamic.map(|header| (header.p_vaddr(endian), header.p_filesz(endian)));
        let mut go = GoFile {
            file,
            segments: segments.collect(),
            table: section(".gopclntab").or_else(|| section(".data.rel.ro.gopclntab")),
            text: section(".text").map(|(vaddr, _)| vaddr),
            relocations: None,
        };
        go.relocations = dynamic
            .take(1)
            .find_map(|(vaddr, bytes)| go.find_relocations(vaddr, bytes));
        Ok(go)
    }

    /// Address and bytes of the relocations, from the section for the dynamic linker: pairs of a tag and a value.
    fn find_relocations(&self, vaddr: u64, bytes: u64) -> Option<(u64, u64)> {
        const MAX_DYNAMIC_BYTES: u64 = 64 << 10;
        let section = self.read(vaddr, bytes.min(MAX_DYNAMIC_BYTES) as usize)?;
        let word = |bytes: &[u8]| bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
        let value_of = |tag: elf::DynamicTag| {
            let mut pairs = section.chunks_exact(2 * WORD);
            let pair = pairs.find(|pair| word(pair) == Some(tag.0 as u64))?;
            word(&pair[WORD..])
        };
        Some((value_of(elf::DT_RELA)?, value_of(elf::DT_RELASZ)?))
    }

    fn read_table(&self, vaddr: u64, bytes: u64) -> Result<GoTable, GoError> {
        if bytes > MAX_TABLE_BYTES {
            return Err(GoError::Damaged("it is too large"));
        }
        let contents = self.read(vaddr, bytes as usize);
        let contents = contents.ok_or(GoError::Damaged("it is cut off"))?;
        let mut table = GoTable::of(contents, self.text.unwrap_or(0))?;
        let modules = self.modules(vaddr);
        let fits = |module: &&ModuleData| {
            let text = module[word::TEXT];
            module[word::MIN_PC] >= text
                && text < module[word::END_OF_TEXT]
                && self.segment(text).is_some_and(|segment| segment.executable)
        };
        match modules.iter().find(fits) {
            Some(module) => {
                table.set_text_start(module[word::TEXT]);
                self.add_trees(&mut table, module);
            }
            None if self.text.is_none() && table.version() >= Version::Go118 => {
                return Err(GoError::Damaged("nothing says where the text begins"));
            }
            None => {}
        }
        Ok(table)
    }

    fn add_trees(&self, table: &mut GoTable, module: &ModuleData) {
        let Some(uses) = table.tree_uses() else {
            return;
        };
        for ix in word::TREES {
            let room = self
                .segment(module[ix])
                .map_or(0, |segment| segment.bytes - (module[ix] - segment.vaddr));
            let bytes = (uses.bytes as u64).min(room).min(MAX_TABLE_BYTES) as usize;
            let read = self.read(module[ix], bytes).unwrap_or_default();
            if !read.is_empty() && table.set_trees(read, &uses) {
                return;
            }
        }
    }

    /// Places that begin like a table, and the bytes from there to the end of the segment.
    fn tables(&self) -> Vec<(u64, u64)> {
        let begins = |eight: u64| {
            let bytes = eight.to_le_bytes();
            Version::of(bytes[0]).is_some() && bytes[1..] == HEADER_TAIL
        };
        let mut found = Vec::new();
        self.each_data_word(|segment, at, eight| {
            if begins(eight) && found.len() < MAX_TABLES {
                let bytes = segment.bytes - at.wrapping_sub(segment.vaddr);
                found.push((at, bytes.min(MAX_TABLE_BYTES)));
            }
        });
        found
    }

    /// What may be the `moduledata` of the table at `vaddr`.
    fn modules(&self, vaddr: u64) -> Vec<ModuleData> {
        let mut places = Vec::new();
        self.each_data_word(|_, at, value| {
            if value == vaddr && places.len() < MAX_MODULES {
                places.push(at);
            }
        });
        self.each_relocation(|at, value| {
            if value == vaddr && places.len() < MAX_MODULES && !places.contains(&at) {
                places.push(at);
            }
        });
        let size = (word::COUNT * WORD) as u64;
        let mut relocated: HashMap<u64, u64> = HashMap::new();
        self.each_relocation(|at, value| {
            if places
                .iter()
                .any(|place| (*place..place.saturating_add(size)).contains(&at))
            {
                relocated.insert(at, value);
            }
        });
        let module = |place: u64| {
            let bytes = self.read(place, word::COUNT * WORD)?;
            let mut words = [0; word::COUNT];
            for (ix, eight) in bytes.chunks_exact(WORD).enumerate() {
                let at = place + (ix * WORD) as u64;
                let stored = u64::from_le_bytes(*eight.first_chunk()?);
                words[ix] = relocated.get(&at).copied().unwrap_or(stored);
            }
            Some(words)
        };
        places.into_iter().filter_map(module).collect()
    }

    /// Calls `visit` with each aligned word of segments that are no code, and its address. Segments may lie about their
    /// sizes, and over each other.
    fn each_data_word(&self, mut visit: impl FnMut(&Segment, u64, u64)) {
        let mut left = MAX_SEARCHED_BYTES;
        for segment in self.segments.iter().filter(|segment| !segment.executable) {
            let skipped = segment.vaddr.wrapping_neg() % WORD as u64;
            let offset = segment.offset.saturating_add(skipped);
            let bytes = segment.bytes.saturating_sub(skipped).min(left);
            left -= self.each_word(offset, bytes, |at, value| {
                visit(segment, segment.vaddr.wrapping_add(skipped + at), value);
            });
        }
    }

    /// Calls `visit` with each word of a part of the file, and its place in that part. Returns how much was read.
    fn each_word(&self, offset: u64, bytes: u64, mut visit: impl FnMut(u64, u64)) -> u64 {
        let mut from = 0;
        let mut chunk = vec![0; CHUNK_BYTES];
        while from < bytes {
            let wanted = (bytes - from).min(CHUNK_BYTES as u64) as usize;
            let chunk = &mut chunk[..wanted];
            let read = self.file.read_exact_at(chunk, offset.saturating_add(from));
            if read.is_err() {
                break;
            }
            for (ix, eight) in chunk.chunks_exact(WORD).enumerate() {
                let value = eight.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
                visit(from + (ix * WORD) as u64, value);
            }
            from += wanted as u64;
        }
        from
    }

    /// Calls `visit` with the address and the value of each relocation that only adds where the program was loaded.
    ///
    /// Source: System V x86-64 psABI, `Elf64_Rela` and `R_X86_64_RELATIVE`.
    fn each_relocation(&self, mut visit: impl FnMut(u64, u64)) {
        const ENTRY_WORDS: usize = 3;
        let Some((vaddr, bytes)) = self.relocations else {
            return;
        };
        let Some(offset) = self.offset(vaddr, bytes) else {
            return;
        };
        let mut entry = [0; ENTRY_WORDS];
        self.each_word(offset, bytes.min(MAX_SEARCHED_BYTES), |at, value| {
            let ix = (at as usize / WORD) % ENTRY_WORDS;
            entry[ix] = value;
            if ix == ENTRY_WORDS - 1 && entry[1] == u64::from(elf::R_X86_64_RELATIVE.0) {
                visit(entry[0], value);
            }
        });
    }

    fn segment(&self, vaddr: u64) -> Option<&Segment> {
        let holds = |segment: &&Segment| {
            (segment.vaddr..segment.vaddr.saturating_add(segment.bytes)).contains(&vaddr)
        };
        self.segments.iter().find(holds)
    }

    fn offset(&self, vaddr: u64, bytes: u64) -> Option<u64> {
        let segment = self.segment(vaddr)?;
        let from = vaddr - segment.vaddr;
        let fits = bytes <= segment.bytes - from;
        fits.then(|| segment.offset.checked_add(from)).flatten()
    }

    /// Bytes at an address, if the file has them all: nothing is allocated for a size that only a header claims.
    fn read(&self, vaddr: u64, bytes: usize) -> Option<Vec<u8>> {
        let offset = self.offset(vaddr, bytes as u64)?;
        let file_bytes = self.file.metadata().ok()?.len();
        offset
            .checked_add(bytes as u64)
            .filter(|end| *end <= file_bytes)?;
        let mut read = vec![0; bytes];
        self.file.read_exact_at(&mut read, offset).ok()?;
        Some(read)
    }
}
