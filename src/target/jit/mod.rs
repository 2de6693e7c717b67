//! Code that processes generate while they run: whose it is, what they say of it, and from when on.
//!
//! In: first sights of executable memory that is no file, forks and ends, in order of time; and a look at the maps
//! before each batch of events. Out: for an address at a moment, a [`PlaceIx`], which keeps its meaning; and at the end,
//! names.
//!
//! Two sources: perf maps (`map_file`) and jitdumps (`dump_file`). Each address space since its last `exec` has a
//! space of its own. A forked child begins with what its parent had said by then, since it has the parent's memory,
//! and goes on with a map of its own. Addresses are used again, so what was found for a tick is what stood there then
//! (`table`). A process without generated code has no space and costs nothing.

mod dump_file;
mod dump_record;
mod growing;
pub mod jvm;
mod map_file;
mod owner;
mod perf_map;
mod space;
mod table;
pub mod trampolines;

use std::collections::{HashMap, VecDeque};
use std::fs::File;

use crate::profile::{RuntimeAddr, Unresolved};
use crate::sys::usage::monotonic_ns;

use space::Space;
use table::Budget;

pub use dump_file::is_dump;
pub use map_file::Refusal;
pub use table::Known;

/// More processes than this have no map read: each keeps up to three files open.
const MAX_SPACES: usize = 4096;

/// Shortest time between two looks at the maps.
const LOOK_NS: u64 = 10_000_000;

/// Spaces looked at in one go; the others have their turn next.
const MAX_LOOKS: usize = 128;

/// Forks of forks whose ancestors are asked.
const MAX_ANCESTORS: usize = 16;

/// Position of a process's address space, since its last `exec`, in [`GeneratedCode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpaceIx(u32);

/// A piece of generated code, or what is not known yet at a moment.
pub type PlaceIx = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A piece in a space's table.
    Piece { space: SpaceIx, piece: u32 },
    /// Nothing was known at that time.
    Unknown { space: SpaceIx, at_ns: u64 },
}

/// The generated code of all processes of a recording.
#[derive(Debug, Default)]
pub struct GeneratedCode {
    spaces: Vec<Space>,
    /// Those that may bring news, in the order in which they have their turn.
    followed: VecDeque<SpaceIx>,
    places: Vec<Place>,
    budget: Budget,
    looked_ns: u64,
    /// Processes that were too many to have their maps read.
    not_followed: u64,
}

impl GeneratedCode {
    /// A process has executable memory that is no file's. `began_ns` is when its program began, 0 where that is when the
    /// process began.
    pub fn begin(&mut self, pid: u32, began_ns: u64) -> Option<SpaceIx> {
        self.add(pid, began_ns, None)
    }

    /// A process with generated code was forked. Where there are too many, it goes on with its parent's.
    pub fn fork(&mut self, parent: SpaceIx, pid: u32, at_ns: u64) -> SpaceIx {
        self.add(pid, 0, Some((parent, at_ns))).unwrap_or(parent)
    }

    fn add(&mut self, pid: u32, began_ns: u64, parent: Option<(SpaceIx, u64)>) -> Option<SpaceIx> {
        if self.spaces.len() >= MAX_SPACES {
            self.not_followed += 1;
            return None;
        }
        let ix = SpaceIx(self.spaces.len() as u32);
        self.spaces.push(Space::new(pid, began_ns, parent));
        self.followed.push_back(ix);
        Some(ix)
    }

    /// The process has mapped a jitdump. What its parent had mapped is the parent's.
    pub fn follow_dump(&mut self, space: SpaceIx, path: &str, file: &File) {
        self.spaces[space.0 as usize].follow_dump(path, file);
    }

    /// The process has ended, or become another program.
    pub fn end(&mut self, space: SpaceIx, pid: u32) {
        if self.spaces[space.0 as usize].pid != pid {
            return; // its parent's
        }
        self.followed.retain(|followed| *followed != space);
        self.spaces[space.0 as usize].end(&mut self.budget);
    }

