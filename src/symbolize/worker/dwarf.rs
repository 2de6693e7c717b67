//! Functions, inlined functions, files and lines from DWARF, by addr2line.
//!
//! In: an image with debug information, and a way to get the files it names. Out: the functions at an address. Only units
//! in which an address lies are read beyond their heads.

use addr2line::{Context, Frame, LookupContinuation, LookupResult};
use gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};

use super::super::wire::Wanted;
use super::Fetch;
use super::abbrev::without_lines_of_partial_units;
use super::image::{Image, Why};
use super::split::SplitUnits;
use crate::profile::BuildId;

pub(super) type Bytes = EndianSlice<'static, LittleEndian>;

/// More functions inlined into each other than this are cut; compilers stop far earlier.
const MAX_INLINED: usize = 256;

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

/// Debug information ready to be asked.
pub(super) struct DebugInfo {
    context: Context<Bytes>,
    split: SplitUnits,
}

impl DebugInfo {
    /// Of an image at `path`. Reads the heads of all units.
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
        let context = Context::from_dwarf(dwarf).map_err(|why| why.to_string())?;
        Ok(DebugInfo {
            context,
            split: SplitUnits::beside(path, image.limit()),
        })
    }

    /// Innermost function first; empty where nothing is known.
    pub fn look_up(
        &mut self,
        addr: u64,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Found>, Why> {
        let mut lookup = self.context.find_frames(addr);
        let frames = loop {
            match lookup {
                LookupResult::Output(frames) => break frames,
                LookupResult::Load { load, continuation } => {
                    let unit = self.split.find(&load, fetch, notes);
                    lookup = continuation.resume(unit);
                }
            }
        };
        let mut frames = frames.map_err(|why| why.to_string())?;
        let mut found = Vec::new();
        while let Some(frame) = frames.next().map_err(|why| why.to_string())? {
            found.push(one(&frame));
            if found.len() == MAX_INLINED {
                break;
            }
        }
        Ok(found)
    }
}

fn one(frame: &Frame<'_, Bytes>) -> Found {
    let location = frame.location.as_ref();
    let name = frame.function.as_ref().map(|function| {
        let name = String::from_utf8_lossy(function.name.slice());
        shortened(&name)
    });
    Found {
        name: name.filter(|name| !name.is_empty()),
        file: location
            .and_then(|location| location.file)
            .map_or_else(String::new, |file| shortened(&plain(file))),
        line: location.and_then(|location| location.line).unwrap_or(0),
    }
}

/// A path without `.` and `..` within it: compilers differ in how they spell one and the same file.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        let folder = parts.last().is_some_and(|last| !matches!(*last, "" | ".."));
        match part {
            "." if !parts.is_empty() => {}
            ".." if folder => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
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
        Some(name) if id == SectionId::DebugAbbrev => {
            let section = without_lines_of_partial_units(image.section(name)?);
            Ok(EndianSlice::new(section, LittleEndian))
        }
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
    use super::*;

    #[test]
    fn a_file_has_one_path() {
        assert_eq!(plain("/src/./a/../b.h"), "/src/b.h");
        assert_eq!(plain("../a/b.c"), "../a/b.c");
        assert_eq!(plain("a/../../b.c"), "../b.c");
        assert_eq!(plain("/../b.c"), "/../b.c");
        assert_eq!(plain(""), "");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = "ä".repeat(MAX_TEXT_BYTES);
        assert_eq!(shortened(&text).len(), MAX_TEXT_BYTES);
        assert_eq!(shortened(&text[..3 - 1]), "ä");
    }
}
