//! One program with all that tells its names: its own symbols and debug information, or those of separate files.
//!
//! In: the program's file, and candidates for its debug information. Out: functions for addresses. The order of trust:
//! debug information, the symbol table, MiniDebugInfo, the dynamic symbols. A candidate of another build is refused and
//! said.

use std::collections::HashMap;
use std::fs::File;

use super::super::demangle::demangle;
use super::super::go::GoTable;
use super::super::wire::{Candidate, Check, NameRequest, Named, NamedFunction, Wanted};
use super::Fetch;
use super::dwarf::{DebugInfo, Found};
use super::image::{Image, Why, crc};
use super::symbols;
use crate::profile::{BuildId, ElfAddr};

/// More notes than this from one request are not passed on.
const MAX_NOTES: usize = 32;

/// Of a larger file the checksum is not taken: at some GB a second it takes long enough.
const MAX_LINKED_BYTES: u64 = 8 << 30;

/// The programs a worker knows.
pub(super) struct Programs {
    limit: u64,
    known: HashMap<u32, Program>,
}

impl Programs {
    /// `limit` bounds what a section may have unpacked.
    pub fn new(limit: u64) -> Programs {
        Programs {
            limit,
            known: HashMap::new(),
        }
    }

    pub fn name(
        &mut self,
        request: &NameRequest,
        files: Vec<File>,
        fetch: &mut dyn Fetch,
    ) -> Named {
        let mut notes = Vec::new();
        if request.new {
            match Program::open(request, files, self.limit, fetch, &mut notes) {
                Ok(program) => _ = self.known.insert(request.program, program),
                Err(why) => {
                    notes.push(why);
                    return unreadable(notes);
                }
            }
        }
        let Some(program) = self.known.get_mut(&request.program) else {
            return unreadable(notes);
        };
        let found = program.look_up(&request.addrs, fetch, &mut notes);
        notes.truncate(MAX_NOTES);
        let mut named = Named {
            notes,
            ..Named::default()
        };
        let mut texts = Texts::default();
        named.frames = found.iter().map(|frames| texts.functions(frames)).collect();
        named.texts = texts.all;
        named
    }
}

fn unreadable(notes: Vec<String>) -> Named {
    Named {
        notes,
        unreadable: true,
        ..Named::default()
    }
}

/// What is read of a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sources {
    All,
    SymbolTables,
}

struct Program {
    path: String,
    /// Most bytes a section may have unpacked.
    limit: u64,
    build_id: Option<BuildId>,
    debug: Option<DebugInfo>,
    /// The function table of a Go program that has nothing else.
    go: Option<GoTable>,
    /// Files with a symbol table: itself, of its debug information, MiniDebugInfo.
    images: Vec<Image>,
}

