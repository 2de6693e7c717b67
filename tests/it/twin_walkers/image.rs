//! Unwind tables and stops as the kernel's side sees them, laid out anew by what `bpf/abi.h` says: not by the code that
//! uploads them.

use perfprof::profile::{MappingKind, Why};
use perfprof::sys::abi::{
    AddressSpace, CHUNK_WORDS, INDEXED_ROWS, PAGE_BUCKETS, UnwindPage, UnwindSpan, UnwindTableEntry,
};
use perfprof::target::binary::Binary;
use perfprof::target::mappings::Mappings;
use perfprof::unwind::UnwindTable;
use perfprof::unwind::row::UnwindRow;
use zerocopy::IntoBytes;

use super::stops::Stop;

/// User addresses end here; above is what the kernel itself maps, such as `[vsyscall]`.
const USER_BITS: u32 = 47;

/// The heap and the tables in it, by number of binary.
#[derive(Debug, Default)]
pub(super) struct Image {
    words: Vec<u32>,
    tables: Vec<UnwindTableEntry>,
    spaces: u32,
}

impl Image {
    /// Lays out the table of a binary, or why it has none, unless that has been done.
    fn add_binary(&mut self, binary: &Binary) {
        let number = binary.ix as usize;
        if self.tables.len() <= number {
            self.tables.resize(number + 1, UnwindTableEntry::default());
        }
        if self.tables[number] == UnwindTableEntry::default() {
            self.tables[number] = self.table(binary);
        }
    }

    fn table(&mut self, binary: &Binary) -> UnwindTableEntry {
        let without = match (binary.kind, &binary.problem) {
            (MappingKind::Anonymous, _) => Why::Jit,
            (_, Some(_)) => Why::BinaryUnreadable,
            _ => Why::NoUnwindInfo,
        } as u32;
        let table = match without == Why::NoUnwindInfo as u32 {
            true => UnwindTable::of(binary),
            false => UnwindTable::default(),
        };
        if table.is_empty() {
            return UnwindTableEntry {
                without,
                ..UnwindTableEntry::default()
            };
        }
        let pages: Vec<UnwindPage> = table
            .pages()
            .windows(2)
            .map(|bounds| {
                let rows = &table.rows()[bounds[0] as usize..bounds[1] as usize];
                let mut index: Vec<u16> = Vec::new();
                if rows.len() >= INDEXED_ROWS {
                    for bucket in 0..PAGE_BUCKETS as u32 {
                        let before = |row: &&UnwindRow| u32::from(row.pc_low) / 256 < bucket;
                        index.push(rows.iter().filter(before).count() as u16);
                    }
                }
                let at = self.put(&[index.as_bytes(), rows.as_bytes()].concat());
                UnwindPage {
                    rows_at: at + index.len() as u32 / 2,
                    rows: rows.len() as u32,
                }
            })
            .collect();
        UnwindTableEntry {
            first_page: table.first_page() as u32,
            pages: pages.len() as u32,
            pages_at: self.put(pages.as_bytes()),
            rules_at: self.put(table.rules().as_bytes()),
            without,
        }
    }

    /// Lays out mappings and the tables of their binaries.
    pub(super) fn add_space(&mut self, mappings: &Mappings) -> AddressSpace {
        let regions = mappings.regions();
        let spans: Vec<UnwindSpan> = regions
            .filter(|region| region.start.0 >> USER_BITS == 0)
            .map(|region| {
                self.add_binary(&region.binary);
                UnwindSpan {
                    start: region.start.0,
                    end: region.end.0,
                    bias: region.bias().unwrap_or(0),
                    table: region.binary.ix,
                    pad: 0,
                }
            })
            .collect();
        self.spaces += 1;
        AddressSpace {
            id: self.spaces,
            spans: spans.len() as u32,
            spans_at: self.put(spans.as_bytes()),
        }
    }

    /// The place of the first word. Nothing crosses a chunk's end.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        let words = bytes.len().div_ceil(4);
        let chunk = CHUNK_WORDS as usize;
        assert!(words <= chunk, "{words} words");
        if self.words.len() % chunk + words > chunk {
            self.words
                .resize(self.words.len().next_multiple_of(chunk), 0);
        }
        let at = self.words.len() as u32;
        self.words.extend(bytes.chunks(4).map(|word| {
            let mut whole = [0; 4];
            whole[..word.len()].copy_from_slice(word);
            u32::from_ne_bytes(whole)
        }));
        at
    }

    /// All of it and the stops, as `kernel_side.c` reads them.
    pub(super) fn bytes(mut self, stops: &[(Stop, AddressSpace)]) -> Vec<u8> {
        let chunk = CHUNK_WORDS as usize;
        self.words
            .resize(self.words.len().next_multiple_of(chunk), 0);
        let mut bytes = Vec::new();
        let number = |bytes: &mut Vec<u8>, n: usize| bytes.extend((n as u32).to_ne_bytes());
        number(&mut bytes, self.words.len() / chunk);
        bytes.extend(self.words.as_bytes());
        number(&mut bytes, self.tables.len());
        bytes.extend(self.tables.as_bytes());
        number(&mut bytes, stops.len());
        for (stop, space) in stops {
            let registers = &stop.registers;
            let general = registers.general.expect("recorded");
            let [ip, sp, bp] = [registers.ip, registers.sp, registers.bp];
            for value in [ip, sp, bp].into_iter().chain(general) {
                bytes.extend(value.to_ne_bytes());
            }
            bytes.extend(space.as_bytes());
            number(&mut bytes, stop.memory.len());
            for area in &stop.memory {
                bytes.extend(area.base.to_ne_bytes());
                bytes.extend((area.bytes.len() as u64).to_ne_bytes());
                bytes.extend(&area.bytes);
            }
        }
        bytes
    }
}
