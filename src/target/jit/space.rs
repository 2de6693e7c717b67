//! The generated code of one process, since its last `exec`: what tells of it, and how far that has been read.
//!
//! In: looks. Out: a [`CodeTable`] that grows. It does not know other processes.

use std::collections::HashMap;
use std::fs::File;
use std::iter;

use crate::sys::usage::monotonic_ns;

use super::dump_file::DumpFile;
use super::map_file::{self, MapFile, Refusal};
use super::owner::Owner;
use super::table::{Budget, CodeTable};
use super::{PlaceIx, SpaceIx};

/// Jitdumps of one process.
const MAX_DUMPS: usize = 4;

/// A map that is not there is looked for after this time, then ever more rarely.
const FIRST_SEARCH_NS: u64 = 20_000_000;
const LAST_SEARCH_NS: u64 = 1_000_000_000;

/// Looks at the end: enough for the largest map.
const MAX_LAST_LOOKS: usize = 1024;

/// Regions without trampolines, after which no other is looked at.
const MAX_VAIN_LOOKS: u32 = 32;

#[derive(Debug)]
pub(super) struct Space {
    pub pid: u32,
    /// Whose memory it began with, and when.
    pub parent: Option<(SpaceIx, u64)>,
    /// `None` when the process was gone at first sight, and after its end.
    owner: Option<Owner>,
    pub map: MapFile,
    /// Paths as the process sees them: of the map, then of the dumps. A source's number is its position here.
    pub sources: Vec<String>,
    dumps: Vec<DumpFile>,
    pub table: CodeTable,
    /// Places of pieces that have one.
    pub places: HashMap<u32, PlaceIx>,
    /// Changes with every news.
    pub version: u32,
    pub news_until_ns: u64,
    /// The place of what was not known in a version.
    pub unknown: Option<(u32, PlaceIx)>,
    pub search_at_ns: u64,
    search_every_ns: u64,
    /// Regions that were looked at for trampolines in vain.
    pub without_trampolines: u32,
}

impl Space {
    pub fn new(pid: u32, began_ns: u64, parent: Option<(SpaceIx, u64)>) -> Space {
        let owner = Owner::of(pid, began_ns);
        Space {
            pid,
            parent,
            sources: vec![owner.as_ref().map_or_else(String::new, map_file::path_of)],
            owner,
            map: MapFile::default(),
            dumps: Vec::new(),
            table: CodeTable::default(),
            places: HashMap::new(),
            version: 0,
            news_until_ns: 0,
            unknown: None,
            search_at_ns: 0,
            search_every_ns: FIRST_SEARCH_NS,
            without_trampolines: 0,
        }
    }

    pub fn follow_dump(&mut self, path: &str, file: &File) {
        if self.dumps.len() >= MAX_DUMPS || self.sources.iter().any(|known| known == path) {
            return;
        }
        if let Ok(file) = file.try_clone() {
            self.sources.push(path.to_owned());
            self.dumps.push(DumpFile::new(file));
        }
    }

    /// Reads what is new.
    pub fn look(&mut self, now_ns: u64, budget: &mut Budget) {
        let mut news = None;
        let may_search = now_ns >= self.search_at_ns && !self.map.is_over();
        if let Some(owner) = &self.owner
            && (self.map.is_open() || may_search)
        {
            self.search_every_ns = (self.search_every_ns * 2).min(LAST_SEARCH_NS);
            self.search_at_ns = now_ns + self.search_every_ns;
            news = self.map.poll(owner, 0, &mut self.table, budget);
        }
        for (ix, dump) in self.dumps.iter_mut().enumerate() {
            news = news.max(dump.poll(1 + ix as u32, &mut self.table, budget));
        }
        if let Some(until_ns) = news {
            self.version += 1;
            self.news_until_ns = self.news_until_ns.max(until_ns);
        }
    }

    /// Reads all that is there, and lets go of the files.
    pub fn end(&mut self, budget: &mut Budget) {
        for _ in 0..MAX_LAST_LOOKS {
            self.search_at_ns = 0;
            self.look(monotonic_ns(), budget);
            if !self.map.is_behind() && !self.dumps.iter().any(DumpFile::is_behind) {
                break;
            }
        }
        self.owner = None;
        self.map.close();
        self.dumps.iter_mut().for_each(DumpFile::close);
    }

    pub fn may_have_trampolines(&self) -> bool {
        self.without_trampolines < MAX_VAIN_LOOKS
    }

    /// Of the map, or else the first dump, that there is.
    pub fn path(&self) -> Option<&str> {
        let has_map = self.map.found || self.map.refusal.is_some();
        let ix = usize::from(!has_map);
        self.sources.get(ix).map(String::as_str)
    }

    pub fn has_source(&self) -> bool {
        self.map.found || !self.dumps.is_empty()
    }

    /// What was not used, or not all of it, and why.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &Refusal)> {
        let of_dumps = self.dumps.iter().map(|dump| dump.refusal.as_ref());
        let all = iter::once(self.map.refusal.as_ref()).chain(of_dumps);
        let with_path = self.sources.iter().zip(all);
        with_path.filter_map(|(path, refusal)| Some((path.as_str(), refusal?)))
    }
}