    /// Looking into memory costs little, but some runtimes change their regions all the time.
    pub fn may_look_for_trampolines(&self, space: SpaceIx) -> bool {
        self.spaces[space.0 as usize].may_have_trampolines()
    }

    pub fn looked_for_trampolines(&mut self, space: SpaceIx, found: bool) {
        let vain = &mut self.spaces[space.0 as usize].without_trampolines;
        *vain = if found { 0 } else { *vain + 1 };
    }

    /// Whether a map of it was found.
    pub fn has_map(&self, space: SpaceIx) -> bool {
        self.spaces[space.0 as usize].map.found
    }

    /// Looks for news, unless it has just been done.
    pub fn look(&mut self) {
        if self.followed.is_empty() {
            return;
        }
        let now_ns = monotonic_ns();
        if now_ns < self.looked_ns + LOOK_NS {
            return;
        }
        self.looked_ns = now_ns;
        for _ in 0..self.followed.len().min(MAX_LOOKS) {
            self.followed.rotate_left(1);
            if let Some(ix) = self.followed.back() {
                self.spaces[ix.0 as usize].look(now_ns, &mut self.budget);
            }
        }
    }

    /// Reads all that is there: the recording ends.
    pub fn look_for_the_last_time(&mut self) {
        for ix in std::mem::take(&mut self.followed) {
            self.spaces[ix.0 as usize].end(&mut self.budget);
        }
    }

    /// A number that stays the same as long as addresses of a process mean the same at that time and later; `None` where
    /// that depends on the very moment.
    pub fn state(&self, space: SpaceIx, at_ns: u64) -> Option<u64> {
        let found = &self.spaces[space.0 as usize];
        let state = u64::from(space.0 + 1) << 32 | u64::from(found.version);
        (at_ns >= found.news_until_ns).then_some(state)
    }

    /// What stood at an address then.
    pub fn place(&mut self, space: SpaceIx, addr: RuntimeAddr, at_ns: u64) -> PlaceIx {
        if let Some((of, piece)) = self.find(space, addr, at_ns) {
            return self.place_of_piece(of, piece);
        }
        let next = self.places.len() as PlaceIx;
        let found = &mut self.spaces[space.0 as usize];
        match found.unknown {
            Some((version, place)) if version == found.version => place,
            _ => {
                found.unknown = Some((found.version, next));
                self.places.push(Place::Unknown { space, at_ns });
                next
            }
        }
    }

    fn place_of_piece(&mut self, space: SpaceIx, piece: u32) -> PlaceIx {
        let next = self.places.len() as PlaceIx;
        let places = &mut self.spaces[space.0 as usize].places;
        let place = *places.entry(piece).or_insert(next);
        if place == next {
            self.places.push(Place::Piece { space, piece });
        }
        place
    }

    /// The piece at an address: of the process itself, else of the process it was forked from; of a later time where
    /// neither had said anything by then.
    fn find(&self, space: SpaceIx, addr: RuntimeAddr, at_ns: u64) -> Option<(SpaceIx, u32)> {
        let mut later = None;
        let (mut ix, mut at_ns) = (space, at_ns);
        for _ in 0..MAX_ANCESTORS {
            let space = &self.spaces[ix.0 as usize];
            let found = space.table.find(addr.0, at_ns);
            if let Some(piece) = found.then {
                return Some((ix, piece));
            }
            later = later.or(found.later.map(|piece| (ix, piece)));
            let Some((parent, forked_ns)) = space.parent else {
                break;
            };
            (ix, at_ns) = (parent, at_ns.min(forked_ns));
        }
        later
    }

    /// What is known by now of an address in a place; else why it is not.
    fn look_up(&self, place: PlaceIx, addr: u64) -> Result<Known, Unresolved> {
        let (space, piece) = match self.places.get(place as usize) {
            Some(Place::Piece { space, piece }) => (*space, Some(*piece)),
            Some(Place::Unknown { space, at_ns }) => {
                match self.find(*space, RuntimeAddr(addr), *at_ns) {
                    Some((space, piece)) => (space, Some(piece)),
                    None => (*space, None),
                }
            }
            None => return Err(Unresolved::Jit),
        };
        match piece {
            Some(piece) => Ok(self.spaces[space.0 as usize].table.known(piece, addr)),
            None => Err(self.why_unknown(space)),
        }
    }

