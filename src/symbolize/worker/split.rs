//! Split DWARF: units whose content lies in `.dwo` files, or all together in a `.dwp` package.
//!
//! In: what a skeleton unit says of its split unit. Out: the split unit's DWARF, if a file with the very ID is found.
//! Source: DWARF 5 §3.1.2 and §7.3.5; for DWARF 4 the GCC wiki, "DebugFission".

use std::fs::File;
use std::sync::Arc;

use addr2line::SplitDwarfLoad;
use gimli::{Dwarf, DwarfPackage, DwoId, EndianSlice, LittleEndian};

use super::super::wire::Wanted;
use super::Fetch;
use super::dwarf::{Bytes, load, shortened};
use super::image::{Image, Why};

/// Missing split units beyond these are counted, not named.
const NAMED_MISSING: u32 = 3;

/// Where the split units of one program are sought.
pub(super) struct SplitUnits {
    beside: String,
    limit: u64,
    /// `None` until it was looked for.
    package: Option<Option<DwarfPackage<Bytes>>>,
    missing: u32,
}

impl SplitUnits {
    /// Of the debug information at `path`.
    pub fn beside(path: &str, limit: u64) -> SplitUnits {
        SplitUnits {
            beside: path.to_owned(),
            limit,
            package: None,
            missing: 0,
        }
    }

    pub fn find(
        &mut self,
        load: &SplitDwarfLoad<Bytes>,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Option<Arc<Dwarf<Bytes>>> {
        let in_package = self
            .package(fetch, notes)
            .and_then(|package| package.find_cu(load.dwo_id, &load.parent).ok().flatten());
        if let Some(dwarf) = in_package {
            return Some(Arc::new(dwarf));
        }
        let text = |bytes: &Option<Bytes>| {
            bytes.map_or_else(String::new, |bytes| {
                shortened(&String::from_utf8_lossy(bytes.slice()))
            })
        };
        let name = text(&load.path);
        let wanted = Wanted::SplitUnit {
            beside: self.beside.clone(),
            folder: text(&load.comp_dir),
            name: name.clone(),
        };
        let mut why = None;
        for (candidate, file) in fetch.fetch(wanted) {
            match split_unit(&file, self.limit, load) {
                Ok(dwarf) => return Some(Arc::new(dwarf)),
                Err(problem) => why = Some(format!("`{}` {problem}", candidate.path)),
            }
        }
        self.missing += 1;
        if self.missing <= NAMED_MISSING {
            let why = why.unwrap_or_else(|| "it was not found".into());
            notes.push(format!(
                "`{}` has debug information in `{name}`, which is not used: {why}.",
                self.beside
            ));
        }
        None
    }

    fn package(
        &mut self,
        fetch: &mut dyn Fetch,
        notes: &mut Vec<String>,
    ) -> Option<&DwarfPackage<Bytes>> {
        if self.package.is_none() {
            let wanted = Wanted::Package {
                beside: self.beside.clone(),
            };
            let candidates = fetch.fetch(wanted).into_iter();
            let opened = candidates.map(|(candidate, file)| {
                package(&file, self.limit)
                    .map_err(|why| format!("`{}` is not used: {why}.", candidate.path))
            });
            let mut found = None;
            for package in opened {
                match package {
                    Ok(package) => {
                        found = Some(package);
                        break;
                    }
                    Err(note) => notes.push(note),
                }
            }
            self.package = Some(found);
        }
        self.package.as_ref()?.as_ref()
    }
}

fn package(file: &File, limit: u64) -> Result<DwarfPackage<Bytes>, Why> {
    let image = Image::of(file, limit)?;
    let empty = EndianSlice::new(&[][..], LittleEndian);
    let section = |id: gimli::SectionId| -> Result<Bytes, gimli::Error> {
        let name = id.dwo_name().unwrap_or("");
        // An unreadable section is like a missing one: the units in need of it fail.
        let bytes = image.section(name).unwrap_or(&[]);
        Ok(EndianSlice::new(bytes, LittleEndian))
    };
    DwarfPackage::load(section, empty).map_err(|why| why.to_string())
}

fn split_unit(
    file: &File,
    limit: u64,
    wanted: &SplitDwarfLoad<Bytes>,
) -> Result<Dwarf<Bytes>, Why> {
    let image = Image::of(file, limit)?;
    let mut dwarf = load(&image, |id| id.dwo_name())?;
    dwarf.make_dwo(&wanted.parent);
    match first_id(&dwarf) {
        Ok(Some(id)) if id == wanted.dwo_id => Ok(dwarf),
        Ok(_) => Err("is of another build".into()),
        Err(why) => Err(format!("cannot be read: {why}")),
    }
}

/// The ID of the unit in a `.dwo` file.
fn first_id(dwarf: &Dwarf<Bytes>) -> Result<Option<DwoId>, gimli::Error> {
    let Some(header) = dwarf.units().next()? else {
        return Ok(None);
    };
    Ok(dwarf.unit(header)?.dwo_id)
}
