//! The tables that are in the kernel, within the memory budget.
//!
//! In: binaries as they become known, and which of them stacks show. Out: their tables in the heap. When the budget is
//! used up, the table that no stack has shown for the longest time gives way; when a walk then misses it, it comes
//! back, but building tables again never takes more than a tenth of the time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use zerocopy::IntoBytes;

use crate::profile::{MappingKind, Why};
use crate::sys::abi::{
    CHUNK_WORDS, INDEXED_ROWS, MAX_TABLES, PAGE_BUCKETS, UnwindPage, UnwindTableEntry,
};
use crate::sys::unwind_maps::UnwindMaps;
use crate::sys::usage::monotonic_ns;
use crate::target::binary::Binary;
use crate::unwind::UnwindTable;
use crate::unwind::row::UnwindRow;

use super::builder::{Builder, Built};
use super::heap::{Heap, Place};

/// Longer than any walk: what it may still be reading is not written over before.
const WALK_NS: u64 = 1_000_000;

/// A section of more bytes takes some milliseconds.
const LARGE_BYTES: usize = 1 << 19;

/// Loading again what had to give way waits this many times as long as it took.
const RELOAD_PAUSE: u64 = 9;

/// What the budget cost a binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// [`Binary::ix`].
    pub binary: u32,
    pub path: String,
    pub table_bytes: u64,
    /// It had to give way to others so often.
    pub times: u64,
}

/// A table in the heap.
#[derive(Debug)]
struct Loaded {
    binary: Arc<Binary>,
    places: Vec<Place>,
    last_seen: u64,
}

/// Why a table is not in the heap.
enum NoRoom {
    /// It would take more than half of the budget: it would drive out all others, and then be driven out.
    TooLarge,
    /// The kernel gave no memory.
    Failed(libbpf_rs::Error),
}

/// The heap and what is in it.
#[derive(Debug)]
pub(super) struct Resident {
    pub maps: UnwindMaps,
    heap: Heap,
    tables: HashMap<u32, Loaded>,
    /// Binaries that have been looked at, with a table or without.
    known: HashSet<u32>,
    /// Those that had to give way, and may come back.
    displaced: HashMap<u32, Arc<Binary>>,
    /// Of these, the ones a walk has missed.
    missed: BTreeSet<u32>,
    reload_at_ns: u64,
    /// Builds large tables once samples are being taken; before, they are waited for.
    builder: Option<Builder>,
    /// Counts stacks: the time by which tables are old.
    clock: u64,
    evictions: BTreeMap<u32, Eviction>,
    pub rows: u64,
    pub build_ns: u64,
}

impl Resident {
    pub fn new(maps: UnwindMaps) -> Resident {
        Resident {
            maps,
            heap: Heap::default(),
            tables: HashMap::new(),
            known: HashSet::new(),
            displaced: HashMap::new(),
            missed: BTreeSet::new(),
            reload_at_ns: 0,
            builder: None,
            clock: 0,
            evictions: BTreeMap::new(),
            rows: 0,
            build_ns: 0,
        }
    }

    /// Brings the binary's table, or the reason why there is none.
    pub fn make_known(&mut self, binary: &Arc<Binary>) -> libbpf_rs::Result<()> {
        if binary.ix >= MAX_TABLES || !self.known.insert(binary.ix) {
            return Ok(());
        }
        let has_rules = !binary.unwind.eh_frame.is_empty();
        let why_none = match binary.kind {
            MappingKind::Anonymous if !has_rules => Some(Why::Jit),
            _ => binary.problem.as_ref().map(|_| Why::BinaryUnreadable),
        };
        match why_none {
            Some(why) => {
                self.maps.set_table(binary.ix, &entry_without(why));
                Ok(())
            }
            None => self.load(binary),
        }
    }

    /// From now on samples come, and nothing that takes long may keep them waiting.
    pub fn build_aside(&mut self) {
        self.builder = Some(Builder::start());
    }

    /// Whether tables are on their way.
    pub fn is_building(&self) -> bool {
        self.builder.as_ref().is_some_and(Builder::is_busy)
    }

    /// Takes what has been built meanwhile.
    pub fn take_built(&mut self) -> libbpf_rs::Result<()> {
        while let Some(built) = self.builder.as_mut().and_then(Builder::take) {
            self.install(built)?;
        }
        Ok(())
    }

    /// A stack has shown this binary.
    pub fn seen(&mut self, binary: u32) {
        self.clock += 1;
        if let Some(table) = self.tables.get_mut(&binary) {
            table.last_seen = self.clock;
        }
    }

    /// A walk ended where this binary's table is missing.
    pub fn missed(&mut self, binary: u32) {
        if self.displaced.contains_key(&binary) {
            self.missed.insert(binary);
        }
    }

    /// Brings back one that was missed, unless that was done a moment ago.
    pub fn reload(&mut self) -> libbpf_rs::Result<()> {
        if self.missed.is_empty() || self.is_building() || monotonic_ns() < self.reload_at_ns {
            return Ok(());
        }
        if let Some(ix) = self.missed.pop_first()
            && let Some(binary) = self.displaced.remove(&ix)
        {
            self.load(&binary)?;
        }
        Ok(())
    }

    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    pub fn heap_bytes(&self) -> u64 {
        self.heap.used_bytes()
    }

    /// Binaries whose tables had to give way or never fitted.
    pub fn evictions(&self) -> impl Iterator<Item = &Eviction> {
        self.evictions.values()
    }

    /// Writes what stands outside any table; `None` when there is no room.
    pub fn put_apart(&mut self, bytes: &[u8]) -> libbpf_rs::Result<Option<Place>> {
        let mut places = Vec::new();
        match self.put(bytes, &mut places) {
            Ok(_) => Ok(places.pop()),
            Err(NoRoom::TooLarge) => Ok(None),
            Err(NoRoom::Failed(error)) => Err(error),
        }
    }