impl Program {
    fn open(
        request: &NameRequest,
        files: Vec<File>,
        limit: u64,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Result<Program, Why> {
        let build_id = request.build_id.as_deref().and_then(BuildId::from_hex);
        let mut candidates = request.files.iter().cloned().zip(files).peekable();
        let itself = candidates.next_if(|(candidate, _)| candidate.check == Check::Itself);
        let (path, image) = match &itself {
            Some((own, file)) => {
                let image = Image::of(file, limit)
                    .map_err(|why| format!("`{}` cannot be read: {why}.", own.path))?;
                (own.path.clone(), Some(image))
            }
            None => (request.path.clone(), None),
        };
        let sources = if request.symbols_only {
            Sources::SymbolTables
        } else {
            Sources::All
        };
        let mut program = Program {
            path,
            limit,
            build_id,
            debug: None,
            go: None,
            images: Vec::new(),
        };
        if let Some(image) = image {
            program.build_id = image.build_id();
            let path = program.path.clone();
            program.add(image, &path, sources, fetch, notes);
        }
        // Reading other files may be what has failed before.
        if sources == Sources::All || program.images.is_empty() {
            program.take(candidates, sources, fetch, notes);
        }
        if let Some(build_id) = program.lacks_debug_info(sources) {
            let found = fetch.fetch(Wanted::DebugInfo { build_id });
            program.take(found.into_iter(), sources, fetch, notes);
        }
        if !program.has_symbol_table() {
            program.add_mini(notes);
        }
        if let Some((_, file)) = &itself
            && program.may_be_go()
        {
            // Most programs are not Go's: that none is found says nothing.
            program.go = GoTable::read(file).ok();
        }
        match program.images.is_empty() {
            true => Err(format!(
                "No file of the build of `{}` was found.",
                program.path
            )),
            false => Ok(program),
        }
    }

    /// Takes what an image of this build has to tell.
    fn add(
        &mut self,
        image: Image,
        path: &str,
        sources: Sources,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) {
        let wanted = sources == Sources::All && self.debug.is_none();
        if wanted && image.has(".debug_info") {
            self.debug = debug_info(&image, path, fetch, notes);
        }
        self.images.push(image);
    }

    /// Whether Go's function table is the best there may be. Without sections it is searched for in the whole file.
    fn may_be_go(&self) -> bool {
        let has_section = |image: &Image| image.has(".gopclntab");
        let told = self.images.first().is_some_and(has_section);
        self.debug.is_none() && (told || !self.has_symbol_table())
    }

    fn has_symbol_table(&self) -> bool {
        let has = |image: &Image| !image.elf.elf_symbol_table().is_empty();
        self.images.iter().any(has)
    }

    fn add_mini(&mut self, notes: &mut Vec<String>) {
        match self.images.first().map_or(Ok(None), Image::mini) {
            Ok(mini) => self.images.extend(mini),
            Err(why) => notes.push(format!(
                "`.gnu_debugdata` of `{}` is not used: {why}.",
                self.path
            )),
        }
    }

    /// The build whose debug information is still sought.
    fn lacks_debug_info(&self, sources: Sources) -> Option<String> {
        let lacks = sources == Sources::All && self.debug.is_none();
        Some(self.build_id.filter(|_| lacks)?.to_string())
    }

    /// Takes what is still lacking from the first candidates that have it.
    fn take(
        &mut self,
        candidates: impl Iterator<Item = (Candidate, File)>,
        sources: Sources,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) {
        for (candidate, file) in candidates {
            let wants_debug_info = sources == Sources::All && self.debug.is_none();
            if !wants_debug_info && self.has_symbol_table() {
                return;
            }
            match self.checked(&candidate, &file) {
                Ok(image) => self.add(image, &candidate.path, sources, fetch, notes),
                Err(why) => notes.push(format!(
                    "`{}` is not used for `{}`: {why}.",
                    candidate.path, self.path
                )),
            }
        }
    }

    /// A candidate, if it is of this build.
    fn checked(&self, candidate: &Candidate, file: &File) -> Result<Image, Why> {
        if let Check::Crc(expected) = candidate.check {
            let bytes = file.metadata().map_or(0, |meta| meta.len());
            if bytes > MAX_LINKED_BYTES {
                return Err(format!("with {bytes} bytes it is too large to be checked"));
            }
            let found = crc(file).map_err(|why| why.to_string())?;
            if found != expected {
                // What it is stays unsaid: the link may name a file whose content is none of the target's business.
                return Err(format!("its CRC is not the {expected:08x} of the link"));
            }
        }
        let image = Image::of(file, self.limit)?;
        match (self.build_id, image.build_id()) {
            (Some(own), Some(other)) if own == other => Ok(image),
            (None, _) | (_, None) if matches!(candidate.check, Check::Crc(_)) => Ok(image),
            (Some(own), Some(other)) => Err(format!("its build ID is {other}, not {own}")),
            _ => Err("it has no build ID to compare".into()),
        }
    }

    /// What stands at each address, innermost function first.
    fn look_up(
        &mut self,
        addrs: &[u64],
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Vec<Vec<Found>> {
        let mut sorted: Vec<u64> = addrs.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let symbols = self.symbols(&sorted);
        let frames = match &mut self.debug {
            Some(debug) => debug.look_up(&sorted, fetch, notes),
            None => vec![Vec::new(); sorted.len()],
        };
        let joined = frames.into_iter().zip(symbols);
        let joined = joined.map(|(frames, symbol)| joined_with(frames, symbol));
        let mut found: HashMap<u64, Vec<Found>> = sorted.iter().copied().zip(joined).collect();
        if let Some(go) = &self.go {
            for (addr, frames) in &mut found {
                if let Some(functions) = go.look_up(ElfAddr(*addr)) {
                    *frames = functions.into_iter().map(Found::from).collect();
                }
            }
        }
        addrs
            .iter()
            .map(|addr| found.get(addr).cloned().unwrap_or_default())
            .collect()
    }

    /// The symbol of each address (ascending), by the first table that knows it.
    fn symbols(&self, addrs: &[u64]) -> Vec<Option<&'static str>> {
        let mut names = vec![None; addrs.len()];
        for image in &self.images {
            if names.iter().all(Option::is_some) {
                break;
            }
            let more = symbols::look_up(image, addrs);
            for (name, other) in names.iter_mut().zip(more) {
                *name = name.or(other);
            }
        }
        names
    }
}

fn debug_info(
    image: &Image,
    path: &str,
    fetch: &mut dyn Fetch,
    notes: &mut Vec<String>,
) -> Option<DebugInfo> {
    match DebugInfo::of(image, path, fetch, notes) {
        Ok(debug) => Some(debug),
        Err(why) => {
            notes.push(format!("Debug information of `{path}` is not used: {why}."));
            None
        }
    }
}

/// Frames of debug information, with the symbol where they lack the function's name.
fn joined_with(mut frames: Vec<Found>, symbol: Option<&str>) -> Vec<Found> {
    match (frames.last_mut(), symbol) {
        (Some(outermost), symbol) => {
            if outermost.name.is_none() {
                outermost.name = symbol.map(str::to_owned);
            }
        }
        (None, Some(symbol)) => frames.push(Found {
            name: Some(symbol.to_owned()),
            ..Found::default()
        }),
        (None, None) => {}
    }
    frames.retain(|frame| frame.name.is_some());
    frames
}

/// Texts of an answer, each once.
#[derive(Default)]
struct Texts {
    all: Vec<String>,
    index: HashMap<String, u32>,
    /// By the linkage name's position.
    demangled: HashMap<u32, u32>,
}

impl Texts {
    fn functions(&mut self, frames: &[Found]) -> Vec<NamedFunction> {
        frames.iter().map(|frame| self.function(frame)).collect()
    }

    fn function(&mut self, found: &Found) -> NamedFunction {
        let linkage_name = self.position(found.name.as_deref().unwrap_or(""));
        let name = match self.demangled.get(&linkage_name) {
            Some(name) => *name,
            None => {
                let display = demangle(&self.all[linkage_name as usize]);
                let name = self.position(&display);
                self.demangled.insert(linkage_name, name);
                name
            }
        };
        NamedFunction {
            name,
            linkage_name,
            file: self.position(&found.file),
            line: found.line,
        }
    }

    fn position(&mut self, text: &str) -> u32 {
        if let Some(position) = self.index.get(text) {
            return *position;
        }
        let position = self.all.len() as u32;
        self.all.push(text.to_owned());
        self.index.insert(text.to_owned(), position);
        position
    }
}
