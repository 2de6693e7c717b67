//! Unwind tables and mappings on their way into the kernel.
//!
//! In: the mappings of a process, whenever they have changed. Out: tables of its binaries in the heap, its mappings as
//! an address space, and a list of binaries for which there was no room.
//!
//! Processes with equal mappings (a server's workers) share an address space. It is never changed in place: other
//! mappings get a new number, which also makes the rules remembered under the old one unreachable.

mod builder;
mod heap;
mod resident;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use zerocopy::IntoBytes;

use crate::sys::abi::{
    ADDRESS_SPACE_BITS, AddressSpace, MAX_ADDRESS_SPACE_ID, MAX_SPANS, UnwindSpan,
};
use crate::sys::unwind_maps::UnwindMaps;
use crate::target::mappings::{MappedRegion, Mappings};

use crate::arch::USER_BITS;

use heap::Place;
use resident::Resident;

pub use resident::Eviction;

/// Mappings that are kept for stacks on their way, in regions: some 10 MB, and many times what changes meanwhile.
const MAX_REMEMBERED: usize = 100_000;

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

/// Why the kernel does not know the mappings of a process: its stacks are copied meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum NotUploaded {
    #[error("the BPF maps cannot be written")]
    Maps(#[from] libbpf_rs::Error),
    #[error("all numbers of address spaces are used up")]
    NoNumber,
    #[error("no room for the mappings")]
    NoRoom,
}

/// Keeps the kernel's tables in step with the processes.
#[derive(Debug)]
pub struct Uploader {
    resident: Resident,
    by_generation: HashMap<u64, Space>,
    of_process: HashMap<u32, u64>,
    /// What each address space stands for, also of those that are given up: their last stacks are on the way.
    by_id: BTreeMap<u32, Rc<Mappings>>,
    /// Regions of all these.
    remembered: usize,
    /// [`AddressSpace::id`] of the last one made.
    last_id: u32,
    made: u32,
}

impl Uploader {
    pub fn new(maps: UnwindMaps) -> Uploader {
        Uploader {
            resident: Resident::new(maps),
            by_generation: HashMap::new(),
            of_process: HashMap::new(),
            by_id: BTreeMap::new(),
            remembered: 0,
            last_id: 0,
            made: 0,
        }
    }

    /// Makes the kernel know these mappings of a process, and the tables of their binaries.
    pub fn sync(&mut self, pid: u32, mappings: &Rc<Mappings>) -> Result<(), NotUploaded> {
        let generation = mappings.generation();
        if self.of_process.get(&pid) == Some(&generation) {
            return Ok(());
        }
        if !self.by_generation.contains_key(&generation) {
            // What the kernel knew of the process holds no longer.
            let space = self.upload(mappings).inspect_err(|_| self.forget(pid))?;
            self.by_generation.insert(generation, space);
        }
        let space = self.by_generation.get_mut(&generation).expect("just made");
        space.processes += 1;
        let known = self.resident.maps.set_address_space(pid, &space.entry);
        if let Some(former) = self.of_process.insert(pid, generation) {
            self.release(former);
        }
        Ok(known?)
    }

    /// The process has ended, or has a new program.
    pub fn forget(&mut self, pid: u32) {
        if let Some(generation) = self.of_process.remove(&pid) {
            self.resident.maps.remove_address_space(pid);
            self.release(generation);
        }
    }

    /// The mappings a stack was walked by in the kernel; `None` when they were given up long ago.
    pub fn walked_by(&self, id: u32) -> Option<&Rc<Mappings>> {
        self.by_id.get(&id)
    }

    /// A stack has shown this binary.
    pub fn seen(&mut self, binary: u32) {
        self.resident.seen(binary);
    }

    /// A walk ended for want of this binary's table.
    pub fn missed(&mut self, binary: u32) {
        self.resident.missed(binary);
    }

    /// From now on samples come: large tables are built aside.
    pub fn build_aside(&mut self) {
        self.resident.build_aside();
    }

    /// Whether tables are on their way.
    pub fn is_building(&self) -> bool {
        self.resident.is_building()
    }

    /// Takes tables that were built meanwhile, and brings back one that was missed.
    pub fn reload(&mut self) -> Result<(), NotUploaded> {
        self.resident.take_built()?;
        Ok(self.resident.reload()?)
    }

    /// Binaries whose tables had to give way.
    pub fn evictions(&self) -> impl Iterator<Item = &Eviction> {
        self.resident.evictions()
    }

    pub fn figures(&self) -> UploadFigures {
        UploadFigures {
            tables: self.resident.tables(),
            rows: self.resident.rows,
            heap_bytes: self.resident.heap_bytes(),
            address_spaces: self.made,
            build_ns: self.resident.build_ns,
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
            self.resident.give_back(place);
        }
    }

    fn remember(&mut self, id: u32, mappings: &Rc<Mappings>, regions: usize) {
        self.by_id.insert(id, mappings.clone());
        self.remembered += regions;
        while self.remembered > MAX_REMEMBERED
            && self.by_id.len() > 1
            && let Some((_, oldest)) = self.by_id.pop_first()
        {
            self.remembered -= oldest.regions().count().min(self.remembered);
        }
    }

    fn upload(&mut self, mappings: &Rc<Mappings>) -> Result<Space, NotUploaded> {
        let id = next_id(self.last_id).ok_or(NotUploaded::NoNumber)?;
        let mut spans = Vec::new();
        // Above is what the kernel itself maps (`[vsyscall]`), in addresses its walker does not compare.
        let of_user = |region: &&MappedRegion| region.end.0 >> USER_BITS == 0;
        for region in mappings.regions().filter(of_user).take(MAX_SPANS) {
            self.resident.make_known(&region.binary)?;
            spans.push(span_of(region));
        }
        let place = match spans.len() {
            0 => None,
            _ => Some(
                self.resident
                    .put_apart(spans.as_bytes())?
                    .ok_or(NotUploaded::NoRoom)?,
            ),
        };
        self.last_id = id;
        self.made += 1;
        self.remember(id, mappings, spans.len());
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
}

/// The next number whose lower bits are not zero.
fn next_id(last: u32) -> Option<u32> {
    let lower = (1 << ADDRESS_SPACE_BITS) - 1;
    let next = if last & lower == lower {
        last + 2
    } else {
        last + 1
    };
    (next <= MAX_ADDRESS_SPACE_ID).then_some(next)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_address_spaces_are_unique_and_run_out() {
        let (mut id, mut count) = (0, 0u32);
        while let Some(next) = next_id(id) {
            assert!(next > id && next.trailing_zeros() < ADDRESS_SPACE_BITS);
            (id, count) = (next, count + 1);
        }
        assert_eq!(count, 64 * ((1 << ADDRESS_SPACE_BITS) - 1));
    }
}