    /// Frees a place once no walk can be reading it.
    pub fn give_back(&mut self, place: Place) {
        self.heap.give_back(place, monotonic_ns());
    }

    fn load(&mut self, binary: &Arc<Binary>) -> libbpf_rs::Result<()> {
        let sections = binary.unwind.eh_frame.iter();
        let bytes: usize = sections.map(|section| section.bytes.len()).sum();
        if bytes > LARGE_BYTES
            && let Some(builder) = &mut self.builder
            && builder.order(binary)
        {
            self.maps.set_table(binary.ix, &entry_without(Why::Warming));
            return Ok(());
        }
        self.install(Built::of(binary))
    }

    fn install(&mut self, built: Built) -> libbpf_rs::Result<()> {
        let Built {
            binary,
            table,
            took_ns,
        } = &built;
        self.build_ns += took_ns;
        self.reload_at_ns = monotonic_ns() + RELOAD_PAUSE * took_ns;
        if table.is_empty() {
            self.maps
                .set_table(binary.ix, &entry_without(Why::NoUnwindInfo));
            return Ok(());
        }
        let mut places = Vec::new();
        match self.write_table(table, &mut places) {
            Ok(entry) => {
                self.maps.set_table(binary.ix, &entry);
                self.rows += table.rows().len() as u64;
                let loaded = Loaded {
                    binary: binary.clone(),
                    places,
                    last_seen: self.clock,
                };
                self.tables.insert(binary.ix, loaded);
                Ok(())
            }
            Err(no_room) => {
                places.into_iter().for_each(|place| self.give_back(place));
                self.maps
                    .set_table(binary.ix, &entry_without(Why::TableEvicted));
                self.note_eviction(binary, table.bytes() as u64);
                match no_room {
                    NoRoom::TooLarge => Ok(()),
                    NoRoom::Failed(error) => Err(error),
                }
            }
        }
    }

    /// What was taken stands in `places`, also when the rest found no room.
    fn write_table(
        &mut self,
        table: &UnwindTable,
        places: &mut Vec<Place>,
    ) -> Result<UnwindTableEntry, NoRoom> {
        let first_page = u32::try_from(table.first_page()).map_err(|_| NoRoom::TooLarge)?;
        let mut pages = Vec::new();
        for bounds in table.pages().windows(2) {
            let rows = &table.rows()[bounds[0] as usize..bounds[1] as usize];
            let mut page = UnwindPage::default();
            if !rows.is_empty() {
                let index = index_of(rows);
                let at = self.put(&[index.as_bytes(), rows.as_bytes()].concat(), places)?;
                page = UnwindPage {
                    rows_at: at + words_of(index.as_bytes()) as u32,
                    rows: rows.len() as u32,
                };
            }
            pages.push(page);
        }
        Ok(UnwindTableEntry {
            first_page,
            pages: pages.len() as u32,
            pages_at: self.put(pages.as_bytes(), places)?,
            rules_at: self.put(table.rules().as_bytes(), places)?,
            without: Why::NoUnwindInfo as u32,
        })
    }

    fn put(&mut self, bytes: &[u8], places: &mut Vec<Place>) -> Result<u32, NoRoom> {
        let place = self.room(words_of(bytes), places)?;
        places.push(place);
        self.maps.write(place.at, bytes);
        Ok(place.at)
    }

    /// Finds room: in what is free, in a chunk more, or in the place of the table that is oldest.
    fn room(&mut self, words: usize, own: &[Place]) -> Result<Place, NoRoom> {
        let words = u32::try_from(words).map_err(|_| NoRoom::TooLarge)?;
        let own_words: u64 = own.iter().map(|place| u64::from(place.words)).sum();
        let budget_words = u64::from(self.maps.max_chunks()) * u64::from(CHUNK_WORDS);
        if words > CHUNK_WORDS || own_words + u64::from(words) > budget_words / 2 {
            return Err(NoRoom::TooLarge);
        }
        loop {
            self.heap.settle(monotonic_ns().saturating_sub(WALK_NS));
            if let Some(place) = self.heap.take(words) {
                return Ok(place);
            }
            if self.maps.chunks() < self.maps.max_chunks() {
                self.maps.add_chunk().map_err(NoRoom::Failed)?;
                self.heap.grow();
            } else if self.heap.is_waiting() {
                sleep(Duration::from_nanos(WALK_NS));
            } else if !self.evict_oldest() {
                return Err(NoRoom::TooLarge);
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
        let words: u64 = table.places.iter().map(|p| u64::from(p.words)).sum();
        table
            .places
            .into_iter()
            .for_each(|place| self.give_back(place));
        self.note_eviction(&table.binary, words * 4);
        self.displaced.insert(ix, table.binary);
        true
    }

    fn note_eviction(&mut self, binary: &Binary, table_bytes: u64) {
        let eviction = self.evictions.entry(binary.ix).or_insert(Eviction {
            binary: binary.ix,
            path: binary.path.clone(),
            table_bytes,
            times: 0,
        });
        eviction.times += 1;
    }
}

/// The index of a page, as `bpf/abi.h` has it; empty for a page of few rows.
fn index_of(rows: &[UnwindRow]) -> Vec<u16> {
    if rows.len() < INDEXED_ROWS {
        return Vec::new();
    }
    (0..PAGE_BUCKETS)
        .map(|bucket| rows.partition_point(|row| usize::from(row.pc_low) < bucket << 8) as u16)
        .collect()
}

fn entry_without(why: Why) -> UnwindTableEntry {
    UnwindTableEntry {
        without: why as u32,
        ..UnwindTableEntry::default()
    }
}

fn words_of(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(4)
}
