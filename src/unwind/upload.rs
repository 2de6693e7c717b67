//! Unwind tables and mappings on their way into the kernel.
//!
//! In: the mappings of a process, whenever they have changed. Out: tables of its binaries in the heap, its mappings as
//! an address space, and a list of binaries for which there was no room.
//!
//! Processes with equal mappings (a server's workers) share an address space. It is never changed in place: other
//! mappings get a new number, which also makes the rules remembered under the old one unreachable.
//! The memory budget is held by evicting the binary that no stack has shown for the longest time.

use std::collections::HashMap;
use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use zerocopy::IntoBytes;

use crate::profile::{MappingKind, Why};
use crate::sys::abi::{
    AddressSpace, CHUNK_WORDS, MAX_ADDRESS_SPACE_ID, MAX_SPANS, MAX_TABLES, UnwindPage, UnwindSpan,
    UnwindTableEntry,
};
use crate::sys::unwind_maps::UnwindMaps;
use crate::target::binary::Binary;
use crate::target::mappings::{MappedRegion, Mappings};

use super::heap::{Heap, Place};
use super::table::UnwindTable;

/// Longer than any walk: what it may still be reading is not written over before.
const WALK_TIME: Duration = Duration::from_millis(1);

/// A binary whose table had to give way, or never fitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// [`Binary::ix`].
    pub binary: u32,
    pub path: String,
    pub table_bytes: u64,
}

/// A table in the heap.
#[derive(Debug)]
struct Loaded {
    path: String,
    places: Vec<Place>,
    last_seen: u64,
}

impl Loaded {
    fn bytes(&self) -> u64 {
        self.places.iter().map(|p| u64::from(p.words) * 4).sum()
    }
}

/// Mappings in the heap, and how many processes have them.
#[derive(Debug)]
struct Space {
    entry: AddressSpace,
    place: Option<Place>,
    processes: usize,
}

/// Figures for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadFigures {
    pub tables: usize,
    pub rows: u64,
    pub heap_bytes: u64,
    pub address_spaces: u32,
    pub build_ns: u64,
}

/// Keeps the kernel's tables in step with the processes.
#[derive(Debug)]
pub struct Uploader {
    maps: UnwindMaps,
    heap: Heap,
    tables: HashMap<u32, Loaded>,
    /// Binaries that have been looked at, with a table or without.
    known: HashMap<u32, ()>,
    by_generation: HashMap<u64, Space>,
    of_process: HashMap<u32, u64>,
    next_id: u32,
    /// Counts samples: the time by which tables are old.
    clock: u64,
    evictions: Vec<Eviction>,
    figures: UploadFigures,
}

impl Uploader {
    pub fn new(maps: UnwindMaps) -> Uploader {
        Uploader {
            maps,
            heap: Heap::default(),
            tables: HashMap::new(),
            known: HashMap::new(),
            by_generation: HashMap::new(),
            of_process: HashMap::new(),
            next_id: 1,
            clock: 0,
            evictions: Vec::new(),
            figures: UploadFigures::default(),
        }
    }

    /// Makes the kernel know these mappings of a process, and the tables of their binaries.
    pub fn sync(&mut self, pid: u32, mappings: &Mappings) -> libbpf_rs::Result<()> {
        let generation = mappings.generation();
        if self.of_process.get(&pid) == Some(&generation) {
            return Ok(());
        }
        self.heap.settle();
        if !self.by_generation.contains_key(&generation) {
            let space = self.upload(mappings)?;
            self.by_generation.insert(generation, space);
        }
        let space = self.by_generation.get_mut(&generation).expect("just made");
        space.processes += 1;
        self.maps.set_address_space(pid, &space.entry)?;
        if let Some(former) = self.of_process.insert(pid, generation) {
            self.release(former);
        }
        Ok(())
    }

    /// The process has ended, or has a new program.
    pub fn forget(&mut self, pid: u32) {
        if let Some(generation) = self.of_process.remove(&pid) {
            self.maps.remove_address_space(pid);
            self.release(generation);
        }
    }

    /// A stack has shown this binary.
    pub fn seen(&mut self, binary: u32) {
        self.clock += 1;
        if let Some(table) = self.tables.get_mut(&binary) {
            table.last_seen = self.clock;
        }
    }

    /// Binaries whose tables had to give way.
    pub fn evictions(&self) -> &[Eviction] {
        &self.evictions
    }

    pub fn figures(&self) -> UploadFigures {
        UploadFigures {
            tables: self.tables.len(),
            heap_bytes: self.heap.used_bytes(),
            ..self.figures
        }
    }

    fn release(&mut self, generation: u64) {
        let Some(space) = self.by_generation.get_mut(&generation) else {
            return;
        };
        space.processes -= 1;
        if space.processes == 0
            && let Some(space) = self.by_generation.remove(&generation)
            && let Some(place) = space.place
        {
            self.heap.give_back(place);
        }
    }

    fn upload(&mut self, mappings: &Mappings) -> libbpf_rs::Result<Space> {
        let mut spans = Vec::new();
        for region in mappings.regions().take(MAX_SPANS) {
            self.make_known(&region.binary)?;
            spans.push(span_of(region));
        }
        let place = match spans.len() {
            0 => None,
            _ => self.room(words_of(spans.as_bytes()), &[])?,
        };
        if let Some(place) = place {
            self.maps.write(place.at, spans.as_bytes());
        }
        let id = self.next_id;
        self.next_id = if id == MAX_ADDRESS_SPACE_ID {
            1
        } else {
            id + 1
        };
        self.figures.address_spaces += 1;
        let entry = AddressSpace {
            id,
            spans: place.map_or(0, |_| spans.len() as u32),
            spans_at: place.map_or(0, |place| place.at),
        };
        Ok(Space {
            entry,
            place,
            processes: 0,
        })
    }

