//! Functions, inlined functions, files and lines from DWARF.
//!
//! In: an image with debug information, a way to get the files it names, and addresses. Out: the functions at each. Only
//! units in which an address lies are read beyond their heads, one after the other, and nothing of them is kept: of a
//! program of hundreds of megabytes, the largest such unit is in memory, and not an index of all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gimli::{DebugInfoOffset, Dwarf, EndianSlice, LittleEndian, SectionId, UnitOffset, UnitRef};

use super::super::FoundFunction;
use super::super::wire::Wanted;
use super::Fetch;
use super::functions::{self, Chain};
use super::image::{Image, Why};
use super::lines::{self, Files, Place};
use super::names::Names;
use super::split::SplitUnits;
use super::units;
use crate::profile::BuildId;
use crate::sys::file_map::FileMap;

pub(super) type Bytes = EndianSlice<'static, LittleEndian>;

/// Pages of the file are given back after so many units: around each name that is read the kernel maps 64 KiB.
const UNITS_IN_MEMORY: usize = 4;

/// A longer name or path is cut.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// A function at an address, as debug information has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Linkage name where there is one; `None` where only the line is known.
    pub name: Option<String>,
    /// Empty where unknown.
    pub file: String,
    /// 0 where unknown.
    pub line: u32,
}

impl From<FoundFunction> for Found {
    fn from(function: FoundFunction) -> Found {
        Found {
            name: Some(function.linkage_name),
            file: function.file,
            line: function.line,
        }
    }
}

/// Debug information ready to be asked.
pub(super) struct DebugInfo {
    path: String,
    dwarf: Arc<Dwarf<Bytes>>,
    split: SplitUnits,
    map: Option<&'static FileMap>,
}

/// Where a frame's names and lines are to be read.
type Frames = Vec<Vec<Found>>;