    fn why_unknown(&self, space: SpaceIx) -> Unresolved {
        let line = self.line_of(space);
        if line.clone().any(|space| space.refusals().next().is_some()) {
            Unresolved::JitMapRefused
        } else if line.clone().any(Space::has_source) {
            Unresolved::NotInJitMap
        } else {
            Unresolved::Jit
        }
    }

    /// A space and those it was forked from.
    fn line_of(&self, space: SpaceIx) -> impl Iterator<Item = &Space> + Clone {
        let space = self.spaces.get(space.0 as usize);
        let parent = |space: &&Space| self.spaces.get(space.parent?.0.0 as usize);
        std::iter::successors(space, parent).take(MAX_ANCESTORS)
    }

    /// Path of the file that told of the code at an address, or did not although it should, as the process sees it.
    fn source(&self, place: PlaceIx, addr: u64) -> Option<&str> {
        let (space, piece) = match self.places.get(place as usize)? {
            Place::Piece { space, piece } => (*space, Some(*piece)),
            Place::Unknown { space, at_ns } => match self.find(*space, RuntimeAddr(addr), *at_ns) {
                Some((of, piece)) => (of, Some(piece)),
                None => (*space, None),
            },
        };
        let Some(piece) = piece else {
            return self.line_of(space).find_map(Space::path);
        };
        let space = self.spaces.get(space.0 as usize)?;
        let source = space.table.source(piece) as usize;
        space.sources.get(source).map(String::as_str)
    }

    /// What is known by now of addresses in places, to be kept while the tables go on.
    pub fn names_of(&self, addrs: impl Iterator<Item = (PlaceIx, u64)>) -> CodeNames {
        let named = addrs.map(|(place, addr)| {
            let source = self.source(place, addr).map(str::to_owned);
            ((place, addr), (self.look_up(place, addr), source))
        });
        CodeNames(named.collect())
    }

    /// What was wrong with the maps so far.
    pub fn problems(&self) -> MapProblems {
        let refused = self.spaces.iter().flat_map(|space| {
            let told =
                move |(path, why): (&str, &Refusal)| (space.pid, path.to_owned(), why.to_string());
            space.refusals().map(told)
        });
        let bad = self.spaces.iter().filter(|space| space.map.bad_lines > 0);
        let bad_lines = bad.map(|space| (space.pid, space.sources[0].clone(), space.map.bad_lines));
        MapProblems {
            refused: refused.collect(),
            bad_lines: bad_lines.collect(),
            not_followed: self.not_followed,
        }
    }
}

/// What was wrong with maps of generated code.
#[derive(Clone, Debug, Default)]
pub struct MapProblems {
    /// Maps that were not used, or not all of them: the process, the path as it sees it, and why.
    pub refused: Vec<(u32, String, String)>,
    /// Lines of maps that are not understood: the process, the path as it sees it, and how many.
    pub bad_lines: Vec<(u32, String, u64)>,
    /// Processes that were too many to have their maps read.
    pub not_followed: u64,
}

/// What an address is, or why nobody knows, and what stands beside it.
type Named = (Result<Known, Unresolved>, Option<String>);

/// What was known of addresses of generated code at one time.
#[derive(Debug, Default)]
pub struct CodeNames(HashMap<(PlaceIx, u64), Named>);

impl CodeNames {
    /// What is known of an address in a place; else why it is not.
    pub fn look_up(&self, place: PlaceIx, addr: u64) -> Result<&Known, Unresolved> {
        match self.0.get(&(place, addr)) {
            Some((found, _)) => found.as_ref().map_err(|why| *why),
            None => Err(Unresolved::Jit),
        }
    }

    /// Path of the file that told of it, or should have, as the process sees it.
    pub fn source(&self, place: PlaceIx, addr: u64) -> Option<&str> {
        self.0.get(&(place, addr))?.1.as_deref()
    }
}

#[cfg(test)]
mod tests;