    /// Brings the binary's table, or the reason why there is none.
    fn make_known(&mut self, binary: &Rc<Binary>) -> libbpf_rs::Result<()> {
        if binary.ix >= MAX_TABLES || self.known.insert(binary.ix, ()).is_some() {
            return Ok(());
        }
        if binary.kind == MappingKind::Anonymous || binary.problem.is_some() {
            let why = match binary.kind {
                MappingKind::Anonymous => Why::Jit,
                _ => Why::BinaryUnreadable,
            };
            self.maps.set_table(binary.ix, &entry_without(why));
            return Ok(());
        }
        let before_ns = crate::sys::usage::monotonic_ns();
        let table = UnwindTable::of(binary);
        self.figures.build_ns += crate::sys::usage::monotonic_ns() - before_ns;
        if table.is_empty() {
            self.maps
                .set_table(binary.ix, &entry_without(Why::NoUnwindInfo));
            return Ok(());
        }
        self.load(binary, &table)
    }

    fn load(&mut self, binary: &Binary, table: &UnwindTable) -> libbpf_rs::Result<()> {
        let mut places = Vec::new();
        let Some(entry) = self.write_table(table, &mut places)? else {
            places.iter().for_each(|place| self.heap.give_back(*place));
            self.maps
                .set_table(binary.ix, &entry_without(Why::TableEvicted));
            self.evictions.push(Eviction {
                binary: binary.ix,
                path: binary.path.clone(),
                table_bytes: table.bytes() as u64,
            });
            return Ok(());
        };
        self.maps.set_table(binary.ix, &entry);
        self.figures.rows += table.rows().len() as u64;
        self.tables.insert(
            binary.ix,
            Loaded {
                path: binary.path.clone(),
                places,
                last_seen: self.clock,
            },
        );
        Ok(())
    }

    /// `None` when there is no room for it. What was taken stands in `places`.
    fn write_table(
        &mut self,
        table: &UnwindTable,
        places: &mut Vec<Place>,
    ) -> libbpf_rs::Result<Option<UnwindTableEntry>> {
        let mut pages = Vec::new();
        for bounds in table.pages().windows(2) {
            let rows = &table.rows()[bounds[0] as usize..bounds[1] as usize];
            let mut page = UnwindPage::default();
            if !rows.is_empty() {
                let Some(at) = self.put(rows.as_bytes(), places)? else {
                    return Ok(None);
                };
                page = UnwindPage {
                    rows_at: at,
                    rows: rows.len() as u32,
                };
            }
            pages.push(page);
        }
        let Some(pages_at) = self.put(pages.as_bytes(), places)? else {
            return Ok(None);
        };
        let Some(rules_at) = self.put(table.rules().as_bytes(), places)? else {
            return Ok(None);
        };
        Ok(u32::try_from(table.first_page())
            .ok()
            .map(|first_page| UnwindTableEntry {
                first_page,
                pages: pages.len() as u32,
                pages_at,
                rules_at,
                without: Why::NoUnwindInfo as u32,
            }))
    }

    fn put(&mut self, bytes: &[u8], places: &mut Vec<Place>) -> libbpf_rs::Result<Option<u32>> {
        let Some(place) = self.room(words_of(bytes), places)? else {
            return Ok(None);
        };
        places.push(place);
        self.maps.write(place.at, bytes);
        Ok(Some(place.at))
    }

    /// Finds room: in what is free, in a chunk more, or in the place of the table that is oldest.
    fn room(&mut self, words: usize, own: &[Place]) -> libbpf_rs::Result<Option<Place>> {
        let Some(words) = u32::try_from(words).ok().filter(|w| *w <= CHUNK_WORDS) else {
            return Ok(None);
        };
        // A table that takes more than half of the budget would drive out all others, and then be driven out.
        let own_words: u64 = own.iter().map(|place| u64::from(place.words)).sum();
        let budget_words = u64::from(self.maps.max_chunks()) * u64::from(CHUNK_WORDS);
        if own_words + u64::from(words) > budget_words / 2 {
            return Ok(None);
        }
        loop {
            if let Some(place) = self.heap.take(words) {
                return Ok(Some(place));
            }
            if self.maps.chunks() < self.maps.max_chunks() {
                self.maps.add_chunk()?;
                self.heap.grow();
            } else if !self.evict_oldest() {
                return Ok(None);
            }
        }
    }

    fn evict_oldest(&mut self) -> bool {
        let oldest = self.tables.iter().min_by_key(|(_, t)| t.last_seen);
        let Some(ix) = oldest.map(|(ix, _)| *ix) else {
            return false;
        };
        let table = self.tables.remove(&ix).expect("just found");
        self.maps.set_table(ix, &entry_without(Why::TableEvicted));
        table
            .places
            .iter()
            .for_each(|place| self.heap.give_back(*place));
        self.evictions.push(Eviction {
            binary: ix,
            table_bytes: table.bytes(),
            path: table.path,
        });
        sleep(WALK_TIME);
        self.heap.settle();
        true
    }
}

fn entry_without(why: Why) -> UnwindTableEntry {
    UnwindTableEntry {
        without: why as u32,
        ..UnwindTableEntry::default()
    }
}

fn span_of(region: &MappedRegion) -> UnwindSpan {
    UnwindSpan {
        start: region.start.0,
        end: region.end.0,
        bias: region.bias().unwrap_or(0),
        table: region.binary.ix,
        pad: 0,
    }
}

fn words_of(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(4)
}