impl DebugInfo {
    /// Of an image at `path`.
    pub fn of(
        image: &Image,
        path: &str,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Result<DebugInfo, Why> {
        let mut dwarf = load(image, |id| Some(id.name()))?;
        if let Some(supplement) = supplement(image, path, fetch, notes) {
            dwarf.set_sup(supplement);
        }
        Ok(DebugInfo {
            path: path.to_owned(),
            dwarf: Arc::new(dwarf),
            split: SplitUnits::beside(path, image.limit()),
            map: image.map(),
        })
    }

    /// What stands at each of `addrs` (ascending), innermost function first; empty where nothing is known. Says in `notes`
    /// what could not be read.
    pub fn look_up(
        &mut self,
        addrs: &[u64],
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Frames {
        let mut frames: Frames = vec![Vec::new(); addrs.len()];
        let mut first_failure = None;
        let map = self.map;
        let forget = || map.into_iter().for_each(FileMap::forget);
        let hits = units::with_code_at(&self.dwarf, addrs, &forget).unwrap_or_else(|why| {
            first_failure = Some(why);
            BTreeMap::new()
        });
        let mut names = Names::default();
        for (ix, (unit, hits)) in hits.into_iter().enumerate() {
            if ix % UNITS_IN_MEMORY == 0 {
                forget();
            }
            let wanted: Vec<u64> = hits.iter().map(|hit| addrs[*hit]).collect();
            match self.in_unit(unit, &wanted, &mut names, fetch, notes) {
                Ok(found) => {
                    for (hit, found) in hits.into_iter().zip(found) {
                        // Units can claim the same code; the one that has a function there is right.
                        if knows_more(&found, &frames[hit]) {
                            frames[hit] = found;
                        }
                    }
                }
                Err(why) => first_failure = first_failure.or(Some(why)),
            }
        }
        if let Some(why) = first_failure {
            notes.push(format!(
                "Debug information of `{}` is damaged in part: {why}.",
                self.path
            ));
        }
        frames
    }

    /// What one unit says of addresses in it.
    fn in_unit(
        &mut self,
        offset: usize,
        addrs: &[u64],
        names: &mut Names,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Result<Frames, gimli::Error> {
        let dwarf = self.dwarf.clone();
        let header = dwarf.unit_header(DebugInfoOffset(offset))?;
        let skeleton = dwarf.unit(header)?;
        let skeleton = skeleton.unit_ref(&dwarf);
        // Lines are always in the main file; functions may be in a split unit.
        let places = lines::look_up(skeleton, addrs)?;
        let split = match skeleton.dwo_id {
            Some(id) => self.split.find(id, skeleton, fetch, notes)?,
            None => None,
        };
        let mut files = Files::default();
        let mut frames = Vec::with_capacity(addrs.len());
        let mut of_split = Names::default();
        let (unit, names) = match &split {
            Some(split) => (split.unit_ref(), &mut of_split),
            None => (skeleton, names),
        };
        let mut known = HashMap::new();
        let chains = functions::look_up(unit, addrs)?;
        for (chain, place) in chains.into_iter().zip(places) {
            let mut name = |entry| -> Option<String> {
                let name = known.entry(entry).or_insert_with(|| names.of(unit, entry));
                name.clone()
            };
            frames.push(functions_of(&chain, place, skeleton, &mut files, &mut name));
        }
        Ok(frames)
    }
}

/// Innermost function first. The place of the innermost is the address's own; those around it are where they were called.
fn functions_of(
    chain: &Chain,
    place: Option<Place>,
    lines: UnitRef<'_, Bytes>,
    files: &mut Files,
    name: &mut dyn FnMut(UnitOffset) -> Option<String>,
) -> Vec<Found> {
    let mut found = Vec::new();
    let mut place = place.unwrap_or_default();
    let version = lines.header.version();
    for inlined in chain.inlined.iter().rev() {
        found.push(one(name(inlined.entry), place, lines, files));
        // Before DWARF 5, files are counted from 1.
        let file_known = inlined.call_file > 0 || version >= 5;
        place = Place {
            file: inlined.call_file,
            line: if file_known { inlined.call_line } else { 0 },
        };
    }
    if chain.function.is_some() || place.line > 0 {
        let name = chain.function.and_then(name);
        found.push(one(name, place, lines, files));
    }
    found
}

fn one(name: Option<String>, place: Place, lines: UnitRef<'_, Bytes>, files: &mut Files) -> Found {
    let file = match place.line {
        0 => String::new(),
        _ => files.path(lines, place.file).to_owned(),
    };
    Found {
        name,
        file,
        line: place.line,
    }
}

fn knows_more(found: &[Found], than: &[Found]) -> bool {
    let named = |frames: &[Found]| frames.last().is_some_and(|frame| frame.name.is_some());
    than.is_empty() || (named(found) && !named(than))
}

pub(super) fn shortened(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The DWARF sections of an image, under the names that `name` gives them.
pub(super) fn load(
    image: &Image,
    name: impl Fn(SectionId) -> Option<&'static str>,
) -> Result<Dwarf<Bytes>, Why> {
    Dwarf::load(|id| match name(id) {
        // Neither names nor lines are in these, and they are large.
        _ if is_unused(id) => Ok(EndianSlice::new(&[], LittleEndian)),
        Some(name) => Ok(EndianSlice::new(image.section(name)?, LittleEndian)),
        None => Ok(EndianSlice::new(&[], LittleEndian)),
    })
}

/// Locations of variables, macros and type units say nothing of functions and lines.
fn is_unused(id: SectionId) -> bool {
    matches!(
        id,
        SectionId::DebugLoc
            | SectionId::DebugLocLists
            | SectionId::DebugMacinfo
            | SectionId::DebugMacro
            | SectionId::DebugNames
            | SectionId::DebugPubNames
            | SectionId::DebugPubTypes
            | SectionId::DebugTypes
    )
}

/// What `dwz` has moved into a file that several debug files share.
fn supplement(
    image: &Image,
    path: &str,
    fetch: &mut dyn Fetch,
    notes: &mut Vec<String>,
) -> Option<Dwarf<Bytes>> {
    let (name, build_id) = supplement_link(image)?;
    let wanted = Wanted::Supplement {
        beside: path.to_owned(),
        name: name.clone(),
        build_id: build_id.to_string(),
    };
    let mut refused = false;
    for (candidate, file) in fetch.fetch(wanted) {
        let loaded = Image::of(&file, image.limit()).and_then(|supplement| {
            if supplement.identity() != Some(build_id) {
                return Err("it is of another build".into());
            }
            load(&supplement, |id| Some(id.name()))
        });
        match loaded {
            Ok(dwarf) => return Some(dwarf),
            Err(why) => {
                refused = true;
                notes.push(format!(
                    "`{}` is not used for `{path}`: {why}.",
                    candidate.path
                ));
            }
        }
    }
    if !refused {
        notes.push(format!(
            "`{path}` shares debug information with `{name}` (build ID {build_id}), which was not found: names of inlined functions may be missing."
        ));
    }
    None
}

/// Name and build ID of the supplement, by `.gnu_debugaltlink` or DWARF 5's `.debug_sup` (§7.3.6).
fn supplement_link(image: &Image) -> Option<(String, BuildId)> {
    use object::Object;
    if let Ok(Some((name, id))) = image.elf.gnu_debugaltlink() {
        let name = shortened(&String::from_utf8_lossy(name));
        return Some((name, BuildId::from_bytes(id)?));
    }
    let section = image.section(".debug_sup").ok()?;
    let (version, rest) = section.split_at_checked(2)?;
    let (is_supplement, rest) = rest.split_first()?;
    if version != [5, 0] || *is_supplement != 0 {
        return None;
    }
    let end = rest.iter().position(|byte| *byte == 0)?;
    let name = shortened(&String::from_utf8_lossy(&rest[..end]));
    // The checksum's length is a LEB128 number; build IDs are far shorter than its first byte can say.
    let (len, id) = rest.get(end + 1..)?.split_first()?;
    Some((name, BuildId::from_bytes(id.get(..usize::from(*len))?)?))
}

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSection};

    use super::*;
    use crate::symbolize::wire::Candidate;

    /// No other files.
    struct Nothing;

    impl Fetch for Nothing {
        fn fetch(&mut self, _: Wanted) -> Vec<(Candidate, std::fs::File)> {
            Vec::new()
        }
    }

    /// What addr2line says, in the same words.
    fn by_addr2line(context: &addr2line::Context<Bytes>, addr: u64) -> Vec<Found> {
        let mut found = Vec::new();
        let Ok(mut frames) = context.find_frames(addr).skip_all_loads() else {
            return found;
        };
        while let Ok(Some(frame)) = frames.next() {
            let place = frame.location.as_ref();
            let name = frame.function.as_ref();
            found.push(Found {
                name: name.map(|name| String::from_utf8_lossy(name.name.slice()).into_owned()),
                file: String::new(),
                line: place.and_then(|place| place.line).unwrap_or(0),
            });
        }
        found
    }

    /// Holds for the program of these tests and for the C library's loader, that is for rustc and gcc.
    #[test]
    fn functions_and_lines_are_those_that_addr2line_finds() {
        /// Prime, so that functions are hit everywhere.
        const STEP_BYTES: usize = 1009;
        /// Where code of several functions was folded into one, either name is right.
        const MAX_DIFFERENT: f64 = 0.002;
        let file = std::fs::File::open("/proc/self/exe").expect("own binary");
        let image = Image::of(&file, 1 << 30).expect("an ELF file");
        let text = image.elf.section_by_name(".text").expect("code");
        let (begin, end) = (text.address(), text.address() + text.size());
        let addrs: Vec<u64> = (begin..end).step_by(STEP_BYTES).collect();
        let mut notes = Vec::new();
        let debug = DebugInfo::of(&image, "own", &mut Nothing, &mut notes);
        let frames = debug
            .expect("debug information")
            .look_up(&addrs, &mut Nothing, &mut notes);
        assert_eq!(notes, Vec::<String>::new());
        let dwarf = load(&image, |id| Some(id.name())).expect("sections");
        let context = addr2line::Context::from_dwarf(dwarf).expect("debug information");
        let mut different = Vec::new();
        for (addr, found) in addrs.iter().zip(frames) {
            // A frame of which nothing is known is none: addr2line makes one for code of a unit without functions.
            let known = |frame: &Found| frame.name.is_some() || frame.line != 0;
            let mut plain = found;
            plain.iter_mut().for_each(|frame| frame.file.clear());
            plain.retain(known);
            let mut expected = by_addr2line(&context, *addr);
            expected.retain(known);
            if plain != expected {
                different.push((*addr, plain, expected));
            }
        }
        let share = different.len() as f64 / addrs.len() as f64;
        assert!(addrs.len() > 1000, "{} addresses", addrs.len());
        assert!(
            share <= MAX_DIFFERENT,
            "{} of {} differ, such as {:#x?}",
            different.len(),
            addrs.len(),
            &different[..3]
        );
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = "ä".repeat(MAX_TEXT_BYTES);
        assert_eq!(shortened(&text).len(), MAX_TEXT_BYTES);
        assert_eq!(shortened(&text[..3 - 1]), "ä");
    }
}
